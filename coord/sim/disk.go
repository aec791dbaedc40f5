package sim

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// segmentsKept is how many log segments a simulated disk keeps when a checkpoint allows to drop them.
const segmentsKept = 1

// disk is a box's log, with what a power cut takes, and its committed state.
type disk struct {
	segments [][]coord.Record
	// unsynced is how many records at the end of the last segment are lost in a power cut, in part.
	unsynced int
	back     *state.MemBackend
	snap     *snapshot

	// Index of what the log holds, as store keeps it.
	byDigest map[coord.Digest]*coord.Block
	blocks   map[uint64]*coord.Block
	certs    map[uint64]*coord.Cert
	batches  map[coord.Digest]*coord.Batch
	low      uint64 // from here on blocks has every height

	// handovers are behind the log, with the state.
	handovers map[uint64]*coord.Handover
	top       struct{ epoch, height, first uint64 } // of final blocks, as store has it
}

// ended is the handovers, ascending.
func (d *disk) ended() (hs []*coord.Handover) {
	for _, e := range slices.Sorted(maps.Keys(d.handovers)) {
		hs = append(hs, d.handovers[e])
	}
	return hs
}

// snapshot is a state kept for others.
type snapshot struct {
	header   *coord.Block
	state    coord.Digest
	manifest []byte
	chunks   [][]byte
}

func newDisk() *disk {
	d := &disk{segments: [][]coord.Record{nil}, back: state.NewMemBackend(), handovers: map[uint64]*coord.Handover{}}
	d.reindex(coord.SiteID{})
	return d
}

func (d *disk) clone() *disk {
	c := &disk{back: d.back.Clone(), unsynced: d.unsynced, handovers: maps.Clone(d.handovers)}
	for _, s := range d.segments {
		c.segments = append(c.segments, append([]coord.Record(nil), s...))
	}
	return c
}

func (d *disk) append(site coord.SiteID, recs []coord.Record) {
	last := len(d.segments) - 1
	d.segments[last] = append(d.segments[last], recs...)
	d.unsynced += len(recs)
	for i := range recs {
		d.index(site, &recs[i])
	}
}

func (d *disk) sync() { d.unsynced = 0 }

// roll starts a segment that stands alone with the state, and drops old ones below the height.
func (d *disk) roll(site coord.SiteID, head []coord.Record) {
	d.segments = append(d.segments, append([]coord.Record(nil), head...))
	d.unsynced = 0 // a head is durable before it counts
	d.reindex(site)
}

// prune drops the oldest segments that have no final block above a height.
func (d *disk) prune(site coord.SiteID, height uint64) {
	for len(d.segments) > segmentsKept && top(d.segments[0]) <= height {
		d.segments = d.segments[1:]
	}
	d.reindex(site)
}

func top(recs []coord.Record) (h uint64) {
	for i := range recs {
		if f := recs[i].Final; f != nil {
			h = max(h, f.Header.Height)
		}
	}
	return h
}

// powerCut loses some of what was not synced.
func (d *disk) powerCut(site coord.SiteID, r *rand.Rand) {
	if d.unsynced > 0 {
		last := len(d.segments) - 1
		lose := r.IntN(d.unsynced + 1)
		d.segments[last] = d.segments[last][:len(d.segments[last])-lose]
		d.unsynced = 0
	}
	d.reindex(site)
}

// loseTail takes synced records from the end without a trace, as when the last sector goes bad: the store cannot
// tell that from a torn write. A log that then ends below the state is found damaged, and set aside.
func (d *disk) loseTail(site coord.SiteID, r *rand.Rand) (unnoticed bool) {
	last := len(d.segments) - 1
	seg := d.segments[last]
	d.segments[last] = seg[:len(seg)-min(len(seg), 1+r.IntN(12))]
	d.reindex(site)
	if f := d.back.Committed(); f != nil && d.top.height < f.Header.Height {
		d.setAside(site, false)
		return false
	}
	return true
}

// setAside is what the store does with a damaged log, and perhaps with the state.
func (d *disk) setAside(site coord.SiteID, base bool) {
	d.segments, d.unsynced = [][]coord.Record{{{Silent: &coord.Silence{From: coord.SilentUnknown}}}}, 0
	if base {
		d.back, d.handovers = state.NewMemBackend(), map[uint64]*coord.Handover{}
	}
	d.reindex(site)
}

// votes are those in the log that mine says are of a box, and the last final round of each epoch that the disk knows.
func (d *disk) votes(mine func(v *coord.Vote) bool) (has map[certKey]bool, final map[uint64]uint64) {
	has, final = map[certKey]bool{}, map[uint64]uint64{}
	rise := func(epoch, round uint64) { final[epoch] = max(final[epoch], round) }
	if f := d.back.Committed(); f != nil {
		rise(f.Header.Epoch, f.Header.Round)
	}
	for _, s := range d.segments {
		for i := range s {
			if v := s[i].Vote; v != nil && mine(v) {
				has[certKey{v.Epoch, v.Kind, v.Round, v.Digest}] = true
			}
			if f := s[i].Final; f != nil {
				rise(f.Header.Epoch, f.Header.Round)
			}
			if x := s[i].Cert; x != nil && x.Kind == coord.VoteFinalize {
				rise(x.Epoch, x.Round)
			}
		}
	}
	return has, final
}

func (d *disk) reindex(site coord.SiteID) {
	d.byDigest, d.blocks = map[coord.Digest]*coord.Block{}, map[uint64]*coord.Block{}
	d.certs, d.batches, d.low = map[uint64]*coord.Cert{}, map[coord.Digest]*coord.Batch{}, 0
	d.top.epoch, d.top.height, d.top.first = 0, 0, 0
	for _, s := range d.segments {
		for i := range s {
			d.index(site, &s[i])
		}
	}
}

func (d *disk) index(site coord.SiteID, r *coord.Record) {
	switch {
	case r.Block != nil:
		d.byDigest[r.Block.Digest()] = r.Block
	case r.Batch != nil:
		d.batches[r.Batch.Digest(site)] = r.Batch
	case r.Final != nil:
		h := r.Final.Header
		switch t := &d.top; {
		case h.Epoch > t.epoch: // what is above of the epoch before is void
			t.epoch, t.height, t.first = h.Epoch, h.Height, h.Height
			for k := h.Height; d.blocks[k] != nil; k++ {
				delete(d.blocks, k)
				delete(d.certs, k)
			}
		case h.Epoch < t.epoch && h.Height >= t.first:
			return
		case h.Epoch == t.epoch:
			t.height = max(t.height, h.Height)
		}
		if b := d.byDigest[h.Digest()]; b != nil {
			d.blocks[h.Height] = b
			if x := r.Final.Cert; x != nil && x.Kind == coord.VoteFinalize && x.Digest == h.Digest() {
				d.certs[h.Height] = x
			}
			if d.blocks[h.Height-1] == nil { // after a fetched state there is a gap
				d.low = h.Height
			}
		} else if d.blocks[h.Height] == nil {
			d.low = h.Height + 1 // the block itself was pruned
		}
	}
}

// after gives the final blocks after a height, up to one with a certificate.
func (d *disk) after(h uint64, most int) (bs []*coord.Block, x *coord.Cert) {
	end := 0
	for k := h + 1; d.blocks[k] != nil && len(bs) < coord.CatchUpBlocksMax; k++ {
		bs = append(bs, d.blocks[k])
		if c := d.certs[k]; c != nil {
			x, end = c, len(bs)
			if len(bs) >= most {
				break
			}
		}
	}
	return bs[:end], x
}

func (d *disk) takeSnapshot(h *coord.Block) {
	s := &snapshot{header: h}
	s.chunks, s.manifest, s.state = chunks(d.back)
	d.snap = s
}
