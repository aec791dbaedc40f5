package state

import (
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

func backendError(sp coord.Space, key []byte, err error) error {
	return fmt.Errorf("state: read space %d key %x: %w: %w", sp, key, ErrBackend, err)
}

// lookup gives a key's record and value; the value belongs to the state. e is the
// key's entry in the overlay, if it has one.
func (m *Machine) lookup(key []byte) (rec record, value []byte, found bool, e *entry[string, []byte], err error) {
	var b []byte
	if e = m.keys.m[string(key)]; e != nil {
		if e.gone {
			return rec, nil, false, e, nil
		}
		b = e.val
	} else {
		if b, found, err = m.back.Get(coord.SpaceKeys, key); err != nil {
			return rec, nil, false, nil, backendError(coord.SpaceKeys, key, err)
		}
		if !found {
			return rec, nil, false, nil, nil
		}
	}
	if rec, value, err = decodeRecord(b); err != nil {
		return rec, nil, false, e, damaged(coord.SpaceKeys, key, err)
	}
	return rec, value, true, e, nil
}

// put sets a key, under a new revision.
func (m *Machine) put(key, value []byte) {
	rec, old, found, e, err := m.lookup(key)
	if err != nil {
		m.fail(err)
		return
	}
	m.meta.revision++
	if found {
		m.meta.keyBytes -= recordBytes(key, rec, old)
	} else {
		m.meta.keys++
		rec = record{create: m.meta.revision}
	}
	rec.mod = m.meta.revision
	rec.version++
	var buf []byte
	switch {
	case e == nil:
		e = m.keys.insert(string(key))
	case m.keys.write(e):
		buf = e.val[:0]
	}
	e.gone = false
	if buf == nil {
		buf = make([]byte, 0, len(value)+recordHeadBytes)
	}
	e.val = appendRecord(buf, rec, value)
	m.meta.keyBytes += uint64(len(key) + len(e.val))
}

// recordHeadBytes is room for what is before the value, in a store of up to 2^28 revisions.
const recordHeadBytes = 1 + 3*4

// recordBytes is what a key counts for in keyBytes.
func recordBytes(key []byte, rec record, value []byte) uint64 {
	var a [64]byte
	return uint64(len(key) + len(appendRecord(a[:0], rec, nil)) + len(value))
}

// remove removes a key, under a new revision if it existed.
func (m *Machine) remove(key []byte) (existed bool) {
	rec, old, found, e, err := m.lookup(key)
	if err != nil {
		m.fail(err)
	}
	if !found {
		return false
	}
	m.meta.revision++
	m.meta.keys--
	m.meta.keyBytes -= recordBytes(key, rec, old)
	if e == nil {
		e = m.keys.insert(string(key))
	} else if !m.keys.write(e) {
		e.val = nil
	}
	e.gone = true
	return true
}

// read puts a copy of a key's value into r, or CodeBusy when the batch has read enough:
// a read that is repeated reads again (see again), so its client loses only time.
func (m *Machine) read(key []byte, r *coord.Result) {
	if m.readBytes >= readBytesMax {
		r.Code = coord.CodeBusy
		return
	}
	_, v, found, _, err := m.lookup(key)
	if err != nil {
		m.fail(err)
		return
	}
	if found {
		r.Found, r.Value = true, copyOf(v)
		m.readBytes += len(v)
	}
}

// copyOf differs from bytes.Clone in that an empty value is not nil.
func copyOf(v []byte) []byte { return append(make([]byte, 0, len(v)), v...) }

func takeKeys(out []coord.Change, entries []*entry[string, []byte]) []coord.Change {
	size := 0
	for _, e := range entries {
		size += len(e.key)
	}
	slab := make([]byte, 0, size)
	for _, e := range entries {
		k := len(slab)
		slab = append(slab, e.key...)
		ch := coord.Change{Space: coord.SpaceKeys, Key: slab[k:len(slab):len(slab)]}
		if e.gone {
			e.val = nil
		} else {
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
func (m *Machine) Get(key []byte) (kv KeyValue, found bool, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	rec, v, found, _, err := m.lookup(key)
	if err != nil || !found {
		return kv, false, err
	}
	return KeyValue{copyOf(v), rec.create, rec.mod, rec.version}, true, nil
}
