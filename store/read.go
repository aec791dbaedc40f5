package store

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-edge/holdfast/coord"
)

// Replay calls fn for every record that the log retains, in the order of the Appends, the heads of segments
// included: each stands for all before it but the final blocks, so that a record may come again. It ends with
// fn's error, or with a DamageError once it has given what comes before the damage.
func (l *Log) Replay(fn func(r *coord.Record) error) error { return l.replay(0, fn) }

// ReplayFrom is Replay from the newest head whose final block is at most at height: with the height of
// the base's last commit, it leaves out what a restart does not need.
func (l *Log) ReplayFrom(height uint64, fn func(r *coord.Record) error) error {
	l.mu.RLock()
	first := 0
	for i, s := range l.segs {
		if s.headEnd > headerBytes && s.headFinal <= height {
			first = i
		}
	}
	l.mu.RUnlock()
	return l.replay(first, fn)
}

func (l *Log) replay(first int, fn func(r *coord.Record) error) error {
	type part struct {
		s   *segment
		end uint32
	}
	l.mu.RLock()
	var parts []part
	for _, s := range l.segs[min(first, len(l.segs)):] {
		parts = append(parts, part{s, s.end})
	}
	l.mu.RUnlock()
	d := l.damage.Load()
	for _, p := range parts {
		if err := p.s.replay(p.end, fn); err != nil {
			return err
		}
		if d != nil && d.File == p.s.name {
			break
		}
	}
	if d != nil {
		return fmt.Errorf("store: replay: %w", d)
	}
	return nil
}

func (s *segment) replay(end uint32, fn func(r *coord.Record) error) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.gone {
		return fmt.Errorf("store: replay: %s: %w", s.name, ErrClosed)
	}
	r := frameReader{file: s.file, name: s.name, tag: s.tag, size: int64(end), off: headerBytes}
	var scratch []byte
	for r.off < int64(end) {
		off := r.off
		payload, _, ok, reason, err := r.next()
		if err != nil {
			return err
		}
		if !ok {
			return &DamageError{File: s.name, Offset: off, Reason: reason}
		}
		var rec *coord.Record
		if rec, scratch, err = s.record(payload, scratch, off); err != nil {
			return &DamageError{File: s.name, Offset: off, Reason: err.Error()}
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
	return nil
}

// Batch gives a batch by digest. Errors: ErrNotFound, ErrDamaged.
func (l *Log) Batch(d coord.Digest) (*coord.Batch, error) {
	l.mu.RLock()
	p, ok := l.idx.batches[l.idx.key(&d)]
	l.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("store: batch %s: %w", d.Short(), ErrNotFound)
	}
	r, err := l.read(p)
	if err != nil {
		return nil, err
	}
	if r.Batch == nil || r.Batch.Digest(l.o.Site) != d {
		return nil, fmt.Errorf("store: batch %s: %w", d.Short(), ErrNotFound)
	}
	return r.Batch, nil
}

// Blocks gives final blocks from height after+1 on, ascending, and the certificate of the last one. There
// are up to most of them, fewer so that the last one has a certificate; when none of these has one, more,
// up to the first that has, within coord.CatchUpBlocksMax; and when there is none at all, most and no
// certificate. No blocks: the log does not have the next one (any more). Error: ErrDamaged.
func (l *Log) Blocks(after uint64, most int) ([]*coord.Block, *coord.Cert, error) {
	most = min(max(most, 0), coord.CatchUpBlocksMax)
	l.mu.RLock()
	run := append([]finalAt(nil), l.idx.run(after, most, coord.CatchUpBlocksMax)...)
	l.mu.RUnlock()
	if len(run) == 0 {
		return nil, nil, nil
	}
	blocks := make([]*coord.Block, 0, len(run))
	for i := range run {
		r, err := l.read(run[i].block)
		if errors.Is(err, ErrNotFound) {
			return nil, nil, nil // pruned meanwhile
		}
		if err != nil {
			return nil, nil, err
		}
		if r.Block == nil || r.Block.Height != after+1+uint64(i) {
			return nil, nil, fmt.Errorf("store: block %d: %w", after+1+uint64(i), ErrDamaged)
		}
		blocks = append(blocks, r.Block)
	}
	at := run[len(run)-1].cert
	if at.seg == 0 {
		return blocks, nil, nil
	}
	r, err := l.read(at)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if r.Final == nil {
		return nil, nil, fmt.Errorf("store: certificate of block %d: %w", after+uint64(len(run)), ErrDamaged)
	}
	return blocks, r.Final.Cert, nil
}

// LogFrom is the lowest height from which on the log has all final blocks and their batches. When it has
// none, it is one more than the last height it knows of.
func (l *Log) LogFrom() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.idx.from
}

// read decodes the record at p. The segment stays while it is read.
func (l *Log) read(p pos) (*coord.Record, error) {
	l.mu.RLock()
	if len(l.segs) == 0 || p.seg < l.segs[0].number || p.seg-l.segs[0].number >= uint64(len(l.segs)) {
		l.mu.RUnlock()
		return nil, fmt.Errorf("store: segment %d: %w", p.seg, ErrNotFound)
	}
	s := l.segs[p.seg-l.segs[0].number]
	s.gate.RLock() // nobody waits for it to be free of readers before it is out of segs
	l.mu.RUnlock()
	defer s.gate.RUnlock()
	if s.gone {
		return nil, fmt.Errorf("store: %s: %w", s.name, ErrNotFound)
	}
	buf := l.bufs.Get().(*[]byte)
	defer l.bufs.Put(buf)
	n := frameBytes + int(p.length)
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if k, err := s.file.ReadAt(b, int64(p.off)); k < n {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("store: %s: read at %d: %w", s.name, p.off, err)
		}
		return nil, &DamageError{File: s.name, Offset: int64(p.off), Reason: "the file is shorter"}
	}
	if h, ok := parseHead(b, s.tag); !ok || h.length != p.length || !frameGood(b, s.tag, p.off) {
		return nil, &DamageError{File: s.name, Offset: int64(p.off), Reason: "checksum"}
	}
	r, _, err := s.record(b[frameBytes:], nil, int64(p.off))
	if err != nil {
		return nil, &DamageError{File: s.name, Offset: int64(p.off), Reason: err.Error()}
	}
	return r, nil
}
