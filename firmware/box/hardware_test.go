package box

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"github.com/holdfast-edge/holdfast/hal/work"
	"golang.org/x/sys/unix"
)

// logged collects a log as text.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// runLogged runs a box until stop, and waits until it serves.
func runLogged(t *testing.T, c *config.Config) (log *logged, stop func()) {
	t.Helper()
	log = new(logged)
	o := silent(c)
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	end := serving(t, o)
	return log, func() {
		if err := end(); err != nil {
			t.Errorf("the box ended with %v", err)
		}
	}
}

// threadMask is the CPUs that a thread of ours may use, "" when it has ended.
func threadMask(thread string) string {
	b, err := os.ReadFile(filepath.Join("/proc/self/task", thread, "status"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func TestTheOrderingsLoopRunsWhereTheConfigurationSays(t *testing.T) {
	runtime.LockOSThread()
	all, err := linux.ThreadCPUs()
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Skip("needs two CPUs")
	}
	cpu := fmt.Sprint(all[len(all)-1])
	c := newBox(t)
	c.HAL.Loop = cpu
	log, stop := runLogged(t, c)
	m := regexp.MustCompile(`loop is pinned".* cpus=(\S+) thread=(\d+)`).FindStringSubmatch(log.String())
	if m == nil || m[1] != cpu {
		t.Fatalf("the log says not where the loop is:\n%s", log)
	}
	if got := threadMask(m[2]); got != cpu {
		t.Errorf("the loop's thread %s may use CPU %q, want %s", m[2], got, cpu)
	}
	stop()
	if got := threadMask(m[2]); got != "" && got != all.List() {
		t.Errorf("after the box has stopped its thread may use only CPU %s", got)
	}
}

// Where the plan gives no CPU away, nothing is pinned, and the log says why.
func TestALoopThatThePlanDoesNotPinRunsAnywhere(t *testing.T) {
	m, err := work.Open("/", "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := m.Plan(hal.Options{})
	c := newBox(t)
	c.HAL.Loop = "plan"
	log, stop := runLogged(t, c)
	defer stop()
	want := `loop is pinned" .*cpus=` + regexp.QuoteMeta(p.Assign.Loop.List()) + " "
	if p.Assign.Loop.List() == m.Facts.Topology.Value.Online().List() {
		want = `loop is not pinned" .*why=`
	}
	if !regexp.MustCompile(want).MatchString(log.String()) {
		t.Errorf("no %s in\n%s", want, log)
	}
}

func TestABoxWithAProfileThatThereIsNotDoesNotStart(t *testing.T) {
	c := newBox(t)
	c.HAL.Board, c.HAL.Apply = "rock-6", "plan"
	err := Run(t.Context(), silent(c))
	if !errors.Is(err, work.ErrBoard) || !strings.Contains(err.Error(), "hal.board") {
		t.Errorf("%v", err)
	}
}

// insideEnv is set in the process that runs a test in namespaces of its own.
const insideEnv = "HOLDFAST_BOX_INSIDE"

// TestAnUnfinishedChangeIsPutBackAtTheStart leaves a port's steering in the middle of a change, as
// kill -9 does, and starts a box. It runs in new network and mount namespaces.
func TestAnUnfinishedChangeIsPutBackAtTheStart(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		if os.Geteuid() != 0 {
			t.Skip("needs root for namespaces")
		}
		if _, err := exec.LookPath("ip"); err != nil {
			t.Skip("needs ip of iproute2")
		}
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.timeout", "60s")
		cmd.Env = append(os.Environ(), insideEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("sysfs", "/sys", "sysfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"link set lo up", "link add hf0 numrxqueues 2 numtxqueues 2 type veth peer name hf1", "link set hf0 up"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", args, err, out)
		}
	}
	c := newBox(t)
	root, err := linux.Open("/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	port := linux.NewPort(root)
	target := hal.Target{Kind: hal.RPSCPUs, Name: "hf0", Index: 1}
	l, err := work.OpenLedger(work.LedgerDir(c.DataDir))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Begin([]hal.Entry{{Target: target, Old: ""}}), port.Write(t.Context(), target, "0"), l.Close()); err != nil {
		t.Fatal(err)
	}
	log, stop := runLogged(t, c)
	if now, err := port.Read(t.Context(), target); err != nil || now != "" {
		t.Errorf("it is %q, %v", now, err)
	}
	if text := log.String(); !strings.Contains(text, "unfinished change were put back") || !strings.Contains(text, "hf0 rx-1 rps_cpus") {
		t.Errorf("the log does not say so:\n%s", text)
	}
	stop()
	log, stop = runLogged(t, c) // and once only
	defer stop()
	if strings.Contains(log.String(), "put back") {
		t.Errorf("again:\n%s", log)
	}
}

func TestABoxSaysWhatBecameOfItsHardwareSettings(t *testing.T) {
	c := newBox(t)
	c.HAL.ReceiveSockets, c.HAL.HugePages, c.HAL.BusyPoll = "0-1", "on", "50us"
	log, stop := runLogged(t, c)
	address, err := c.NativeListen()
	if err != nil {
		t.Fatal(err)
	}
	const connections = 5
	for range connections {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		// The server speaks first only after a TLS hello; that it closes shows that it took the connection.
		if _, err := conn.Write([]byte("this is no TLS at all")); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(conn)
		_ = conn.Close()
	}
	stop()
	all, err := work.LoadInUse(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []work.InUse{
		{Setting: "hal.receive_sockets", Value: "0-1", Result: hal.AcceptedUnverified},
		{Setting: "hal.huge_pages", Value: "on", Result: hal.Applied},
		{Setting: "hal.busy_poll", Value: "50us", Result: hal.AcceptedUnverified},
	} {
		if !slices.ContainsFunc(all, func(u work.InUse) bool {
			return u.Setting == want.Setting && u.Value == want.Value && (u.Result == want.Result || u.Why != "" && u.Result != hal.Applied)
		}) {
			t.Errorf("%+v is not among %+v", want, all)
		}
	}
	taken := 0
	for _, m := range regexp.MustCompile(`msg="receive socket" .*port=native.listen cpu=\d+ connections=(\d+)`).FindAllStringSubmatch(log.String(), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		taken += n
	}
	if taken != connections {
		t.Errorf("the log says that %d connections came:\n%s", taken, log)
	}

	// Without settings the file says so too, and a box that never had any has none.
	c.HAL.ReceiveSockets, c.HAL.HugePages, c.HAL.BusyPoll = "off", "off", "measured"
	_, stop = runLogged(t, c)
	stop()
	if all, err := work.LoadInUse(c.DataDir); err != nil || len(all) > 0 {
		t.Errorf("%v: %+v", err, all)
	}
	c = newBox(t)
	_, stop = runLogged(t, c)
	stop()
	if _, err := os.Stat(work.LedgerDir(c.DataDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a box that uses nothing leaves %v", err)
	}
}

func TestABoxUsesWhatWasMeasured(t *testing.T) {
	m, err := work.Open("/", "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	keep := hal.Verdict{Keep: true, Why: "it was faster"}
	for _, x := range []struct {
		mark work.Mark
		want string
	}{{m.Mark(), "on"}, {work.Mark{Board: "another"}, ""}} {
		c := newBox(t)
		found := work.Calibration{Machine: x.mark, Trials: []hal.Trial{{Setting: "hal.huge_pages", Value: "on", Verdict: keep}}}
		if err := found.Save(c.DataDir); err != nil {
			t.Fatal(err)
		}
		log, stop := runLogged(t, c)
		stop()
		all, err := work.LoadInUse(c.DataDir)
		var got strings.Builder
		for _, u := range all {
			got.WriteString(u.Value)
		}
		if err != nil || got.String() != x.want {
			t.Errorf("%+v: it uses %q, %v\n%s", x.mark, got.String(), err, log)
		}
	}
}
