package store_test

import (
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

func handover(epoch uint64, sigs int) *coord.Handover {
	set := func(epoch uint64) *coord.Members {
		return &coord.Members{Site: testSite, Epoch: epoch, List: []coord.Member{{ID: testBox, Name: "a", Key: []byte{1}, Peer: "10.0.0.1:7400"}}}
	}
	h := &coord.Handover{Members: set(epoch), Next: set(epoch + 1), Header: &coord.Block{Epoch: epoch, Round: 9 * epoch, Height: 5 * epoch}}
	for i := range sigs {
		h.Sigs = append(h.Sigs, coord.VoteSig{Voter: uint8(i)})
	}
	return h
}

func wantHandovers(t *testing.T, b *store.Base, from, to uint64, sigs int) {
	t.Helper()
	hs, err := b.Handovers()
	must(t, err)
	if len(hs) != int(to-from+1) {
		t.Fatalf("%d handovers, want those of epochs %d to %d", len(hs), from, to)
	}
	for i, h := range hs {
		if want := handover(from+uint64(i), sigs); h.Digest() != want.Digest() || len(h.Sigs) != sigs {
			t.Errorf("handover %d is that of epoch %d with %d signatures", i, h.Members.Epoch, len(h.Sigs))
		}
	}
}

func TestAHandoverIsDurableWithTheStateAtTheEndOfItsEpoch(t *testing.T) {
	dir := t.TempDir()
	b := openBase(t, dir)
	h := handover(1, 1)
	must(t, b.Commit(&coord.Commit{Header: h.Header, Changes: []coord.Change{put(coord.SpaceKeys, "k", "v")}, Handover: h}))
	must(t, b.Close())
	b = openBase(t, dir)
	wantHandovers(t, b, 1, 1, 1)
	must(t, b.KeepHandover(handover(1, 3))) // with more signatures, in its place
	wantHandovers(t, b, 1, 1, 3)
}

func TestTheNewestHandoversAreKept(t *testing.T) {
	dir := t.TempDir()
	b := openBase(t, dir)
	for epoch := uint64(1); epoch <= 200; epoch++ {
		must(t, b.KeepHandover(handover(epoch, 2)))
	}
	must(t, b.Close())
	wantHandovers(t, openBase(t, dir), 73, 200, 2)
}

func TestAFetchedStateLeavesHandoversAlone(t *testing.T) {
	from := openBase(t, t.TempDir())
	must(t, from.Commit(&coord.Commit{Header: header(4), Changes: []coord.Change{put(coord.SpaceKeys, "k", "v")}}))
	sn := snapshot(t, from)
	b := openBase(t, t.TempDir())
	must(t, b.KeepHandover(handover(1, 2)))
	install(t, b, sn)
	wantHandovers(t, b, 1, 1, 2)
}

// The blocks that an epoch ordered above its end are void: those of the next one take their heights.
func TestVoidBlocksMakeRoomForThoseOfTheNextEpoch(t *testing.T) {
	fs := faultfs.New()
	l := openLog(t, small(fs))
	c := newChain()
	for range 6 {
		must(t, l.Append(c.height(20, true)))
	}
	must(t, l.Sync())
	end := c.blocks[3] // height 4 ends epoch 1: 5 and 6 are void
	var fresh []*coord.Block
	parent := end
	for range 2 {
		b := &coord.Block{
			Epoch: 2, Round: parent.Round + 200, ParentRound: parent.Round, Height: parent.Height + 1, Parent: parent.Digest(),
			Root: coord.RefsRoot(nil), Refs: []coord.BatchRef{},
		}
		must(t, l.Append([]coord.Record{{Block: b}, {Final: &coord.Final{Header: b.Header(), Cert: certOf(coord.VoteFinalize, b)}}}))
		fresh, parent = append(fresh, b), b
	}
	check := func(l *store.Log) {
		t.Helper()
		bs, x, err := l.Blocks(2, 10)
		must(t, err)
		want := []*coord.Block{c.blocks[2], end, fresh[0], fresh[1]}
		if len(bs) != len(want) || x == nil {
			t.Fatalf("%d blocks and %v, want %d", len(bs), x, len(want))
		}
		for i := range want {
			if bs[i].Digest() != want[i].Digest() {
				t.Errorf("height %d is of epoch %d, want %d", bs[i].Height, bs[i].Epoch, want[i].Epoch)
			}
		}
		if top := l.LastFinal(); top != 6 {
			t.Errorf("the last final block is %d, want 6", top)
		}
	}
	check(l)
	must(t, l.Append([]coord.Record{{Final: &coord.Final{Header: c.blocks[4].Header()}}})) // a void one, told again
	check(l)
	must(t, l.Close())
	check(openLog(t, small(fs)))
}
