package site

import (
	"bytes"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/bft"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

const (
	// opinionEvery is how often a box may order whom it suspects.
	opinionEvery = int64(time.Minute)
	// lateEvery: the delays of a leader's proposals within so much time are one, their mean. What makes an honest leader late, a disk or
	// a processor that is busy with something else, lasts for many rounds, and must not count as many times that it was late.
	lateEvery = int64(500 * time.Millisecond)
	// pacesKept is how many rounds the pace is the median of.
	pacesKept = 15
	// behindMax is how many blocks a box may be behind before what it is given is what it asked for.
	behindMax = 64
)

// Heard is what was noticed of a member outside of the protocol in the last second or so.
type Heard struct {
	Box coord.BoxID
	// Control is how many messages came over its link, Bulk how many bytes of batches, blocks and states.
	Control, Bulk int
	// Clock says that its clock was Ahead of ours, measured over RoundTrip.
	Clock            bool
	Ahead, RoundTrip time.Duration
	// BadSigns counts signatures of it, other than votes, that are bad.
	BadSigns int
	Answers  []Answered
}

// Answered is what came of something that a member was asked.
type Answered struct {
	What   string
	Answer suspicion.Answer
}

// watcher is what a box thinks of the others (coord/trust/suspicion), and what it says of that in the order.
type watcher struct {
	w      *suspicion.Watch
	ids    []coord.BoxID // the members, by index
	paces  [pacesKept]int64
	rounds int
	delays delays
	sayAt  int64 // not before this may we say whom we suspect
	aside  uint32
}

// delays are of one leader's proposals since a time, and the paces of their rounds.
type delays struct {
	leader      coord.BoxID
	since       int64
	delay, pace time.Duration
	n           int
}

// add adds a delay, and gives the mean of those before when it begins anew.
func (d *delays) add(leader coord.BoxID, delay, pace time.Duration, now int64) (mean delays, ok bool) {
	if d.n > 0 && (leader != d.leader || now-d.since >= lateEvery) {
		mean, ok = delays{leader: d.leader, delay: d.delay / time.Duration(d.n), pace: d.pace / time.Duration(d.n)}, true
		*d = delays{}
	}
	if d.n == 0 {
		d.leader, d.since = leader, now
	}
	d.delay, d.pace, d.n = d.delay+delay, d.pace+pace, d.n+1
	return mean, ok
}

// watchMembers begins with the members of this epoch.
func (b *Box) watchMembers() {
	w := &b.watch
	w.ids = b.ep.Members.IDs()
	if w.w == nil {
		w.w = suspicion.New(suspicion.Config{Self: b.me, Members: w.ids, Rates: suspicion.DefaultRates()})
	} else {
		w.w.SetMembers(w.ids)
	}
	b.setAside()
}

// pace is the median time of the last rounds from a proposal to its notarization.
func (w *watcher) pace() time.Duration {
	k := min(w.rounds, pacesKept)
	if k == 0 {
		return 0
	}
	sorted := w.paces
	slices.Sort(sorted[:k])
	return time.Duration(sorted[k/2])
}

// saw takes what the core saw.
func (b *Box) saw(seen []bft.Seen) {
	w := &b.watch
	for i := range seen {
		s := &seen[i]
		id := w.ids[s.Member]
		switch s.Kind {
		case bft.SeenBadSignature:
			w.w.BadSignature(id, s.What, b.now)
		case bft.SeenState:
			w.w.State(id, s.Height, s.Digest, b.now)
		case bft.SeenProposal:
			if m, ok := w.delays.add(id, time.Duration(s.Took), w.pace(), b.now); ok {
				w.w.Proposal(m.leader, m.delay, m.pace, b.now)
			}
		case bft.SeenNotarized:
			w.paces[w.rounds%pacesKept] = s.Took
			w.rounds++
		case bft.SeenGiven:
			w.w.Challenge(id, s.What, suspicion.Right, b.now)
		case bft.SeenNotGiven:
			w.w.Challenge(id, s.What, suspicion.None, b.now)
		}
	}
}

// onHeard takes what the shell noticed, once a second, and draws the conclusions.
func (b *Box) onHeard(heard []Heard) {
	w := b.watch.w
	behind := b.behind()
	for i := range heard {
		h := &heard[i]
		w.Traffic(h.Box, suspicion.Control, h.Control, b.now)
		if !behind {
			w.Traffic(h.Box, suspicion.Batches, h.Bulk, b.now)
		}
		if h.Clock {
			w.ClockSample(h.Box, h.Ahead, h.RoundTrip, b.now)
		}
		for range h.BadSigns {
			w.BadSignature(h.Box, "a reading", b.now)
		}
		for _, a := range h.Answers {
			w.Challenge(h.Box, a.What, a.Answer, b.now)
		}
	}
	b.fx.Trust = w.Changes(b.now)
	b.opine()
	b.step(bft.Input{})
}

// behind says that this box is being given what it missed, by the word of one honest member at least.
func (b *Box) behind() bool {
	if b.snap != nil {
		return true
	}
	heights := make([]uint64, len(b.watch.ids))
	for i := range heights {
		if i != b.ep.Self {
			heights[i] = b.core.Heard(i).Height
		}
	}
	slices.Sort(heights)
	return heights[len(heights)-1-coord.MaxFaulty(len(heights))] > b.core.Height()+behindMax
}

// opine orders whom this box suspects when the site has it that it suspects others.
func (b *Box) opine() {
	w := &b.watch
	if b.now < w.sayAt || b.draining || b.fault != "" || coord.MaxFaulty(len(w.ids)) == 0 || !slices.Contains(w.ids, b.me) {
		return
	}
	bits := w.w.Opinion(w.ids, b.now)
	var of []coord.BoxID
	for i, id := range w.ids {
		if bits&(1<<i) != 0 && id != b.me {
			of = append(of, id)
		}
	}
	slices.SortFunc(of, func(x, y coord.BoxID) int { return bytes.Compare(x[:], y[:]) })
	var said []coord.BoxID
	for _, o := range b.st.Opinions() {
		if o.Box == b.me {
			said = o.Of
		}
	}
	if slices.Equal(of, said) {
		return
	}
	w.sayAt = b.now + opinionEvery
	cols := new(coord.Columns)
	cols.Add(coord.KindOpinion, 0, 0, 0, nil, state.AppendOpinion(nil, of))
	b.onRequest(&Request{Cols: cols, Done: func(coord.Reply) {}})
}

// setAside tells the core who should not lead, by what the members said in the order.
func (b *Box) setAside() {
	w := &b.watch
	opinions := make([]uint32, len(w.ids))
	for _, o := range b.st.Opinions() {
		i := slices.Index(w.ids, o.Box)
		if i < 0 {
			continue
		}
		for _, id := range o.Of {
			if j := slices.Index(w.ids, id); j >= 0 {
				opinions[i] |= 1 << j
			}
		}
	}
	w.aside = 0
	for _, j := range suspicion.Aside(len(w.ids), opinions) {
		w.aside |= 1 << j
	}
	b.core.SetAside(w.aside)
}

// Standings are what this box thinks of all members, by its scores.
func (b *Box) Standings() []suspicion.Standing { return b.watch.w.Standings(b.now) }
