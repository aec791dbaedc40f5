package state

import (
	"bytes"
	"encoding/binary"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// History is kept so that a read at an old revision, a watcher that starts in the past and a compaction each walk what
// they need in order, and so that a write costs one entry of its own and not three:
//
//   - SpaceRevisions has pages, by the first revision in them: what each revision changed, with the records before and after;
//   - SpaceHistory has, by key and revision, the replaced records that are too large to be in a page twice.
//
// A read at revision r takes the state of now and undoes what pages after r say.

// inlineMax is up to which size a stored record is kept in a page.
const inlineMax = 1 << 10

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

const (
	// pageBytes is from which size on a page is closed, pageRevisions how many revisions are in one at most. A page ends with
	// the batch, too, so that whoever reads between two batches finds all in the overlay.
	pageBytes     = 64 << 10
	pageRevisions = 256
)

// revisionKey names the page that begins with a revision; part counts the pages that its events were cut into before.
func revisionKey(rev uint64, part int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(make([]byte, 0, 12), rev), uint32(part))
}

func splitRevisionKey(k []byte) (rev uint64, part uint32, err error) {
	if len(k) != 12 {
		return 0, 0, damaged(coord.SpaceRevisions, k, ErrDamaged)
	}
	return binary.BigEndian.Uint64(k), binary.BigEndian.Uint32(k[8:]), nil
}

// page is what was changed last and is not in the overlay yet.
type page struct {
	first, last uint64 // revisions
	part        int
	buf         []byte
}

// storedEvent is one change in a page. Its slices belong to the page.
type storedEvent struct {
	rev  uint64
	gone bool
	key  []byte
	// now is the stored record that the change made, nil when it is too large; before the one that it replaced.
	now, before []byte
	// prev is the revision of a replaced record that is in SpaceHistory, where it takes prevBytes; 0: none is.
	prev, prevBytes uint64
}

const (
	eventGone = 1 << iota
	eventNow
	eventBefore
	eventPrev
	eventFlags = iota
)

// appendStored appends an event after one of revision last (the page's first revision for its first event).
func appendStored(b []byte, last uint64, e *storedEvent) []byte {
	flags := flag(e.gone) * eventGone
	for _, f := range [...]struct {
		set bool
		bit uint64
	}{{e.now != nil, eventNow}, {e.before != nil, eventBefore}, {e.prev > 0, eventPrev}} {
		flags |= flag(f.set) * f.bit
	}
	b = binary.AppendUvarint(b, e.rev-last)
	b = binary.AppendUvarint(b, uint64(len(e.key))<<eventFlags|flags)
	b = append(b, e.key...)
	for _, r := range [...][]byte{e.now, e.before} {
		if r != nil {
			b = append(binary.AppendUvarint(b, uint64(len(r))), r...)
		}
	}
	if e.prev > 0 {
		b = binary.AppendUvarint(binary.AppendUvarint(b, e.prev), e.prevBytes)
	}
	return b
}

// eachStored calls fn for the events of a page, until it returns false.
func eachStored(first uint64, v []byte, fn func(e *storedEvent) bool) error {
	r := newReader(v)
	rev := first
	record := func(has bool) []byte {
		if !has {
			return nil
		}
		n := r.uvarint()
		r.check(n > 0 && n <= inlineMax && n <= uint64(len(r.b)))
		return r.bytes(int(n))
	}
	for r.err == nil && len(r.b) > 0 {
		delta := r.uvarint()
		r.check(delta < pageRevisions)
		rev += delta
		n := r.uvarint()
		size := n >> eventFlags
		r.check(size <= coord.KeyBytesMax && size <= uint64(len(r.b)))
		e := storedEvent{rev: rev, gone: n&eventGone != 0, key: r.bytes(int(size))}
		r.check(n&eventNow == 0 || !e.gone)
		r.check(n&eventBefore == 0 || n&eventPrev == 0)
		e.now, e.before = record(n&eventNow != 0), record(n&eventBefore != 0)
		if n&eventPrev != 0 {
			e.prev, e.prevBytes = r.uvarint(), r.uvarint()
			r.check(e.prev > 0)
		}
		if r.err == nil && !fn(&e) {
			return nil
		}
	}
	return r.end("page of revisions")
}

// note adds a change to the page; old is the record that it replaced, stored its stored form (nil: none), and now the
// stored form of the record that it made (nil: the key is gone). A large replaced record goes to SpaceHistory.
func (m *Machine) note(key, now []byte, old record, stored []byte) {
	p, e := &m.page, storedEvent{rev: m.next(), gone: now == nil, key: key}
	if now != nil && len(now) <= inlineMax {
		e.now = now
	}
	if stored != nil {
		m.meta.keyBytes -= uint64(len(key) + len(stored))
		if len(stored) <= inlineMax {
			e.before = stored
		} else {
			h := historyKey(key, old.mod)
			setKey(&m.history, h, stored, false)
			e.prev, e.prevBytes = old.mod, uint64(len(h)+len(stored))
			m.meta.histBytes += e.prevBytes
		}
	}
	if len(p.buf) == 0 {
		p.first, p.last, p.part = e.rev, e.rev, m.tx.cuts
		p.buf = append(p.buf, format)
	}
	p.buf = appendStored(p.buf, p.last, &e)
	p.last = e.rev
	if len(p.buf) >= pageBytes || p.last-p.first >= pageRevisions-1 {
		m.cutPage()
		m.tx.cuts++
	}
}

// cutPage puts the page into the overlay.
func (m *Machine) cutPage() {
	p := &m.page
	if len(p.buf) == 0 {
		return
	}
	key, val := revisionKey(p.first, p.part), bytes.Clone(p.buf)
	setKey(&m.revs, key, val, false)
	m.meta.histBytes += uint64(len(key) + len(val))
	p.buf = p.buf[:0]
}

// changesFrom calls fn for the events of the revisions from on, ascending, until it returns false. They belong to the state and
// are valid during the call only.
func (m *Machine) changesFrom(from uint64, fn func(e *storedEvent) bool) error {
	// The page that has from begins at most pageRevisions before it.
	start := revisionKey(from, 0)
	err := m.walk(coord.SpaceRevisions, &m.revs, revisionKey(max(from, pageRevisions)-pageRevisions, 0), revisionKey(from, 1), func(k, _ []byte, _ bool) bool {
		start = append(start[:0], k...)
		return true
	})
	more := true
	each := func(first uint64, v []byte) error {
		return eachStored(first, v, func(e *storedEvent) bool {
			if e.rev >= from {
				more = fn(e)
			}
			return more
		})
	}
	var bad error
	if err == nil {
		err = m.walk(coord.SpaceRevisions, &m.revs, start, nil, func(k, v []byte, _ bool) bool {
			var first uint64
			if first, _, bad = splitRevisionKey(k); bad == nil {
				if bad = each(first, v); bad != nil {
					bad = damaged(coord.SpaceRevisions, k, bad)
				}
			}
			return bad == nil && more
		})
	}
	if err == nil {
		err = bad
	}
	if err == nil && more && len(m.page.buf) > 0 {
		err = each(m.page.first, m.page.buf)
	}
	return err
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

// recordAt is the stored record of a key that a revision wrote, when it was too large for a page. It belongs to the state.
func (m *Machine) recordAt(key []byte, rev uint64) (stored []byte, err error) {
	rec, stored, found, err := m.lookup(key)
	if err != nil || found && rec.mod == rev {
		return stored, err
	}
	h := historyKey(key, rev)
	if e := m.history.m[string(h)]; e != nil {
		stored, found = e.val, !e.gone
	} else if stored, found, err = m.back.Get(coord.SpaceHistory, h); err != nil {
		return nil, backendError(coord.SpaceHistory, h, err)
	}
	if !found {
		return nil, damaged(coord.SpaceHistory, h, ErrDamaged)
	}
	return stored, nil
}

// replaced is the stored record that a change replaced, nil for none; the caller owns it.
func (m *Machine) replaced(e *storedEvent) ([]byte, error) {
	if e.prev > 0 {
		return m.recordAt(e.key, e.prev)
	}
	return bytes.Clone(e.before), nil
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
	size := 0
	next = max(from, m.meta.revision+1)
	var bad error
	err = m.changesFrom(from, func(s *storedEvent) bool {
		if len(revs) == 0 || revs[len(revs)-1].Revision != s.rev {
			if size >= bytesMax {
				next = s.rev
				return false
			}
			revs = append(revs, kv.Revision{Revision: s.rev})
		}
		r := &revs[len(revs)-1]
		var e kv.Event
		if e, bad = m.event(s); bad != nil {
			return false
		}
		r.Events = append(r.Events, e)
		size += len(e.KV.Key) + len(e.KV.Value) + entryBytes
		return true
	})
	if err == nil {
		err = bad
	}
	return revs, next, err
}

func (m *Machine) event(s *storedEvent) (e kv.Event, err error) {
	e = kv.Event{Delete: s.gone, KV: kv.KeyValue{Key: bytes.Clone(s.key), Mod: s.rev}}
	decoded := func(stored []byte) (*kv.KeyValue, error) {
		rec, err := decodeRecord(stored)
		if err != nil {
			return nil, damaged(coord.SpaceRevisions, s.key, err)
		}
		return rec.keyValue(e.KV.Key, stored), nil
	}
	if !s.gone {
		now := bytes.Clone(s.now)
		if now == nil {
			if now, err = m.recordAt(s.key, s.rev); err != nil {
				return e, err
			}
		}
		k, err := decoded(now)
		if err != nil {
			return e, err
		}
		e.KV = *k
	}
	if int64(s.rev) > m.compacted() {
		before, err := m.replaced(s)
		if err != nil {
			return e, err
		}
		if before != nil {
			e.Prev, err = decoded(before)
		}
		return e, err
	}
	return e, nil
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

// clean takes a part of the compacted history away; how much is decided by ordered data alone. The page with the events of
// the last compaction's revision stays: a watcher may start there.
func (m *Machine) clean() {
	if m.meta.compact == 0 || m.meta.cleaned >= m.meta.compact-1 {
		return
	}
	to := m.meta.compact - 1
	var pages [][]byte
	var large []storedEvent // replaced records in SpaceHistory that nobody reads any more
	done, n := to, 0
	var bad error
	err := m.walk(coord.SpaceRevisions, &m.revs, revisionKey(0, 0), revisionKey(to+1, 0), func(k, v []byte, _ bool) bool {
		first, part, err := splitRevisionKey(k)
		if bad = err; bad != nil {
			return false
		}
		if n >= compactEvents && part == 0 {
			done = first - 1
			return false
		}
		last := first
		bad = eachStored(first, v, func(e *storedEvent) bool {
			last = e.rev
			n++
			if e.prev > 0 && e.rev > m.meta.cleaned && e.rev <= to {
				large = append(large, storedEvent{key: bytes.Clone(e.key), prev: e.prev, prevBytes: e.prevBytes})
			}
			return true
		})
		if last < to {
			pages = append(pages, bytes.Clone(k))
			m.meta.histBytes -= uint64(len(k) + len(v))
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		m.fail(err)
		return
	}
	for i := range large {
		e := &large[i]
		setKey(&m.history, historyKey(e.key, e.prev), nil, true)
		m.meta.histBytes -= e.prevBytes
	}
	for _, k := range pages {
		setKey(&m.revs, k, nil, true)
	}
	m.meta.cleaned = done
}
