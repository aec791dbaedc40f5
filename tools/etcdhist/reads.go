package main

import (
	"slices"
	"strings"
)

// reads checks every answer that took no revision, and every refusal that a revision explains.
func (j *judge) reads() {
	for _, o := range j.h.Ops {
		switch {
		case o.Outcome == OK && slices.Contains([]Kind{Range, Put, Delete, Txn}, o.Req.Kind) && j.acked[o.Resp.Rev] != o:
			j.read(o)
		case o.Outcome == OK && o.Req.Kind == Compact:
			j.compact(o)
		case o.Outcome == Refused:
			j.refusal(o)
		}
	}
}

func (j *judge) read(o *Op) {
	at := o.Resp.Rev
	if o.Req.Rev > 0 {
		at = o.Req.Rev
		if _, sure := j.compacted(at, o.Call); sure && o.linearizable() {
			j.violate(Compaction, []*Op{o}, nil, "revision %d was compacted before the call", at)
			return
		}
		if at > o.Resp.Rev {
			j.violate(Compaction, []*Op{o}, nil, "revision %d is above the answer's own %d", at, o.Resp.Rev)
			return
		}
	}
	s, ok := j.at(at)
	if !ok {
		if o.Resp.Rev < j.base {
			j.violate(Read, []*Op{o}, nil, "before the beginning, %d", j.base)
			return
		}
		j.unjudged++
		return
	}
	want, es, _ := s.Apply(o.Req)
	want.Rev = o.Resp.Rev
	if len(es) > 0 || !equalResp(want, o.Resp) {
		j.violate(Read, []*Op{o}, nil, "revision %d must answer %s with events %s", at, text(want), show(es))
	}
}

// compact checks that no acknowledged compaction was at or below one acknowledged before it began, nor in the future.
func (j *judge) compact(o *Op) {
	if _, sure := j.compacted(o.Req.Rev-1, o.Call); sure {
		j.violate(Compaction, []*Op{o}, nil, "it was compacted already")
	}
	if o.Req.Rev > o.Resp.Rev {
		j.violate(Compaction, []*Op{o}, nil, "it is in the future")
	}
}

// refusal checks that an error had its cause. Those that speak of leases are leaseRules'.
func (j *judge) refusal(o *Op) {
	is := func(s string) bool { return strings.Contains(o.Err, s) }
	switch {
	case is("required revision has been compacted"):
		rev := o.Req.Rev
		if o.Req.Kind == Compact {
			rev-- // at the compaction itself is refused too
		}
		if maybe, _ := j.compacted(rev, o.Return); !maybe {
			j.violate(Refusal, []*Op{o}, nil, "no compaction above %d", rev)
		}
	case is("required revision is a future revision"):
		if j.floor(o.Call) >= o.Req.Rev && o.linearizable() {
			j.violate(Refusal, []*Op{o}, nil, "revision %d was seen before the call", o.Req.Rev)
		}
	case is("duplicate key"):
		if !twice(o.Req.Then) && !twice(o.Req.Else) {
			j.violate(Refusal, []*Op{o}, nil, "no key is touched twice")
		}
	case is("key not found"):
		// Some state that was current while it ran must lack the key.
		if !o.Req.IgnoreValue && !o.Req.IgnoreLease || !j.lacked(o) {
			j.violate(Refusal, []*Op{o}, nil, "the key stood all the time")
		}
	case is("lease"):
	default:
		j.violate(Refusal, []*Op{o}, nil, "an error that no rule knows")
	}
}

// twice knows only what the load makes: the same key put twice at the top of a branch.
func twice(qs []Req) bool {
	seen := map[string]bool{}
	for _, q := range qs {
		if q.Kind == Put && seen[q.Key] {
			return true
		}
		seen[q.Key] = seen[q.Key] || q.Kind == Put
	}
	return false
}

// lacked says whether a key was absent at some revision that may have been current between call and return.
func (j *judge) lacked(o *Op) bool {
	for rev := j.floor(o.Call); rev <= j.max; rev++ {
		s, ok := j.at(rev)
		if !ok {
			return true // beyond the replay: cannot be told
		}
		if _, here := s.get(o.Req.Key); !here {
			return true
		}
		// A revision whose maker was called after the return cannot have been current.
		if m, ok := j.made[rev+1]; ok && m.op != nil && m.op.Call > o.Return {
			return false
		}
	}
	return false
}
