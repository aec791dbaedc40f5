package audit_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// The tree in tiles is the tree of RFC 6962 as tlog computes it, however the records came: root, proofs and peaks.
func TestTheTreeIsTheOneOfTheRFC(t *testing.T) {
	const n = 1200 // two levels of full tiles, a third begun
	rnd := rand.New(rand.NewPCG(1, 2))
	b := newBook()
	var stored []tlog.Hash
	ref := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, _ error) {
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	var peaks audit.Peaks
	for len(b.records) < n {
		var rs []audit.Record
		for range 1 + rnd.IntN(70) {
			rs = append(rs, record(len(b.records)+len(rs)))
		}
		from := len(b.records)
		b.add(t, rs...)
		for i, r := range b.records[from:] {
			hs, err := tlog.StoredHashes(int64(from+i), r, ref)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, hs...)
			peaks.Add(audit.LeafHash(r))
		}
		size := int64(len(b.records))
		want, _ := tlog.TreeHash(size, ref)
		root, err := b.tree.Root(size)
		if err != nil || root != coord.Digest(want) || peaks.Root() != root {
			t.Fatalf("at %d records the root is %v (%v), of the peaks %v, want %v", size, root, err, peaks.Root(), want)
		}
		i, old := rnd.Int64N(size), 1+rnd.Int64N(size)
		path, err := b.tree.Include(size, i)
		if err != nil || tlog.CheckRecord(tlogHashes(path), size, want, i, tlog.RecordHash(b.records[i])) != nil {
			t.Fatalf("record %d of %d is not proven: %v", i, size, err)
		}
		was, _ := tlog.TreeHash(old, ref)
		grown, err := b.tree.Grown(size, old)
		if err != nil || tlog.CheckTree(tlogHashes(grown), size, want, old, was) != nil {
			t.Fatalf("growth from %d to %d is not proven: %v", old, size, err)
		}
		p, err := b.tree.Peaks(old)
		if err != nil || p.Root() != coord.Digest(was) {
			t.Fatalf("the peaks of %d records have another root: %v", old, err)
		}
	}
	if _, err := b.tree.Root(int64(len(b.records)) + 1); err == nil {
		t.Error("a tree that never was has a root")
	}
	delete(b.tiles, [2]int64{0, 3})
	if _, err := b.tree.Include(b.tree.Size, 3*audit.TileHashes+1); !errors.Is(err, audit.ErrPruned) {
		t.Errorf("a proof without its hashes: %v", err)
	}
}

func tlogHashes(ds []coord.Digest) (out []tlog.Hash) {
	for _, d := range ds {
		out = append(out, tlog.Hash(d))
	}
	return out
}

func BenchmarkProof(b *testing.B) {
	k := newBook()
	const n = 100_000
	var rs []audit.Record
	for i := range n {
		rs = append(rs, record(i))
	}
	k.add(b, rs...)
	root, _ := k.tree.Root(n)
	b.Run("include", func(b *testing.B) {
		for i := int64(0); b.Loop(); i++ {
			if _, err := k.tree.Include(n, i*7919%n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		path, _ := k.tree.Include(n, 54321)
		for b.Loop() {
			if err := tlog.CheckRecord(tlogHashes(path), n, tlog.Hash(root), 54321, tlog.RecordHash(k.records[54321])); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("head", func(b *testing.B) {
		last := audit.Top{Size: n - 100}
		last.Root, _ = k.tree.Root(last.Size)
		for b.Loop() {
			h, err := k.tree.NextHead(testBox, last)
			if err != nil || h.Extends(last) != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify100k", func(b *testing.B) {
		k.order(b)
		for b.Loop() {
			if r := audit.Verify(&audit.Log{Box: testBox, Records: k.records}, k.heads); !r.OK() || r.Proven != n {
				b.Fatal(r)
			}
		}
	})
}
