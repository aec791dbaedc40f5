package main

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	prefixOps = 5000 // how much of the beginning is searched without help of the first judge
	windowOps = 600
	searchMax = 20 * time.Second // for each search
)

// world is the state of the second judge: unlike the first it carries leases and the compaction from step to step.
type world struct {
	State
	compact int64
	leases  []int64 // nil: not followed, in windows
}

func (w world) has(lease int64) bool { return w.leases == nil || slices.Contains(w.leases, lease) }

func (w world) with(lease int64) world {
	if w.leases != nil && !slices.Contains(w.leases, lease) {
		w.leases = append(slices.Clone(w.leases), lease)
		slices.Sort(w.leases)
	}
	return w
}

func (w world) without(lease int64) world {
	if w.leases != nil {
		w.leases = slices.DeleteFunc(slices.Clone(w.leases), func(l int64) bool { return l == lease })
	}
	_, w.State = w.Drop(lease)
	return w
}

// expire stands for a lease that ends by itself; at is the revision it makes if that is known. If some answer said that the
// lease was missing, it may end without any key.
type expire struct {
	lease, at int64
	missing   bool
}

// hunt is one search: which revisions belong to acknowledged writes, and what watchers saw of the others.
type hunt struct {
	acked  map[int64]bool
	events map[int64][]Event
	cut    int64 // the last revision of this search
}

// free says whether something of unknown outcome may make a revision with these events.
func (h hunt) free(rev int64, es []Event) bool {
	got := h.events[rev]
	return !h.acked[rev] &&
		(got == nil || slices.EqualFunc(got, es, func(g, w Event) bool { return equalEvent(g, w, true) }))
}

func (h hunt) step(state, in, out any) (bool, any) {
	w := state.(world)
	if e, ok := in.(expire); ok {
		es, next := w.Drop(e.lease)
		if e.at == 0 && w.Rev >= h.cut {
			return true, w
		}
		switch {
		case e.at != 0:
			return len(es) > 0 && next.Rev == e.at, w.without(e.lease)
		case len(es) > 0:
			return h.free(next.Rev, es), w.without(e.lease)
		}
		return e.missing && w.has(e.lease), w.without(e.lease)
	}
	o := out.(*Op)
	switch o.Outcome {
	case OK:
		return h.acknowledged(w, o)
	case Refused:
		return h.refused(w, o), w
	}
	return h.maybe(w, o)
}

func (h hunt) acknowledged(w world, o *Op) (bool, any) {
	q, r := o.Req, o.Resp
	switch q.Kind {
	case Grant:
		return r.Rev == w.Rev, w.with(r.Lease)
	case Revoke:
		n := w.without(q.Lease)
		return w.has(q.Lease) && n.Rev == r.Rev, n
	case Compact:
		ok := q.Rev > w.compact && q.Rev <= w.Rev && r.Rev == w.Rev
		w.compact = q.Rev
		return ok, w
	}
	if q.Rev > 0 { // the past is the first judge's
		return r.Rev == w.Rev && q.Rev >= w.compact && q.Rev <= w.Rev, w
	}
	for _, l := range q.attaches(r) {
		if !w.has(l) {
			return false, w
		}
	}
	got, _, next := w.Apply(q)
	w.State = next
	return equalResp(got, r), w
}

func (h hunt) refused(w world, o *Op) bool {
	switch {
	case strings.Contains(o.Err, "has been compacted"):
		return o.Req.Rev < w.compact || o.Req.Kind == Compact && o.Req.Rev == w.compact
	case strings.Contains(o.Err, "future revision"):
		return o.Req.Rev > w.Rev
	case strings.Contains(o.Err, "requested lease not found"):
		if o.Req.Kind == Revoke {
			return !w.has(o.Req.Lease)
		}
		return slices.ContainsFunc(o.Req.leases(), func(l int64) bool { return !w.has(l) })
	case strings.Contains(o.Err, "lease already exists"):
		return w.has(o.Req.Lease)
	case strings.Contains(o.Err, "key not found"):
		_, ok := w.get(o.Req.Key)
		return !ok
	}
	return true
}

// maybe runs an operation of unknown outcome. Porcupine must place each; at the end, where it does nothing, means never.
// Only there may it do nothing: else each such operation would double the work.
func (h hunt) maybe(w world, o *Op) (bool, any) {
	q := o.Req
	if w.Rev >= h.cut {
		return true, w
	}
	switch q.Kind {
	case Grant:
		return !w.has(q.Lease), w.with(q.Lease)
	case Compact:
		ok := q.Rev > w.compact && q.Rev <= w.Rev
		w.compact = q.Rev
		return ok, w
	case Revoke:
		es, next := w.Drop(q.Lease)
		return w.has(q.Lease) && (len(es) == 0 || h.free(next.Rev, es)), w.without(q.Lease)
	}
	r, es, next := w.Apply(q)
	if slices.ContainsFunc(q.attaches(r), func(l int64) bool { return !w.has(l) }) {
		return false, w
	}
	if _, ok := w.get(q.Key); !ok && (q.IgnoreLease || q.IgnoreValue) {
		return false, w
	}
	w.State = next
	return len(es) > 0 && h.free(next.Rev, es), w
}

func (h hunt) run(init world, ops []porcupine.Operation) porcupine.CheckResult {
	m := porcupine.Model{
		Init: func() any { return init },
		Step: h.step,
		Equal: func(a, b any) bool {
			x, y := a.(world), b.(world)
			return x.Rev == y.Rev && x.compact == y.compact && slices.Equal(x.leases, y.leases) && slices.Equal(x.KVs, y.KVs)
		},
		Hash: func(s any) uint64 {
			w := s.(world)
			return uint64(w.Rev)<<20 ^ uint64(w.compact)<<8 ^ uint64(len(w.leases))
		},
	}
	return porcupine.CheckOperationsTimeout(m, ops, searchMax)
}

func operation(o *Op) porcupine.Operation {
	p := porcupine.Operation{ClientId: o.ID, Input: o.Req, Output: o, Call: o.Call, Return: o.Return}
	if o.Outcome == Unknown {
		p.Return = math.MaxInt64
	}
	return p
}

// searched is what the second judge did.
type searched struct {
	windows, ops, unknown int // unknown: searches that ran out of time
	prefix                porcupine.CheckResult
	prefixOps             int
}

// SearchAll has porcupine look at the beginning and at windows of the whole.
func (j *judge) SearchAll() searched {
	var s searched
	s.prefix, s.prefixOps = j.searchPrefix()
	if s.prefix == porcupine.Illegal {
		j.violate(Search, nil, nil, "in the first %d operations", s.prefixOps)
	}
	if s.prefix == porcupine.Unknown {
		s.unknown++
	}
	h := j.hunt()
	byRev := j.byRev()
	for from := int64(len(j.states)) - 1; from > 0; {
		// Windows are cut at revisions, from the end on, so that each has about windowOps operations.
		lo, ops := from, []porcupine.Operation{}
		for ; lo > 0 && (len(ops) == 0 || len(ops)+len(byRev[j.base+lo]) <= windowOps); lo-- {
			ops = append(ops, byRev[j.base+lo]...)
		}
		init := world{State: j.states[lo], compact: 0}
		s.windows++
		h.cut = j.base + from
		s.ops += len(ops)
		switch h.run(init, ops) {
		case porcupine.Illegal:
			j.violate(Search, nil, nil, "between revisions %d and %d, %d operations", j.base+lo, j.base+from, len(ops))
		case porcupine.Unknown:
			s.unknown++
		}
		from = lo
	}
	return s
}

func (j *judge) hunt() hunt {
	h := hunt{acked: map[int64]bool{}, events: j.events}
	for rev := range j.acked {
		h.acked[rev] = true
	}
	return h
}

// byRev are the operations that a revision's answers show, and what the replay says made it.
func (j *judge) byRev() map[int64][]porcupine.Operation {
	m := map[int64][]porcupine.Operation{}
	for _, o := range j.h.Ops {
		kv := slices.Contains([]Kind{Put, Delete, Txn}, o.Req.Kind) || o.Req.Kind == Range && o.Req.Rev == 0
		if o.Outcome == OK && (kv && o.linearizable() || o.Req.Kind == Revoke) {
			m[o.Resp.Rev] = append(m[o.Resp.Rev], operation(o))
		}
	}
	for rev, by := range j.made {
		switch {
		case by.expired != 0:
			m[rev] = append(m[rev], porcupine.Operation{Input: expire{lease: by.expired, at: rev}, Call: 0, Return: math.MaxInt64})
		case by.op != nil && by.op.Outcome == Unknown:
			m[rev] = append(m[rev], operation(by.op))
		}
	}
	return m
}

// searchPrefix knows nothing of the replay: open operations and ends of leases may stand anywhere.
func (j *judge) searchPrefix() (porcupine.CheckResult, int) {
	h := j.hunt()
	cut, n := j.max, 0
	counts := map[int64]int{}
	for _, o := range j.h.Ops {
		if o.Outcome == OK && o.linearizable() {
			counts[o.Resp.Rev]++
		}
	}
	for rev := j.base; rev <= j.max; rev++ {
		if n += counts[rev]; n > prefixOps {
			cut = rev
			break
		}
	}
	after := int64(math.MaxInt64) // the first call of what is cut off
	for _, o := range j.h.Ops {
		if o.Outcome == OK && o.linearizable() && o.Resp.Rev > cut {
			after = min(after, o.Call)
		}
	}
	var ops []porcupine.Operation
	for _, o := range j.h.Ops {
		switch {
		case !o.linearizable():
		case o.Outcome == OK && o.Resp.Rev <= cut,
			o.Outcome == Refused && o.Return < after,
			o.Outcome == Unknown && o.Req.Kind != Range && o.Call < j.seenAt(cut):
			ops = append(ops, operation(o))
		}
	}
	for id, l := range j.leases {
		revoked := slices.ContainsFunc(l.revokes, func(o *Op) bool { return o.Outcome == OK })
		if revoked || l.called >= j.seenAt(cut) {
			continue
		}
		// It ends after its last use began. Whether that is too early is a matter of time, and the first judge's.
		x, e := expire{lease: id}, porcupine.Operation{Call: l.called, Return: math.MaxInt64}
		for _, u := range l.uses {
			e.Call = max(e.Call, u.Call)
		}
		for _, m := range l.missing {
			x.missing = true
			if l.granted < m.Call && m.linearizable() && len(m.Req.leases()) <= 1 && len(l.revokes) == 0 {
				e.Return = min(e.Return, max(m.Return, e.Call))
			}
		}
		e.Input = x
		ops = append(ops, e)
	}
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	h.cut = cut
	return h.run(world{State: j.states[0], leases: []int64{}}, ops), len(ops)
}
