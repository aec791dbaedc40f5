package state

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// apply walks the messages in runs of one kind and session, so that what a run shares is
// looked up once.
func (m *Machine) apply(cols *coord.Columns, results []coord.Result) []coord.Result {
	for i, n := 0, cols.Len(); i < n && m.err == nil; {
		kind, id := cols.Kinds[i], cols.Sessions[i]
		j := i + 1
		for j < n && cols.Kinds[j] == kind && cols.Sessions[j] == id {
			j++
		}
		results = m.applyRun(kind, id, cols, i, j, results)
		i = j
	}
	return results
}

// applyRun applies messages i to j-1, all of one kind and session.
func (m *Machine) applyRun(kind coord.Kind, id uint64, cols *coord.Columns, i, j int, results []coord.Result) []coord.Result {
	switch kind {
	case coord.KindOpen:
		for ; i < j; i++ {
			results = append(results, m.openSession(id, cols.Key(i)))
		}
		return results
	case KindCheckpoint:
		m.meta.asked = true
		for ; i < j; i++ {
			results = append(results, coord.Result{Revision: m.meta.revision})
		}
		return results
	case coord.KindKV, coord.KindLease, coord.KindCompact, coord.KindTick, coord.KindBarrier, coord.KindLead, coord.KindProve,
		coord.KindAudit, coord.KindOpinion, coord.KindDecide:
		for ; i < j && m.err == nil; i++ {
			results = append(results, m.applyKV(kind, cols.Key(i), cols.Value(i)))
		}
		return results
	}
	s := m.sessions.m[id]
	if s == nil {
		for ; i < j; i++ {
			results = append(results, coord.Result{Code: coord.CodeNoSession, Revision: m.meta.revision})
		}
		return results
	}
	m.sessions.touch(s, m.meta.height)
	for ; i < j && m.err == nil; i++ {
		results = append(results, m.applyOne(kind, s, cols.Seqs[i], cols.Key(i), cols.Value(i)))
	}
	return results
}

func (m *Machine) openSession(id uint64, name []byte) coord.Result {
	if id == 0 {
		return coord.Result{Code: coord.CodeBad, Revision: m.meta.revision}
	}
	_, existed := m.sessions.open(id, name, m.meta.height)
	return coord.Result{Duplicate: existed, Revision: m.meta.revision}
}

// applyOne applies message seq of s, unless it was applied before or cannot be yet.
func (m *Machine) applyOne(kind coord.Kind, s *session, seq uint64, key, value []byte) coord.Result {
	switch {
	case seq == 0:
		return coord.Result{Code: coord.CodeBad, Revision: m.meta.revision}
	case s.seen.has(seq):
		return m.again(kind, s, seq, key)
	case seq-s.seen.floor > SessionAheadMax || !s.seen.add(seq, sessionSpansMax):
		return coord.Result{Code: coord.CodeWindow, Revision: m.meta.revision}
	}
	var r coord.Result
	switch kind {
	case coord.KindPut:
		if len(key) == 0 {
			r.Code = coord.CodeBad
			break
		}
		m.put(key, value, 0)
		m.finish()
	case coord.KindDelete:
		r.Found = m.remove(key) != nil
		m.finish()
	case coord.KindGet:
		m.read(key, &r)
	case coord.KindObserve:
		r.Code = m.observe(key, value)
	default:
		r.Code = coord.CodeBad
	}
	r.Revision = m.meta.revision
	if kind == coord.KindPut || kind == coord.KindDelete {
		s.remember(ack{seq, r.Revision, r.Found})
	}
	return r
}

// applyKV applies a message that belongs to no session.
func (m *Machine) applyKV(kind coord.Kind, key, value []byte) (r coord.Result) {
	want := m.self == (coord.BoxID{}) || m.self == m.author
	switch kind {
	case coord.KindKV:
		r.Code, r.KV = m.execute(key, value, want)
	case coord.KindLease:
		r.Code, r.KV = m.leaseOp(value)
	case coord.KindCompact:
		rev, err := kv.DecodeNumber(value)
		if err != nil {
			r.Code = coord.CodeBad
			break
		}
		r.KV = &kv.Answer{Err: m.compact(rev), Revision: m.meta.revision}
	case coord.KindTick:
		r.Code = m.tick(m.author, value)
	case coord.KindLead:
		if len(key) != len(m.lead) || !m.isMember(coord.BoxID(key)) {
			r.Code = coord.CodeBad
			break
		}
		m.lead = coord.BoxID(key)
	case coord.KindProve:
		r.Code = m.prove(key, value)
	case coord.KindAudit:
		r.Code = m.auditHead(value)
	case coord.KindOpinion:
		r.Code = m.opine(value)
	case coord.KindDecide:
		why := NotRefused
		if r.Code, why = m.decide(value); why != NotRefused && want {
			r.Value = []byte{byte(why)}
		}
	}
	r.Revision = m.meta.revision
	return r
}

// prove notes what a key is, to be signed. How many of a batch are answered is bounded: each costs every box a signature.
func (m *Machine) prove(key, nonce []byte) coord.Code {
	switch {
	case len(key) == 0 || len(nonce) < coord.NonceBytesMin || len(nonce) > coord.NonceBytesMax:
		return coord.CodeBad
	case len(m.asked) >= provesMax || m.readBytes >= readBytesMax:
		return coord.CodeBusy
	}
	a := Asked{Author: m.author, Reading: coord.Reading{
		Key: bytes.Clone(key), Nonce: bytes.Clone(nonce), Height: m.meta.height, Revision: m.meta.revision,
	}}
	rec, stored, found, err := m.lookup(key)
	if err != nil {
		m.fail(err)
		return coord.CodeStopping
	}
	if found {
		r := &a.Reading
		r.Found, r.Value, r.CreateRevision, r.ModRevision, r.Version, r.Lease = true, rec.value(stored), rec.create, rec.mod, rec.version, rec.lease
		m.readBytes += len(r.Value)
	}
	m.asked = append(m.asked, a)
	return coord.CodeOK
}

// Asked is a question that every box answers with a signature, to the box Author.
type Asked struct {
	Author  coord.BoxID
	Reading coord.Reading
	// Head, if not nil, is what is to be signed in place of the reading: the author's audit log, at Reading.Height.
	Head *audit.Head
}

// again answers a message that took effect before. A read is done again: its client has
// no answer yet, so that this place in the order is as good as the first.
func (m *Machine) again(kind coord.Kind, s *session, seq uint64, key []byte) coord.Result {
	r := coord.Result{Duplicate: true}
	switch kind {
	case coord.KindPut, coord.KindDelete:
		a := s.recall(seq)
		r.Revision, r.Found = a.rev, a.found
	case coord.KindGet:
		m.read(key, &r)
		r.Revision = m.meta.revision
	}
	return r
}

// observe adds to a counter. A counter that reaches the largest number stays there.
func (m *Machine) observe(key, value []byte) coord.Code {
	count := uint64(1)
	if len(value) > 0 {
		v, n := binary.Uvarint(value)
		if n != len(value) {
			return coord.CodeBad
		}
		count = v
	}
	if len(key) != 8 || count == 0 {
		return coord.CodeBad
	}
	object := binary.BigEndian.Uint64(key)
	e := m.counters.m[object]
	if e == nil {
		v, ok, err := m.back.Get(coord.SpaceCounters, key)
		if err != nil {
			m.fail(backendError(coord.SpaceCounters, key, err))
			return coord.CodeStopping
		}
		e = m.counters.insert(object)
		if !ok {
			m.meta.distinct++
		} else if e.val, err = decodeCounter(v); err != nil {
			m.fail(damaged(coord.SpaceCounters, key, err))
			return coord.CodeStopping
		}
	} else {
		m.counters.write(e)
	}
	e.val = addCapped(e.val, count)
	m.meta.total = addCapped(m.meta.total, count)
	m.top.update(Count{object, e.val})
	return coord.CodeOK
}

func addCapped(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func takeCounters(out []coord.Change, entries []*entry[uint64, uint64]) []coord.Change {
	slab := make([]byte, 0, len(entries)*(8+1+binary.MaxVarintLen64))
	for _, e := range entries {
		k := len(slab)
		slab = binary.BigEndian.AppendUint64(slab, e.key)
		v := len(slab)
		slab = appendCounter(slab, e.val)
		out = append(out, coord.Change{
			Space: coord.SpaceCounters, Key: slab[k:v:v], Value: slab[v:len(slab):len(slab)],
		})
	}
	return out
}
