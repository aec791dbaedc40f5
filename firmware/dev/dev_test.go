package dev

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// devSite is a running site of a test.
type devSite struct {
	t       *testing.T
	o       Options
	cancel  context.CancelFunc
	done    chan error
	serving chan string
}

// start runs a site and waits until it serves.
func start(t *testing.T, o Options) *devSite {
	t.Helper()
	s := &devSite{t: t, o: o, done: make(chan error, 1), serving: make(chan string, 1)}
	o.Serving = func(_ context.Context, url string) error { s.serving <- url; return nil }
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	go func() { s.done <- Run(ctx, o) }()
	select {
	case <-s.serving:
	case err := <-s.done:
		t.Fatalf("site ended: %v", err)
	}
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *devSite) stop() {
	s.t.Helper()
	if s.cancel == nil {
		return
	}
	s.cancel()
	s.cancel = nil
	if err := <-s.done; err != nil {
		s.t.Errorf("stop: %v", err)
	}
}

type ready struct {
	Boxes []struct {
		ID, Console, Client, Peer, Native, Dir string
		PID                                    int
	}
	Password string
}

func (s *devSite) ready() ready {
	s.t.Helper()
	text, err := os.ReadFile(s.o.ReadyFile)
	if err != nil {
		s.t.Fatal(err)
	}
	var r ready
	if err := json.Unmarshal(text, &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// await polls until ok, for at most the test's own time.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: never", what)
		}
	}
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func serves(url string) bool {
	resp, err := http.Get(url + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func TestASiteStartsStopsAndContinuesWithTheSameBoxes(t *testing.T) {
	o := options(t.TempDir(), freePorts(t))
	first := start(t, o)
	r := first.ready()
	if len(r.Boxes) != BoxesDefault || r.Password == "" {
		t.Fatalf("ready file %+v", r)
	}
	for i, b := range r.Boxes {
		if !strings.HasPrefix(b.Console, "http://127.0.0.1:") || !serves(b.Console) || b.Dir != filepath.Join(o.Dir, "box-"+strconv.Itoa(i)) {
			t.Errorf("box %d: %+v", i, b)
		}
		for _, a := range []string{b.Client, b.Peer, b.Native} {
			if _, _, err := net.SplitHostPort(a); err != nil {
				t.Errorf("box %d: %v", i, err)
			}
		}
	}
	for file, mode := range map[string]fs.FileMode{o.ReadyFile: 0o600, filepath.Join(o.Dir, passwordFile): 0o600, r.Boxes[0].Dir: fs.ModeDir | 0o700} {
		if info, err := os.Stat(file); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v, want %v", file, info.Mode(), err, mode)
		}
	}
	first.stop()
	if _, err := os.Stat(o.ReadyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ready file after the stop: %v", err)
	}
	for _, b := range r.Boxes {
		if !gone(b.PID) {
			t.Errorf("process %d is left", b.PID)
		}
	}
	o.ConsolePort += 5 // other ports, same site
	again := start(t, o).ready()
	for i := range r.Boxes {
		if again.Boxes[i].ID != r.Boxes[i].ID || again.Boxes[i].Console == r.Boxes[i].Console {
			t.Errorf("box %d was %+v and is %+v", i, r.Boxes[i], again.Boxes[i])
		}
	}
	if again.Password != r.Password {
		t.Error("the first password has changed")
	}
}

func TestABoxThatIsKilledComesBackUnlessToldNotTo(t *testing.T) {
	o := options(t.TempDir(), freePorts(t))
	o.Boxes = 2
	s := start(t, o)
	old := s.ready().Boxes[1].PID
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "new process in the ready file", func() bool { pid := s.ready().Boxes[1].PID; return pid != old && pid != 0 })
	await(t, "box serves again", func() bool { return serves(s.ready().Boxes[1].Console) })
	s.stop()

	var log bytes.Buffer
	o.NoRestart, o.Logger = true, newLog(&log)
	s = start(t, o)
	b := s.ready().Boxes[1]
	if err := syscall.Kill(b.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "box is gone", func() bool { return gone(b.PID) })
	s.stop() // also waits for the box's keeper
	if text := log.String(); !strings.Contains(text, "signal: killed") || !strings.Contains(text, "restart=false") {
		t.Errorf("log %q", text)
	}
}

func TestTwoAtOnceOtherSizesAndPortsInUseAreRefusedInOneLine(t *testing.T) {
	o := options(t.TempDir(), freePorts(t))
	o.Boxes = 2
	s := start(t, o)
	if err := Run(t.Context(), o); !errors.Is(err, ErrLocked) {
		t.Errorf("two at once: %v", err)
	}
	other := options(t.TempDir(), o.ConsolePort)
	err := Run(t.Context(), other)
	if want := "127.0.0.1:" + strconv.Itoa(o.ConsolePort); !errors.Is(err, ErrPorts) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--console-port") {
		t.Errorf("ports in use: %v", err)
	}
	if entries, _ := os.ReadDir(other.Dir); len(entries) != 1 {
		t.Errorf("a site that could not start left %v", entries)
	}
	s.stop()
	o.Boxes = 3
	if err := Run(t.Context(), o); !errors.Is(err, ErrSite) || !strings.Contains(err.Error(), "--boxes 2") {
		t.Errorf("other size: %v", err)
	}
	for name, change := range map[string]func(*Options){
		"overlapping ports": func(o *Options) { o.PeerPort = o.ConsolePort + 1 },
		"no such port":      func(o *Options) { o.ClientPort = 65530 },
		"port zero":         func(o *Options) { o.ConsolePort = 0 },
		"too many boxes":    func(o *Options) { o.Boxes = 99 },
	} {
		bad := options(t.TempDir(), 20000)
		change(&bad)
		if err := Run(t.Context(), bad); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASiteGoesOnWithoutABoxWhoseDirectoryIsGone(t *testing.T) {
	o := options(t.TempDir(), freePorts(t))
	o.Boxes = 4
	s := start(t, o)
	lost := s.ready().Boxes[2]
	if err := os.RemoveAll(lost.Dir); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(lost.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "box is gone", func() bool { return gone(lost.PID) })
	s.stop()
	again := start(t, o).ready() // serves with three, and makes no new identity for the fourth
	if again.Boxes[2].ID != lost.ID || again.Boxes[2].PID != 0 {
		t.Errorf("the lost box is %+v", again.Boxes[2])
	}
	if _, err := os.Stat(lost.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
}

func TestAStoppedOrDeafBoxDoesNotHoldUpTheStop(t *testing.T) {
	o := options(t.TempDir(), freePorts(t))
	o.Boxes = 3
	if err := os.MkdirAll(filepath.Join(o.Dir, "box-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "box-1", "deaf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, o)
	r := s.ready()
	if err := syscall.Kill(r.Boxes[0].PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.stop()
	for _, b := range r.Boxes {
		if !gone(b.PID) {
			t.Errorf("process %d is left", b.PID)
		}
	}
}

func TestABoxThatCannotStartDoesNotStopTheOthers(t *testing.T) {
	o := options(t.TempDir(), freePorts(t))
	o.Boxes = 2
	start(t, o).stop()
	if err := os.WriteFile(filepath.Join(o.Dir, "box-1", "sick"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	await(t, "the other serves", func() bool { return serves("http://127.0.0.1:" + strconv.Itoa(o.ConsolePort)) })
	if _, err := os.Stat(o.ReadyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ready file although a box does not serve: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNoBoxOutlivesAKilledDev(t *testing.T) {
	dir, base := t.TempDir(), freePorts(t)
	cmd := exec.Command(os.Args[0], dir, strconv.Itoa(base))
	cmd.Env = append(os.Environ(), roleVariable+"=dev")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "serves\n" {
		t.Fatalf("%q %v", line, err)
	}
	s := &devSite{t: t, o: options(dir, base)}
	r := s.ready()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
	for _, b := range r.Boxes {
		await(t, "box is gone", func() bool { return gone(b.PID) || zombie(b.PID) })
	}
	again := start(t, options(dir, base)).ready()
	if again.Boxes[0].ID != r.Boxes[0].ID {
		t.Error("not the same site")
	}
}

func newLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// zombie says whether a process has ended and nobody has asked for its status: ours has no
// init above it in some test environments.
func zombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "Z")
}
