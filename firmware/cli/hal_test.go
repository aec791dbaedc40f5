package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
)

const (
	insideEnv  = "HOLDFAST_CLI_INSIDE" // set in the namespace
	insideMost = 100 * time.Second
	waitMost   = 20 * time.Second
)

// inside runs the calling test again as a process in new network and mount namespaces, with a sysfs
// of its own, and returns false where it was called: the test returns then.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("sysfs", "/sys", "sysfs", 0, "")); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip of iproute2")
	}
	ctx, cancel := context.WithTimeout(t.Context(), insideMost)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", insideMost.String())
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("in the namespace:\n%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v %s", args, err, out)
	}
}

// port makes hf0 with four queues.
func port(t *testing.T) {
	t.Helper()
	ip(t, "link add hf0 numrxqueues 4 numtxqueues 4 type veth peer name hf1 numrxqueues 4 numtxqueues 4")
	ip(t, "link set hf0 up")
}

// steering is what stands in the files that the plan changes.
func steering(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/sys/class/net/hf0/queues/*/?ps_cpus")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(string(b)))
	}
	return strings.Join(all, " ")
}

// does runs a command line and wants this exit code; in is what the person types.
func does(t *testing.T, code int, in, line string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	if got := Run(t.Context(), Build{}, strings.Fields(line), strings.NewReader(in), &out, &errs); got != code {
		t.Fatalf("%s: exit %d, want %d\n%s%s", line, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

func needsTwoCPUs(t *testing.T) {
	t.Helper()
	if b, err := os.ReadFile("/sys/devices/system/cpu/online"); err != nil || strings.TrimSpace(string(b)) == "0" {
		t.Skipf("a plan needs two CPUs: %s, %v", b, err)
	}
}

func TestAPlanIsAppliedVerifiedAndPutBack(t *testing.T) {
	needsTwoCPUs(t)
	if !inside(t) {
		return
	}
	port(t)
	before := steering(t)
	flags := " --data-dir " + t.TempDir()
	apply := "hal apply --nic hf0" + flags

	if out, _ := does(t, 0, "", apply+" --dry-run"); !strings.Contains(out, "hf0 tx-0 xps_cpus: none -> ") || steering(t) != before {
		t.Errorf("a dry run left %s, and said\n%s", steering(t), out)
	}
	for in, why := range map[string]string{"": "nobody answered", "no\n": "not yes"} {
		if _, errs := does(t, 1, in, apply); !strings.Contains(errs, why) || steering(t) != before {
			t.Errorf("%q left %s, and said %s", in, steering(t), errs)
		}
	}
	if _, errs := does(t, 2, "", "hal apply --yes --nic hf0,hf9"+flags); !strings.Contains(errs, `no interface "hf9"; there are hf0`) || steering(t) != before {
		t.Errorf("an interface that is not there: %s", errs)
	}
	out, _ := does(t, 0, "yes\n", apply)
	after := steering(t)
	if after == before || !strings.Contains(out, "accepted-unverified hf0 tx-1 xps_cpus") {
		t.Errorf("applied, there stands %s, and it said\n%s", after, out)
	}
	if out, _ := does(t, 0, "", apply); !strings.Contains(out, "\nno change\n") {
		t.Errorf("applied again:\n%s", out)
	}
	does(t, 0, "", "hal verify"+flags)
	if err := os.WriteFile("/sys/class/net/hf0/queues/tx-2/xps_cpus", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if out, _ := does(t, 1, "", "hal verify"+flags); !strings.Contains(out, `drift: it is "" now`) {
		t.Errorf("somebody changed it, and it says\n%s", out)
	}
	does(t, 0, "", apply+" --yes")
	if steering(t) != after {
		t.Errorf("drift stays: %s", steering(t))
	}
	out, _ = does(t, 0, "", "hal rollback --json"+flags)
	var back struct {
		PutBack []hal.Entry `json:"put_back"`
	}
	if err := json.Unmarshal([]byte(out), &back); err != nil || len(back.PutBack) != 4 || steering(t) != before {
		t.Errorf("%v: put back %d, there stands %s", err, len(back.PutBack), steering(t))
	}
}

func TestWithoutAYesInTimeAllIsPutBack(t *testing.T) {
	needsTwoCPUs(t)
	if !inside(t) {
		return
	}
	port(t)
	before := steering(t)
	apply := []string{"hal", "apply", "--nic", "hf0", "--yes", "--data-dir", t.TempDir(), "--confirm"}
	r, w := io.Pipe() // somebody who does not type
	defer w.Close()
	var out, errs strings.Builder
	if code := Run(t.Context(), Build{}, append(apply, "1s"), r, &out, &errs); code != 1 || !strings.Contains(errs.String(), "not confirmed within 1s") {
		t.Errorf("exit %d: %s", code, &errs)
	}
	if steering(t) != before || !strings.Contains(out.String(), "put-back            hf0 tx-0 xps_cpus: none") {
		t.Errorf("there stands %s, it said\n%s", steering(t), &out)
	}
	does(t, 0, "yes\n", strings.Join(apply, " ")+" 1m")
	if steering(t) == before {
		t.Error("a yes did not keep it")
	}
}

// victim starts holdfast as a process of its own that has applied and waits for a yes, and gives
// it and its journal's directory.
func victim(t *testing.T, data string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "holdfast", "hal", "apply", "--nic", "hf0", "--yes", "--confirm", "1h", "--data-dir", data)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if text, err := bufio.NewReader(said).ReadString(':'); err != nil || !strings.Contains(text, "Type yes within") {
		t.Fatalf("%v: it said %q", err, text)
	}
	return cmd
}

func TestALostTerminalPutsAllBack(t *testing.T) {
	needsTwoCPUs(t)
	if !inside(t) {
		return
	}
	port(t)
	before := steering(t)
	cmd := victim(t, t.TempDir())
	if steering(t) == before {
		t.Fatal("nothing was applied")
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if steering(t) != before {
		t.Errorf("there stands %s", steering(t))
	}
}

func TestAKilledApplyIsPutBackByRollback(t *testing.T) {
	needsTwoCPUs(t)
	if !inside(t) {
		return
	}
	port(t)
	before := steering(t)
	data := t.TempDir()
	cmd := victim(t, data)
	if _, errs := does(t, 1, "", "hal rollback --data-dir "+data); !strings.Contains(errs, "another program") {
		t.Errorf("beside a running apply: %s", errs)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if steering(t) == before {
		t.Fatal("nothing was applied")
	}
	if _, errs := does(t, 1, "", "hal verify --data-dir "+data); !strings.Contains(errs, "4 values of an apply that was interrupted") {
		t.Errorf("verify over an open journal: %s", errs)
	}
	// Drift, so that there is something to apply.
	if err := os.WriteFile("/sys/class/net/hf0/queues/tx-2/xps_cpus", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if _, errs := does(t, 1, "", "hal apply --nic hf0 --yes --data-dir "+data); !strings.Contains(errs, "`holdfast hal rollback` puts them back") {
		t.Errorf("over an open journal: %s", errs)
	}
	does(t, 0, "", "hal rollback --data-dir "+data)
	if steering(t) != before {
		t.Errorf("there stands %s", steering(t))
	}
}

func TestAWatchAppliesAgainWhenAPortComesBack(t *testing.T) {
	needsTwoCPUs(t)
	if !inside(t) {
		return
	}
	port(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, Build{}, []string{"hal", "watch", "--yes", "--json", "--nic", "hf0", "--data-dir", t.TempDir()}, strings.NewReader(""), w, w)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	timer := time.AfterFunc(waitMost, func() { _ = r.CloseWithError(os.ErrDeadlineExceeded) })
	defer timer.Stop()
	// changed waits for the step that changed something.
	changed := func() (step struct {
		Events   []hal.Event   `json:"events"`
		Outcomes []hal.Outcome `json:"outcomes"`
	},
	) {
		for lines.Scan() {
			if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
				t.Fatalf("%v: %s", err, lines.Text())
			}
			if len(step.Outcomes) > 0 {
				return step
			}
		}
		t.Fatalf("no change: %v", lines.Err())
		return step
	}
	if first := changed(); len(first.Events) != 0 || len(first.Outcomes) != 4 {
		t.Errorf("at the start %+v", first)
	}
	want := steering(t)
	ip(t, "link del hf0")
	port(t)
	if again := changed(); len(again.Events) == 0 || len(again.Outcomes) != 4 || steering(t) != want {
		t.Errorf("after the port came back %+v, there stands %s, want %s", again, steering(t), want)
	}
	// A terminal that is lost ends the watch, and not the program in the middle of a step.
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if got := <-code; got != 0 {
		t.Errorf("exit %d", got)
	}
}
