package box

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

// living is a box of a site that runs, with its ordering at hand.
type living struct {
	t       *testing.T
	c       *config.Config
	who     coord.Member
	now     chan *site.Site // the ordering of each start
	site    *site.Site
	stop    func() error
	nextKey func() ([]byte, error)
	wrap    func(Wrapped, Connect) Connect
}

// newBoxDir makes a box's directory, without a site.
func newBoxDir(t *testing.T, name string) *living {
	t.Helper()
	c := newBox(t)
	if err := os.Remove(filepath.Join(c.DataDir, trust.SiteFile)); err != nil {
		t.Fatal(err)
	}
	id, err := trust.LoadOrCreate(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	c.Name = name
	return &living{t: t, c: c, now: make(chan *site.Site, 4), who: coord.Member{
		ID: id.ID(), Name: name, Key: id.PublicKey(), Peer: c.Peer.Listen, Native: c.Native.Listen,
	}}
}

func (b *living) start() {
	b.t.Helper()
	o := silent(b.c)
	o.Wrap = b.wrap
	o.opened = func(s *site.Site, nextKey func() ([]byte, error)) { b.nextKey = nextKey; b.now <- s }
	_, b.stop = launch(b.t, o)
	b.reopened()
}

// reopened waits for the ordering of the next start.
func (b *living) reopened() {
	b.t.Helper()
	select {
	case b.site = <-b.now:
	case <-time.After(20 * time.Second):
		b.t.Fatalf("%s does not start", b.who.Name)
	}
}

func (b *living) await(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(40 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			v := b.site.View()
			b.t.Fatalf("%s never %s: epoch %d of %d, height %d, %q", b.who.Name, what, v.Epoch, v.N, v.Height, v.Verdict)
		}
	}
}

func (b *living) awaitEpoch(epoch uint64) {
	b.t.Helper()
	b.await(fmt.Sprintf("comes to epoch %d and writes it down", epoch), func() bool {
		m, err := trust.LoadMembers(b.c.DataDir)
		return err == nil && m.Epoch == epoch && b.site.View().Epoch == epoch
	})
}

// founding starts a site of n boxes.
func founding(t *testing.T, n int, edit ...func(i int, b *living)) []*living {
	t.Helper()
	m := &coord.Members{Site: coord.SiteID{7}, Epoch: 1}
	var list []*living
	for i := range n {
		b := newBoxDir(t, fmt.Sprintf("box-%d", i))
		for _, e := range edit {
			e(i, b)
		}
		list, m.List = append(list, b), append(m.List, b.who)
	}
	for _, b := range list {
		if err := trust.SaveMembers(b.c.DataDir, m); err != nil {
			t.Fatal(err)
		}
		b.start()
	}
	for _, b := range list {
		b.await("serves", func() bool { return b.site.View().Serving })
	}
	return list
}

// change has the site decide on another member set: the first box proposes it, the others' operators say yes.
func change(t *testing.T, kind string, boxes []*living, next func(st *state.Machine) (*coord.Members, error)) *coord.Members {
	t.Helper()
	st := boxes[0].site.State()
	m, err := next(st)
	if err != nil {
		t.Fatal(err)
	}
	writes, err := roster.Writes(st, m)
	if err != nil {
		t.Fatal(err)
	}
	d := &coord.Decision{Kind: kind, Subject: roster.Subject(kind, st.Members(), m), Principal: "operator:test", Nonce: m.Epoch, Writes: writes}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	id := d.Digest(m.Site)
	var words sync.WaitGroup
	for _, b := range boxes[1:] {
		words.Go(func() {
			b.await("knows the decision or its end", func() bool {
				open, ended := b.site.State().Decision(id)
				return open != nil || ended != nil
			})
			_ = b.site.Word(ctx, id, true) // it may have been decided before
		})
	}
	if _, err := boxes[0].site.Decide(ctx, d); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	words.Wait()
	return m
}

// writer puts numbered keys, one after the other.
type writer struct {
	t    *testing.T
	stop func()

	mu      sync.Mutex
	n       int           // acknowledged
	longest time.Duration // since interrupted was called
}

// interrupted says how long the longest write took since the last call.
func (w *writer) interrupted(by string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("%s: %d writes so far, the longest since the last line took %v", by, w.n, w.longest.Round(time.Millisecond))
	w.longest = 0
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// writing writes through a box until stop is called.
func writing(t *testing.T, b *living) *writer {
	cl := dial(t, b.c, "unix://"+b.c.Native.Socket, coord.BoxID{})
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{t: t}
	var done sync.WaitGroup
	done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			began := time.Now()
			putting, end := context.WithTimeout(context.Background(), 40*time.Second) // what is begun is ended, also when it stops
			_, err := cl.Put(putting, fmt.Appendf(nil, "n/%d", i), []byte("x"))
			end()
			if err != nil {
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
		closing, end := context.WithTimeout(context.Background(), 5*time.Second)
		defer end()
		_ = cl.Close(closing)
	})
	t.Cleanup(w.stop)
	return w
}

func TestASitesBoxesChangeWhileItWrites(t *testing.T) {
	if testing.Short() {
		t.Skip("five boxes")
	}
	boxes := founding(t, 4)
	w := writing(t, boxes[0])
	w.interrupted("founded")

	// One is added.
	fifth := newBoxDir(t, "box-4")
	m := change(t, roster.Add, boxes, func(st *state.Machine) (*coord.Members, error) { return roster.Adding(st, &fifth.who) })
	if err := trust.SaveMembers(fifth.c.DataDir, m); err != nil {
		t.Fatal(err)
	}
	fifth.start()
	boxes = append(boxes, fifth)
	for _, b := range boxes {
		b.awaitEpoch(2)
	}
	fifth.await("has the state and serves", func() bool { return fifth.site.View().Serving })

	w.interrupted("a box is added")

	// One is away during two changes.
	away := boxes[1]
	if err := away.stop(); err != nil {
		t.Fatal(err)
	}
	w.interrupted("a box stops")
	here := []*living{boxes[0], boxes[2], boxes[3], fifth}
	removed := boxes[3]
	change(t, roster.Remove, here, func(st *state.Machine) (*coord.Members, error) {
		return roster.Removing(st, removed.who.ID)
	})
	here = []*living{boxes[0], boxes[2], fifth}
	for _, b := range here {
		b.awaitEpoch(3)
	}
	removed.awaitEpoch(3)
	w.interrupted("a box is removed")
	if v := removed.site.View(); v.Serving || v.Index >= 0 {
		t.Errorf("the removed box shows %q, index %d", v.Verdict, v.Index)
	}
	if err := removed.stop(); err != nil {
		t.Error(err)
	}
	removed.start() // it does not fail, and says so
	if v := removed.site.View(); v.Serving || v.Index >= 0 || !strings.Contains(v.Verdict, "(member.remove box-3 ") {
		t.Errorf("the removed box, started again, shows %q, index %d", v.Verdict, v.Index)
	}

	// One gets a new key.
	rotating := boxes[2]
	public, err := rotating.nextKey()
	if err != nil {
		t.Fatal(err)
	}
	old := rotating.who.ID
	change(t, roster.Rotate, here, func(st *state.Machine) (*coord.Members, error) {
		return roster.Rotating(st, old, public)
	})
	rotating.reopened()
	rotating.awaitEpoch(4)
	rotating.await("serves with its new key", func() bool { v := rotating.site.View(); return v.Serving && v.ID == coord.BoxIDOf(public) })

	w.interrupted("a box has another key")
	away.start()
	for _, b := range []*living{boxes[0], away, rotating, fifth} {
		b.awaitEpoch(4)
		b.await("serves", func() bool { return b.site.View().Serving })
	}
	w.interrupted("a box that was away is back")
	w.stop()
	n := w.count()
	if n < 10 {
		t.Errorf("only %d writes", n)
	}
	at := boxes[0].site.View().Revision
	for _, b := range []*living{boxes[0], away, rotating, fifth} {
		b.await("has all", func() bool { return b.site.View().Revision >= at })
		for i := range n {
			if _, _, found, err := b.site.Get(fmt.Appendf(nil, "n/%d", i)); err != nil || !found {
				t.Fatalf("%s lacks write %d of %d: %v", b.who.Name, i, n, err)
			}
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	}
}
