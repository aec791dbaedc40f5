package state

import (
	"bytes"
	"encoding/binary"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// History is kept so that a read at an old revision, a watcher that starts in the past and a compaction each
// walk what they need in order:
//
//   - SpaceRevisions has, by revision, which keys it changed and the revision that each of them had before;
//   - SpaceHistory has, by key and revision, the records that were replaced, and a mark where a key was deleted.
//
// A value is written once to SpaceKeys and once, when it is replaced, to SpaceHistory.

// tombstone is the record of a deleted key.
var tombstone = []byte{format, 0}

func isTombstone(b []byte) bool { return len(b) == 2 && b[1] == 0 }

// historyKey orders by key, then revision: a zero byte of the key is followed by ff, its end is 00 01.
func historyKey(key []byte, rev uint64) []byte {
	b := make([]byte, 0, len(key)+2+8)
	b = appendEscaped(b, key)
	return binary.BigEndian.AppendUint64(append(b, 0, 1), rev)
}

func appendEscaped(b, key []byte) []byte {
	for {
		i := bytes.IndexByte(key, 0)
		if i < 0 {
			return append(b, key...)
		}
		b = append(append(b, key[:i]...), 0, 0xff)
		key = key[i+1:]
	}
}

// splitHistoryKey undoes historyKey, the key into room.
func splitHistoryKey(b, room []byte) (key []byte, rev uint64, ok bool) {
	if len(b) < 10 {
		return nil, 0, false
	}
	rev = binary.BigEndian.Uint64(b[len(b)-8:])
	e := b[:len(b)-8]
	if e[len(e)-2] != 0 || e[len(e)-1] != 1 {
		return nil, 0, false
	}
	e = e[:len(e)-2]
	key = room[:0]
	for {
		i := bytes.IndexByte(e, 0)
		if i < 0 {
			return append(key, e...), rev, true
		}
		if i+1 >= len(e) || e[i+1] != 0xff {
			return nil, 0, false
		}
		key = append(append(key, e[:i]...), 0)
		e = e[i+2:]
	}
}

// revisionKey names a part of a revision's events.
func revisionKey(rev uint64, chunk int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(make([]byte, 0, 12), rev), uint32(chunk))
}

// storedEvent is one change in SpaceRevisions: a key, the revision of the record that it replaced (0: none), and what that
// takes in SpaceHistory.
type storedEvent struct {
	gone            bool
	key             []byte
	prev, prevBytes uint64
}

func appendStored(b []byte, e *storedEvent) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.key))<<1|flag(e.gone))
	b = append(b, e.key...)
	b = binary.AppendUvarint(b, e.prev)
	if e.prev > 0 {
		b = binary.AppendUvarint(b, e.prevBytes)
	}
	return b
}

// eachStored calls fn for the events of one stored value; they belong to v.
func eachStored(v []byte, fn func(e *storedEvent)) error {
	r := newReader(v)
	for r.err == nil && len(r.b) > 0 {
		n := r.uvarint()
		e := storedEvent{gone: n&1 == 1}
		r.check(n>>1 <= coord.KeyBytesMax && n>>1 <= uint64(len(r.b)))
		e.key = r.bytes(int(n >> 1))
		if e.prev = r.uvarint(); e.prev > 0 {
			e.prevBytes = r.uvarint()
		}
		if r.err == nil {
			fn(&e)
		}
	}
	return r.end("revision")
}

// walk calls fn for the entries of a space from key from on, ascending, until end (nil: the space's) or until
// fn returns false. k is valid during the call only, and so is v unless own.
func (m *Machine) walk(sp coord.Space, o *overlay[string, []byte], from, end []byte, fn func(k, v []byte, own bool) bool) error {
	e := o.from(string(from))
	limit := string(end)
	var room []byte
	mine := func() bool { // gives the overlay's entry
		more := true
		if !e.gone {
			room = append(room[:0], e.key...)
			more = fn(room, e.val, true)
		}
		e = o.from(e.key + "\x00")
		return more
	}
	done := false
	err := m.back.Scan(sp, from, func(k, v []byte) bool {
		if end != nil && string(k) >= limit {
			return false
		}
		for e != nil && e.key < string(k) {
			if done = !mine(); done {
				return false
			}
		}
		if e != nil && e.key == string(k) {
			done = !mine()
		} else {
			done = !fn(k, v, false)
		}
		return !done
	})
	if err != nil {
		return backendError(sp, from, err)
	}
	for !done && e != nil && (end == nil || e.key < limit) {
		done = !mine()
	}
	return nil
}

// recordAt is the record of a key that a revision wrote, if history still has it.
func (m *Machine) recordAt(key []byte, rev uint64) (k *kv.KeyValue, err error) {
	rec, stored, found, err := m.lookup(key)
	if err == nil && (!found || rec.mod != rev) {
		h := historyKey(key, rev)
		if e := m.history.m[string(h)]; e != nil {
			stored, found = e.val, !e.gone
		} else if stored, found, err = m.back.Get(coord.SpaceHistory, h); err != nil {
			err = backendError(coord.SpaceHistory, h, err)
		}
		if !found || isTombstone(stored) || err != nil {
			return nil, err
		}
		if rec, err = decodeRecord(stored); err != nil {
			return nil, damaged(coord.SpaceHistory, h, err)
		}
	}
	if err != nil {
		return nil, err
	}
	return rec.keyValue(bytes.Clone(key), stored), nil
}

// Events gives what the revisions from on changed, ascending, until about bytesMax or the newest; next is the
// first revision that it does not give. Errors: kv.ErrCompacted when from is below the revision of the last compaction,
// ErrBackend, ErrDamaged.
func (m *Machine) Events(from uint64, bytesMax int) (revs []kv.Revision, next uint64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if int64(from) < m.compacted() {
		return nil, 0, kv.ErrCompacted
	}
	size, full := 0, false
	next = max(from, m.meta.revision+1)
	var bad error
	err = m.walk(coord.SpaceRevisions, &m.revs, revisionKey(from, 0), nil, func(k, v []byte, _ bool) bool {
		if len(k) != 12 {
			bad = damaged(coord.SpaceRevisions, k, ErrDamaged)
			return false
		}
		rev := binary.BigEndian.Uint64(k)
		if len(revs) == 0 || revs[len(revs)-1].Revision != rev {
			if full = size >= bytesMax; full {
				next = rev
				return false
			}
			revs = append(revs, kv.Revision{Revision: rev})
		}
		r := &revs[len(revs)-1]
		err := eachStored(v, func(s *storedEvent) {
			if bad != nil {
				return
			}
			var e kv.Event
			e, bad = m.event(s, rev)
			r.Events = append(r.Events, e)
			size += len(e.KV.Key) + len(e.KV.Value) + entryBytes
		})
		if err != nil {
			bad = err
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return revs, next, err
}

func (m *Machine) event(s *storedEvent, rev uint64) (e kv.Event, err error) {
	e = kv.Event{Delete: s.gone, KV: kv.KeyValue{Key: bytes.Clone(s.key), Mod: rev}}
	if !s.gone {
		now, err := m.recordAt(s.key, rev)
		if err != nil || now == nil {
			return e, damagedOr(err, s.key)
		}
		e.KV = *now
	}
	if s.prev > 0 && int64(rev) > m.compacted() {
		e.Prev, err = m.recordAt(s.key, s.prev)
	}
	return e, err
}

func damagedOr(err error, key []byte) error {
	if err != nil {
		return err
	}
	return damaged(coord.SpaceHistory, key, ErrDamaged)
}

// compacted is the revision of the last compaction, -1 before the first.
func (m *Machine) compacted() int64 { return int64(m.meta.compact) - 1 }

// compactEvents is about how many events a block cleans away.
const compactEvents = 4096

// compact forgets what was before a revision: from now on it cannot be read, and clean takes it away bit by bit.
func (m *Machine) compact(rev uint64) error {
	switch {
	case int64(rev) <= m.compacted():
		return kv.ErrCompacted
	case rev > m.meta.revision:
		return kv.ErrFutureRevision
	}
	m.meta.compact = rev + 1
	return nil
}

// clean takes a part of the compacted history away; how much is decided by ordered data alone. The
// events of the last compaction's revision stay: a watcher may start there.
func (m *Machine) clean() {
	if m.meta.compact == 0 || m.meta.cleaned >= m.meta.compact-1 {
		return
	}
	to := m.meta.compact - 1
	type part struct {
		key    []byte
		rev    uint64
		bytes  uint64
		events []storedEvent
	}
	var parts []part
	n := 0
	var bad error
	err := m.walk(coord.SpaceRevisions, &m.revs, revisionKey(m.meta.cleaned, 0), revisionKey(to+1, 0), func(k, v []byte, _ bool) bool {
		if len(k) != 12 {
			bad = damaged(coord.SpaceRevisions, k, ErrDamaged)
			return false
		}
		p := part{key: bytes.Clone(k), rev: binary.BigEndian.Uint64(k), bytes: uint64(len(k) + len(v))}
		if n >= compactEvents && p.rev != parts[len(parts)-1].rev {
			return false
		}
		bad = eachStored(v, func(e *storedEvent) {
			c := *e
			c.key = bytes.Clone(e.key)
			p.events = append(p.events, c)
			n++
		})
		parts = append(parts, p)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		m.fail(err)
		return
	}
	done := to
	if n >= compactEvents {
		done = parts[len(parts)-1].rev
	}
	for i := range parts {
		p := &parts[i]
		for j := range p.events {
			e := &p.events[j]
			if e.prev > 0 && p.rev > m.meta.cleaned {
				setKey(&m.history, historyKey(e.key, e.prev), nil, true)
				m.meta.histBytes -= e.prevBytes
			}
			if e.gone && p.rev < to {
				h := historyKey(e.key, p.rev)
				setKey(&m.history, h, nil, true)
				m.meta.histBytes -= uint64(len(h) + len(tombstone))
			}
		}
		if p.rev < to {
			setKey(&m.revs, p.key, nil, true)
			m.meta.histBytes -= p.bytes
		}
	}
	m.meta.cleaned = done
}
