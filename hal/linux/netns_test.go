package linux_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
)

// These tests change a network interface, so each runs as a process of its own in new network
// and mount namespaces, with a sysfs of that namespace on /sys: what they do ends with it.

const (
	insideEnv  = "HOLDFAST_HAL_INSIDE" // set in the namespace
	victimEnv  = "HOLDFAST_HAL_VICTIM" // set in the process to be killed: its journal's directory
	haltEnv    = "HOLDFAST_HAL_HALT"   // where the victim stops: confirm, or after a number of writes
	insideMost = 60 * time.Second
)

// inside runs the calling test again in namespaces and returns false there where it was called:
// the test returns then. In the namespace it returns true.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		if err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("sysfs", "/sys", "sysfs", 0, "")); err != nil {
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("in the namespace:\n%s", out)
	if err != nil {
		t.Error(err)
	} else if strings.Contains(string(out), "--- SKIP") {
		t.Skip("skipped in the namespace")
	}
	return false
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// veth makes hf0 with this many queues, here, whose other end hf1 is in a namespace of its own;
// pid is a process there.
func veth(t *testing.T, queues int) (pid int) {
	t.Helper()
	// cat ends when this process does. Pdeathsig would end it earlier: with the thread that
	// started it, and threads end here (see there).
	other := exec.CommandContext(t.Context(), "cat")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if _, err := other.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	pid = other.Process.Pid
	q := fmt.Sprint(queues)
	ip(t, "link", "add", "hf0", "numrxqueues", q, "numtxqueues", q, "type", "veth", "peer", "name", "hf1", "numrxqueues", q, "numtxqueues", q)
	ip(t, "link", "set", "hf1", "netns", fmt.Sprint(pid))
	ip(t, "addr", "add", "192.0.2.1/24", "dev", "hf0")
	ip(t, "link", "set", "hf0", "up")
	there(t, pid, func() {
		ip(t, "addr", "add", "192.0.2.2/24", "dev", "hf1")
		ip(t, "link", "set", "hf1", "up")
	})
	return pid
}

// there runs do on a thread in the network namespace of a process; the thread ends with it.
func there(t *testing.T, pid int, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread does not come back
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// rain sends datagrams from the other end until the test ends.
func rain(t *testing.T, pid int) {
	t.Helper()
	var c *net.UDPConn
	there(t, pid, func() {
		var err error
		if c, err = net.DialUDP("udp4", udp("192.0.2.2", rainPort), udp("192.0.2.1", witnessPort)); err != nil {
			t.Error(err)
		}
	})
	if c == nil {
		t.FailNow()
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_, _ = c.Write([]byte("rain")) // refused while nobody listens
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped; c.Close() })
}

const (
	witnessPort = 21900
	rainPort    = 21901
)

func udp(host string, port int) *net.UDPAddr { return &net.UDPAddr{IP: net.ParseIP(host), Port: port} }

// witness receives what rains on hf0: a new socket each time, so that nothing from before the
// change waits in it.
func witness(ctx context.Context, _ string) (map[int]int, error) {
	c, err := net.DialUDP("udp4", udp("192.0.2.1", witnessPort), udp("192.0.2.2", rainPort))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return linux.Incoming(ctx, c, 100, time.Now().Add(5*time.Second))
}

func nic(t *testing.T, r *linux.Root, name string) hal.NIC {
	t.Helper()
	for _, n := range r.Probe().NICs.Value {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("no %s", name)
	return hal.NIC{}
}

func TestQueuesAreSetAndTheKernelsReasonIsTold(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, 4)
	r := open(t, "/")
	n := nic(t, r, "hf0")
	if n.Kind != "virtual" || n.Channels.State != hal.Loaded || n.Channels.Value.RXMax != 4 || n.Channels.Value.TXMax != 4 || len(n.RX) == 0 || n.Features.State != hal.Loaded {
		t.Fatalf("%+v", n)
	}
	if n.Rings.State == hal.Failed || n.RSS.State == hal.Failed || n.Coalesce.State == hal.Failed {
		t.Errorf("what veth does not have is no failure: %+v", n)
	}
	port := linux.NewPort(r)
	target := hal.Target{Kind: hal.ChannelsOf, Name: "hf0"}
	old, err := port.Read(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rx 2 tx 2 combined 0", "rx 4 tx 3 combined 0"} {
		plan := hal.Plan{Changes: []hal.Change{{Target: target, Old: old, Want: want, Risk: hal.Risky}}}
		j, err := linux.NewJournal(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		report, err := hal.Apply(t.Context(), port, &plan, j, nil)
		if err != nil || report.Outcomes[0].Result != hal.Applied {
			t.Fatalf("%+v, %v", report, err)
		}
		t.Log(report.Outcomes[0].Why)
	}
	before, _ := port.Read(t.Context(), target)
	plan := hal.Plan{Changes: []hal.Change{{Target: target, Old: before, Want: "rx 99 tx 99 combined 0", Risk: hal.Risky}}}
	j, err := linux.NewJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	report, err := hal.Apply(t.Context(), port, &plan, j, nil)
	o := report.Outcomes[0]
	if !errors.Is(err, hal.ErrRolledBack) || o.Result != hal.FailedTo || o.Errno != syscall.EINVAL || !strings.Contains(o.Why, "requested channel count exceeds maximum") {
		t.Errorf("too many: %+v, %v", o, err)
	}
	t.Log(o.Why)
	if after, _ := port.Read(t.Context(), target); after != before {
		t.Errorf("after it was refused: %s, before %s", after, before)
	}
	_, err = port.Read(t.Context(), hal.Target{Kind: hal.RingsOf, Name: "nothere"})
	if !errors.Is(err, hal.ErrGone) {
		t.Errorf("an interface that is not there: %v", err)
	}
	if err := port.Write(t.Context(), hal.Target{Kind: hal.CoalesceOf, Name: "hf0"}, "rx-usecs 50 tx-usecs 50"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("coalescing on veth: %v", err)
	}
}

func TestReceiveSteeringMovesThePacketsThemselves(t *testing.T) {
	if !inside(t) {
		return
	}
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	pid := veth(t, 1)
	rain(t, pid)
	r := open(t, "/")
	port := linux.NewPort(r)
	port.Witness = witness
	target := hal.Target{Kind: hal.RPSCPUs, Name: "hf0"}
	online := r.Probe().Topology.Value.Online()
	for _, cpu := range []int{online[0], online[1], online[0]} {
		want := fmt.Sprint(cpu)
		if err := port.Write(t.Context(), target, want); err != nil {
			t.Fatal(err)
		}
		result, why := port.Effect(t.Context(), target, want)
		if result != hal.Applied {
			t.Errorf("CPU %d: %s: %s", cpu, result, why)
		}
		t.Logf("CPU %d: %s: %s", cpu, result, why)
	}
	open, err := net.ListenUDP("udp4", udp("192.0.2.1", witnessPort))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := linux.Incoming(t.Context(), open, 1, time.Now().Add(5*time.Second)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a socket that is not connected: %v", err)
	}
	open.Close()
	// A witness that hears nothing, or hears from elsewhere, must not say Applied.
	port.Witness = func(context.Context, string) (map[int]int, error) {
		return map[int]int{online[1]: 3, online[0]: 97}, nil
	}
	if result, why := port.Effect(t.Context(), target, fmt.Sprint(online[0])); result != hal.FailedTo {
		t.Errorf("3 of 100 elsewhere: %s: %s", result, why)
	}
	port.Witness = func(context.Context, string) (map[int]int, error) { return nil, nil }
	if result, why := port.Effect(t.Context(), target, fmt.Sprint(online[0])); result != hal.AcceptedUnverified {
		t.Errorf("nothing heard: %s: %s", result, why)
	}
	// Without a witness the kernel's own counter of hand-overs has to move; the packets come in
	// on either CPU, so one of the two sees hand-overs.
	port.Witness = nil
	port.Settle = 5 * time.Second
	var results []hal.Result
	for _, cpu := range online[:2] {
		if err := port.Write(t.Context(), target, fmt.Sprint(cpu)); err != nil {
			t.Fatal(err)
		}
		result, why := port.Effect(t.Context(), target, fmt.Sprint(cpu))
		t.Logf("counter, CPU %d: %s: %s", cpu, result, why)
		results = append(results, result)
	}
	if results[0] != hal.Applied && results[1] != hal.Applied {
		t.Errorf("by the counter: %v", results)
	}
}

// steering is the plan that the victim applies.
func steering() *hal.Plan {
	var p hal.Plan
	for q := range 4 {
		p.Changes = append(p.Changes,
			hal.Change{Target: hal.Target{Kind: hal.RPSCPUs, Name: "hf0", Index: q}, Old: "", Want: "0"},
			hal.Change{Target: hal.Target{Kind: hal.XPSCPUs, Name: "hf0", Index: q}, Old: "", Want: "0"})
	}
	p.Changes = append(p.Changes, hal.Change{Target: hal.Target{Kind: hal.ChannelsOf, Name: "hf0"}, Want: "rx 4 tx 4 combined 0", Risk: hal.Risky})
	return &p
}

// halting is a port that stops for ever after a number of writes.
type halting struct {
	*linux.Port
	left int
}

func (h *halting) Write(ctx context.Context, t hal.Target, v string) error {
	if h.left == 0 {
		stopHere()
	}
	h.left--
	return h.Port.Write(ctx, t, v)
}

// stopHere says that the victim can be killed and waits for it.
func stopHere() {
	fmt.Println("VICTIM HERE")
	time.Sleep(insideMost)
}

// victim applies the plan as told by the environment, and does not come back.
func victim(t *testing.T) {
	j, err := linux.NewJournal(os.Getenv(victimEnv))
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, "/")
	real := linux.NewPort(r)
	real.Settle = time.Millisecond
	var writes int
	var port hal.Port = real
	if n, err := fmt.Sscan(os.Getenv(haltEnv), &writes); n == 1 && err == nil {
		port = &halting{real, writes}
	}
	report, err := hal.Apply(t.Context(), port, steering(), j, &hal.Confirm{Within: insideMost, Wait: func(context.Context) error { stopHere(); return nil }})
	t.Fatalf("it came back: %+v, %v", report, err)
}

func TestAfterKill9EverythingIsPutBack(t *testing.T) {
	if os.Getenv(victimEnv) != "" {
		victim(t)
		return
	}
	if !inside(t) {
		return
	}
	veth(t, 4)
	r := open(t, "/")
	port := linux.NewPort(r)
	// Values from before that are not the defaults, so that putting back defaults would show.
	for target, v := range map[hal.Target]string{
		{Kind: hal.ChannelsOf, Name: "hf0"}:        "rx 2 tx 4 combined 0",
		{Kind: hal.RPSCPUs, Name: "hf0", Index: 1}: "1",
		{Kind: hal.XPSCPUs, Name: "hf0", Index: 2}: "0-1",
	} {
		if err := port.Write(t.Context(), target, v); err != nil {
			t.Fatal(err)
		}
	}
	state := func() string {
		var s []string
		for _, c := range steering().Changes {
			v, err := port.Read(t.Context(), c.Target)
			s = append(s, fmt.Sprintf("%s = %q %v", c.Target, v, err))
		}
		return strings.Join(s, "\n")
	}
	before := state()
	for _, halt := range []string{"0", "1", "3", "7", "confirm"} {
		dir := filepath.Join(t.TempDir(), "journal")
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), victimEnv+"="+dir, haltEnv+"="+halt)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if lines.Text() == "VICTIM HERE" {
				break
			}
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "VICTIM HERE") {
			t.Fatalf("halt %s: the victim said\n%s%v", halt, said.String(), err)
		}
		if changed := state() != before; changed != (halt != "0") {
			t.Errorf("halt %s: after the kill changed is %v:\n%s", halt, changed, state())
		}
		j, err := linux.NewJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hal.Apply(t.Context(), port, steering(), j, nil); !errors.Is(err, hal.ErrPending) {
			t.Errorf("halt %s: a plan over an open one: %v", halt, err)
		}
		old, err := hal.Recover(t.Context(), port, j)
		if err != nil || len(old) == 0 || state() != before {
			t.Errorf("halt %s: %d values, %v:\n%s\nbefore:\n%s", halt, len(old), err, state(), before)
		}
		t.Logf("halt %s: %d values were put back", halt, len(old))
	}
}

func TestALinkThatGoesAndComesIsTold(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ready, events := make(chan struct{}), make(chan hal.Event, 64)
	watched := make(chan error, 1)
	go func() { watched <- linux.Watch(ctx, func() { close(ready) }, func(e hal.Event) { events <- e }) }()
	<-ready
	expect := func(want hal.Event) {
		t.Helper()
		for {
			select {
			case e := <-events:
				if e == want {
					return
				}
			case <-ctx.Done():
				t.Fatalf("%+v did not come", want)
			}
		}
	}
	ip(t, "link", "set", "hf0", "down")
	expect(hal.Event{Kind: "link-down", Name: "hf0"})
	ip(t, "link", "set", "hf0", "up")
	expect(hal.Event{Kind: "link-up", Name: "hf0"})

	// What a plan set is lost with the link; the event says when to apply it again.
	r := open(t, "/")
	port := linux.NewPort(r)
	port.Settle = time.Millisecond
	plan := &hal.Plan{Changes: []hal.Change{{Target: hal.Target{Kind: hal.RPSCPUs, Name: "hf0"}, Want: "0"}}}
	j, err := linux.NewJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	apply := func(changes []hal.Change) {
		t.Helper()
		if report, err := hal.Apply(ctx, port, &hal.Plan{Changes: changes}, j, nil); err != nil || !report.Committed {
			t.Fatalf("%+v, %v", report, err)
		}
	}
	apply(plan.Changes)
	ip(t, "link", "del", "hf0")
	expect(hal.Event{Kind: "link-gone", Name: "hf0"})
	if d := plan.Drift(ctx, port); d != nil {
		t.Errorf("with the link gone: %v", d)
	}
	veth(t, 1)
	expect(hal.Event{Kind: "link-up", Name: "hf0"})
	d := plan.Drift(ctx, port)
	if len(d) != 1 {
		t.Fatalf("after it came back: %v", d)
	}
	apply(d)
	if d := plan.Drift(ctx, port); d != nil {
		t.Errorf("applied again: %v", d)
	}
	ip(t, "link", "del", "hf0")
	expect(hal.Event{Kind: "link-gone", Name: "hf0"})
	expect(hal.Event{Kind: "device-remove", Name: "hf0"})
	cancel()
	if err := <-watched; err != nil {
		t.Error(err)
	}
}

// masks are the allowed CPUs of every thread of the process.
func masks(t *testing.T) map[string]string {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
				m[f] = strings.TrimSpace(v)
			}
		}
	}
	return m
}

func TestAPinnedThreadGetsItsMaskBack(t *testing.T) {
	runtime.LockOSThread()
	all, err := linux.ThreadCPUs()
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, v := range masks(t) {
		allowed[v] = true
	}
	for _, cpu := range all {
		for _, end := range []string{"returns", "panics", "exits"} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				err := linux.Pinned(hal.CPUs{cpu}, func() {
					now, err := linux.ThreadCPUs()
					on, err2 := linux.CurrentCPU()
					if now.List() != fmt.Sprint(cpu) || on != cpu || err != nil || err2 != nil {
						t.Errorf("pinned to %d: may use %s, runs on %d, %v, %v", cpu, now, on, err, err2)
					}
					switch end {
					case "panics":
						panic(end)
					case "exits":
						runtime.Goexit()
					}
				})
				if err != nil {
					t.Error(err)
				}
			}()
			<-done
			for thread, v := range masks(t) {
				if !allowed[v] {
					t.Errorf("CPU %d, %s: %s is left with %s", cpu, end, thread, v)
				}
			}
		}
	}
	if err := linux.Pinned(hal.CPUs{1023}, func() { t.Error("it ran") }); !errors.Is(err, unix.EINVAL) && len(all) < 1023 {
		t.Errorf("a CPU that is not there: %v", err)
	}
	if err := linux.Pinned(hal.CPUs{5000}, func() { t.Error("it ran") }); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a CPU beyond the mask: %v", err)
	}
}

func TestTheKernelTakesAdvice(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := open(t, "/")
	facts := r.Probe()
	for _, p := range []hal.Pattern{hal.Sequential, hal.Random, hal.Strided, hal.Once} {
		out := hal.Advise(linux.NewPort(r), p, hal.Region{Mem: mem, File: f.Fd()}, &facts.Memory.Value, &facts.Topology.Value.CPUs[0])
		for _, o := range out[:len(out)-1] {
			if o.Result != hal.AcceptedUnverified && o.Result != hal.Unsupported {
				t.Errorf("%s: %+v", p, o)
			}
		}
		if last := out[len(out)-1]; last.Result != hal.Unsupported || last.Why == "" {
			t.Errorf("%s: the hardware's switch: %+v", p, last)
		}
		t.Logf("%s: %+v", p, out)
	}
	// Advice about memory that is not there is refused with the kernel's errno.
	out := hal.Advise(linux.NewPort(r), hal.Random, hal.Region{File: 1 << 20}, &facts.Memory.Value, &facts.Topology.Value.CPUs[0])
	if out[0].Result != hal.FailedTo || out[0].Errno != unix.EBADF {
		t.Errorf("a file that is not open: %+v", out[0])
	}
}

// busy lets a disk and a random number generator work until the test ends, so that they interrupt.
func busy(t *testing.T) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	random, err := os.Open("/dev/hwrng")
	if err != nil {
		t.Log(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		b := make([]byte, 64)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_, _ = f.WriteAt([]byte("busy"), 0)
				_ = f.Sync()
				if random != nil {
					_, _ = random.Read(b)
				}
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped; f.Close(); random.Close() })
}

// Interrupts of real devices: one that moves has to be seen moving, one that the kernel keeps to
// itself has to be explained. Everything is put back.
func TestARealInterruptIsMovedOrItsRefusalExplained(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to move interrupts")
	}
	r := open(t, "/")
	online := r.Probe().Topology.Value.Online()
	text, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		t.Fatal(err)
	}
	all, err := linux.Interrupts(string(text))
	if err != nil || len(online) < 2 {
		t.Skip("one CPU: ", err)
	}
	busy(t)
	moved, refused := 0, 0
	for _, irq := range all {
		// A virtio disk's, a virtio random number generator's (virtio4-input; a NIC's is input.0), an NVMe's.
		if !strings.Contains(irq.Name, "-req.") && !strings.HasSuffix(irq.Name, "-input") && !strings.HasPrefix(irq.Name, "nvme") {
			continue
		}
		target := hal.Target{Kind: hal.IRQAffinity, Name: irq.Name, Index: irq.Number}
		port := linux.NewPort(r)
		before, err := port.Read(t.Context(), target)
		if err != nil {
			continue
		}
		for _, cpu := range online[:2] { // wherever it was, one of the two is a move
			want := fmt.Sprint(cpu)
			j, err := linux.NewJournal(filepath.Join(t.TempDir(), want))
			if err != nil {
				t.Fatal(err)
			}
			report, err := hal.Apply(t.Context(), port, &hal.Plan{Changes: []hal.Change{{Target: target, Old: before, Want: want}}}, j, nil)
			_, undone := hal.Undo(t.Context(), port, j)
			if err != nil || undone != nil {
				t.Fatal(err, undone)
			}
			o := report.Outcomes[0]
			t.Logf("%s %s -> %s: %s: %s (errno %d)", target, before, want, o.Result, o.Why, o.Errno)
			switch o.Result {
			case hal.Applied:
				moved++
			case hal.Unsupported:
				refused++
				if o.Errno == 0 || !strings.Contains(o.Why, "the kernel keeps this interrupt") {
					t.Errorf("not explained: %+v", o)
				}
			case hal.FailedTo:
				t.Errorf("it stayed: %+v", o)
			}
			if after, _ := port.Read(t.Context(), target); after != before {
				t.Errorf("put back %s, before %s", after, before)
			}
		}
	}
	if t.Logf("%d moved, %d refused", moved, refused); moved+refused == 0 {
		t.Skip("no disk and no random number generator here has an interrupt of its own")
	}
}
