package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/feed"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const (
	trace = "../../testdata/traces/web07.trace.xz"
	// What is in the trace.
	accesses, objects = 76118, 20484
	// patience is how long a site may take to get where a test waits for it: far more than it
	// needs on any machine, so that only what never comes fails.
	patience = 90 * time.Second
)

// build makes the program.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a whole site of processes")
	}
	program := filepath.Join(t.TempDir(), "holdfast")
	out, err := exec.Command("go", "build", "-o", program, "..").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// counts is how often each object is in the trace.
func counts(t *testing.T) map[uint64]uint64 {
	t.Helper()
	tr, err := feed.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	m := map[uint64]uint64{}
	if err := tr.Each(func(list []uint32) error {
		for _, o := range list {
			m[uint64(o)]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(m) != objects || tr.Accesses() != accesses {
		t.Fatalf("the trace has %d accesses of %d objects", tr.Accesses(), len(m))
	}
	return m
}

// liveSite is a running `holdfast dev`.
type liveSite struct {
	t       *testing.T
	program string
	dir     string
	base    int
	cmd     *exec.Cmd
	log     *os.File
}

type ready struct {
	Boxes []struct {
		ID, Console, Dir string
		PID              int
	}
	Password string
}

func newSite(t *testing.T) *liveSite {
	t.Helper()
	s := &liveSite{t: t, program: build(t), dir: filepath.Join(t.TempDir(), "site"), base: freePorts(t)}
	var err error
	if s.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.killAll()
		}
		if t.Failed() {
			text, _ := os.ReadFile(s.log.Name())
			t.Logf("the site's log ends with:\n%s", text[max(0, len(text)-32<<10):])
		}
		_ = s.log.Close()
	})
	return s
}

// freePorts finds 100 ports that nobody uses, and gives the first. They are below 32768, where Linux takes
// the ports of outgoing connections from: a stopped site must find its ports free again.
func freePorts(t *testing.T) int {
	t.Helper()
search:
	for base := 15000 + os.Getpid()%100*100; base < 32000; base += 100 {
		for _, port := range []int{0, 1, 2, 3, 20, 21, 22, 23, 40, 41, 50, 51, 60, 61, 70, 71} {
			var lc net.ListenConfig
			l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(base+port))
			if err != nil {
				continue search
			}
			_ = l.Close()
		}
		return base
	}
	t.Fatal("no free ports")
	return 0
}

func (s *liveSite) readyFile() string { return s.dir + ".ready" }

// start starts the site, new or again, and waits until it serves.
func (s *liveSite) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.program, "dev", "--boxes", "4", "--dir", s.dir, "--ready-file", s.readyFile(),
		"--console-port", strconv.Itoa(s.base), "--peer-port", strconv.Itoa(s.base+20), "--client-port", strconv.Itoa(s.base+40))
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("the site serves", func() error {
		_, err := os.Stat(s.readyFile())
		return err
	})
}

// stop stops the site as Ctrl-C does.
func (s *liveSite) stop() {
	s.t.Helper()
	boxes := s.ready().Boxes
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("dev after an interrupt: %v", err)
	}
	s.cmd = nil
	if _, err := os.Stat(s.readyFile()); !errors.Is(err, fs.ErrNotExist) {
		s.t.Errorf("ready file after the stop: %v", err)
	}
	for _, b := range boxes {
		if b.PID != 0 && syscall.Kill(b.PID, 0) == nil {
			s.t.Errorf("process %d outlives the stop", b.PID)
		}
	}
}

// killAll kills the site and every box, as a power cut of the processes. The ready file that is
// left tells nothing of the next start.
func (s *liveSite) killAll() {
	s.t.Helper()
	var boxes ready
	if text, err := os.ReadFile(s.readyFile()); err == nil {
		_ = json.Unmarshal(text, &boxes)
	}
	_ = s.cmd.Process.Kill()
	for _, b := range boxes.Boxes {
		if b.PID != 0 {
			_ = syscall.Kill(b.PID, syscall.SIGKILL)
		}
	}
	_ = s.cmd.Wait()
	s.cmd = nil
	_ = os.Remove(s.readyFile())
}

func (s *liveSite) ready() (r ready) {
	s.t.Helper()
	text, err := os.ReadFile(s.readyFile())
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || len(r.Boxes) != 4 || r.Password == "" {
		s.t.Fatalf("ready file %s: %v", text, err)
	}
	return r
}

// signal sends a signal to box i.
func (s *liveSite) signal(i int, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.ready().Boxes[i].PID, sig); err != nil {
		s.t.Fatalf("%v to box %d: %v", sig, i, err)
	}
}

// await polls until fn has no error.
func (s *liveSite) await(what string, fn func() error) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); ; {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			s.describe()
			s.t.Fatalf("%s: never: %v", what, err)
		}
		<-tick.C
	}
}

// describe logs how each box is.
func (s *liveSite) describe() {
	for i := range 4 {
		st, err := s.status(i)
		if err != nil {
			s.t.Logf("box %d: %v", i, err)
			continue
		}
		s.t.Logf("box %d: height %d, round %d, leader %v, %q", i, st.Height, st.Round, st.Leader, st.Verdict)
		for _, m := range st.Members {
			s.t.Logf("  %s: up %v, height %d, round %d", m.Name, m.Up, m.Height, m.Round)
		}
	}
}

func (s *liveSite) console(i int) string { return "http://127.0.0.1:" + strconv.Itoa(s.base+i) }

// status asks box i.
func (s *liveSite) status(i int) (api.Status, error) {
	b, err := remote.New(s.console(i))
	if err != nil {
		return api.Status{}, err
	}
	defer b.Close()
	return b.Status(s.t.Context())
}

// leader is the index of the leader, as the first box that answers says.
func (s *liveSite) leader() int {
	s.t.Helper()
	leader := -1
	s.await("a leader", func() error {
		for i := range 4 {
			st, err := s.status(i)
			if err != nil {
				continue
			}
			for k := range st.Members {
				if st.Members[k].ID == st.Leader {
					leader = k
					return nil
				}
			}
		}
		return errors.New("no box knows one")
	})
	return leader
}

// run runs a command of the program and gives its standard output.
func (s *liveSite) run(args ...string) ([]byte, error) {
	cmd := exec.Command(s.program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}

// wantCounts waits until box i has counted every access, and compares every count.
func (s *liveSite) wantCounts(i int, want map[uint64]uint64) {
	s.t.Helper()
	var top site.Top
	s.await(fmt.Sprintf("box %d has all accesses", i), func() error {
		out, err := s.run("top", "-n", strconv.Itoa(objects+1), "--json", "--addr", s.console(i))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(out, &top); err != nil {
			return err
		}
		if top.Total < accesses {
			return fmt.Errorf("%d of %d", top.Total, accesses)
		}
		return nil
	})
	if top.Total != accesses || top.Distinct != objects || len(top.Top) != objects {
		s.t.Errorf("box %d: %d accesses of %d objects, %d listed; want %d of %d", i, top.Total, top.Distinct, len(top.Top), accesses, objects)
	}
	wrong := 0
	for _, c := range top.Top {
		if want[c.Object] != c.Count {
			wrong++
		}
	}
	if wrong > 0 {
		s.t.Errorf("box %d has wrong counts for %d objects", i, wrong)
	}
}
