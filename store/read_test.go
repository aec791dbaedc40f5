package store_test

import (
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

func heights(bs []*coord.Block) (hs []uint64) {
	for _, b := range bs {
		hs = append(hs, b.Height)
	}
	return hs
}

func upTo(from, to uint64) (hs []uint64) {
	for h := from; h <= to; h++ {
		hs = append(hs, h)
	}
	return hs
}

func TestBlocksEndWithACertificateWhereThereIsOne(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	proven := map[uint64]bool{1: true, 4: true, 5: true, 9: true} // of 11
	for h := uint64(1); h <= 11; h++ {
		must(t, l.Append(c.height(60, proven[h])))
	}
	check := func(t *testing.T, l *store.Log) {
		for _, k := range []struct {
			name  string
			after uint64
			most  int
			want  []uint64
			cert  bool
		}{
			{"up to the last certificate of all", 0, 100, upTo(1, 9), true},
			{"fewer than most, so that the last has one", 0, 8, upTo(1, 5), true},
			{"exactly most", 0, 4, upTo(1, 4), true},
			{"more than most, up to the first that has one", 5, 2, upTo(6, 9), true},
			{"one is wanted, four are needed", 5, 1, upTo(6, 9), true},
			{"none has one", 9, 10, upTo(10, 11), false},
			{"none has one, and fewer are wanted", 9, 1, upTo(10, 10), false},
			{"the end", 11, 10, nil, false},
			{"beyond the end", 50, 10, nil, false},
			{"the largest height", ^uint64(0), 10, nil, false},
		} {
			bs, x, err := l.Blocks(k.after, k.most)
			must(t, err)
			if !slices.Equal(heights(bs), k.want) || (x != nil) != k.cert {
				t.Errorf("%s: heights %v, certificate %v", k.name, heights(bs), x != nil)
			}
			for _, b := range bs {
				if b.Digest() != c.blocks[b.Height-1].Digest() || !b.Whole() || len(b.Refs) != 1 {
					t.Errorf("%s: block %d is another", k.name, b.Height)
				}
			}
			if x != nil && x.Digest != bs[len(bs)-1].Digest() {
				t.Errorf("%s: the certificate is not that of the last block", k.name)
			}
		}
		for _, b := range c.batches {
			got, err := l.Batch(b.Digest(testSite))
			must(t, err)
			if got.Digest(testSite) != b.Digest(testSite) || got.Sig != b.Sig {
				t.Errorf("batch %d is another", b.Seq)
			}
		}
		_, err := l.Batch(coord.Digest{7})
		want(t, err, store.ErrNotFound)
	}
	t.Run("as written", func(t *testing.T) { check(t, l) })
	must(t, l.Close())
	t.Run("reopened", func(t *testing.T) { check(t, openLog(t, small(fs))) })
}

func TestACertificateThatProvesNothingIsNotServed(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	rs := c.height(60, true)
	x := rs[3].Final.Cert
	for name, bad := range map[string]*coord.Cert{
		"vouched for, without signatures": {Kind: x.Kind, Epoch: x.Epoch, Round: x.Round, Digest: x.Digest},
		"of another kind":                 {Kind: coord.VoteNotarize, Epoch: x.Epoch, Round: x.Round, Digest: x.Digest, Sigs: x.Sigs},
		"of a descendant":                 {Kind: x.Kind, Epoch: x.Epoch, Round: x.Round, Digest: coord.Digest{1}, Sigs: x.Sigs},
	} {
		rs[3].Final.Cert = bad
		must(t, l.Append(rs))
		bs, got, err := l.Blocks(0, 1)
		must(t, err)
		if len(bs) != 1 || got != nil {
			t.Errorf("%s: %d blocks, certificate %v", name, len(bs), got)
		}
	}
	// A good one that comes later counts.
	rs[3].Final.Cert = x
	must(t, l.Append(rs[3:]))
	if _, got, err := l.Blocks(0, 1); err != nil || got == nil {
		t.Errorf("certificate %v, %v", got, err)
	}
}

func TestWhatTheLogCanServeMatchesAModelOverRollsAndPrunes(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	o := small(fs)
	o.RetainBytes = 16 << 10
	l := openLog(t, o)
	check := func(l *store.Log, when string) {
		t.Helper()
		from := l.LogFrom()
		if from < 1 || from > c.head.Height+1 {
			t.Fatalf("%s: the log begins at %d of %d", when, from, c.head.Height)
		}
		for h := from; h <= c.head.Height; h++ {
			bs, _, err := l.Blocks(h-1, 1)
			must(t, err)
			if len(bs) == 0 || bs[0].Digest() != c.blocks[h-1].Digest() {
				t.Fatalf("%s: block %d is not served, and the log says that it begins at %d", when, h, from)
			}
			for i := range bs[0].Refs {
				if _, err := l.Batch(bs[0].Refs[i].Digest); err != nil {
					t.Fatalf("%s: batch of block %d: %v", when, h, err)
				}
			}
		}
		if bs, _, err := l.Blocks(from-2, 1); from > 1 && (err != nil || len(bs) > 0) {
			t.Fatalf("%s: block %d is served (%v), and the log says that it begins at %d", when, from-1, err, from)
		}
	}
	early := c.batch(200) // ordered long after it was logged
	must(t, l.Append([]coord.Record{early}))
	highest := uint64(0)
	for i := range 60 {
		if i == 9 {
			b := c.batch(10)
			k := c.block(early, b)
			must(t, l.Append([]coord.Record{b, k, c.final(k.Block, true)}))
		}
		must(t, l.Append(c.height(300, i%3 == 0)))
		if l.LogBytes() > 3<<10 {
			must(t, l.Roll(c.live()))
			check(l, "rolled")
			must(t, l.Prune(c.head.Height-2))
			check(l, "pruned")
			if got := l.LogFrom(); got < highest {
				t.Fatalf("the log began at %d and now at %d", highest, got)
			}
			highest = l.LogFrom()
		}
	}
	if highest < 2 || l.Stats().Size > 24<<10 {
		t.Fatalf("the log begins at %d and has %d bytes: nothing was pruned", highest, l.Stats().Size)
	}
	must(t, l.Close())
	l = openLog(t, o)
	check(l, "reopened")
	if l.LogFrom() != highest {
		t.Fatalf("reopened, the log begins at %d instead of %d", l.LogFrom(), highest)
	}
}

func TestPruneKeepsWhatTheStateDoesNotHave(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	o := small(fs)
	o.RetainBytes = 1
	l := openLog(t, o)
	must(t, l.Append(c.height(50, true)))
	must(t, l.Append(c.height(50, true)))
	must(t, l.Roll(c.live()))
	must(t, l.Prune(1))
	if l.LogFrom() != 1 {
		t.Fatal("block 2 was not in the state, and is gone")
	}
	must(t, l.Prune(2))
	if l.LogFrom() != 3 {
		t.Fatalf("the log begins at %d", l.LogFrom())
	}
	if _, err := l.Batch(c.batches[0].Digest(testSite)); err == nil {
		t.Fatal("a batch of a dropped segment is served")
	}
}

func TestAGapInTheHeightsEndsWhatIsServedBelow(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	must(t, l.Append(c.height(50, true)))
	for range 5 {
		c.height(50, true) // others made these; their state was installed
	}
	must(t, l.Roll(c.live()))
	if l.LogFrom() != 7 {
		t.Fatalf("the log begins at %d", l.LogFrom())
	}
	must(t, l.Append(c.height(50, true)))
	if bs, x, err := l.Blocks(6, 9); err != nil || x == nil || !slices.Equal(heights(bs), []uint64{7}) {
		t.Fatalf("heights %v, %v", heights(bs), err)
	}
	if bs, _, _ := l.Blocks(0, 9); bs != nil {
		t.Fatalf("heights %v", heights(bs))
	}
}

func TestRotIsFoundWhenARecordIsRead(t *testing.T) {
	fs, c := faultfs.New(), newChain()
	l := openLog(t, small(fs))
	must(t, l.Append(c.height(500, true)))
	fs.Flip(store.SegmentName(logDir, 1), store.HeaderBytes+store.FrameBytes+200, 4)
	_, err := l.Batch(c.batches[0].Digest(testSite))
	want(t, err, store.ErrDamaged)
}
