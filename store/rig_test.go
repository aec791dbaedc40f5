package store_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

var (
	testSite = coord.SiteID{1, 2, 3, 4, 5, 6, 7, 8}
	testBox  = coord.BoxID{9, 9, 9}
)

const logDir = "log"

// small are options with segments of a few records, so that a short script rolls and recycles.
func small(fs *faultfs.FS) store.Options {
	return encrypted(store.Inline(store.Options{Site: testSite, Box: testBox, SegmentBytes: 4 << 10, RetainBytes: 12 << 10, FS: fs}))
}

// chain makes records that look like those of a box: batches, blocks of them, votes, final blocks.
type chain struct {
	votes   uint64
	seq     uint64
	head    *coord.Block
	blocks  []*coord.Block // [i] has height i+1
	batches []*coord.Batch
	finals  map[uint64]*coord.Cert
}

func newChain() *chain {
	return &chain{head: &coord.Block{}, finals: map[uint64]*coord.Cert{}}
}

// vote is a record that is unlike any other.
func (c *chain) vote() coord.Record {
	c.votes++
	return coord.Record{Vote: &coord.Vote{Kind: coord.VoteNotarize, Epoch: 1, Round: c.votes, Digest: coord.Digest{1, 1, byte(c.votes)}}}
}

func (c *chain) batch(size int) coord.Record {
	c.seq++
	body := make([]byte, max(size, 8))
	binary.BigEndian.PutUint64(body, c.seq*0x9e3779b97f4a7c15)
	for i := 8; i < len(body); i++ {
		body[i] = body[i-8]*31 + byte(i)
	}
	b := &coord.Batch{Author: testBox, Seq: c.seq, Count: 1, Body: body, Sig: coord.Signature{byte(c.seq)}}
	c.batches = append(c.batches, b)
	return coord.Record{Batch: b}
}

// block is a block of the batches made since the last one; final makes it final.
func (c *chain) block(batches ...coord.Record) coord.Record {
	b := &coord.Block{
		Epoch: 1, Round: c.head.Round + 1, ParentRound: c.head.Round, Height: c.head.Height + 1, Parent: c.head.Digest(),
	}
	for _, r := range batches {
		b.Refs = append(b.Refs, coord.BatchRef{Author: r.Batch.Author, Seq: r.Batch.Seq, Digest: r.Batch.Digest(testSite)})
	}
	b.Root = coord.RefsRoot(b.Refs)
	c.head = b
	c.blocks = append(c.blocks, b)
	return coord.Record{Block: b}
}

func certOf(k coord.VoteKind, b *coord.Block) *coord.Cert {
	x := &coord.Cert{Kind: k, Epoch: b.Epoch, Round: b.Round, Digest: b.Digest()}
	for i := range uint8(3) {
		x.Sigs = append(x.Sigs, coord.VoteSig{Voter: i, Sig: coord.Signature{i, byte(b.Round)}})
	}
	return x
}

func (c *chain) final(b *coord.Block, proven bool) coord.Record {
	f := &coord.Final{Header: b.Header()}
	if proven {
		f.Cert = certOf(coord.VoteFinalize, b)
		c.finals[b.Height] = f.Cert
	}
	return coord.Record{Final: f}
}

// height is a whole block's life: batch, block, vote, final.
func (c *chain) height(size int, proven bool) []coord.Record {
	b := c.batch(size)
	k := c.block(b)
	return []coord.Record{b, k, c.vote(), c.final(k.Block, proven)}
}

// live is a head: a vote and the last final block.
func (c *chain) live() []coord.Record {
	rs := []coord.Record{c.vote()}
	if c.head.Height > 0 {
		rs = append(rs, c.final(c.head, c.finals[c.head.Height] != nil))
	}
	return rs
}

// text is what a record is compared by.
func text(r *coord.Record) string { return string(wire.AppendRecord(nil, r)) }

func texts(rs []coord.Record) (ts []string) {
	for i := range rs {
		ts = append(ts, text(&rs[i]))
	}
	return ts
}

func replayed(l *store.Log) (ts []string, err error) {
	err = l.Replay(func(r *coord.Record) error {
		ts = append(ts, text(r))
		return nil
	})
	return ts, err
}

func openLog(t testing.TB, o store.Options) *store.Log {
	t.Helper()
	l, err := store.OpenLog(logDir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want %v", err, target)
	}
}

func wantReplay(t testing.TB, l *store.Log, ts []string) {
	t.Helper()
	got, err := replayed(l)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, ts) {
		t.Fatalf("%d records are replayed, want %d (or others)", len(got), len(ts))
	}
}
