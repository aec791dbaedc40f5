package main

import (
	"cmp"
	"slices"
	"strings"
)

// State is the key space at one revision. It is never changed: Apply returns another.
type State struct {
	Rev int64
	KVs []KV // by key
}

func (s State) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s.KVs, key, func(kv KV, k string) int { return strings.Compare(kv.Key, k) })
}

func (s State) get(key string) (KV, bool) {
	if i, ok := s.find(key); ok {
		return s.KVs[i], true
	}
	return KV{}, false
}

// span returns the keys of a request: one key, or from key up to end, or all from key on if end is "\x00".
func (s State) span(key, end string) []KV {
	i, ok := s.find(key)
	switch {
	case end == "" && !ok:
		return nil
	case end == "":
		return s.KVs[i : i+1]
	case end == "\x00":
		return s.KVs[i:]
	}
	j, _ := s.find(end)
	return s.KVs[i:max(i, j)]
}

// attached are the keys of a lease, which go in one revision when it ends.
func (s State) attached(lease int64) []string {
	var keys []string
	for _, kv := range s.KVs {
		if kv.Lease == lease {
			keys = append(keys, kv.Key)
		}
	}
	return keys
}

// step is a State in the middle of a transaction.
type step struct {
	before, now State
	events      []Event
}

// Apply runs one request of the key space: the answer, what watchers must see, and the state after it.
func (s State) Apply(q Req) (Resp, []Event, State) {
	t := &step{before: s, now: State{Rev: s.Rev, KVs: slices.Clone(s.KVs)}}
	r := t.run(q, s.path(q))
	if len(t.events) > 0 {
		t.now.Rev++
	}
	r.Rev = t.now.Rev
	return r, t.events, t.now
}

// Drop ends a lease.
func (s State) Drop(lease int64) ([]Event, State) {
	t := &step{before: s, now: State{Rev: s.Rev, KVs: slices.Clone(s.KVs)}}
	for _, k := range s.attached(lease) {
		t.remove(k)
	}
	if len(t.events) > 0 {
		t.now.Rev++
	}
	return t.events, t.now
}

// Force makes a state of what a watcher saw.
func (s State) Force(events []Event) State {
	n := State{Rev: s.Rev + 1, KVs: slices.Clone(s.KVs)}
	for _, e := range events {
		i, ok := n.find(e.KV.Key)
		switch {
		case e.Delete && ok:
			n.KVs = slices.Delete(n.KVs, i, i+1)
		case e.Delete:
		case ok:
			n.KVs[i] = e.KV
		default:
			n.KVs = slices.Insert(n.KVs, i, e.KV)
		}
	}
	return n
}

// path is which branch a transaction takes, and then those nested in that branch: etcd compares all of them before the
// first of its operations runs.
func (s State) path(q Req) []bool {
	if q.Kind != Txn {
		return nil
	}
	p := []bool{!slices.ContainsFunc(q.If, func(c Cmp) bool { return !s.holds(c) })}
	for _, sub := range q.branch(p[0]) {
		p = append(p, s.path(sub)...)
	}
	return p
}

func (q Req) branch(then bool) []Req {
	if then {
		return q.Then
	}
	return q.Else
}

func (s State) holds(c Cmp) bool {
	kvs := s.span(c.Key, c.End)
	if len(kvs) == 0 {
		return c.Target != "value" && c.holds(KV{})
	}
	return !slices.ContainsFunc(kvs, func(kv KV) bool { return !c.holds(kv) })
}

func (c Cmp) holds(kv KV) bool {
	var r int
	switch c.Target {
	case "value":
		r = strings.Compare(kv.Value, c.Value)
	case "version":
		r = cmp.Compare(kv.Version, c.N)
	case "create":
		r = cmp.Compare(kv.Create, c.N)
	case "mod":
		r = cmp.Compare(kv.Mod, c.N)
	case "lease":
		r = cmp.Compare(kv.Lease, c.N)
	}
	switch c.Op {
	case "=":
		return r == 0
	case "!=":
		return r != 0
	case "<":
		return r < 0
	}
	return r > 0
}

func (t *step) run(q Req, path []bool) Resp {
	switch q.Kind {
	case Put:
		return t.put(q)
	case Delete:
		return t.del(q)
	case Range:
		return t.now.read(q)
	}
	r := Resp{Then: path[0]}
	path = path[1:]
	for _, sub := range q.branch(r.Then) {
		// Each nested transaction has as many entries as path makes of it.
		n := len(t.before.path(sub))
		r.Subs = append(r.Subs, t.run(sub, path[:n]))
		path = path[n:]
	}
	return r
}

func (t *step) put(q Req) Resp {
	rev := t.before.Rev + 1
	i, ok := t.now.find(q.Key)
	kv, r := KV{Key: q.Key, Value: q.Value, Create: rev, Mod: rev, Version: 1, Lease: q.Lease}, Resp{}
	e := Event{}
	if ok {
		old := t.now.KVs[i]
		kv.Create, kv.Version = old.Create, old.Version+1
		if q.IgnoreValue {
			kv.Value = old.Value
		}
		if q.IgnoreLease {
			kv.Lease = old.Lease
		}
		if q.PrevKV {
			r.Prev = []KV{old}
		}
		e.Prev = &old
		t.now.KVs[i] = kv
	} else {
		t.now.KVs = slices.Insert(t.now.KVs, i, kv)
	}
	e.KV = kv
	t.events = append(t.events, e)
	return r
}

func (t *step) del(q Req) Resp {
	var r Resp
	for _, kv := range slices.Clone(t.now.span(q.Key, q.End)) {
		r.Deleted++
		if q.PrevKV {
			r.Prev = append(r.Prev, kv)
		}
		t.remove(kv.Key)
	}
	return r
}

func (t *step) remove(key string) {
	i, _ := t.now.find(key)
	old := t.now.KVs[i]
	t.now.KVs = slices.Delete(t.now.KVs, i, i+1)
	t.events = append(t.events, Event{Delete: true, KV: KV{Key: key, Mod: t.before.Rev + 1}, Prev: &old})
}

func (s State) read(q Req) Resp {
	kvs := s.span(q.Key, q.End)
	r := Resp{Count: int64(len(kvs))}
	if q.CountOnly {
		return r
	}
	if q.Limit > 0 && r.Count > q.Limit {
		kvs, r.More = kvs[:q.Limit], true
	}
	r.KVs = slices.Clone(kvs)
	if q.KeysOnly {
		for i := range r.KVs {
			r.KVs[i].Value = ""
		}
	}
	return r
}

// wrote says of an answer whether the transaction took a revision.
func (q Req) wrote(r Resp) bool {
	switch q.Kind {
	case Put:
		return true
	case Delete:
		return r.Deleted > 0
	case Txn:
		for i, sub := range q.branch(r.Then) {
			if i < len(r.Subs) && sub.wrote(r.Subs[i]) {
				return true
			}
		}
	}
	return false
}

// mayWrite says whether a request of the key space can take a revision at all.
func (q Req) mayWrite() bool {
	switch q.Kind {
	case Put, Delete:
		return true
	case Txn:
		return slices.ContainsFunc(q.Then, Req.mayWrite) || slices.ContainsFunc(q.Else, Req.mayWrite)
	}
	return false
}

// leases are those a request may attach.
func (q Req) leases() []int64 {
	var l []int64
	if q.Kind == Put && q.Lease != 0 {
		l = append(l, q.Lease)
	}
	for _, sub := range slices.Concat(q.Then, q.Else) {
		l = append(l, sub.leases()...)
	}
	return l
}

// attaches are the leases that a successful transaction did attach.
func (q Req) attaches(r Resp) []int64 {
	var l []int64
	if q.Kind == Put && q.Lease != 0 {
		l = append(l, q.Lease)
	}
	for i, sub := range q.branch(r.Then) {
		if q.Kind == Txn && i < len(r.Subs) {
			l = append(l, sub.attaches(r.Subs[i])...)
		}
	}
	return l
}

func withRev(r Resp, rev int64) Resp {
	r.Rev = rev
	return r
}

func equalResp(a, b Resp) bool {
	return a.Rev == b.Rev && a.Count == b.Count && a.More == b.More && a.Deleted == b.Deleted && a.Then == b.Then &&
		slices.Equal(a.KVs, b.KVs) && slices.Equal(a.Prev, b.Prev) && slices.EqualFunc(a.Subs, b.Subs, equalResp)
}

// equalEvent compares an event with the model's; a prev_kv may be missing where noPrev says so.
func equalEvent(got, want Event, noPrev bool) bool {
	if got.Delete != want.Delete || got.KV != want.KV {
		return false
	}
	if got.Prev == nil || want.Prev == nil {
		return got.Prev == nil && (want.Prev == nil || noPrev)
	}
	return *got.Prev == *want.Prev
}
