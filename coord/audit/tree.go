package audit

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-edge/holdfast/coord"
)

// ErrPruned says that hashes of this old part of the log are not kept any more.
var ErrPruned = errors.New("audit: pruned")

const (
	// tileHeight: a tile has 32 hashes, 1 KiB: three fit a page of the database, and the last one is written anew with each group.
	tileHeight = 5
	// TileHashes is the number of hashes of a full tile.
	TileHashes = 1 << tileHeight
	// TileBytes is its size.
	TileBytes = TileHashes * tlog.HashSize
)

// LeafHash is the hash of an encoded record: SHA-256(0x00 || record) (RFC 6962, 2.1).
func LeafHash(record []byte) coord.Digest { return coord.Digest(tlog.RecordHash(record)) }

// Tree is the hashes of a log in tiles: tile n of level 0 has the leaves 32n to 32n+31, tile n of level l+1 the roots of the tiles
// 32n to 32n+31 of level l. The last tile of a level may be short. Full tiles never change.
type Tree struct {
	Size int64
	// Tile gives a tile's bytes, valid until the next call; nil: it is not there. More than Size needs may be in it.
	Tile func(level int, n int64) []byte
}

// Add appends leaves: it gives each tile that is new or changed to put, which must make Tile see it. The level below is always first.
func (t *Tree) Add(leaves []coord.Digest, put func(level int, n int64, tile []byte) error) error {
	at := t.Size
	for level := 0; len(leaves) > 0; level++ {
		var up []coord.Digest
		for len(leaves) > 0 {
			n, have := at>>tileHeight, int(at&(TileHashes-1))
			tile := make([]byte, 0, TileBytes)
			if have > 0 {
				old := t.Tile(level, n)
				if len(old) < have*tlog.HashSize {
					return fmt.Errorf("%w: tile %d of level %d", ErrPruned, n, level)
				}
				tile = append(tile, old[:have*tlog.HashSize]...)
			}
			take := min(TileHashes-have, len(leaves))
			for _, l := range leaves[:take] {
				tile = append(tile, l[:]...)
			}
			leaves, at = leaves[take:], at+int64(take)
			if err := put(level, n, tile); err != nil {
				return err
			}
			if have+take == TileHashes {
				up = append(up, rootOf(tile))
			}
		}
		if level == 0 {
			t.Size = at
		}
		// The tiles of this level that were full before are the hashes that the next level has.
		at = at>>tileHeight - int64(len(up))
		leaves = up
	}
	return nil
}

// rootOf is the root of a full tile.
func rootOf(tile []byte) coord.Digest {
	var h [TileHashes]tlog.Hash
	for i := range h {
		h[i] = tlog.Hash(tile[i*tlog.HashSize:])
	}
	for n := TileHashes; n > 1; n /= 2 {
		for i := range n / 2 {
			h[i] = tlog.NodeHash(h[2*i], h[2*i+1])
		}
	}
	return coord.Digest(h[0])
}

func (t *Tree) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		k := tlog.TileForIndex(tileHeight, x)
		data := t.Tile(k.L, k.N)
		if len(data) < k.W*tlog.HashSize {
			return nil, fmt.Errorf("%w: tile %d of level %d", ErrPruned, k.N, k.L)
		}
		h, err := tlog.HashFromTile(k, data, x)
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

func (t *Tree) within(what string, sizes ...int64) error {
	for _, s := range sizes {
		if s < 0 || s > t.Size {
			return fmt.Errorf("audit: %s: %d of %d records", what, s, t.Size)
		}
	}
	return nil
}

// Root is the tree's root when it had size records. The error is ErrPruned, or says that it never had.
func (t *Tree) Root(size int64) (coord.Digest, error) {
	if err := t.within("root", size); err != nil {
		return coord.Digest{}, err
	}
	h, err := tlog.TreeHash(size, tlog.HashReaderFunc(t.read))
	return coord.Digest(h), err
}

// Include proves that record index is in the tree of size records: at most 63 hashes.
func (t *Tree) Include(size, index int64) ([]coord.Digest, error) {
	if err := t.within("prove", size, index+1); err != nil {
		return nil, err
	}
	p, err := tlog.ProveRecord(size, index, tlog.HashReaderFunc(t.read))
	return digests(p), err
}

// Grown proves that the tree of old records is the beginning of the one of size records. old may be 0.
func (t *Tree) Grown(size, old int64) ([]coord.Digest, error) {
	if err := t.within("prove", size, old); err != nil || old == 0 {
		return nil, err
	}
	p, err := tlog.ProveTree(size, old, tlog.HashReaderFunc(t.read))
	return digests(p), err
}

// Peaks is the tree of size records as the roots of its full subtrees, the largest first.
func (t *Tree) Peaks(size int64) (Peaks, error) {
	p := Peaks{size: size}
	if err := t.within("peaks", size); err != nil {
		return p, err
	}
	for at := int64(0); at < size; {
		level := 63 - bits.LeadingZeros64(uint64(size-at))
		h, err := t.read([]int64{tlog.StoredHashIndex(level, at>>level)})
		if err != nil {
			return p, err
		}
		p.hashes = append(p.hashes, coord.Digest(h[0]))
		at += 1 << level
	}
	return p, nil
}

// Peaks is a tree that only grows: all that is needed of the past for its root. The zero value is empty.
type Peaks struct {
	size   int64
	hashes []coord.Digest
}

// PeaksOf takes what Hashes gave; the error says that there are not as many as size needs.
func PeaksOf(size int64, hashes []coord.Digest) (Peaks, error) {
	if size < 0 || bits.OnesCount64(uint64(size)) != len(hashes) {
		return Peaks{}, fmt.Errorf("audit: %d hashes of subtrees for %d records", len(hashes), size)
	}
	return Peaks{size: size, hashes: append([]coord.Digest(nil), hashes...)}, nil
}

// Hashes are the roots of the full subtrees, the largest first.
func (p *Peaks) Hashes() []coord.Digest { return p.hashes }

// Add appends a leaf.
func (p *Peaks) Add(leaf coord.Digest) {
	h := tlog.Hash(leaf)
	for n := p.size; n&1 == 1; n >>= 1 {
		last := len(p.hashes) - 1
		h = tlog.NodeHash(tlog.Hash(p.hashes[last]), h)
		p.hashes = p.hashes[:last]
	}
	p.hashes = append(p.hashes, coord.Digest(h))
	p.size++
}

// Root is the root of what was added.
func (p *Peaks) Root() coord.Digest {
	last := len(p.hashes) - 1
	if last < 0 {
		h, _ := tlog.TreeHash(0, nil) // reads nothing
		return coord.Digest(h)
	}
	h := tlog.Hash(p.hashes[last])
	for i := last - 1; i >= 0; i-- {
		h = tlog.NodeHash(tlog.Hash(p.hashes[i]), h)
	}
	return coord.Digest(h)
}

func digests(hs []tlog.Hash) []coord.Digest {
	out := make([]coord.Digest, len(hs))
	for i, h := range hs {
		out[i] = coord.Digest(h)
	}
	return out
}

func hashes(ds []coord.Digest) []tlog.Hash {
	out := make([]tlog.Hash, len(ds))
	for i, d := range ds {
		out[i] = tlog.Hash(d)
	}
	return out
}
