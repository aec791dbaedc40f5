package site_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

var (
	errDisk    = errors.New("the card is read-only")
	errMissing = errors.New("not in this log")
)

// voteName is what makes one own vote another.
type voteName struct {
	kind   coord.VoteKind
	round  uint64
	digest coord.Digest
}

// memLog is a log in memory. It outlives the Site that writes it, knows what a power cut would take, and
// can be made to wait or to fail.
type memLog struct {
	site coord.SiteID

	mu       sync.Mutex
	segments [][]coord.Record
	unsynced int // records at the end of the last segment
	waiting  []voteName
	durable  map[voteName]bool // own votes that a Sync or a Roll covered
	gate     chan struct{}     // not nil: Sync waits until it is closed
	blocked  chan struct{}     // closed when a Sync waits
	broken   error             // what every write gives from now on
	onAppend bool              // broken shows in Append, not only in Sync
	keeps    bool              // Prune takes nothing away, as with room for a long log

	// What Batch and Blocks read.
	byDigest map[coord.Digest]*coord.Block
	blocks   map[uint64]*coord.Block
	certs    map[uint64]*coord.Cert
	batches  map[coord.Digest]*coord.Batch
	low      uint64
}

func newMemLog(id coord.SiteID) *memLog {
	l := &memLog{site: id, segments: [][]coord.Record{nil}, durable: map[voteName]bool{}}
	l.reindex()
	return l
}

func (l *memLog) Append(recs []coord.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil && l.onAppend {
		return l.broken
	}
	last := len(l.segments) - 1
	l.segments[last] = append(l.segments[last], recs...)
	l.unsynced += len(recs)
	for i := range recs {
		l.index(&recs[i])
		if v := recs[i].Vote; v != nil {
			l.waiting = append(l.waiting, voteName{v.Kind, v.Round, v.Digest})
		}
	}
	return nil
}

func (l *memLog) Sync() error {
	l.mu.Lock()
	gate := l.gate
	if gate != nil && l.blocked != nil {
		close(l.blocked)
		l.blocked = nil
	}
	l.mu.Unlock()
	if gate != nil {
		<-gate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	l.settle()
	return nil
}

func (l *memLog) settle() {
	l.unsynced = 0
	for _, v := range l.waiting {
		l.durable[v] = true
	}
	l.waiting = nil
}

func (l *memLog) Roll(head []coord.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	l.segments = append(l.segments, slices.Clone(head))
	l.settle() // a head is durable before it counts
	l.reindex()
	return nil
}

// Prune keeps the last segment.
func (l *memLog) Prune(height uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keeps {
		return nil
	}
	for len(l.segments) > 1 && highest(l.segments[0]) <= height {
		l.segments = l.segments[1:]
	}
	l.reindex()
	return nil
}

func highest(recs []coord.Record) (h uint64) {
	for i := range recs {
		if f := recs[i].Final; f != nil {
			h = max(h, f.Header.Height)
		}
	}
	return h
}

func (l *memLog) Replay(fn func(r *coord.Record) error) error {
	for _, s := range l.segments {
		for i := range s {
			if err := fn(&s[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *memLog) Batch(d coord.Digest) (*coord.Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.batches[d]; b != nil {
		return b, nil
	}
	return nil, errMissing
}

func (l *memLog) Blocks(after uint64, most int) (bs []*coord.Block, x *coord.Cert, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := 0
	for h := after + 1; l.blocks[h] != nil && len(bs) < coord.CatchUpBlocksMax; h++ {
		bs = append(bs, l.blocks[h])
		if c := l.certs[h]; c != nil {
			x, end = c, len(bs)
			if len(bs) >= most {
				break
			}
		}
	}
	return bs[:end], x, nil
}

func (l *memLog) LogFrom() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.low
}

func (l *memLog) reindex() {
	l.byDigest, l.blocks = map[coord.Digest]*coord.Block{}, map[uint64]*coord.Block{}
	l.certs, l.batches, l.low = map[uint64]*coord.Cert{}, map[coord.Digest]*coord.Batch{}, 0
	for _, s := range l.segments {
		for i := range s {
			l.index(&s[i])
		}
	}
}

func (l *memLog) index(r *coord.Record) {
	switch {
	case r.Block != nil:
		l.byDigest[r.Block.Digest()] = r.Block
	case r.Batch != nil:
		l.batches[r.Batch.Digest(l.site)] = r.Batch
	case r.Final != nil:
		h := r.Final.Header
		b := l.byDigest[h.Digest()]
		if b == nil {
			if l.blocks[h.Height] == nil {
				l.low = h.Height + 1 // the block itself was pruned
			}
			return
		}
		l.blocks[h.Height] = b
		if x := r.Final.Cert; x != nil && x.Kind == coord.VoteFinalize && x.Digest == h.Digest() {
			l.certs[h.Height] = x
		}
		if l.blocks[h.Height-1] == nil { // after a fetched state there is a gap
			l.low = h.Height
		}
	}
}

// cutPower takes what was not synced; only between two Sites.
func (l *memLog) cutPower() {
	last := len(l.segments) - 1
	l.segments[last] = l.segments[last][:len(l.segments[last])-l.unsynced]
	l.unsynced, l.waiting = 0, nil
	l.reindex()
}

// hold makes every Sync from now on wait until letGo; blocked is closed when the first does.
func (l *memLog) hold() (blocked <-chan struct{}, letGo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gate, b := make(chan struct{}), make(chan struct{})
	l.gate, l.blocked = gate, b
	return b, func() {
		l.mu.Lock()
		l.gate, l.blocked = nil, nil
		l.mu.Unlock()
		close(gate)
	}
}

func (l *memLog) breakDown(onAppend bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken, l.onAppend = errDisk, onAppend
}

// covers says whether an own vote is durable, and unsyncedVotes how many are not.
func (l *memLog) covers(v voteName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable[v]
}

func (l *memLog) unsyncedVotes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// memBase is a durable state in memory.
type memBase struct {
	mu        sync.Mutex
	back      *state.MemBackend
	broken    error
	handovers []*coord.Handover
	seen      []uint64 // heights of the commits of this base, in order
	lies      []coord.Finding
	lost      error // of KeepEvidence
}

func newMemBase() *memBase { return &memBase{back: state.NewMemBackend()} }

func (b *memBase) now() *state.MemBackend {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.back
}

func (b *memBase) Backend() state.Backend  { return b.now() }
func (b *memBase) Committed() *coord.Final { return b.now().Committed() }

func (b *memBase) Commit(c *coord.Commit) error {
	b.mu.Lock()
	broken := b.broken
	b.seen = append(b.seen, c.Header.Height)
	b.mu.Unlock()
	if broken != nil {
		return broken
	}
	if c.Handover != nil {
		_ = b.KeepHandover(c.Handover)
	}
	return b.now().Commit(c)
}

func (b *memBase) Snapshot(context.Context) (site.Snapshot, error) {
	back := b.now().Clone()
	return &memSnapshot{back: back, header: back.Committed().Header}, nil
}

func (b *memBase) Install(cp *coord.Checkpoint, manifest []byte) (site.Install, error) {
	return &memInstall{base: b, cp: cp, manifest: manifest}, nil
}

func (b *memBase) KeepHandover(h *coord.Handover) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handovers = append(slices.DeleteFunc(b.handovers, func(o *coord.Handover) bool { return o.Next.Epoch == h.Next.Epoch }), h)
	return nil
}

func (b *memBase) Handovers() ([]*coord.Handover, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.handovers), nil
}

func (b *memBase) KeepEvidence(f *coord.Finding) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost != nil {
		return false, b.lost
	}
	b.lies = append(b.lies, *f)
	return true, nil
}

func (b *memBase) Evidence() (*coord.Exhibit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &coord.Exhibit{Findings: append([]coord.Finding{}, b.lies...)}, nil
}

type memSnapshot struct {
	back     *state.MemBackend
	header   *coord.Block
	state    coord.Digest
	manifest []byte
	chunks   [][]byte
}

func (s *memSnapshot) Build(context.Context) (err error) {
	w := coord.NewSnapshotWriter(func(data []byte, _ coord.Digest) error {
		s.chunks = append(s.chunks, bytes.Clone(data))
		return nil
	})
	for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
		if e := s.back.Scan(sp, nil, func(k, v []byte) bool { err = w.Add(sp, k, v); return err == nil }); e != nil || err != nil {
			return errors.Join(e, err)
		}
	}
	s.manifest, s.state, err = w.Finish()
	return err
}

func (s *memSnapshot) Header() *coord.Block { return s.header }
func (s *memSnapshot) State() coord.Digest  { return s.state }
func (s *memSnapshot) Manifest() []byte     { return s.manifest }
func (s *memSnapshot) Close() error         { return nil }

func (s *memSnapshot) Chunk(i int) ([]byte, error) {
	if i < 0 || i >= len(s.chunks) {
		return nil, errMissing
	}
	return s.chunks[i], nil
}

type memInstall struct {
	base     *memBase
	cp       *coord.Checkpoint
	manifest []byte
	changes  []coord.Change
}

func (in *memInstall) Put(i int, data []byte) error {
	if i < 0 || i >= len(in.manifest)/32 {
		return fmt.Errorf("piece %d: %w", i, errMissing)
	}
	return coord.DecodeChunk(data, func(sp coord.Space, k, v []byte) error {
		in.changes = append(in.changes, coord.Change{Space: sp, Key: bytes.Clone(k), Value: append([]byte{}, v...)})
		return nil
	})
}

func (in *memInstall) Finish() error {
	b := state.NewMemBackend()
	if err := b.Commit(&coord.Commit{Header: in.cp.Header, Changes: in.changes}); err != nil {
		return err
	}
	in.base.mu.Lock()
	defer in.base.mu.Unlock()
	in.base.back = b
	return nil
}

func (in *memInstall) Abort() error { return nil }

// Written is not kept.
func (l *memLog) Written() uint64 { return 0 }
