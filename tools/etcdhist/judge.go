package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
)

// Rule names what was violated.
type Rule string

// The rules of the first judge; the second has one, Search.
const (
	Unique       Rule = "two acknowledged writes have one revision"
	RealTime     Rule = "an answer is older than what was known before it was asked for"
	TooEarly     Rule = "a revision was seen before the operation that made it was called"
	Replay       Rule = "a write's answer or events differ from the replayed history"
	Unexplained  Rule = "no operation explains a revision"
	Read         Rule = "a read differs from the state at its revision"
	Serial       Rule = "a serializable read went back on one connection"
	Refusal      Rule = "an operation was refused without cause"
	Compaction   Rule = "a compacted or future revision was answered"
	LeaseEarly   Rule = "a lease ended before its time"
	LeaseZombie  Rule = "a lease was used after its end"
	WatchOrder   Rule = "a watcher has a gap, a duplicate, another order or another event"
	WatchSplit   Rule = "a revision's events came in two answers"
	WatchAhead   Rule = "a progress notification overtook an event"
	WatchCompact Rule = "a watcher was told of a wrong compaction, or of none"
	WatchLate    Rule = "a watcher did not reach the end"
	Search       Rule = "porcupine finds no order"
)

// violationsMax is how many are reported of each rule; the first ones are what matters.
const violationsMax = 4

// Violation is one broken rule with those operations that show it.
type Violation struct {
	Rule Rule
	Text string
	Ops  []*Op
	Msgs []*Msg
}

func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.Rule, v.Text)
	for _, o := range v.Ops {
		fmt.Fprintf(&b, "\n    %s", o)
	}
	for _, m := range v.Msgs {
		fmt.Fprintf(&b, "\n    %.3fs watcher %s session %d: %s rev=%d start=%d compact=%d %d events", sec(m.At), m.Watcher, m.Session,
			m.Kind, m.Rev, m.Start, m.Compact, len(m.Events))
	}
	return b.String()
}

// text is short, unlike %+v: what is empty is left out.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func sec(ns int64) float64 { return float64(ns) / 1e9 }

func (o *Op) String() string {
	return fmt.Sprintf("op %d client %d endpoint %d [%.6fs, %.6fs] %s %s: asked %s, got %s", o.ID, o.Client, o.Endpoint,
		sec(o.Call), sec(o.Return), o.Outcome, o.Err, text(o.Req), text(o.Resp))
}

// sight is that a revision was known at a time.
type sight struct{ at, rev int64 }

// life is what is known of a lease.
type life struct {
	granted  int64 // return of the acknowledged grant; MaxInt64 if it was not acknowledged
	called   int64 // call of the grant
	until    int64 // it may end by itself from here on
	extended *Op   // because of this
	uses     []*Op // successful ones
	revokes  []*Op // acknowledged and open ones
	missing  []*Op // answers that it does not exist
	expiries []int64
}

// judge is the first judge at work on one history.
type judge struct {
	h      *History
	base   int64
	max    int64             // highest revision that anything speaks of
	acked  map[int64]*Op     // writes of the key space by revision
	looks  map[int64][]*Op   // what was read at each revision
	open   []*Op             // may have happened: writes and revokes
	events map[int64][]Event // what watchers saw
	sights []sight           // by time, rev is the highest so far
	seen   map[int64]int64   // earliest time at which a revision or a later one was seen
	states []State           // states[i] is revision base+i; as far as the replay came
	made   map[int64]maker
	leases map[int64]*life
	comps  []*Op // acknowledged and open compactions

	violations []Violation
	count      map[Rule]int
	gaveUp     int64     // revision from which on the replay is undecided, after too many tries
	stuck      Violation // where the last try ended
	dropped    int       // violations beyond violationsMax
	unjudged   int
}

func (j *judge) violate(rule Rule, ops []*Op, msgs []*Msg, format string, args ...any) {
	if j.count[rule]++; j.count[rule] > violationsMax {
		j.dropped++
		return
	}
	j.violations = append(j.violations, Violation{Rule: rule, Text: fmt.Sprintf(format, args...), Ops: ops, Msgs: msgs})
}

// Judge checks a history against everything but porcupine. The judge is returned for the windows of the second.
func Judge(h *History) *judge {
	j := &judge{
		h: h, base: h.Meta.Base, acked: map[int64]*Op{}, looks: map[int64][]*Op{}, events: map[int64][]Event{}, seen: map[int64]int64{},
		made: map[int64]maker{}, leases: map[int64]*life{}, count: map[Rule]int{},
	}
	j.index()
	j.realTime()
	j.lives()
	j.replay()
	j.reads()
	j.leaseRules()
	j.watched()
	return j
}

// index sorts out who wrote what and when each revision was first seen.
func (j *judge) index() {
	for _, o := range j.h.Ops {
		switch {
		case o.Outcome == OK && o.Req.mayWrite() && o.Req.wrote(o.Resp):
			if first := j.acked[o.Resp.Rev]; first != nil {
				j.violate(Unique, []*Op{first, o}, nil, "revision %d", o.Resp.Rev)
			} else {
				j.acked[o.Resp.Rev] = o
			}
		case o.Outcome == OK && (o.Req.Kind == Range || o.Req.Kind == Txn || o.Req.Kind == Delete):
			at := cmp.Or(o.Req.Rev, o.Resp.Rev)
			j.looks[at] = append(j.looks[at], o)
		case o.Outcome == Unknown && (o.Req.mayWrite() || o.Req.Kind == Revoke):
			j.open = append(j.open, o)
		}
		if o.Req.Kind == Compact && (o.Outcome == OK || o.Outcome == Unknown) {
			j.comps = append(j.comps, o)
		}
		if o.Outcome == OK {
			j.sights = append(j.sights, sight{o.Return, o.Resp.Rev})
		}
	}
	for _, m := range j.h.Msgs {
		if !m.answer() {
			continue
		}
		j.sights = append(j.sights, sight{m.At, m.Rev})
		byRev := map[int64][]Event{}
		for _, e := range m.Events {
			byRev[e.KV.Mod] = append(byRev[e.KV.Mod], e)
			j.sights = append(j.sights, sight{m.At, e.KV.Mod})
		}
		if m.Fragment {
			continue
		}
		for rev, es := range byRev {
			// The longest is whole, if any is; each watcher's own sequence is checked against the replay.
			if len(es) > len(j.events[rev]) {
				j.events[rev] = es
			}
		}
	}
	slices.SortStableFunc(j.sights, func(a, b sight) int { return cmp.Compare(a.at, b.at) })
	j.max = j.base
	for i, s := range j.sights {
		for rev := j.max + 1; rev <= s.rev; rev++ {
			j.seen[rev] = s.at
		}
		j.max = max(j.max, s.rev)
		j.sights[i].rev = j.max
	}
	for rev := range j.acked {
		j.max = max(j.max, rev)
	}
}

// floor is the highest revision that somebody had seen before a time.
func (j *judge) floor(at int64) int64 {
	i := sort.Search(len(j.sights), func(i int) bool { return j.sights[i].at >= at })
	if i == 0 {
		return j.base
	}
	return j.sights[i-1].rev
}

// linearizable says whether an answer must be up to date. A transaction without any operation is none: etcd takes it for
// a serializable read.
func (o *Op) linearizable() bool {
	empty := o.Req.Kind == Txn && len(o.Req.Then)+len(o.Req.Else) == 0
	return !o.Req.Serializable && o.Req.Kind != KeepAlive && !empty
}

// realTime checks revisions against the order in which operations ran.
func (j *judge) realTime() {
	last := map[int]*Op{} // by connection: the answer with the highest revision so far
	byReturn := slices.Clone(j.h.Ops)
	slices.SortStableFunc(byReturn, func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
	for _, o := range byReturn {
		if o.Outcome != OK {
			continue
		}
		floor := j.floor(o.Call)
		switch wrote := j.acked[o.Resp.Rev] == o; {
		case wrote && j.seen[o.Resp.Rev] < o.Call:
			j.violate(TooEarly, []*Op{o}, nil, "revision %d was seen at %.6fs", o.Resp.Rev, sec(j.seen[o.Resp.Rev]))
		case o.linearizable() && o.Resp.Rev < floor:
			j.violate(RealTime, []*Op{o}, nil, "revision %d was seen before the call", floor)
		}
	}
	// Per connection an answer must not be older than one that ended before it began.
	byCall := slices.Clone(byReturn)
	slices.SortStableFunc(byCall, func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
	i := 0
	for _, o := range byCall {
		for ; i < len(byReturn) && byReturn[i].Return < o.Call; i++ {
			if p := byReturn[i]; p.Outcome == OK && p.Conn != 0 && p.Req.Kind != KeepAlive &&
				(last[p.Conn] == nil || last[p.Conn].Resp.Rev < p.Resp.Rev) {
				last[p.Conn] = p
			}
		}
		if o.Outcome != OK || o.linearizable() || o.Req.Kind == KeepAlive || o.Conn == 0 {
			continue
		}
		if p := last[o.Conn]; p != nil && o.Resp.Rev < p.Resp.Rev {
			j.violate(Serial, []*Op{p, o}, nil, "connection %d", o.Conn)
		}
	}
}

// seenAt is when a revision was first seen, or never.
func (j *judge) seenAt(rev int64) int64 {
	if at, ok := j.seen[rev]; ok {
		return at
	}
	return math.MaxInt64
}

// at is the replayed state at a revision.
func (j *judge) at(rev int64) (State, bool) {
	i := rev - j.base
	if i < 0 || i >= int64(len(j.states)) {
		return State{}, false
	}
	return j.states[i], true
}

// compacted says whether a compaction above rev was asked for before a time; sure, whether it was acknowledged by then.
func (j *judge) compacted(rev, before int64) (maybe, sure bool) {
	for _, o := range j.comps {
		if o.Req.Rev > rev {
			maybe = maybe || o.Call < before
			sure = sure || o.Outcome == OK && o.Return < before
		}
	}
	return maybe, sure
}
