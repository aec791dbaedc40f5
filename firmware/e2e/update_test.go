package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

// appliance is a box on a machine with slots: a directory is its system partition, the initrd of a slot is the program, and a loader
// chooses between them and counts as systemd-boot does. To start the machine again is to end the process and begin another one.
type appliance struct {
	*loneBox
	esp   string
	again string // the file by which the box asks for another start

	mu     sync.Mutex
	booted []string // the releases that were started
}

// buildVersion makes a program of another version.
func buildVersion(t *testing.T, version string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "holdfast-"+version)
	out, err := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", program, "..").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// flash makes a machine with a release in slot a, as an image has it.
func flash(t *testing.T, b *loneBox, version string) *appliance {
	t.Helper()
	m := &appliance{loneBox: b, esp: filepath.Join(filepath.Dir(b.dir), "esp-"+b.member.Name), again: filepath.Join(b.dir, "again")}
	if err := os.MkdirAll(filepath.Join(m.esp, "loader/entries"), 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := slots.Open(m.esp)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Open(b.program)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if err := e.Install(t.Context(), slots.A, slots.Release{Version: version, Blessed: true}, map[string]io.Reader{
		slots.Kernel: strings.NewReader("kernel of " + version), slots.Initrd: program, slots.Manifest: strings.NewReader("unsigned"),
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

// power runs the machine until ctx ends: it boots, and boots again when the box asks for it or its program ends.
func (m *appliance) power(ctx context.Context) error {
	for ctx.Err() == nil {
		slot, err := m.loader()
		if err != nil {
			return err
		}
		if err := m.boot(ctx, slot); err != nil {
			return err
		}
	}
	return nil
}

// loader chooses an entry, and counts.
func (m *appliance) loader() (slots.Slot, error) {
	e, err := slots.Open(m.esp)
	if err != nil {
		return "", err
	}
	list, err := e.Entries()
	if err != nil || len(list) == 0 {
		return "", fmt.Errorf("no entry: %w", err)
	}
	x := list[0]
	m.mu.Lock()
	m.booted = append(m.booted, x.Version)
	m.mu.Unlock()
	if x.Counted && x.Left > 0 {
		dir := filepath.Join(m.esp, "loader/entries")
		was := x.FileName()
		x.Left, x.Done = x.Left-1, x.Done+1
		if err := os.Rename(filepath.Join(dir, was), filepath.Join(dir, x.FileName())); err != nil {
			return "", err
		}
	}
	return x.Slot, nil
}

// boot runs the program in a slot until it ends, or the box asks for another start.
func (m *appliance) boot(ctx context.Context, slot slots.Slot) error {
	init := filepath.Join(m.dir, "init-"+string(slot))
	config, err := os.ReadFile(filepath.Join(m.dir, "holdfast.toml"))
	if err != nil {
		return err
	}
	config, _, _ = bytes.Cut(config, []byte("\n[update]\n"))
	config = fmt.Appendf(config, "\n[update]\nesp = %q\nslot = %q\nboard = \"fake\"\nreboot = [\"touch\", %q]\n", m.esp, slot, m.again)
	_ = os.Remove(m.again)
	_ = os.Remove(init)
	// Another process copies it: one that this process begins meanwhile would have it open for writing, and then it cannot be run.
	const unpack = `gzip -dcf "$0" > "$1" && chmod 0700 "$1"` // what is not packed it leaves as it is
	if out, err := exec.Command("sh", "-c", unpack, filepath.Join(m.esp, string(slot), slots.Initrd), init).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "holdfast.toml"), config, 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(m.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(init, "run", "--config", filepath.Join(m.dir, "holdfast.toml"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return nil // the machine starts again
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			<-ended
			return nil
		case <-tick.C:
			if _, err := os.Stat(m.again); err == nil {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				<-ended
				return nil
			}
		}
	}
}

// machines is a site of appliances.
type machines struct {
	t     *testing.T
	list  []*appliance
	boxes []*loneBox
	key   string
}

func newMachines(t *testing.T, version string) *machines {
	t.Helper()
	if testing.Short() {
		t.Skip("a whole site of processes")
	}
	program, root, base := buildVersion(t, version), t.TempDir(), freePorts(t)
	s := &machines{t: t, key: filepath.Join(root, "update.key")}
	m := &coord.Members{Site: coord.SiteID{4, 5, 6}, Epoch: 1}
	for i := range 4 {
		b := newLoneBox(t, program, root, i, base)
		m.List = append(m.List, b.member)
		s.boxes = append(s.boxes, b)
		s.list = append(s.list, flash(t, b, version))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, x := range s.list {
		if err := trust.SaveMembers(x.dir, m); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if err := x.power(ctx); err != nil {
				t.Errorf("%s: %v", x.member.Name, err)
			}
		})
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	for _, b := range s.boxes {
		b.in(1)
	}
	public, err := exec.Command(program, "update", "key", "--out", s.key).Output()
	if err != nil {
		t.Fatal(err)
	}
	s.decide(rollout.KindKey, "update", "trust", "first", strings.TrimSpace(string(public)))
	s.boxes[3].await("the key is trusted", func() error {
		u, err := s.update(3)
		if err == nil && (len(u.Keys) != 1 || u.Own) {
			err = fmt.Errorf("%+v", u.Keys)
		}
		return err
	})
	return s
}

// decide has box 0 ask for a decision, and the others approve it.
func (s *machines) decide(kind string, args ...string) {
	s.t.Helper()
	ended := func(all *api.Decisions) (n int) {
		for _, d := range all.Ended {
			if d.Kind == kind {
				n++
			}
		}
		return n
	}
	var before int
	s.boxes[0].await("says what was decided before", func() error {
		return s.boxes[0].ask(func(r *remote.Box) error {
			all, err := r.Decisions(s.t.Context())
			before = ended(&all)
			return err
		})
	})
	if out, err := s.boxes[0].run(args...); err != nil {
		s.t.Fatalf("%s: %v", out, err)
	}
	for _, b := range s.boxes[1:3] {
		b.await("approves "+kind, func() error {
			return b.ask(func(r *remote.Box) error {
				all, err := r.Decisions(s.t.Context())
				if err != nil {
					return err
				}
				for _, d := range all.Open {
					if d.Kind == kind {
						_, err := b.run("decision", "approve", d.ID.String())
						return err
					}
				}
				if ended(&all) <= before {
					return errors.New("none is open")
				}
				return nil
			})
		})
	}
}

func (s *machines) update(i int) (u *api.Update, err error) {
	err = s.boxes[i].ask(func(r *remote.Box) error { u, err = r.Update(s.t.Context()); return err })
	return u, err
}

// bundle makes a bundle whose initrd is a program, packed.
func (s *machines) bundle(version, initrd string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	kernel, packed, out := filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd.img"), filepath.Join(dir, "bundle")
	if err := os.WriteFile(kernel, []byte("MZ: the kernel of "+version), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if text, err := exec.Command("sh", "-c", `gzip -1c "$0" > "$1"`, initrd, packed).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
	arch, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := exec.Command(s.boxes[0].program, "update", "bundle", "--key", s.key, "--version", version, "--board", "fake",
		"--arch", strings.TrimSpace(string(arch)), "--kernel", kernel, "--initrd", packed, "--out", out).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
	return out
}

// awaitPlan waits until the site's update is in a state, as box 3 has it.
func (s *machines) awaitPlan(state rollout.State, undo bool) *api.Update {
	s.t.Helper()
	var u *api.Update
	s.boxes[3].await(fmt.Sprintf("the update is %s", state), func() (err error) {
		if u, err = s.update(3); err == nil && (u.Plan == nil || u.Plan.State != state || u.Plan.Undo != undo) {
			err = fmt.Errorf("%+v", u.Plan)
		}
		return err
	})
	return u
}

// run waits until all boxes run a version that is blessed.
func (s *machines) run(version string) {
	s.t.Helper()
	for i, b := range s.boxes {
		b.await("runs "+version, func() error {
			u, err := s.update(i)
			if err == nil && (u.Version != version || u.Trial != "") {
				err = fmt.Errorf("runs %s, trial %q", u.Version, u.Trial)
			}
			return err
		})
	}
}

// TestASiteIsUpdatedOneBoxAtATimeUnderWritesAndUndone: two releases that are really different programs, one bundle that one box is given, an
// update, and the way back. No write fails.
func TestASiteIsUpdatedOneBoxAtATimeUnderWritesAndUndone(t *testing.T) {
	s := newMachines(t, "1.0.0")
	next := s.bundle("1.1.0", buildVersion(t, "1.1.0"))
	w := writeConstantly(t, s.boxes...)
	w.more(s.boxes[0], 100)
	w.tell("before the update")
	began := time.Now()
	s.decide(rollout.KindSite, "update", "site", next, "--health", "3s", "--latency", "5s", "--box-time", "2m")
	u := s.awaitPlan(rollout.Done, false)
	t.Logf("4 boxes have changed over within %v", time.Since(began).Round(time.Millisecond))
	w.tell("the update")
	for _, b := range u.Plan.Boxes {
		if b.Step != rollout.Good {
			t.Errorf("%s: %s %s", b.Name, b.Step, b.Why)
		}
	}
	s.run("1.1.0")
	w.more(s.boxes[0], 50)
	s.decide(rollout.KindUndo, "update", "undo")
	s.awaitPlan(rollout.Done, true)
	s.run("1.0.0")
	w.more(s.boxes[0], 50)
	w.tell("the way back")
	w.stop()
	for _, m := range s.list {
		m.mu.Lock()
		if got := strings.Join(m.booted, " "); got != "1.0.0 1.1.0 1.0.0" {
			t.Errorf("%s started %s", m.member.Name, got)
		}
		m.mu.Unlock()
	}
}

// TestABadReleaseIsGivenUpByItselfAndStopsTheUpdate: one that ends at once, as a kernel that panics would, one with which the site is not well, one
// that is signed by a stranger, and one for another board.
func TestABadReleaseIsGivenUpByItselfAndStopsTheUpdate(t *testing.T) {
	s := newMachines(t, "1.0.0")
	w := writeConstantly(t, s.boxes...)
	w.more(s.boxes[0], 50)
	script := filepath.Join(t.TempDir(), "panics")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	failed := func(want string) {
		t.Helper()
		u := s.awaitPlan(rollout.Stopped, false)
		if n := u.Plan.Count(rollout.Failed); n != 1 || u.Plan.Count(rollout.Waits) != 3 || !strings.Contains(u.Plan.Why, want) {
			t.Errorf("%d boxes failed: %q in %+v", n, u.Plan.Why, u.Plan.Boxes)
		}
		s.run("1.0.0")
		w.more(s.boxes[0], 20)
		w.tell(want)
	}
	s.decide(rollout.KindSite, "update", "site", s.bundle("1.1.0", script), "--health", "2s", "--latency", "5s", "--box-time", "2m")
	failed("it did not come up: the machine was started with it 3 times")
	s.decide(rollout.KindSite, "update", "site", s.bundle("1.2.0", buildVersion(t, "1.2.0")), "--health", "3s", "--latency", "1ms", "--box-time", "20s")
	failed("99 of 100 messages take up to")

	// A single box, and what it does not take at all.
	stranger := *s
	stranger.key = filepath.Join(t.TempDir(), "stranger.key")
	if out, err := exec.Command(s.boxes[0].program, "update", "key", "--out", stranger.key).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	if out, err := s.boxes[0].run("update", "apply", stranger.bundle("1.3.0", script)); err == nil || !strings.Contains(err.Error(), "not signed with a key that is trusted") {
		t.Errorf("a stranger's firmware: %s %v", out, err)
	}
	if out, err := s.boxes[0].run("update", "apply", s.bundle("0.9.0", script)); err == nil || !strings.Contains(err.Error(), "older than 1.0.0") {
		t.Errorf("an older version: %s %v", out, err)
	}
	w.stop()
}
