package linux_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
)

// mine are the CPUs that this process may use.
func mine(t *testing.T) hal.CPUs {
	t.Helper()
	cpus, err := linux.ThreadCPUs()
	if err != nil {
		t.Fatal(err)
	}
	return cpus
}

func TestAConnectionGoesToTheSocketOfTheCPUItCameInOn(t *testing.T) {
	cpus := mine(t)
	if len(cpus) < 2 {
		t.Skip("needs two CPUs")
	}
	cpus = cpus[:2]
	s := linux.Sockets{CPUs: cpus}
	l, err := s.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const each = 100
	for k, cpu := range cpus {
		// On loopback a packet comes in on the CPU that sends it.
		var dialErr error
		if err := linux.Pinned(hal.CPUs{cpu}, func() {
			for range each * (k + 1) {
				var d net.Dialer
				c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
				if err != nil {
					dialErr = err
					return
				}
				dialErr = errors.Join(dialErr, c.Close())
			}
		}); err != nil || dialErr != nil {
			t.Fatal(err, dialErr)
		}
		for range each * (k + 1) {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
	}
	r, ok := l.(*linux.Receivers)
	if !ok {
		t.Fatalf("%T", l)
	}
	for k, x := range r.Taken() {
		// The dialling goroutine is not bound to its thread inside the netpoller's own calls; the connect is a system call on it.
		if want := each * (k + 1); x.CPU != cpus[k] || x.Connections != want || x.Home != want {
			t.Errorf("socket %d: %+v, want %d", k, x, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestReceiveSocketsDoNotShareAPortWithAnotherProgram(t *testing.T) {
	s := linux.Sockets{CPUs: hal.CPUs{0, 1}}
	l, err := s.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, other := range []linux.Sockets{s, {}} {
		if second, err := other.Listen(t.Context(), l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a second program listens: %v %v", second, err)
		}
	}
}

func TestReceiveSocketsServe(t *testing.T) {
	s := linux.Sockets{CPUs: hal.CPUs{0, 1, 2, 3}} // CPUs that there are not get none: all is by hash then
	l, err := s.Listen(t.Context(), "[::1]:0")
	if err != nil {
		t.Skip("needs IPv6: ", err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	for range 20 {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
			t.Fatal(string(b), err)
		}
		_ = c.Close()
	}
}

// busyPoll reads SO_BUSY_POLL in microseconds.
func busyPoll(t *testing.T, c any) int {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var us int
	if e := raw.Control(func(fd uintptr) { us, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BUSY_POLL) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return us
}

func TestBusyPollingIsOnEverySocketOfALink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: SO_BUSY_POLL takes CAP_NET_ADMIN")
	}
	s := linux.Sockets{BusyPoll: 50 * time.Microsecond}
	l, err := s.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{Control: s.Control}
	out, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if a, b := busyPoll(t, out), busyPoll(t, in); a != 50 || b != 50 {
		t.Errorf("dialled %d, accepted %d", a, b)
	}
}

func TestAnArenaIsOnHugePagesWhenItSaysSo(t *testing.T) {
	root, err := linux.Open("/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m := root.Probe().Memory
	if m.State != hal.Loaded {
		t.Skip(m.Why)
	}
	const n = 4 << 20
	mem, outcomes, err := linux.Arena(n, hal.Sequential, &m.Value, &hal.CPU{})
	if err != nil || len(mem) != n {
		t.Fatal(len(mem), err)
	}
	for i := range mem {
		if mem[i] != 0 {
			t.Fatal("not zero at", i)
		}
	}
	t.Logf("THP %q: %+v", m.Value.THP, outcomes)
	if m.Value.THP != "madvise" && m.Value.THP != "always" {
		t.Skip("transparent huge pages are off")
	}
	for _, o := range outcomes {
		if o.Advice.Value == "hugepage" && o.Result != hal.Applied {
			t.Errorf("%+v", o)
		}
	}
}

// TestMemoryIsLockedAsItIsTouched runs itself as a process of its own: locking is for a whole process.
func TestMemoryIsLockedAsItIsTouched(t *testing.T) {
	const env = "HOLDFAST_LOCK"
	if os.Getenv(env) == "" {
		if os.Geteuid() != 0 {
			t.Skip("needs root")
		}
		for _, who := range []string{"root", "nobody"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
			cmd.Env = append(os.Environ(), env+"="+who)
			out, err := cmd.CombinedOutput()
			cancel()
			if err != nil {
				t.Errorf("%s: %v\n%s", who, err, out)
			}
		}
		return
	}
	if os.Getenv(env) == "nobody" {
		// What is no limit now would stay none.
		limit := unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}
		if err := errors.Join(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit), syscall.Setuid(65534)); err != nil {
			t.Fatal(err)
		}
		if err := linux.LockMemory(); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "LimitMEMLOCK=infinity; it is 8192 KiB") {
			t.Error(err)
		}
		return
	}
	const n = 256 << 20
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	if err := linux.LockMemory(); err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for i := range 4 {
		mem[i*page] = 1
	}
	resident := make([]byte, n/page)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, addr(mem), n, addr(resident)); errno != 0 {
		t.Fatal(errno)
	}
	in := 0
	for _, r := range resident {
		in += int(r & 1)
	}
	// Neither all of it (that would be a lock without ONFAULT), nor less than what was touched.
	if in < 4 || in > n/page/2 {
		t.Errorf("%d of %d pages are in memory", in, n/page)
	}
	if b, err := os.ReadFile("/proc/self/status"); err != nil || strings.Contains(string(b), "VmLck:\t       0 kB") {
		t.Errorf("%v: nothing is locked\n%s", err, b)
	}
}

func addr(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }
