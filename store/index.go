package store

import (
	"hash/maphash"

	"github.com/holdfast-edge/holdfast/coord"
)

// pos is a frame of the log.
type pos struct {
	seg    uint64 // number of the segment; 0: nowhere
	off    uint32
	length uint32 // of the payload
}

// blockAt is a block that is not final yet.
type blockAt struct {
	pos
	height uint64
	refs   []uint64 // keys of its batches
}

// finalAt is a final block. low is the oldest segment that serving it needs: its own or one of its batches'.
type finalAt struct {
	block, cert pos
	low         uint64
}

// index finds what the log holds. It grows with the retained log, by about 60 bytes a batch and 48 a
// block, and shrinks with Prune. It is rebuilt on opening.
type index struct {
	site coord.SiteID
	// seed makes keys that nobody outside can make collide; a collision would only hide a batch.
	seed    maphash.Seed
	batches map[uint64]pos
	blocks  map[coord.Digest]blockAt
	// finals are the final blocks from height from on, without a gap.
	from   uint64
	finals []finalAt
	// top is the last final block, and first the height of the first one of its epoch here. Those of an earlier epoch from there on
	// are void.
	top struct{ epoch, height, first uint64 }
}

func newIndex(site coord.SiteID) index {
	return index{site: site, seed: maphash.MakeSeed(), batches: map[uint64]pos{}, blocks: map[coord.Digest]blockAt{}, from: 1}
}

func (x *index) key(d *coord.Digest) uint64 { return maphash.Bytes(x.seed, d[:]) }

// add notes a record at p in segment s.
func (x *index) add(s *segment, r *coord.Record, p pos) {
	switch {
	case r.Batch != nil:
		d := r.Batch.Digest(x.site)
		k := x.key(&d)
		x.batches[k] = p
		s.keys = append(s.keys, k)
	case r.Block != nil:
		b := blockAt{pos: p, height: r.Block.Height, refs: make([]uint64, len(r.Block.Refs))}
		for i := range r.Block.Refs {
			b.refs[i] = x.key(&r.Block.Refs[i].Digest)
		}
		x.blocks[r.Block.Digest()] = b
	case r.Final != nil:
		h := r.Final.Header.Height
		s.maxFinal = max(s.maxFinal, h)
		x.rise(r.Final.Header)
		if p.off < s.headEnd {
			s.headFinal = h
		}
		x.final(r.Final, p)
	}
}

// rise notes a final block. That of a new epoch takes the place of void ones.
func (x *index) rise(b *coord.Block) {
	switch t := &x.top; {
	case b.Epoch > t.epoch:
		t.epoch, t.height, t.first = b.Epoch, b.Height, max(b.Height, 1)
		if n := b.Height - x.from; b.Height >= x.from && n < uint64(len(x.finals)) {
			x.finals = x.finals[:n]
		}
	case b.Epoch == t.epoch:
		t.height = max(t.height, b.Height)
	}
}

// final continues the run of final blocks. A block that the log does not have ends the run: what can be
// served begins above it.
func (x *index) final(f *coord.Final, p pos) {
	h, d := f.Header.Height, f.Header.Digest()
	cert := pos{}
	if proves(f.Cert, d) {
		cert = p
	}
	next := x.from + uint64(len(x.finals))
	if f.Header.Epoch < x.top.epoch && h >= next {
		return // void, and told again by a head
	}
	if h < next {
		if h >= x.from && cert.seg != 0 {
			if e := &x.finals[h-x.from]; e.cert.seg == 0 {
				e.cert = cert
			}
		}
		return
	}
	b, ok := x.blocks[d]
	if h > next || !ok {
		x.finals, x.from = x.finals[:0], h
	}
	if ok {
		e := finalAt{block: b.pos, cert: cert, low: b.seg}
		for _, k := range b.refs {
			// A batch that is not here took effect earlier; nobody needs it for this block.
			if at, ok := x.batches[k]; ok {
				e.low = min(e.low, at.seg)
			}
		}
		x.finals = append(x.finals, e)
	} else {
		x.from = h + 1
	}
	for d, b := range x.blocks {
		if b.height <= h {
			delete(x.blocks, d)
		}
	}
}

// proves says whether x convinces others that the block d is final: a certificate that f+1 members
// only vouched for has no signatures.
func proves(x *coord.Cert, d coord.Digest) bool {
	return x != nil && x.Kind == coord.VoteFinalize && x.Digest == d && len(x.Sigs) > 0
}

// drop forgets what needs the segment s, which is the oldest.
func (x *index) drop(s *segment) {
	for _, k := range s.keys {
		if x.batches[k].seg == s.number {
			delete(x.batches, k)
		}
	}
	for d, b := range x.blocks {
		if b.seg <= s.number {
			delete(x.blocks, d)
		}
	}
	for i := len(x.finals) - 1; i >= 0; i-- {
		if x.finals[i].low <= s.number {
			x.from += uint64(i + 1)
			x.finals = append(x.finals[:0], x.finals[i+1:]...)
			return
		}
	}
}

// run gives the places of final blocks above a height: up to most, ending with a proven one if there is
// one; if none of these is proven, up to the first beyond that is, at most limit.
func (x *index) run(after uint64, most, limit int) []finalAt {
	if after+1 < x.from || after-x.from+1 >= uint64(len(x.finals)) {
		return nil
	}
	fs := x.finals[after-x.from+1:]
	fs = fs[:min(len(fs), limit)]
	end := min(most, len(fs))
	for i := end; i > 0; i-- {
		if fs[i-1].cert.seg != 0 {
			return fs[:i]
		}
	}
	for i := end; i < len(fs); i++ {
		if fs[i].cert.seg != 0 {
			return fs[:i+1]
		}
	}
	return fs[:end]
}
