package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// ChangeKind is how a plan changes the members of a site.
type ChangeKind string

// The changes. New machines have the numbers after those that the site began with, in the order of the plan.
const (
	ChangeAdd     ChangeKind = "add"     // a new machine comes in
	ChangeRemove  ChangeKind = "remove"  // Box is removed, and goes on running
	ChangeReplace ChangeKind = "replace" // Box's disk is lost with its key: a new machine takes its place
	ChangeRotate  ChangeKind = "rotate"  // Box gets another key
	// ChangeGrow and ChangeShrink add or remove several at once: Count.
	ChangeGrow   ChangeKind = "grow"
	ChangeShrink ChangeKind = "shrink"
)

// Change is one change of the members, ordered by the site. One waits until the one before it took effect.
type Change struct {
	At    time.Duration
	Kind  ChangeKind
	Box   int       // a machine
	Count int       // of ChangeGrow and ChangeShrink
	Liar  liar.Kind // how the new machine lies; empty: it does not
}

func (c Change) String() string {
	s := fmt.Sprintf("%8.1f ms  %-8s box %d", float64(c.At)/1e6, c.Kind, c.Box)
	if c.Count > 0 {
		s += fmt.Sprintf(" count %d", c.Count)
	}
	if c.Liar != "" {
		s += " " + string(c.Liar)
	}
	return s
}

// changing is the change that is being made.
type changing struct {
	c      *Change
	epoch  uint64 // that it ends
	list   []coord.Member
	refuse uint64 // how often somebody's operator would not have it
}

const (
	// wordEvery is how often operators look whether their word is wanted, proposeAgain how often a change is asked for again.
	wordEvery    = 120 * time.Millisecond
	proposeAgain = 1500 * time.Millisecond
)

// TrapPoint is a moment at the end of an epoch at which the power goes.
type TrapPoint string

// The moments. At each the log has what the one before it was about.
const (
	TrapCommit TrapPoint = "end applied"   // the state there is not written yet
	TrapSigned TrapPoint = "end durable"   // nobody was told
	TrapRecord TrapPoint = "epoch entered" // the proof is in the log, and nothing was said in the new epoch
)

// Trap takes the power from a box, or, with Site, from all of them, when an honest box comes to a point. Box -1: whichever comes first.
type Trap struct {
	At    TrapPoint
	Box   int
	Site  bool
	For   time.Duration
	Times int
}

// springs says whether a trap goes off under a machine, which is down then.
func (s *Sim) springs(m *machine, at TrapPoint) bool {
	for i := range s.plan.Traps {
		t := &s.plan.Traps[i]
		if t.At != at || s.trapped[i] >= t.Times || m.liar != "" || t.Box >= 0 && m.id() != t.Box || s.healed {
			continue
		}
		s.trapped[i]++
		s.log(m.idx, "trap", "%v", at)
		for _, x := range s.nodes {
			if (x == m || t.Site) && s.powerCut(x) {
				s.bootAt(x, s.now+int64(t.For)+1)
			}
		}
		return true
	}
	return false
}

// known is a member set that an honest box works with.
func (s *Sim) known(m *machine, ep *site.Epoch) {
	set := ep.Members
	if old := s.epochs[set.Epoch]; old != nil {
		if old.Digest() != set.Digest() {
			s.bad("MEMBERS: box %d has other members in epoch %d", m.idx, set.Epoch)
		}
		return
	}
	s.epochs[set.Epoch] = set
	s.top = max(s.top, set.Epoch)
	s.log(-1, "members", "epoch %d has %v", set.Epoch, s.names(set))
	var h *coord.Handover
	for _, x := range m.box.Past() {
		if x.Next.Epoch == set.Epoch {
			h = x
		}
	}
	for _, t := range s.nodes {
		if t.joins && s.place(t, set) >= 0 {
			t.joins, t.members, t.given = false, set, []*coord.Handover{h}
			s.log(t.idx, "joins", "in epoch %d", set.Epoch)
			s.bootAt(t, s.now+1+s.rng.Int64N(400*ms))
		}
	}
}

func (s *Sim) names(ms *coord.Members) (ids []int) {
	for i := range ms.List {
		ids = append(ids, s.numbers[ms.List[i].ID])
	}
	return ids
}

// scheduleChanges puts the plan's changes on the clock.
func (s *Sim) scheduleChanges(p *Plan) {
	if len(p.Changes) == 0 {
		return
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		s.call(int64(c.At), func() {
			s.todo = append(s.todo, c)
			s.nextChange()
		})
	}
	s.call(int64(wordEvery), s.words)
}

// nextChange begins the next change when none is under way.
func (s *Sim) nextChange() {
	if s.change != nil || len(s.todo) == 0 || s.fail != "" {
		return
	}
	c := s.todo[0]
	s.todo = s.todo[1:]
	now := s.epochs[s.top]
	list := slices.Clone(now.List)
	at := -1
	if c.Box >= 0 && c.Box < len(s.nodes) {
		at = s.place(s.nodes[c.Box], now)
	}
	switch c.Kind {
	case ChangeAdd, ChangeGrow:
		for range max(c.Count, 1) {
			list = append(list, s.member(s.fresh().ids[0]))
		}
	case ChangeRemove:
		if at >= 0 && len(list) > 1 {
			list = slices.Delete(list, at, at+1)
		}
	case ChangeShrink:
		for range c.Count {
			if len(list) > 1 {
				list = slices.Delete(list, len(list)-1, len(list))
			}
		}
	case ChangeReplace:
		if at >= 0 && !s.spares(now, s.nodes[c.Box]) {
			s.todo = append([]*Change{c}, s.todo...)
			s.call(s.now+int64(proposeAgain), s.nextChange)
			return
		}
		if at >= 0 {
			old := s.nodes[c.Box]
			s.powerCut(old)
			old.gone = true
			list[at] = s.member(s.fresh().ids[0])
		}
	case ChangeRotate:
		if m := s.nodes[max(c.Box, 0)]; at >= 0 && !m.gone {
			m.ids = append(m.ids, s.newIdentity())
			list[at] = s.member(m.ids[len(m.ids)-1])
			list[at].Name = now.List[at].Name
		}
	}
	if slices.EqualFunc(list, now.List, func(a, b coord.Member) bool { return a.ID == b.ID }) {
		s.call(s.now+1, s.nextChange)
		return
	}
	s.log(-1, "change", "%v", *c)
	s.change = &changing{c: c, epoch: s.top, list: list}
	s.propose()
}

// spares says whether a member can be lost now: with it, at most f of the others lie or do not have the state yet.
func (s *Sim) spares(ms *coord.Members, lost *machine) bool {
	good := 0
	for _, m := range s.nodes {
		if m != lost && m.liar == "" && !m.forgot && s.place(m, ms) >= 0 && m.box != nil && m.box.Epoch().Members.Epoch == ms.Epoch && !m.box.Core().Blank() {
			good++
		}
	}
	return good >= coord.Quorum(ms.N())
}

// fresh is the next machine that the plan has in store.
func (s *Sim) fresh() *machine {
	for _, m := range s.nodes {
		if m.joins && !m.asked {
			m.asked = true
			return m
		}
	}
	panic("sim: a plan with more new machines than it has")
}

// propose asks an honest box for the change, again and again until it took effect.
func (s *Sim) propose() {
	x := s.change
	if x == nil || s.fail != "" {
		return
	}
	if s.top > x.epoch {
		s.change = nil
		s.nextChange()
		return
	}
	now := s.epochs[x.epoch]
	var able []*machine
	for _, m := range s.nodes {
		if m.liar == "" && m.box != nil && s.place(m, now) >= 0 && m.box.State().Members().Epoch == x.epoch {
			able = append(able, m)
		}
	}
	if len(able) > 0 {
		m := able[s.rng.IntN(len(able))]
		doc, _ := m.box.State().Doc(coord.DocMembers)
		value, _ := json.Marshal(&coord.Members{Site: s.site(), List: x.list})
		d := &coord.Decision{
			Kind: "member.change", Principal: "operator:sim", Nonce: x.epoch<<16 | x.refuse,
			Writes: []coord.DocWrite{{Key: coord.DocMembers, Was: doc.Version, Value: value}},
		}
		if _, ended := m.box.State().Decision(d.Digest(s.site())); ended != nil {
			x.refuse++
		}
		if c := s.decide; c != nil {
			c.ids[d.Digest(s.site())], c.said[wordKey{d.Digest(s.site()), m.box.Epoch().Me(), true}] = d, true
		}
		s.say1(m, state.AppendProposal(nil, d))
	}
	s.call(s.now+int64(proposeAgain), s.propose)
}

// words: each honest box's operator gives its word for what is open.
func (s *Sim) words() {
	for _, m := range s.nodes {
		if m.liar != "" || m.box == nil || m.failed {
			continue
		}
		for _, o := range m.box.State().Open() {
			me := m.box.Epoch().Me()
			if !slices.Contains(o.Yes, me) && s.now >= m.worded {
				if s.decide != nil && o.Decision.Kind != "member.change" {
					continue // its own operators see to it
				}
				if s.decide != nil {
					s.decide.said[wordKey{o.ID, me, true}] = true
				}
				m.worded = s.now + int64(proposeAgain)
				s.say1(m, state.AppendWord(nil, o.ID, true))
			}
		}
	}
	s.call(s.now+int64(wordEvery), s.words)
}

func (s *Sim) say1(m *machine, word []byte) {
	if m.busyUntil > s.now {
		return
	}
	cols := new(coord.Columns)
	cols.Add(coord.KindDecide, 0, 0, 0, nil, word)
	s.step(m, site.Input{Request: &site.Request{Cols: cols, Done: func(coord.Reply) {}}})
}

// changed says whether all changes took effect, every honest member is in the last epoch and every other honest box knows that it is
// out; or what is missing.
func (s *Sim) changed() (bool, string) {
	if s.change != nil || len(s.todo) > 0 {
		return false, fmt.Sprintf("a change of members has not taken effect: %v", s.change)
	}
	top := s.epochs[s.top]
	for _, m := range s.live() {
		switch in := s.place(m, top) >= 0; {
		case m.box == nil:
			return false, fmt.Sprintf("box %d is down", m.idx)
		case in && (m.box.Epoch().Members.Epoch != s.top || m.box.Removed()):
			return false, fmt.Sprintf("box %d is in epoch %d, the site in %d", m.idx, m.box.Epoch().Members.Epoch, s.top)
		case !in && !m.box.Removed():
			return false, fmt.Sprintf("box %d does not know that it was removed", m.idx)
		}
	}
	return true, ""
}

// live is the honest machines that run, or will again.
func (s *Sim) live() []*machine {
	if len(s.plan.Changes) == 0 {
		return s.honest
	}
	ms := make([]*machine, 0, len(s.honest))
	for _, m := range s.honest {
		if !m.gone && !m.joins {
			ms = append(ms, m)
		}
	}
	return ms
}

// current is those of them that are members.
func (s *Sim) current() []*machine {
	ms := s.live()
	if len(s.plan.Changes) == 0 {
		return ms
	}
	in := ms[:0:0]
	for _, m := range ms {
		if s.place(m, s.epochs[s.top]) >= 0 {
			in = append(in, m)
		}
	}
	return in
}

// walk draws changes of the members, one after the other, so that never more than f of an epoch's members are faulty.
func (g *generator) walk(changes int) {
	p := g.p
	type one struct {
		box    int
		faulty bool
	}
	var list []one
	for i := range g.n {
		x := one{box: i, faulty: slices.Contains(p.Weak, i)}
		for _, l := range p.Liars {
			x.faulty = x.faulty || l.Box == i
		}
		list = append(list, x)
	}
	next := g.n // numbers of new machines; twins come after all of them
	faulty := func(l []one) (k int) {
		for _, x := range l {
			if x.faulty {
				k++
			}
		}
		return k
	}
	kinds := liar.Kinds()
	at := p.End / 10
	grown := g.n
	for range changes {
		at += g.span(p.End / time.Duration(changes))
		c := Change{At: at}
		l := slices.Clone(list)
		n := len(l)
		switch k := g.IntN(10); {
		case k < 3 || n == 1: // grow, sometimes by several
			c.Kind, c.Count = ChangeGrow, 1
			if g.IntN(2) == 0 {
				c.Count = []int{1, 2, 3}[g.IntN(3)]
			}
			if n+c.Count > 7 {
				continue
			}
			for range c.Count {
				l = append(l, one{box: next + len(l) - n})
			}
			if coord.MaxFaulty(len(l)) > faulty(l) && c.Count == 1 && g.IntN(3) == 0 {
				l[n].faulty, c.Liar = true, kinds[g.IntN(len(kinds))]
				if c.Liar == liar.Twins || c.Liar == liar.Dead {
					c.Liar = liar.Silent
				}
			}
		case k < 6:
			i := g.IntN(n)
			c.Kind, c.Box = ChangeRemove, l[i].box
			l = slices.Delete(l, i, i+1)
		case k < 8:
			i := g.IntN(n)
			c.Kind, c.Box = ChangeReplace, l[i].box
			l[i] = one{box: next}
			if coord.MaxFaulty(n) == 0 {
				continue // nobody can be spared
			}
		default:
			i := g.IntN(n)
			c.Kind, c.Box = ChangeRotate, l[i].box
			if l[i].faulty {
				continue
			}
		}
		lost := 0
		if c.Kind == ChangeReplace { // it is down from then on
			lost = 1
			if slices.ContainsFunc(list, func(x one) bool { return x.box == c.Box && x.faulty }) {
				lost = 0
			}
		}
		if faulty(l) > coord.MaxFaulty(len(l)) || faulty(list)+lost > coord.MaxFaulty(len(list)) {
			continue
		}
		for _, x := range l {
			if x.box >= next {
				p.Fresh = append(p.Fresh, c.Liar)
			}
		}
		next = g.n + len(p.Fresh)
		list = l
		grown = max(grown, len(l))
		p.Changes = append(p.Changes, c)
	}
}

// EpochsFor is the options of a seed in which the members change.
func EpochsFor(seed uint64) Options {
	n := []int{4, 4, 1, 4, 7, 3, 4, 2, 5, 4}[seed%10]
	return Options{N: n, Seed: seed, Faulty: -1, Changes: 1 + int(seed/10%5)}
}

func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
