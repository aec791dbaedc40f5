package audit_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

var testBox = coord.BoxID{0xb0, 1}

func record(i int) audit.Record {
	return audit.Record{
		TimeMs: int64(1_800_000_000_000 + i), Box: testBox, Principal: "operator:ann", Action: "kv.put",
		Resource: fmt.Sprintf("/config/%d", i), Outcome: audit.Allowed, Policy: "p1", Request: fmt.Sprint("r", i), Source: "10.0.0.9:4711", Revision: uint64(i),
	}
}

// tiles keeps a tree in memory.
type tiles map[[2]int64][]byte

func (m tiles) tile(level int, n int64) []byte { return m[[2]int64{int64(level), n}] }

func (m tiles) put(level int, n int64, b []byte) error {
	m[[2]int64{int64(level), n}] = b
	return nil
}

// book is a box's log with the heads that the site accepted.
type book struct {
	tree    audit.Tree
	tiles   tiles
	records [][]byte
	heads   []audit.Head
	top     audit.Top
}

func newBook() *book {
	b := &book{tiles: tiles{}}
	b.tree.Tile = b.tiles.tile
	return b
}

func (b *book) add(t testing.TB, rs ...audit.Record) {
	t.Helper()
	var leaves []coord.Digest
	for i := range rs {
		e := rs[i].Append(nil)
		b.records = append(b.records, e)
		leaves = append(leaves, audit.LeafHash(e))
	}
	if err := b.tree.Add(leaves, b.tiles.put); err != nil {
		t.Fatal(err)
	}
}

// order makes heads of what is new and has them judged.
func (b *book) order(t testing.TB) {
	t.Helper()
	for {
		h, err := b.tree.NextHead(testBox, b.top)
		if err != nil {
			t.Fatal(err)
		}
		if h == nil {
			return
		}
		if h, err = audit.DecodeHead(h.Append(nil)); err != nil {
			t.Fatal(err)
		}
		if err := h.Extends(b.top); err != nil {
			t.Fatal(err)
		}
		b.top = audit.Top{Size: h.Size, Root: h.Root}
		b.heads = append(b.heads, *h)
	}
}

// bookOf has n records and a head after every each of them.
func bookOf(t testing.TB, n, each int) *book {
	b := newBook()
	for i := range n {
		b.add(t, record(i))
		if (i+1)%each == 0 {
			b.order(t)
		}
	}
	return b
}

// site makes n identities and their member set.
func site(t testing.TB, n int) ([]*trust.Identity, *coord.Members, *trust.Verifier) {
	t.Helper()
	m := &coord.Members{Site: coord.SiteID{1, 2, 3}, Epoch: 7}
	var ids []*trust.Identity
	for i := range n {
		id, err := trust.LoadOrCreate(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		m.List = append(m.List, coord.Member{ID: id.ID(), Name: fmt.Sprint("box-", i), Key: id.PublicKey(), Peer: "127.0.0.1:7400"})
	}
	v, err := trust.NewVerifier(m)
	if err != nil {
		t.Fatal(err)
	}
	return ids, m, v
}

func sign(s *audit.SignedHead, ids []*trust.Identity, voters ...int) {
	for _, v := range voters {
		s.Sigs = append(s.Sigs, coord.ReadSig{Voter: uint8(v), Sig: ids[v].SignReading(s.Digest())})
	}
}
