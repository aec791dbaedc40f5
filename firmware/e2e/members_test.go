package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// loneBox is one box's process, started by the test itself.
type loneBox struct {
	t        *testing.T
	program  string
	dir, log string
	member   coord.Member
	cmd      *exec.Cmd
}

// newLoneBox makes a box's directory, on the ports from base on, without a site.
func newLoneBox(t *testing.T, program, root string, i, base int) *loneBox {
	t.Helper()
	b := &loneBox{t: t, program: program, dir: filepath.Join(root, "box-"+strconv.Itoa(i)), log: filepath.Join(root, fmt.Sprintf("log-%d", i))}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := trust.LoadOrCreate(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int) string { return "127.0.0.1:" + strconv.Itoa(base+n) }
	b.member = coord.Member{ID: id.ID(), Name: "box-" + strconv.Itoa(i), Key: id.PublicKey(), Peer: at(20 + i), Native: at(40 + i), Console: at(i)}
	text := fmt.Sprintf("name = %q\ndata_dir = \".\"\n[peer]\nlisten = %q\n[native]\nlisten = %q\n[client]\nlisten = \"\"\n[console]\nlisten = %q\nview = \"open\"\n",
		b.member.Name, b.member.Peer, b.member.Native, b.member.Console)
	if err := os.WriteFile(filepath.Join(b.dir, "holdfast.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.cmd != nil {
			_ = b.cmd.Process.Kill()
			_ = b.cmd.Wait()
		}
		if t.Failed() {
			text, _ := os.ReadFile(b.log)
			t.Logf("%s's log ends with:\n%s", b.member.Name, text[max(0, len(text)-8<<10):])
		}
	})
	return b
}

func (b *loneBox) start() {
	b.t.Helper()
	log, err := os.OpenFile(b.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.cmd = exec.Command(b.program, "run", "--config", filepath.Join(b.dir, "holdfast.toml"))
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
}

// stop ends the process as the system does, or as a power cut.
func (b *loneBox) stop(sig syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(sig); err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Wait(); err != nil && sig != syscall.SIGKILL {
		b.t.Errorf("%s stopped: %v", b.member.Name, err)
	}
	b.cmd = nil
}

func (b *loneBox) socket() string { return "unix://" + filepath.Join(b.dir, "holdfast.sock") }

// ask asks the box over its socket.
func (b *loneBox) ask(fn func(r *remote.Box) error) error {
	r, err := remote.New(b.socket())
	if err != nil {
		return err
	}
	defer r.Close()
	return fn(r)
}

func (b *loneBox) status() (st api.Status, err error) {
	err = b.ask(func(r *remote.Box) error { st, err = r.Status(b.t.Context()); return err })
	return st, err
}

func (b *loneBox) await(what string, ok func() error) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var err error
	for limit := time.After(patience); ; {
		if err = ok(); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			b.t.Fatalf("%s: %s: never: %v", b.member.Name, what, err)
		}
	}
}

// in waits until the box is in an epoch, has it on its disk, and serves.
func (b *loneBox) in(epoch uint64) {
	b.t.Helper()
	b.await(fmt.Sprintf("serves in epoch %d", epoch), func() error {
		if m, err := trust.LoadMembers(b.dir); err != nil || m.Epoch != epoch {
			return fmt.Errorf("site.json: %v", err)
		}
		return b.ask(func(r *remote.Box) error {
			m, err := r.Members(b.t.Context())
			if err == nil && m.Epoch != epoch {
				err = fmt.Errorf("in epoch %d", m.Epoch)
			}
			return errors.Join(err, r.Ready(b.t.Context()))
		})
	})
}

// now is what roster reads of a site. The box that proposes fills in the versions.
type now struct{ m *coord.Members }

func (n now) Doc(string) (coord.Doc, bool) { return coord.Doc{}, false }
func (n now) Members() *coord.Members      { return n.m }
func (n now) Seconds() uint64              { return 0 }

// decide has the site decide on another list: the first box proposes it, and an operator approves it on each of the others.
func decide(t *testing.T, kind string, boxes []*loneBox, change func(st roster.State) (*coord.Members, error)) *coord.Members {
	t.Helper()
	old, err := trust.LoadMembers(boxes[0].dir)
	if err != nil {
		t.Fatal(err)
	}
	next, err := change(now{old})
	if err != nil {
		t.Fatal(err)
	}
	writes, err := roster.Writes(now{old}, next)
	if err != nil {
		t.Fatal(err)
	}
	p := &api.Proposal{Kind: kind, Subject: roster.Subject(kind, old, next), Reason: "to see"}
	for _, w := range writes {
		text := string(w.Value)
		p.Writes = append(p.Writes, api.ProposalWrite{Key: w.Key, Value: &text})
	}
	var id string
	if err := boxes[0].ask(func(r *remote.Box) error {
		said, err := r.Propose(t.Context(), p)
		if err == nil {
			id = said.ID
		}
		return err
	}); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	var words sync.WaitGroup
	for _, b := range boxes[1:] {
		words.Go(func() {
			b.await("knows the decision", func() error {
				return b.ask(func(r *remote.Box) error {
					d, err := r.Decision(t.Context(), id)
					if err == nil && d.Open == nil && d.Ended == nil {
						err = errors.New("neither open nor over")
					}
					return err
				})
			})
			// The others may have been enough meanwhile.
			out, err := exec.Command(b.program, "decision", "approve", id, "--addr", b.socket()).CombinedOutput()
			if err != nil {
				t.Logf("%s: approve: %s", b.member.Name, out)
			}
		})
	}
	words.Wait()
	return next
}

// constantWrites puts numbered keys, one after the other, until stop.
type constantWrites struct {
	t       *testing.T
	cl      *client.Client
	stop    func()
	mu      sync.Mutex
	n       int
	longest time.Duration
}

func writeConstantly(t *testing.T, boxes ...*loneBox) *constantWrites {
	t.Helper()
	var ends []client.Endpoint
	for _, b := range boxes {
		e, err := client.ParseEndpoint("unix://"+filepath.Join(b.dir, "native.sock"), coord.BoxID{})
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, e)
	}
	cl, err := client.Dial(t.Context(), client.Config{Endpoints: ends})
	if err != nil {
		t.Fatal(err)
	}
	w := &constantWrites{t: t, cl: cl}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			began := time.Now()
			if _, err := cl.Put(context.WithoutCancel(ctx), fmt.Appendf(nil, "n/%06d", i), []byte("value")); err != nil {
				t.Errorf("write %d: %v", i, err)
				return
			}
			w.mu.Lock()
			w.n, w.longest = i+1, max(w.longest, time.Since(began))
			w.mu.Unlock()
		}
	})
	w.stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
		_ = cl.Close(context.Background())
	})
	t.Cleanup(w.stop)
	return w
}

// tell logs how long the longest write since the last call took.
func (w *constantWrites) tell(what string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("%-40s the longest write took %6.1f ms; %d written so far", what, float64(w.longest.Microseconds())/1000, w.n)
	w.longest = 0
}

// more waits for some writes.
func (w *constantWrites) more(b *loneBox, n int) {
	w.t.Helper()
	w.mu.Lock()
	want := w.n + n
	w.mu.Unlock()
	b.await("writes go on", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.n < want {
			return fmt.Errorf("%d of %d", w.n, want)
		}
		return nil
	})
}

// TestASitesBoxesChangeUnderWrites: a box is added, one is removed, one gets another key, each by a decision that operators approve box by
// box; one is away during the last two. No acknowledged write is lost, none fails, and all end with the same state in the same epoch.
func TestASitesBoxesChangeUnderWrites(t *testing.T) {
	program, root, base := build(t), t.TempDir(), freePorts(t)
	var boxes []*loneBox
	m := &coord.Members{Site: coord.SiteID{1, 2, 3}, Epoch: 1}
	for i := range 5 {
		boxes = append(boxes, newLoneBox(t, program, root, i, base))
		if i < 4 {
			m.List = append(m.List, boxes[i].member)
		}
	}
	// The key that box 2 is to have.
	key, err := trust.LoadOrCreate(boxes[2].dir)
	if err != nil {
		t.Fatal(err)
	}
	next, err := trust.OpenNext(boxes[2].dir, key, trust.KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes[:4] {
		if err := trust.SaveMembers(b.dir, m); err != nil {
			t.Fatal(err)
		}
		b.start()
	}
	boxes[4].start() // it waits
	for _, b := range boxes[:4] {
		b.in(1)
	}
	w := writeConstantly(t, boxes[0], boxes[2])
	w.more(boxes[0], 200)
	w.tell("4 boxes, nothing changes")

	set := decide(t, roster.Add, boxes[:4], func(st roster.State) (*coord.Members, error) { return roster.Adding(st, &boxes[4].member) })
	if err := trust.SaveMembers(boxes[4].dir, set); err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		b.in(2)
	}
	w.more(boxes[0], 200)
	w.tell("a fifth box is added")

	away, removed, rotated := boxes[1], boxes[3], boxes[2]
	away.stop(syscall.SIGKILL)
	w.more(boxes[0], 200)
	w.tell("a box loses its power")

	here := []*loneBox{boxes[0], boxes[2], boxes[3], boxes[4]}
	decide(t, roster.Remove, here, func(st roster.State) (*coord.Members, error) {
		return roster.Removing(st, removed.member.ID)
	})
	here = []*loneBox{boxes[0], boxes[2], boxes[4]}
	for _, b := range here {
		b.in(3)
	}
	w.more(boxes[0], 200)
	w.tell("a box is removed")
	removed.await("says that it was removed", func() error {
		var v struct {
			Removed bool
			Verdict string
		}
		err := removed.ask(func(r *remote.Box) error {
			var text writer
			err := r.Raw(t.Context(), "/api/v1/status", &text)
			return errors.Join(err, json.Unmarshal(text, &v))
		})
		if err == nil && !v.Removed {
			err = errors.New(v.Verdict)
		}
		return err
	})

	decide(t, roster.Rotate, here, func(st roster.State) (*coord.Members, error) {
		return roster.Rotating(st, rotated.member.ID, next.PublicKey())
	})
	for _, b := range here {
		b.in(4)
	}
	w.more(boxes[0], 200)
	w.tell("a box has another key")
	if st, err := rotated.status(); err != nil || st.ID != next.ID() {
		t.Errorf("box 2 is %v, want %v: %v", st.ID, next.ID(), err)
	}

	away.start()
	all := []*loneBox{boxes[0], away, rotated, boxes[4]}
	for _, b := range all {
		b.in(4)
	}
	w.more(boxes[0], 200)
	w.tell("a box that missed two changes is back")
	w.stop()

	// The same state everywhere, with every write that was acknowledged.
	var height uint64
	for _, b := range all {
		st, err := b.status()
		if err != nil {
			t.Fatal(err)
		}
		height = max(height, st.Height)
	}
	for _, b := range all {
		b.await("has all", func() error {
			st, err := b.status()
			if err == nil && st.Height < height {
				err = fmt.Errorf("at height %d of %d", st.Height, height)
			}
			return err
		})
		if err := b.ask(func(r *remote.Box) error {
			for i := range w.n {
				kv, err := r.Get(t.Context(), fmt.Sprintf("n/%06d", i))
				if err != nil {
					return fmt.Errorf("write %d of %d: %w", i, w.n, err)
				}
				if string(kv.Value) != "value" {
					return fmt.Errorf("write %d of %d is %q", i, w.n, kv.Value)
				}
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", b.member.Name, err)
		}
		chain, err := exec.Command(program, "members", "--history", "--addr", b.socket()).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %s", b.member.Name, chain)
		}
		if b == boxes[0] {
			t.Logf("\n%s", chain)
		}
		b.stop(syscall.SIGTERM)
	}
	removed.stop(syscall.SIGTERM)
	removed.start()
	removed.await("starts again and keeps its console", func() error {
		st, err := removed.status()
		if err == nil && st.Serving {
			err = errors.New("it serves")
		}
		return err
	})
	removed.stop(syscall.SIGTERM)
}

// writer keeps what is written.
type writer []byte

func (w *writer) Write(b []byte) (int, error) { *w = append(*w, b...); return len(b), nil }
