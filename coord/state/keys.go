package state

import (
	"bytes"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

func backendError(sp coord.Space, key []byte, err error) error {
	return fmt.Errorf("state: read space %d key %x: %w: %w", sp, key, ErrBackend, err)
}

// lookup gives a key's record and its stored form; both belong to the state and are immutable.
func (m *Machine) lookup(key []byte) (rec record, stored []byte, found bool, err error) {
	if e := m.keys.m[string(key)]; e != nil {
		if e.gone {
			return rec, nil, false, nil
		}
		stored = e.val
	} else {
		if stored, found, err = m.back.Get(coord.SpaceKeys, key); err != nil {
			return rec, nil, false, backendError(coord.SpaceKeys, key, err)
		}
		if !found {
			return rec, nil, false, nil
		}
	}
	if rec, err = decodeRecord(stored); err != nil {
		return rec, nil, false, damaged(coord.SpaceKeys, key, err)
	}
	return rec, stored, true, nil
}

// change is the revision being made: what one message changes.
type change struct {
	changed bool
	cuts    int // pages that its events have filled
	events  []kv.Event
}

// next is the revision that a change makes now.
func (m *Machine) next() uint64 { return m.meta.revision + 1 }

// seen is the revision that an operation of the message being applied sees.
func (m *Machine) seen() uint64 {
	if m.tx.changed {
		return m.next()
	}
	return m.meta.revision
}

// finish ends the revision if there were changes.
func (m *Machine) finish() {
	if !m.tx.changed {
		return
	}
	m.meta.revision++
	if m.watched {
		m.events = append(m.events, kv.Revision{Revision: m.meta.revision, Events: m.tx.events})
	}
	m.tx = change{}
}

// tell adds an event to the revision being made. Events and the keys in them lie together, many to an allocation.
func (m *Machine) tell(e kv.Event) {
	m.tx.changed = true
	if !m.watched {
		return
	}
	s := &m.eventSlab
	if n := len(m.tx.events); cap(*s)-len(*s) < 1 {
		*s = append(make([]kv.Event, 0, max(eventSlab, 2*n+1)), m.tx.events...)
		m.tx.events = (*s)[:n:n]
	}
	*s = append(*s, e)
	m.tx.events = (*s)[len(*s)-len(m.tx.events)-1 : len(*s) : len(*s)]
}

// eventSlab is how many events are allocated at once.
const eventSlab = 64

// put sets a key in the revision being made, and attaches it to a lease that exists, or to none. prev is the key as it was.
func (m *Machine) put(key, value []byte, lease int64) (prev *kv.KeyValue) {
	old, stored, found, err := m.lookup(key)
	if err != nil {
		m.fail(err)
		return nil
	}
	own := bytes.Clone(key) // of the event, and of what it replaces
	rec := record{create: m.next(), mod: m.next(), version: 1, lease: lease}
	if found {
		rec.create, rec.version = old.create, old.version+1
		prev = old.keyValue(own, stored)
	} else {
		m.meta.keys++
	}
	if old.lease != lease {
		m.detach(key, old.lease)
		m.attach(key, lease)
	}
	now := appendRecord(make([]byte, 0, len(value)+recordHeadBytes), &rec, value)
	m.note(key, now, old, stored)
	setKey(&m.keys, key, now, false)
	m.meta.keyBytes += uint64(len(key) + len(now))
	m.tell(kv.Event{KV: *rec.keyValue(own, now), Prev: prev})
	return prev
}

// recordHeadBytes is room for what is before the value, in a store of up to 2^28 revisions.
const recordHeadBytes = 1 + 3*4 + 1

// remove removes a key that exists in the revision being made.
func (m *Machine) remove(key []byte) (prev *kv.KeyValue) {
	old, stored, found, err := m.lookup(key)
	if err != nil {
		m.fail(err)
	}
	if !found {
		return nil
	}
	prev = old.keyValue(bytes.Clone(key), stored)
	m.note(key, nil, old, stored)
	m.meta.keys--
	m.detach(key, old.lease)
	setKey(&m.keys, key, nil, true)
	m.tell(kv.Event{Delete: true, KV: kv.KeyValue{Key: prev.Key, Mod: m.next()}, Prev: prev})
	return prev
}

// read puts a copy of a key's value into r, or CodeBusy when the batch has read enough:
// a read that is repeated reads again (see again), so its client loses only time.
func (m *Machine) read(key []byte, r *coord.Result) {
	if m.readBytes >= readBytesMax {
		r.Code = coord.CodeBusy
		return
	}
	rec, stored, found, err := m.lookup(key)
	if err != nil {
		m.fail(err)
		return
	}
	if found {
		v := rec.value(stored)
		r.Found, r.Value = true, copyOf(v)
		m.readBytes += len(v)
	}
}

// copyOf differs from bytes.Clone in that an empty value is not nil.
func copyOf(v []byte) []byte { return append(make([]byte, 0, len(v)), v...) }

// takeStrings gives the changes of a space whose overlay has stored values by key.
func takeStrings(out []coord.Change, sp coord.Space, entries []*entry[string, []byte]) []coord.Change {
	size := 0
	for _, e := range entries {
		size += len(e.key)
	}
	slab := make([]byte, 0, size)
	for _, e := range entries {
		k := len(slab)
		slab = append(slab, e.key...)
		ch := coord.Change{Space: sp, Key: slab[k:len(slab):len(slab)]}
		if !e.gone {
			ch.Value = e.val[:len(e.val):len(e.val)]
		}
		out = append(out, ch)
	}
	return out
}

// KeyValue is one key as etcd describes it. Revisions and versions count from 1.
type KeyValue struct {
	Value          []byte
	CreateRevision uint64
	ModRevision    uint64
	Version        uint64
}

// Get gives a key as this box has it now; another box may be ahead. The value belongs to
// the caller. Errors: ErrBackend, ErrDamaged, ErrVersion; they do not stop the machine.
func (m *Machine) Get(key []byte) (k KeyValue, found bool, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	rec, stored, found, err := m.lookup(key)
	if err != nil || !found {
		return k, false, err
	}
	return KeyValue{copyOf(rec.value(stored)), rec.create, rec.mod, rec.version}, true, nil
}
