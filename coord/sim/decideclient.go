package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// decideClient is operators at all boxes who propose decisions and give words on them at random, also twice, late and on boxes that lie. What
// boxes tell of how decisions ended is compared: the same on all honest boxes at one height, each once, none without a quorum of words of members that
// were really given, and no document changed by a decision that did not know its newest version. Decisions called evil get a yes of boxes that
// lie only: they never take effect.
type decideClient struct {
	s    *Sim
	rng  *rand.Rand
	made []*coord.Decision
	ids  map[coord.Digest]*coord.Decision
	said map[wordKey]bool // words that were given to boxes to say

	// What is known of all outcomes, in their order.
	outcomes map[uint64]*state.Decided
	judged   uint64 // outcomes up to this number
	members  *coord.Members
	docs     map[string]uint64 // versions
	version  uint64
	took     map[coord.Digest]uint64 // and which version that made

	last *coord.Decision // what all honest boxes want after the faults
}

type wordKey struct {
	id  coord.Digest
	box coord.BoxID
	yes bool
}

func newDecideClient(s *Sim) *decideClient {
	return &decideClient{
		s: s, rng: rand.New(rand.NewPCG(s.o.Seed, 0x646563)), ids: map[coord.Digest]*coord.Decision{}, said: map[wordKey]bool{},
		outcomes: map[uint64]*state.Decided{}, members: s.founders, docs: map[string]uint64{}, took: map[coord.Digest]uint64{},
	}
}

const (
	// openOfOne is how many decisions an operator leaves open on a box: fewer than it may, for what comes in the end.
	openOfOne = 4
	// decisionSeconds is the longest time of a decision: the site's clock must end them all after the faults.
	decisionSeconds = 12
)

// pump acts until the plan's end.
func (c *decideClient) pump(gap int64) {
	if c.s.now >= c.s.endAt {
		return
	}
	c.act()
	c.s.call(c.s.now+1+c.rng.Int64N(2*gap), func() { c.pump(gap) })
}

func (c *decideClient) act() {
	m := c.s.nodes[c.rng.IntN(len(c.s.nodes))]
	if m.box == nil {
		return
	}
	open := m.box.State().Open()
	switch n := c.rng.IntN(10); {
	case n < 3 && c.openOf(m, open) < openOfOne:
		c.propose(m, c.make(m))
	case n < 4 && len(c.made) > 0 && c.openOf(m, open) < openOfOne:
		if d := c.made[c.rng.IntN(len(c.made))]; m.liar != "" || d.Kind != "evil.try" {
			c.propose(m, d) // once more, perhaps long after it ended
		}
	case len(open) > 0:
		o := &open[c.rng.IntN(len(open))]
		if o.Decision.Kind == "member.change" {
			return // change.go sees to it: one that is refused is not asked for again
		}
		c.word(m, o.ID, o.Decision.Kind != "evil.try" && c.rng.IntN(5) > 0 || m.liar != "")
	}
}

func (c *decideClient) openOf(m *machine, open []state.OpenDecision) (n int) {
	for i := range open {
		if open[i].By == c.me(m) {
			n++
		}
	}
	return n
}

func (c *decideClient) me(m *machine) coord.BoxID { return m.box.Epoch().Me() }

// make is a decision on the documents as a box has them.
func (c *decideClient) make(m *machine) *coord.Decision {
	d := &coord.Decision{
		Kind: "doc.set", Subject: fmt.Sprint("decision ", len(c.made)), Principal: "operator:sim", Nonce: uint64(len(c.made)), Seconds: 1 + c.rng.Uint64N(decisionSeconds),
	}
	if m.liar != "" && c.rng.IntN(2) == 0 {
		d.Kind = "evil.try"
	}
	keys := []string{"a", "b", "c"}
	for _, i := range c.rng.Perm(len(keys))[:c.rng.IntN(3)] { // sometimes none: what takes effect counts all the same
		doc, _ := m.box.State().Doc(keys[i])
		w := coord.DocWrite{Key: keys[i], Was: doc.Version}
		if doc.Version == 0 || c.rng.IntN(4) > 0 {
			w.Value = []byte(d.Subject)
		}
		d.Writes = append(d.Writes, w)
	}
	if c.rng.IntN(2) == 0 {
		m.box.State().Stamp(d)
	}
	c.made = append(c.made, d)
	c.ids[d.Digest(c.s.site())] = d
	return d
}

func (c *decideClient) propose(m *machine, d *coord.Decision) {
	id := d.Digest(c.s.site())
	c.said[wordKey{id, c.me(m), true}] = true
	c.say(m, state.AppendProposal(nil, d))
}

func (c *decideClient) word(m *machine, id coord.Digest, yes bool) {
	c.said[wordKey{id, c.me(m), yes}] = true
	c.say(m, state.AppendWord(nil, id, yes))
}

func (c *decideClient) say(m *machine, value []byte) {
	cols := new(coord.Columns)
	cols.Add(coord.KindDecide, 0, 0, 0, nil, value)
	c.s.step(m, site.Input{Request: &site.Request{Cols: cols, Done: func(coord.Reply) {}}})
}

// insistEvery is how often all boxes are asked again for what they all want.
const insistEvery = 300 * ms

// insist has all honest boxes propose a decision again and again, until it has ended on one of them or is not wanted any more.
func (c *decideClient) insist(d *coord.Decision, wanted func() bool) {
	id := d.Digest(c.s.site())
	c.ids[id] = d
	for _, m := range c.s.current() {
		if m.box == nil {
			continue
		}
		if _, done := m.box.State().Decision(id); done != nil {
			return
		}
	}
	if !wanted() {
		return
	}
	for _, m := range c.s.current() {
		if m.box != nil {
			c.propose(m, d)
		}
	}
	c.s.call(c.s.now+insistEvery, func() { c.insist(d, wanted) })
}

// healed asks for one last decision, which must take effect.
func (c *decideClient) healed() {
	c.last = &coord.Decision{Kind: "doc.last", Writes: []coord.DocWrite{{Key: "last", Value: []byte("last")}}, Seconds: 3600}
	c.insist(c.last, func() bool { return true })
}

// finished says whether every honest box knows that it did, and if not, which does not.
func (c *decideClient) finished() (bool, string) {
	for _, m := range c.s.current() {
		if m.box == nil {
			return false, fmt.Sprintf("box %d is down", m.idx)
		}
		if d, _ := m.box.State().Doc("last"); string(d.Value) != "last" {
			return false, fmt.Sprintf("box %d has not seen the last decision take effect, at height %d", m.idx, m.applied)
		}
	}
	return true, ""
}

// closed says whether no box waits for the end of a decision: then the site's clock stands.
func (c *decideClient) closed() bool {
	for _, m := range c.s.current() {
		if m.box == nil {
			return false
		}
		if _, runs := m.box.State().Clock(); runs && len(m.box.State().Leases()) == 0 {
			return false
		}
	}
	return true
}

// decisionsEnd is how long after everything else the last decision may end; time-outs of bad leaders come between its ticks.
const decisionsEnd = 3 * decisionSeconds * time.Second

// closeDecisions waits until none is open.
func (s *Sim) closeDecisions() {
	for range leaseRounds { // what nobody waited for may propose one late
		if s.decide == nil || s.fail != "" || s.decide.closed() {
			return
		}
		s.run(s.now+int64(decisionsEnd), s.decide.closed)
		s.run(s.now+int64(2*time.Second), nil)
		s.run(s.now+int64(RestMax), func() bool { _, at := s.rest(); return at })
	}
	s.bad("DECISIONS: the site's clock runs long after everything is decided")
}

// replaces says whether a box is replaced by hand: then the list of members is not the one by which old words were counted.
func (p *Plan) replaces() bool {
	return slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Kind == faultReplace })
}

// decided takes what an honest box tells of how decisions ended.
func (c *decideClient) decided(m *machine, ends []state.Decided) {
	for i := range ends {
		d := &ends[i]
		o := c.outcomes[d.Number]
		if o == nil {
			c.outcomes[d.Number] = d
			continue
		}
		if o.ID != d.ID || o.Outcome != d.Outcome || o.Height != d.Height || !slices.Equal(o.Yes, d.Yes) || !slices.Equal(o.No, d.No) {
			c.s.bad("DECISIONS: box %d has it that number %d %v at height %d with %d words, another one that it %v at %d with %d",
				m.idx, d.Number, d.Outcome, d.Height, len(d.Yes), o.Outcome, o.Height, len(o.Yes))
		}
	}
	for ; c.outcomes[c.judged+1] != nil; c.judged++ {
		c.judge(c.outcomes[c.judged+1])
	}
}

// judge holds an outcome against what was said, in the order of outcomes.
func (c *decideClient) judge(o *state.Decided) {
	d, n := c.ids[o.ID], c.members.N()
	f := coord.MaxFaulty(n)
	honest := func(list []coord.BoxID, yes bool) (count int) {
		for i, id := range list {
			if slices.Contains(list[:i], id) {
				c.s.bad("WORD: decision %v counts box %v twice", o.ID.Short(), id)
			}
			if c.members.Index(id) < 0 {
				c.s.bad("WORD: decision %v counts one of a box that is no member", o.ID.Short())
			}
			for _, m := range c.s.honest {
				if !c.s.is(m, id) {
					continue
				}
				count++
				if !slices.ContainsFunc(m.ids, func(x int) bool { return c.said[wordKey{o.ID, c.s.ids[x], yes}] }) { // perhaps before its key was changed
					c.s.bad("WORD: decision %v counts one of honest box %d that nobody gave it", o.ID.Short(), m.idx)
				}
			}
		}
		return count
	}
	switch yes, no := honest(o.Yes, true), honest(o.No, false); o.Outcome {
	case state.TookEffect:
		switch {
		case d == nil || d.Kind == "evil.try":
			c.s.bad("EVIL: decision %v took effect, which no honest box wants", o.ID.Short())
		case len(o.Yes) < coord.Quorum(n) || yes < n-f-c.s.check.faulty(c.members, false):
			c.s.bad("QUORUM: decision %v took effect with %d words of %d members, %d of them honest", o.ID.Short(), len(o.Yes), n, yes)
		case c.took[o.ID] > 0 && (d.Seen > 0 || d.Made > 0 || c.version-c.took[o.ID] < coord.DecisionSeenMax):
			// One that says nothing of when it was made is a new one when so many others have taken effect since.
			c.s.bad("TWICE: decision %v took effect again at height %d", o.ID.Short(), o.Height)
		default:
			c.effect(o, d)
			c.took[o.ID] = c.version
		}
	case state.Refused:
		if len(o.No) <= f || no == 0 && c.s.check.faulty(c.members, false) <= f {
			c.s.bad("QUORUM: decision %v was refused with %d words of %d members, %d of them honest", o.ID.Short(), len(o.No), n, no)
		}
	}
}

func (c *decideClient) effect(o *state.Decided, d *coord.Decision) {
	c.version++
	for i := range d.Writes {
		w := &d.Writes[i]
		if c.docs[w.Key] != w.Was {
			c.s.bad("OVERTAKEN: decision %v writes %s on version %d, which is %d", o.ID.Short(), w.Key, w.Was, c.docs[w.Key])
		}
		if c.docs[w.Key] = c.version; w.Value == nil {
			delete(c.docs, w.Key)
		}
		if w.Key != coord.DocMembers {
			continue
		}
		next, err := coord.DecodeMembers(w.Value)
		if err != nil {
			c.s.bad("MEMBERS: decision %v: %v", o.ID.Short(), err)
			return
		}
		c.members = next
	}
	c.s.log(-1, "decided", "%v %s %q at height %d", o.ID.Short(), o.Kind, o.Subject, o.Height)
}

// ended compares the documents of one box with what the outcomes made of them.
func (c *decideClient) ended(m *machine) {
	st := m.box.State()
	if st.DocsVersion() != c.version || c.judged != uint64(len(c.outcomes)) {
		return // it has applied less, or more, than was told: the states at one height are compared anyway
	}
	docs := st.Docs("")
	if len(docs) != len(c.docs) {
		c.s.bad("DOCUMENTS: box %d has %d, want %d", m.idx, len(docs), len(c.docs))
	}
	for _, d := range docs {
		if c.docs[d.Key] != d.Version {
			c.s.bad("DOCUMENTS: box %d has version %d of %s, want %d", m.idx, d.Version, d.Key, c.docs[d.Key])
		}
	}
}
