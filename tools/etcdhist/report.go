package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// verdict is what both judges say of a history.
type verdict struct {
	h *History
	j *judge
	s searched
}

// Verdict judges a history twice.
func Verdict(h *History) verdict {
	j := Judge(h)
	return verdict{h: h, j: j, s: j.SearchAll()}
}

func (v verdict) ok() bool { return len(v.j.violations) == 0 && v.j.gaveUp == 0 }

// has says whether a rule was violated.
func (v verdict) has(r Rule) bool {
	return slices.ContainsFunc(v.j.violations, func(x Violation) bool { return x.Rule == r })
}

// unserved is the longest time in which no linearizable operation was acknowledged, at any endpoint and at each.
func unserved(h *History, endpoint int) (longest, from int64) {
	ops := slices.Clone(h.Ops)
	slices.SortFunc(ops, func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
	last := int64(-1)
	for _, o := range ops {
		if o.Outcome != OK || !o.linearizable() || endpoint >= 0 && o.Endpoint != endpoint {
			continue
		}
		if last >= 0 && o.Return-last > longest {
			longest, from = o.Return-last, last
		}
		last = o.Return
	}
	return longest, from
}

func (v verdict) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	counts := map[Kind]map[Outcome]int{}
	for _, o := range v.h.Ops {
		if counts[o.Req.Kind] == nil {
			counts[o.Req.Kind] = map[Outcome]int{}
		}
		counts[o.Req.Kind][o.Outcome]++
	}
	fmt.Fprintln(w, "operation\tok\trefused\tunknown\tunsent")
	for _, k := range []Kind{Put, Range, Delete, Txn, Grant, KeepAlive, Revoke, Compact} {
		c := counts[k]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", k, c[OK], c[Refused], c[Unknown], c[Unsent])
	}
	w.Flush()
	expired, filled, seen := 0, 0, 0
	for rev, m := range v.j.made {
		if m.expired != 0 {
			expired++
		}
		if m.op != nil && m.op.Outcome == Unknown {
			filled++
		}
		if v.j.events[rev] != nil {
			seen++
		}
	}
	fmt.Fprintf(out, "revisions: %d to %d, %d seen by watchers; %d made by open operations, %d by leases that ended\n",
		v.j.base, v.j.max, seen, filled, expired)
	sessions, events, compacted := 0, 0, 0
	for _, m := range v.h.Msgs {
		events += len(m.Events)
		switch m.Kind {
		case Opened:
			sessions++
		case Compacted:
			compacted++
		}
	}
	fmt.Fprintf(out, "watches: %d sessions, %d events, %d refused as compacted\n", sessions, events, compacted)
	hooks := map[string]int{}
	for _, f := range v.h.Faults {
		hooks[f.Arg]++
	}
	fmt.Fprintf(out, "hooks: %d %v\n", len(v.h.Faults), hooks)
	d, from := unserved(v.h, -1)
	fmt.Fprintf(out, "longest time without an acknowledged linearizable operation: %.3f s from %.3f s on;", sec(d), sec(from))
	for i := range v.h.Meta.Endpoints {
		d, _ := unserved(v.h, i)
		fmt.Fprintf(out, " endpoint %d: %.3f s", i, sec(d))
	}
	fmt.Fprintf(out, "\nporcupine: %d operations from the start: %s; %d windows with %d operations; %d searches out of time\n",
		v.s.prefixOps, v.s.prefix, v.s.windows, v.s.ops, v.s.unknown)
	if v.j.unjudged > 0 {
		fmt.Fprintf(out, "not judged: %d answers beyond what could be replayed\n", v.j.unjudged)
	}
	for _, x := range v.j.violations {
		fmt.Fprintf(out, "VIOLATION %s\n", x)
	}
	if v.j.dropped > 0 {
		fmt.Fprintf(out, "and %d more\n", v.j.dropped)
	}
	switch {
	case v.ok():
		fmt.Fprintln(out, "verdict: ok")
	case len(v.j.violations) == 0:
		fmt.Fprintf(out, "verdict: UNDECIDED from revision %d on: too many choices; the last try ended with: %s\n", v.j.gaveUp, v.j.stuck)
	default:
		fmt.Fprintln(out, "verdict: VIOLATED")
	}
}
