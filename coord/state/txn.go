package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sort"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// execute applies one operation of the etcd data model in one revision. Nothing happens when the answer has an
// error. want says whether anybody reads the answer.
func (m *Machine) execute(key, value []byte, want bool) (code coord.Code, answer *kv.Answer) {
	o, err := kv.Decode(key, value)
	answer = &kv.Answer{Err: err}
	switch {
	case err != nil:
		answer.Revision = m.meta.revision
		return coord.CodeBad, answer
	case o.Txn != nil:
		path := m.choose(o.Txn, nil)
		if _, answer.Err = m.checkTxn(o.Txn, path); answer.Err == nil {
			m.txn(o.Txn, path, want, answer)
			answer.Revision = m.seen()
		}
	default:
		if answer.Err = m.check(&o); answer.Err == nil {
			m.op(&o, want, answer)
		}
	}
	if answer.Err != nil {
		answer.Revision = m.meta.revision
	}
	m.finish()
	return coord.CodeOK, answer
}

// check says why an operation cannot be executed on the state as it is, before anything of its transaction is.
func (m *Machine) check(o *kv.Op) error {
	switch {
	case o.Put != nil:
		p := o.Put
		if p.Lease != 0 && m.leases.m[p.Lease] == nil {
			return kv.ErrLeaseNotFound
		}
		if p.IgnoreValue || p.IgnoreLease {
			if _, _, found, err := m.lookup(p.Key); err != nil {
				m.fail(err)
				return err
			} else if !found {
				return kv.ErrKeyNotFound
			}
		}
	case o.Range != nil && o.Range.Revision < 0: // etcd's rule within a transaction; outside of one it is the newest
		if o.Range.Revision < m.compacted() {
			return kv.ErrCompacted
		}
	case o.Range != nil:
		return m.readable(o.Range.Revision)
	}
	return nil
}

// readable says whether a revision can be read.
func (m *Machine) readable(rev int64) error {
	switch {
	case rev <= 0:
		return nil
	case rev > int64(m.seen()):
		return kv.ErrFutureRevision
	case rev < m.compacted():
		return kv.ErrCompacted
	}
	return nil
}

func (m *Machine) checkTxn(t *kv.Txn, path []bool) (rest []bool, err error) {
	ops, path := branch(t, path)
	for i := range ops {
		if n := ops[i].Txn; n != nil {
			path, err = m.checkTxn(n, path)
		} else {
			err = m.check(&ops[i])
		}
		if err != nil {
			return nil, err
		}
	}
	return path, nil
}

// branch is the branch that the path takes, and the path's rest.
func branch(t *kv.Txn, path []bool) ([]kv.Op, []bool) {
	if path[0] {
		return t.Then, path[1:]
	}
	return t.Else, path[1:]
}

// choose appends which branch a transaction and those nested in it take. All compares see the state before the first
// operation.
func (m *Machine) choose(t *kv.Txn, path []bool) []bool {
	holds := true
	for i := range t.Compares {
		if holds = m.compare(&t.Compares[i]); !holds {
			break
		}
	}
	path = append(path, holds)
	ops := t.Then
	if !holds {
		ops = t.Else
	}
	for i := range ops {
		if ops[i].Txn != nil {
			path = m.choose(ops[i].Txn, path)
		}
	}
	return path
}

// compare is true when the relation holds for every key of the span. A key that is not there has zeros, and a
// value to which nothing compares (etcd's rule).
func (m *Machine) compare(c *kv.Compare) bool {
	if len(c.End) == 0 {
		rec, stored, found, err := m.lookup(c.Key)
		if err != nil {
			m.fail(err)
		}
		if !found {
			return c.Target != kv.TargetValue && holds(c, &record{}, nil)
		}
		return holds(c, &rec, rec.value(stored))
	}
	any, all := false, true
	m.walkKeys(c.Key, c.End, func(_ []byte, rec *record, v []byte, _ bool) bool {
		any, all = true, holds(c, rec, v)
		return all
	})
	if !any {
		return c.Target != kv.TargetValue && holds(c, &record{}, nil)
	}
	return all
}

func holds(c *kv.Compare, rec *record, value []byte) bool {
	r := 0
	switch c.Target {
	case kv.TargetValue:
		r = bytes.Compare(value, c.Value)
	case kv.TargetVersion:
		r = cmp.Compare(int64(rec.version), c.Number)
	case kv.TargetCreate:
		r = cmp.Compare(int64(rec.create), c.Number)
	case kv.TargetMod:
		r = cmp.Compare(int64(rec.mod), c.Number)
	case kv.TargetLease:
		r = cmp.Compare(rec.lease, c.Number)
	}
	switch c.Relation {
	case kv.Equal:
		return r == 0
	case kv.NotEqual:
		return r != 0
	case kv.Greater:
		return r > 0
	case kv.Less:
		return r < 0
	}
	return true
}

func (m *Machine) txn(t *kv.Txn, path []bool, want bool, a *kv.Answer) (rest []bool) {
	a.Succeeded = path[0]
	ops, path := branch(t, path)
	a.Answers = make([]kv.Answer, len(ops))
	for i := range ops {
		if n := ops[i].Txn; n != nil {
			path = m.txn(n, path, want, &a.Answers[i])
		} else {
			m.op(&ops[i], want, &a.Answers[i])
		}
	}
	return path
}

// op executes an operation that was checked.
func (m *Machine) op(o *kv.Op, want bool, a *kv.Answer) {
	switch {
	case o.Put != nil:
		p := o.Put
		value, lease := p.Value, p.Lease
		if p.IgnoreValue || p.IgnoreLease {
			rec, stored, _, err := m.lookup(p.Key)
			if err != nil {
				m.fail(err)
				return
			}
			if p.IgnoreValue {
				value = rec.value(stored)
			}
			if p.IgnoreLease {
				lease = rec.lease
			}
		}
		if prev := m.put(p.Key, value, lease); p.PrevKV {
			a.Prev = prev
		}
	case o.Delete != nil:
		m.deleteSpan(o.Delete, a)
	case o.Range != nil:
		if want {
			m.rangeInto(o.Range, a)
		}
	}
	a.Revision = m.seen()
}

func (m *Machine) deleteSpan(d *kv.Delete, a *kv.Answer) {
	var keys [][]byte
	if len(d.End) == 0 {
		keys = append(keys, d.Key)
	} else if err := m.eachStored(d.Key, d.End, func(k, _ []byte, _ bool) (bool, error) {
		keys = append(keys, bytes.Clone(k))
		return true, nil
	}); err != nil {
		m.fail(err)
		return
	}
	for _, k := range keys {
		prev := m.remove(k)
		if prev == nil {
			continue
		}
		a.Deleted++
		if d.PrevKV {
			a.Prevs = append(a.Prevs, *prev)
		}
	}
}

// walkKeys calls fn for the keys of a span as they are now. What it is given is valid during the call only, a value that
// is own for ever.
func (m *Machine) walkKeys(from, end []byte, fn func(k []byte, rec *record, v []byte, own bool) bool) {
	if err := m.eachKey(from, end, fn); err != nil {
		m.fail(err)
	}
}

func (m *Machine) eachKey(from, end []byte, fn func(k []byte, rec *record, v []byte, own bool) bool) error {
	return m.eachStored(from, end, func(k, v []byte, own bool) (bool, error) {
		rec, err := decodeRecord(v)
		if err != nil {
			return false, damaged(coord.SpaceKeys, k, err)
		}
		return fn(k, &rec, rec.value(v), own), nil
	})
}

// eachStored calls fn for the keys of a span and their stored records, as eachKey does, until it returns false or an error.
func (m *Machine) eachStored(from, end []byte, fn func(k, v []byte, own bool) (bool, error)) error {
	if kv.IsOpenEnded(end) {
		end = nil
	} else if len(end) == 0 {
		end = append(bytes.Clone(from), 0)
	}
	var bad error
	err := m.walk(coord.SpaceKeys, &m.keys, from, end, func(k, v []byte, own bool) bool {
		var more bool
		more, bad = fn(k, v, own)
		return more && bad == nil
	})
	if err == nil {
		err = bad
	}
	return err
}

// Range answers a read of the state as it is now, or was at a revision that is not compacted. It holds up blocks while it
// reads. Errors, in the answer: kv.ErrCompacted, kv.ErrFutureRevision, ErrBackend, ErrDamaged.
func (m *Machine) Range(r *kv.Range) (a kv.Answer) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	a.Revision = m.meta.revision
	if a.Err = m.readable(r.Revision); a.Err == nil {
		a.Err = m.rangeAt(r, &a)
	}
	return a
}

// Read executes a transaction that can change nothing on the state as it is now. Errors as Range's.
func (m *Machine) Read(t *kv.Txn) (a kv.Answer) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	path := m.choose(t, nil)
	if _, a.Err = m.checkTxn(t, path); a.Err == nil {
		m.txn(t, path, true, &a)
	}
	a.Revision = m.meta.revision
	return a
}

func (m *Machine) rangeInto(r *kv.Range, a *kv.Answer) {
	if err := m.rangeAt(r, a); err != nil {
		m.fail(err)
	}
	a.Revision = m.seen()
}

// rangeAt reads a span as etcd's executeRange does: count of all keys, then the filters, the order and the limit.
func (m *Machine) rangeAt(r *kv.Range, a *kv.Answer) error {
	filtered := r.MinMod != 0 || r.MaxMod != 0 || r.MinCreate != 0 || r.MaxCreate != 0
	sorted := r.Order != kv.SortNone || r.Target != kv.SortKey
	need := int64(-1) // how many to gather; all
	if r.Limit > 0 && !filtered && r.Order == kv.SortNone {
		need = r.Limit + 1 // one more tells whether there are more
	}
	pick := func(k []byte, rec *record, v []byte, own bool) bool {
		a.Count++
		if r.CountOnly || need >= 0 && int64(len(a.KVs)) >= need {
			return !r.Uncounted
		}
		if filtered && (r.MaxMod != 0 && int64(rec.mod) > r.MaxMod || r.MinMod != 0 && int64(rec.mod) < r.MinMod ||
			r.MaxCreate != 0 && int64(rec.create) > r.MaxCreate || r.MinCreate != 0 && int64(rec.create) < r.MinCreate) {
			return true
		}
		e := kv.KeyValue{Key: bytes.Clone(k), Create: rec.create, Mod: rec.mod, Version: rec.version, Lease: rec.lease}
		switch {
		case r.KeysOnly && r.Target != kv.SortValue:
		case own:
			e.Value = v
		default:
			e.Value = copyOf(v)
		}
		a.KVs = append(a.KVs, e)
		return true
	}
	var err error
	if r.Revision > 0 && r.Revision < int64(m.seen()) {
		err = m.eachKeyAt(r.Key, r.End, uint64(r.Revision), pick)
	} else if len(r.End) == 0 {
		var rec record
		var stored []byte
		var found bool
		if rec, stored, found, err = m.lookup(r.Key); found && err == nil {
			pick(r.Key, &rec, rec.value(stored), true)
		}
	} else if filtered {
		err = m.eachKey(r.Key, r.End, pick)
	} else {
		err = m.eachStored(r.Key, r.End, func(k, v []byte, own bool) (bool, error) {
			if r.CountOnly || need >= 0 && int64(len(a.KVs)) >= need { // the rest is counted, not read
				a.Count++
				return !r.Uncounted, nil
			}
			rec, err := decodeRecord(v)
			if err != nil {
				return false, damaged(coord.SpaceKeys, k, err)
			}
			return pick(k, &rec, rec.value(v), own), nil
		})
	}
	if err != nil {
		return err
	}
	if sorted {
		sortKVs(a.KVs, r.Target, r.Order)
	}
	if r.Limit > 0 && !r.CountOnly {
		a.More = int64(len(a.KVs)) > r.Limit
		a.KVs = a.KVs[:min(int64(len(a.KVs)), r.Limit)]
	}
	if r.KeysOnly {
		for i := range a.KVs {
			a.KVs[i].Value = nil
		}
	}
	return nil
}

// sortKVs sorts as etcd does: keys that are equal in what is compared come in the order that its algorithm gives.
func sortKVs(kvs []kv.KeyValue, by kv.SortTarget, order kv.SortOrder) {
	var s sort.Interface = &byTarget{kvs, by}
	if order == kv.SortDescending {
		s = sort.Reverse(s)
	}
	if by != kv.SortKey || order == kv.SortDescending { // else they are sorted
		sort.Sort(s)
	}
}

type byTarget struct {
	kvs []kv.KeyValue
	by  kv.SortTarget
}

func (s *byTarget) Len() int      { return len(s.kvs) }
func (s *byTarget) Swap(i, j int) { s.kvs[i], s.kvs[j] = s.kvs[j], s.kvs[i] }

func (s *byTarget) Less(i, j int) bool {
	a, b := &s.kvs[i], &s.kvs[j]
	switch s.by {
	case kv.SortVersion:
		return a.Version < b.Version
	case kv.SortCreate:
		return a.Create < b.Create
	case kv.SortMod:
		return a.Mod < b.Mod
	case kv.SortValue:
		return bytes.Compare(a.Value, b.Value) < 0
	}
	return bytes.Compare(a.Key, b.Key) < 0
}

// old is what a key was at a revision.
type old struct {
	key    string
	rec    record
	stored []byte // nil: it was not there
}

// eachKeyAt calls fn for the keys of a span as they were at a revision: as they are, but for those that changed since. It
// costs a walk over all changes since.
func (m *Machine) eachKeyAt(from, end []byte, rev uint64, fn func(k []byte, rec *record, v []byte, own bool) bool) error {
	within := func(k []byte) bool {
		return bytes.Compare(k, from) >= 0 && (kv.IsOpenEnded(end) || bytes.Compare(k, end) < 0)
	}
	if len(end) == 0 {
		within = func(k []byte) bool { return bytes.Equal(k, from) }
	}
	seen := map[string]struct{}{}
	var olds []old // by key
	var bad error
	err := m.changesFrom(rev+1, func(e *storedEvent) bool {
		if !within(e.key) {
			return true
		}
		if _, again := seen[string(e.key)]; again {
			return true
		}
		o := old{key: string(e.key)}
		seen[o.key] = struct{}{}
		if o.stored, bad = m.replaced(e); bad == nil && o.stored != nil {
			if o.rec, bad = decodeRecord(o.stored); bad != nil {
				bad = damaged(coord.SpaceRevisions, e.key, bad)
			}
		}
		olds = append(olds, o)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	slices.SortFunc(olds, func(a, b old) int { return strings.Compare(a.key, b.key) })
	more := true
	before := func(k []byte) { // gives the old keys up to k; nil: all
		for more && len(olds) > 0 && (k == nil || olds[0].key <= string(k)) {
			if o := &olds[0]; o.stored != nil {
				more = fn([]byte(o.key), &o.rec, o.rec.value(o.stored), true)
			}
			olds = olds[1:]
		}
	}
	err = m.eachKey(from, end, func(k []byte, rec *record, v []byte, own bool) bool {
		before(k)
		if more && rec.mod <= rev {
			more = fn(k, rec, v, own)
		}
		return more
	})
	if err == nil {
		before(nil)
	}
	return err
}

// Hash is a checksum (CRC-32, Castagnoli) of all keys, their values and revisions as of a revision, 0 for the newest; it is the
// same on every box. at is that revision. Errors as Range's.
func (m *Machine) Hash(rev int64) (sum uint32, at uint64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.readable(rev); err != nil {
		return 0, 0, err
	}
	at = m.meta.revision
	if rev > 0 {
		at = uint64(rev)
	}
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	var head []byte
	add := func(k []byte, rec *record, v []byte, _ bool) bool {
		head = head[:0]
		for _, n := range [...]uint64{uint64(len(k)), uint64(len(v)), rec.create, rec.mod, rec.version, uint64(rec.lease)} {
			head = binary.AppendUvarint(head, n)
		}
		for _, b := range [...][]byte{head, k, v} {
			_, _ = h.Write(b) // never fails
		}
		return true
	}
	if at < m.meta.revision {
		err = m.eachKeyAt([]byte{0}, kv.OpenEnded, at, add)
	} else {
		err = m.eachKey([]byte{0}, kv.OpenEnded, add)
	}
	return h.Sum32(), at, err
}
