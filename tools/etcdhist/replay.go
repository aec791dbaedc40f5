package main

import (
	"cmp"
	"fmt"
	"slices"
)

// maker is what made a revision: an operation, or a lease that ended by itself.
type maker struct {
	op      *Op
	expired int64
}

// choice is one maker that fits, and what follows from it.
type choice struct {
	maker
	next State
}

// frame is a revision at which the replay had a choice.
type frame struct {
	rev  int64
	rest []choice
}

// replayStepsMax bounds how often the replay takes back a choice; then the rest of the history is undecided.
const replayStepsMax = 50_000

// replay makes the states of all revisions. Acknowledged writes have their place; what is between them is made by open
// operations and by leases that end, as watchers saw it or, where none saw it, as what follows allows.
func (j *judge) replay() {
	j.states = []State{{Rev: j.base, KVs: j.h.Meta.Init}}
	used := map[*Op]bool{}
	var frames []frame
	take := func(rev int64, c choice) {
		j.made[rev] = c.maker
		if c.op != nil {
			used[c.op] = true
		}
		j.states = append(j.states, c.next)
	}
	undo := func(to int64) {
		for rev := j.base + int64(len(j.states)) - 1; rev >= to; rev-- {
			delete(used, j.made[rev].op)
			delete(j.made, rev)
			j.states = j.states[:rev-j.base]
		}
	}
	// Up to here every state is known, whoever made it: no other choice would change an answer.
	gap := j.base + 1
	for gap <= j.max && (j.acked[gap] != nil || j.events[gap] != nil) {
		gap++
	}
	for rev, steps := j.base+1, 0; rev <= j.max; rev++ {
		cs, why := j.choices(rev, j.states[rev-1-j.base], used)
		if len(cs) > 0 {
			if len(cs) > 1 {
				frames = append(frames, frame{rev, cs[1:]})
			}
			take(rev, cs[0])
			continue
		}
		if steps++; steps >= replayStepsMax {
			// Only what came before the first choice is certain.
			j.gaveUp, j.stuck = frames[0].rev, why
			undo(frames[0].rev)
			return
		}
		if known := j.acked[rev] != nil && rev <= gap; len(frames) > 0 && !known {
			f := &frames[len(frames)-1]
			undo(f.rev)
			rev = f.rev
			take(rev, f.rest[0])
			if f.rest = f.rest[1:]; len(f.rest) == 0 {
				frames = frames[:len(frames)-1]
			}
			continue
		}
		// Nothing fits, whatever was chosen before. Go on with what was seen, to judge the rest.
		j.violate(why.Rule, why.Ops, nil, "%s", why.Text)
		frames = nil
		s := j.states[rev-1-j.base]
		switch o := j.acked[rev]; {
		case j.events[rev] != nil:
			take(rev, choice{maker{}, s.Force(j.events[rev])})
		case o != nil:
			_, es, _ := s.Apply(o.Req)
			take(rev, choice{maker{op: o}, s.Force(es)})
		default:
			return
		}
	}
}

// choices are the makers of a revision that fit everything known of it, the likeliest first; if there is none, why.
func (j *judge) choices(rev int64, s State, used map[*Op]bool) ([]choice, Violation) {
	if o := j.acked[rev]; o != nil {
		r, es, next := s.Apply(o.Req)
		switch {
		case !equalResp(r, o.Resp):
			return nil, Violation{Rule: Replay, Text: fmt.Sprintf("revision %d must answer %s", rev, text(r)), Ops: []*Op{o}}
		case !j.fits(rev, es):
			return nil, Violation{
				Rule: Replay, Text: fmt.Sprintf("revision %d: watchers saw %s, must see %s", rev, show(j.events[rev]), show(es)),
				Ops: []*Op{o},
			}
		}
		c := choice{maker{op: o}, next}
		if j.events[rev] == nil && !j.looked(rev, c) {
			return nil, Violation{Rule: Read, Text: fmt.Sprintf("at revision %d", rev), Ops: append([]*Op{o}, j.looks[rev]...)}
		}
		return []choice{c}, Violation{}
	}
	var cs, late []choice
	for id, l := range j.leases {
		if len(s.attached(id)) == 0 {
			continue
		}
		es, next := s.Drop(id)
		if !j.fits(rev, es) {
			continue
		}
		for _, o := range l.revokes {
			switch {
			case o.Outcome == OK && o.Resp.Rev == rev:
				// It is acknowledged with this very revision: nothing else can be meant.
				return []choice{{maker{op: o}, next}}, Violation{}
			case o.Outcome == Unknown && !used[o] && o.Call < j.seenAt(rev):
				cs = append(cs, choice{maker{op: o}, next})
			}
		}
		used := slices.ContainsFunc(l.uses, func(o *Op) bool { return o.Req.Kind != KeepAlive && o.Resp.Rev > rev })
		if c := (choice{maker{expired: id}, next}); l.until <= j.seenAt(rev) && !used {
			cs = slices.Insert(cs, 0, c)
		} else {
			late = append(late, c) // too early, or used later: the last resort, and judged by leaseRules
		}
	}
	for _, o := range j.open {
		if o.Req.Kind == Revoke || used[o] || o.Call >= j.seenAt(rev) {
			continue
		}
		if _, es, next := s.Apply(o.Req); len(es) > 0 && j.fits(rev, es) {
			cs = append(cs, choice{maker{op: o}, next})
		}
	}
	// Maps have no order, and a verdict must not depend on one.
	slices.SortStableFunc(late, func(a, b choice) int { return cmp.Compare(a.expired, b.expired) })
	slices.SortStableFunc(cs, func(a, b choice) int { return cmp.Compare(a.order(), b.order()) })
	cs = slices.DeleteFunc(append(cs, late...), func(c choice) bool { return !j.looked(rev, c) })
	if len(cs) == 0 {
		return nil, Violation{
			Rule: Unexplained, Text: fmt.Sprintf("revision %d, watchers saw %s, state before %s", rev, show(j.events[rev]), text(s.KVs)),
		}
	}
	return cs, Violation{}
}

// looked says whether everything that was read at a revision agrees with a choice for it.
func (j *judge) looked(rev int64, c choice) bool {
	return !slices.ContainsFunc(j.looks[rev], func(o *Op) bool {
		r, _, _ := c.next.Apply(o.Req)
		return !equalResp(withRev(r, o.Resp.Rev), o.Resp)
	})
}

func (c choice) order() int64 {
	if c.op == nil {
		return -1
	}
	return int64(c.op.ID)
}

// fits says whether events are those that watchers saw at a revision, if any did.
func (j *judge) fits(rev int64, es []Event) bool {
	got := j.events[rev]
	return got == nil || slices.EqualFunc(got, es, func(g, w Event) bool { return equalEvent(g, w, true) })
}

// show is what watchers saw, or must see.
func show(es []Event) string {
	if es == nil {
		return "nothing"
	}
	return text(es)
}
