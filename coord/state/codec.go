package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
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
	// compact is the revision of the last compaction and one, 0 before the first; cleaned says how far it was carried out
	// (see clean). histBytes is the size of what is kept of old revisions.
	compact, cleaned, histBytes uint64
	// clock is the site's time in seconds (see tick), voted the boxes that want the next one.
	clock uint64
	voted []coord.BoxID
}

func appendMeta(b []byte, m *meta) []byte {
	b = append(b, format)
	for _, v := range [...]uint64{
		m.height, m.revision, m.keys, m.keyBytes, m.total, m.distinct, m.checkpoint, m.checkpointBytes, m.logBytes,
	} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, flag(m.asked))
	for _, v := range [...]uint64{m.compact, m.cleaned, m.histBytes, m.clock, uint64(len(m.voted))} {
		b = binary.AppendUvarint(b, v)
	}
	for i := range m.voted {
		b = append(b, m.voted[i][:]...)
	}
	return b
}

func decodeMeta(b []byte) (m meta, err error) {
	r := newReader(b)
	for _, v := range [...]*uint64{
		&m.height, &m.revision, &m.keys, &m.keyBytes, &m.total, &m.distinct, &m.checkpoint, &m.checkpointBytes, &m.logBytes,
	} {
		*v = r.uvarint()
	}
	m.asked = r.flag()
	for _, v := range [...]*uint64{&m.compact, &m.cleaned, &m.histBytes, &m.clock} {
		*v = r.uvarint()
	}
	for range r.count(coord.MembersMax, len(coord.BoxID{})) {
		m.voted = append(m.voted, coord.BoxID(r.bytes(len(coord.BoxID{}))))
	}
	r.check(m.checkpoint <= m.height && m.revision >= 1 && m.compact <= m.revision+1 && m.cleaned <= m.revision)
	return m, r.end("meta")
}

// record is the stored form of a key's value, without the value.
type record struct {
	create  uint64 // revision that created the key
	mod     uint64 // revision of its newest put
	version uint64 // puts since it was created
	lease   int64
	head    int // bytes before the value
}

// appendRecord makes the stored form, in a slice of its own, and notes the head.
func appendRecord(b []byte, rec *record, value []byte) []byte {
	b = append(b, format)
	b = binary.AppendUvarint(b, rec.create)
	b = binary.AppendUvarint(b, rec.mod)
	b = binary.AppendUvarint(b, rec.version)
	b = binary.AppendUvarint(b, uint64(rec.lease))
	rec.head = len(b)
	return append(b, value...)
}

func decodeRecord(b []byte) (rec record, err error) {
	r := newReader(b)
	rec = record{create: r.uvarint(), mod: r.uvarint(), version: r.uvarint(), lease: int64(r.uvarint())}
	r.check(rec.create >= 1 && rec.create <= rec.mod && rec.version >= 1 && rec.version <= rec.mod)
	rec.head = len(b) - len(r.b)
	r.b = nil
	return rec, r.end("key")
}

// value is the part of the stored form that is the value.
func (rec *record) value(stored []byte) []byte { return stored[rec.head:len(stored):len(stored)] }

// keyValue is a record as others see it; its value is a part of the stored form.
func (rec *record) keyValue(key, stored []byte) *kv.KeyValue {
	return &kv.KeyValue{Key: key, Value: rec.value(stored), Create: rec.create, Mod: rec.mod, Version: rec.version, Lease: rec.lease}
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
