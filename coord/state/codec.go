package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/holdfast-edge/holdfast/coord"
)

// The stored values; docs/state.md draws them. Each begins with its format's number.
const format = 1

// metaKey is the only key of SpaceMeta.
const metaKey = "state"

// meta is the scalars of the state.
type meta struct {
	height   uint64 // of the last block applied
	revision uint64 // of the last put, or delete of a key that existed
	keys     uint64 // keys that exist
	keyBytes uint64 // size of their keys and records
	total    uint64 // sum of all counters
	distinct uint64 // counters that exist
	// checkpoint is the height of the last block after which a checkpoint was due, and
	// checkpointBytes the state's size then; logBytes is the size of what was ordered since,
	// asked says that KindCheckpoint came since.
	checkpoint      uint64
	checkpointBytes uint64
	logBytes        uint64
	asked           bool
}

func appendMeta(b []byte, m *meta) []byte {
	b = append(b, format)
	for _, v := range [...]uint64{
		m.height, m.revision, m.keys, m.keyBytes, m.total, m.distinct, m.checkpoint, m.checkpointBytes, m.logBytes,
	} {
		b = binary.AppendUvarint(b, v)
	}
	return binary.AppendUvarint(b, flag(m.asked))
}

func decodeMeta(b []byte) (m meta, err error) {
	r := newReader(b)
	for _, v := range [...]*uint64{
		&m.height, &m.revision, &m.keys, &m.keyBytes, &m.total, &m.distinct, &m.checkpoint, &m.checkpointBytes, &m.logBytes,
	} {
		*v = r.uvarint()
	}
	m.asked = r.flag()
	r.check(m.checkpoint <= m.height)
	return m, r.end("meta")
}

// record is the stored form of a key's value, without the value.
type record struct {
	create  uint64 // revision that created the key
	mod     uint64 // revision of its newest put
	version uint64 // puts since it was created
}

func appendRecord(b []byte, rec record, value []byte) []byte {
	b = append(b, format)
	b = binary.AppendUvarint(b, rec.create)
	b = binary.AppendUvarint(b, rec.mod)
	b = binary.AppendUvarint(b, rec.version)
	return append(b, value...)
}

// decodeRecord gives the value as a part of b.
func decodeRecord(b []byte) (rec record, value []byte, err error) {
	r := newReader(b)
	rec = record{r.uvarint(), r.uvarint(), r.uvarint()}
	r.check(rec.create >= 1 && rec.create <= rec.mod && rec.version >= 1 && rec.version <= rec.mod)
	value, r.b = r.b, nil
	return rec, value, r.end("key")
}

func appendCounter(b []byte, count uint64) []byte {
	return binary.AppendUvarint(append(b, format), count)
}

func decodeCounter(b []byte) (uint64, error) {
	r := newReader(b)
	n := r.uvarint()
	r.check(n > 0)
	return n, r.end("counter")
}

func appendSeqSet(b []byte, s *seqSet) []byte {
	b = binary.AppendUvarint(b, s.floor)
	b = binary.AppendUvarint(b, uint64(len(s.spans)))
	last := s.floor
	for _, sp := range s.spans {
		b = binary.AppendUvarint(b, sp.lo-last-2) // the gap is at least one number
		b = binary.AppendUvarint(b, sp.hi-sp.lo)
		last = sp.hi
	}
	return b
}

func (r *reader) seqSet(spansMax int) (s seqSet) {
	s.floor = r.uvarint()
	n := r.count(spansMax, 2)
	if n > 0 {
		s.spans = make([]span, n)
	}
	last := s.floor
	for i := range s.spans {
		lo := r.sum(last, 2, r.uvarint())
		hi := r.sum(lo, r.uvarint())
		s.spans[i] = span{lo, hi}
		s.above = r.sum(s.above, hi-lo, 1)
		last = hi
	}
	return s
}

func appendBox(b []byte, s *seqSet) []byte { return appendSeqSet(append(b, format), s) }

func decodeBox(b []byte) (seqSet, error) {
	r := newReader(b)
	s := r.seqSet(BoxBatchesAboveFloorMax)
	r.check(s.above <= BoxBatchesAboveFloorMax)
	return s, r.end("box")
}

func appendSession(b []byte, s *session) []byte {
	b = append(b, format)
	b = binary.AppendUvarint(b, s.opened)
	b = binary.AppendUvarint(b, s.used)
	b = binary.AppendUvarint(b, uint64(len(s.name)))
	b = append(b, s.name...)
	b = appendSeqSet(b, &s.seen)
	b = binary.AppendUvarint(b, uint64(len(s.acks)))
	var last ack
	s.oldestFirst(func(a ack) {
		b = binary.AppendVarint(b, int64(a.seq-last.seq)) // mostly 1
		b = binary.AppendUvarint(b, (a.rev-last.rev)<<1|flag(a.found))
		last = a
	})
	return b
}

// decodeSession gives a session without its id, which is its key.
func decodeSession(b []byte) (*session, error) {
	r := newReader(b)
	s := &session{opened: r.uvarint(), used: r.uvarint()}
	r.check(s.opened <= s.used)
	s.name = bytes.Clone(r.bytes(r.count(sessionNameBytesMax, 1)))
	s.seen = r.seqSet(sessionSpansMax)
	if n := len(s.seen.spans); n > 0 {
		r.check(s.seen.spans[n-1].hi-s.seen.floor <= SessionAheadMax)
	}
	if n := r.count(sessionAcksMax, 2); n > 0 {
		s.acks = make([]ack, n)
	}
	var last ack
	for i := range s.acks {
		seq := last.seq + uint64(r.varint())
		v := r.uvarint()
		last = ack{seq, r.sum(last.rev, v>>1), v&1 == 1}
		r.check(s.seen.has(last.seq) && last.seq > 0)
		s.acks[i] = last
	}
	return s, r.end("session")
}

func flag(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// reader takes values from the front of b. The first thing that is wrong makes all that
// follows zero; end tells.
type reader struct {
	b   []byte
	err error
}

func newReader(b []byte) *reader {
	r := &reader{b: b}
	switch {
	case len(b) == 0 || b[0] == 0:
		r.err = ErrDamaged
	case b[0] > format:
		r.err = fmt.Errorf("%w: %d, known is %d", ErrVersion, b[0], format)
	default:
		r.b = b[1:]
	}
	return r
}

func (r *reader) check(ok bool) {
	if !ok && r.err == nil {
		r.err = ErrDamaged
	}
}

// uvarint reads a number in its shortest form, so that a state has one encoding.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.check(n > 0 && (n == 1 || r.b[n-1] != 0))
	if r.err != nil {
		return 0
	}
	r.b = r.b[n:]
	return v
}

// varint reads the zigzag form.
func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) flag() bool {
	v := r.uvarint()
	r.check(v <= 1)
	return v == 1
}

// count reads how many things of at least size bytes follow.
func (r *reader) count(most, size int) int {
	v := r.uvarint()
	r.check(v <= uint64(most) && v <= uint64(len(r.b)/size))
	if r.err != nil {
		return 0
	}
	return int(v)
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil {
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// sum adds up and refuses an overflow.
func (r *reader) sum(v uint64, more ...uint64) uint64 {
	for _, m := range more {
		r.check(m <= math.MaxUint64-v)
		v += m
	}
	return v
}

// end says whether all was well and nothing is left.
func (r *reader) end(what string) error {
	r.check(len(r.b) == 0)
	if r.err != nil {
		return fmt.Errorf("state: decode %s: %w", what, r.err)
	}
	return nil
}

// damaged names the entry that err is about.
func damaged(sp coord.Space, key []byte, err error) error {
	return fmt.Errorf("state: load space %d key %x: %w", sp, key, err)
}
