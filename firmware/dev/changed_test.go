package dev

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// changedSite is a site of three that has since let box-7 in, removed box-1 and given box-2 another key, which it has not taken yet; only
// box-0 has written that down. A box waits in box-5.
func changedSite(t *testing.T) (o Options, m *coord.Members) {
	t.Helper()
	base := freePorts(t)
	o = options(t.TempDir(), base)
	o.Boxes = 3
	start(t, o).stop()
	m, found, err := findSite(o.Dir)
	if err != nil || !found {
		t.Fatal(err)
	}
	add := func(n int) *trust.Identity {
		if err := os.Mkdir(boxDir(o.Dir, n), 0o700); err != nil {
			t.Fatal(err)
		}
		id, err := trust.LoadOrCreate(boxDir(o.Dir, n))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	add(5)
	seventh := add(7)
	key, err := trust.LoadOrCreate(boxDir(o.Dir, 2))
	if err != nil {
		t.Fatal(err)
	}
	next, err := trust.OpenNext(boxDir(o.Dir, 2), key, trust.KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := plan(&o, 8)
	if err != nil {
		t.Fatal(err)
	}
	l := all[7].listen
	m.Epoch = 4
	m.List[2].ID, m.List[2].Key = next.ID(), next.PublicKey()
	m.List = append(m.List[:1], m.List[2], coord.Member{
		ID: seventh.ID(), Name: "corner", Key: seventh.PublicKey(), Peer: l.peer, Client: l.client, Native: l.native, Console: l.console,
	})
	for _, n := range []int{0, 7} {
		if err := trust.SaveMembers(boxDir(o.Dir, n), m); err != nil {
			t.Fatal(err)
		}
	}
	return o, m
}

func TestASiteThatChangedItsBoxesIsContinuedWithThoseThatItHas(t *testing.T) {
	o, m := changedSite(t)
	s := start(t, o) // still with --boxes 3
	r := s.ready()
	want := []struct {
		id  coord.BoxID
		dir int
	}{{m.List[0].ID, 0}, {m.List[1].ID, 2}, {m.List[2].ID, 7}, {dir: 5}}
	if len(r.Boxes) != len(want) {
		t.Fatalf("%d boxes run: %+v", len(r.Boxes), r.Boxes)
	}
	for i, w := range want {
		b := r.Boxes[i]
		if w.id != (coord.BoxID{}) && b.ID != w.id.String() || b.Dir != boxDir(o.Dir, w.dir) {
			t.Errorf("box %d is %s in %s, want %v in box-%d", i, b.ID, b.Dir, w.id, w.dir)
		}
	}
	if r.Boxes[1].Peer != m.List[1].Peer || r.Boxes[2].Peer != m.List[2].Peer {
		t.Errorf("the boxes are not where the site has them: %+v", r.Boxes)
	}
	s.stop()
	old, err := trust.LoadMembers(boxDir(o.Dir, 1))
	if err != nil || old.Epoch != 1 {
		t.Errorf("the directory of the box that was removed was touched: %+v, %v", old, err)
	}
	if now, err := trust.LoadMembers(boxDir(o.Dir, 0)); err != nil || now.Digest() != m.Digest() {
		t.Errorf("what the site decided was written over: %+v, %v", now, err)
	}
}

func TestADirectoryThatIsGoneFromAChangedSiteStaysOut(t *testing.T) {
	o, m := changedSite(t)
	if err := os.RemoveAll(boxDir(o.Dir, 7)); err != nil {
		t.Fatal(err)
	}
	o.Logger = slog.New(slog.DiscardHandler)
	boxes, err := lived(&o, m)
	if err != nil {
		t.Fatal(err)
	}
	if b := boxes[2]; !b.absent || b.name != "corner" || filepath.Base(b.Dir) == boxPrefix+"0" {
		t.Errorf("the box without a directory is %+v", b)
	}
}

func TestAChangedSiteReplacesItsBoxesItself(t *testing.T) {
	o, _ := changedSite(t)
	if err := os.RemoveAll(boxDir(o.Dir, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := Replace(o.Dir, 1, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrReplace) {
		t.Errorf("replaced behind the site's back: %v", err)
	}
}
