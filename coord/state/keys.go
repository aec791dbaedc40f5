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
	events []kv.Event
	stored []byte // the events as SpaceRevisions has them
	chunks int
}

// chunkBytes is where the stored form of one revision's events is cut.
const chunkBytes = 256 << 10

// next is the revision that a change makes now.
func (m *Machine) next() uint64 { return m.meta.revision + 1 }

// seen is the revision that an operation of the message being applied sees.
func (m *Machine) seen() uint64 {
	if len(m.tx.events) > 0 {
		return m.next()
	}
	return m.meta.revision
}

// finish ends the revision if there were changes.
func (m *Machine) finish() {
	if len(m.tx.events) == 0 {
		return
	}
	m.cutChunk()
	m.meta.revision++
	if m.watched {
		m.events = append(m.events, kv.Revision{Revision: m.meta.revision, Events: m.tx.events})
		m.tx.events = nil
	} else {
		clear(m.tx.events)
		m.tx.events = m.tx.events[:0]
	}
	m.tx.chunks = 0
}

func (m *Machine) cutChunk() {
	if len(m.tx.stored) == 0 {
		return
	}
	key := revisionKey(m.next(), m.tx.chunks)
	val := append(make([]byte, 0, 1+len(m.tx.stored)), format)
	val = append(val, m.tx.stored...)
	setKey(&m.revs, key, val, false)
	m.meta.histBytes += uint64(len(key) + len(val))
	m.tx.stored = m.tx.stored[:0]
	m.tx.chunks++
}

// note adds an event to the revision being made; old is the record that it replaces, of oldBytes in SpaceHistory.
func (m *Machine) note(e kv.Event, old record, oldBytes int) {
	m.tx.events = append(m.tx.events, e)
	m.tx.stored = appendStored(m.tx.stored, &storedEvent{gone: e.Delete, key: e.KV.Key, prev: old.mod, prevBytes: uint64(oldBytes)})
	if len(m.tx.stored) >= chunkBytes {
		m.cutChunk()
	}
}

// replace moves a key's record to the history and gives what it takes there.
func (m *Machine) replace(key []byte, rec record, stored []byte) int {
	h := historyKey(key, rec.mod)
	setKey(&m.history, h, stored, false)
	m.meta.histBytes += uint64(len(h) + len(stored))
	m.meta.keyBytes -= uint64(len(key) + len(stored))
	return len(h) + len(stored)
}

// put sets a key in the revision being made, and attaches it to a lease that exists, or to none. prev is the key as it was.
func (m *Machine) put(key, value []byte, lease int64) (prev *kv.KeyValue) {
	old, stored, found, err := m.lookup(key)
	if err != nil {
		m.fail(err)
		return nil
	}
	oldBytes := 0
	own := bytes.Clone(key) // of the event, and of what it replaces
	rec := record{create: m.next(), mod: m.next(), version: 1, lease: lease}
	if found {
		rec.create, rec.version = old.create, old.version+1
		prev = old.keyValue(own, stored)
		oldBytes = m.replace(key, old, stored)
	} else {
		m.meta.keys++
	}
	if old.lease != lease {
		m.detach(key, old.lease)
		m.attach(key, lease)
	}
	stored = appendRecord(make([]byte, 0, len(value)+recordHeadBytes), &rec, value)
	setKey(&m.keys, key, stored, false)
	m.meta.keyBytes += uint64(len(key) + len(stored))
	e := kv.Event{KV: *rec.keyValue(own, stored), Prev: prev}
	m.note(e, old, oldBytes)
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
	oldBytes := m.replace(key, old, stored)
	m.meta.keys--
	m.detach(key, old.lease)
	setKey(&m.keys, key, nil, true)
	h := historyKey(key, m.next())
	setKey(&m.history, h, tombstone, false)
	m.meta.histBytes += uint64(len(h) + len(tombstone))
	m.note(kv.Event{Delete: true, KV: kv.KeyValue{Key: prev.Key, Mod: m.next()}, Prev: prev}, old, oldBytes)
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
