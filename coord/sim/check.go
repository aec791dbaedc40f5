package sim

import (
	"fmt"
	"reflect"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// checker holds the invariants. All the time, on honest boxes:
//
//  1. agreement: two boxes never deliver different blocks at one height;
//  2. no box contradicts what it signed, also across restarts: one notarize and one finalize vote a
//     round, one empty vote a term, no finalize at or above an own empty level, no empty at or below
//     an own finalize vote;
//  3. a box speaks only for itself;
//  4. heights and revisions never go back on a running box, and a restarted box comes back to what it
//     told a client;
//  5. evidence convicts only liars;
//  6. what a box remembers is bounded;
//  7. what travels survives the wire unchanged (sampled).
//
// At the end (trial.go): everything that clients asked took effect exactly once on every honest box, all
// boxes have the same state, within HealMax.
type checker struct {
	s      *Sim
	canon  map[uint64]coord.Digest
	notar  map[voteKey]coord.Digest
	fin    map[voteKey]coord.Digest
	finTop map[voteKey]uint64 // by term: highest finalize vote
	empty  map[voteKey]uint64 // by term: level
	height []uint64
	acked  []uint64 // by machine: the highest height that it told a client of
	wires  uint64
}

type voteKey struct {
	id int
	at uint64
}

func newChecker(s *Sim) checker {
	return checker{
		s: s, canon: map[uint64]coord.Digest{}, notar: map[voteKey]coord.Digest{}, fin: map[voteKey]coord.Digest{},
		finTop: map[voteKey]uint64{}, empty: map[voteKey]uint64{}, height: make([]uint64, 2*s.n), acked: make([]uint64, 2*s.n),
	}
}

// liveMax bounds what a core remembers: a few windows of votes and the pending batches of all boxes.
func (c *checker) liveMax() int { return 2000 + 400*c.s.n }

func (c *checker) stepped(m *machine) {
	if m.liar != "" || m.box == nil {
		return
	}
	if l := m.box.Core().Live(); l > c.liveMax() {
		c.s.bad("box %d remembers %d things", m.idx, l)
	}
}

// visible: what the box showed, or could have shown, as final.
func (c *checker) visible(m *machine, e *pending) {
	if m.liar != "" || e.height == 0 {
		return
	}
	if o, ok := c.canon[e.height]; ok && o != e.final {
		c.s.bad("FORK at height %d on box %d", e.height, m.idx)
	}
	c.canon[e.height] = e.final
	m.applied = max(m.applied, e.height)
}

func (c *checker) answers(m *machine, p coord.Reply) {
	if m.liar == "" && p.Code == coord.CodeOK {
		c.acked[m.idx] = max(c.acked[m.idx], p.Height)
	}
}

// sends is the monitor on every vote of an honest box.
func (c *checker) sends(m *machine, p *coord.PeerMsg) {
	v := p.Vote
	if q := p.Proposal; q != nil {
		v = &coord.Vote{Kind: coord.VoteNotarize, Round: q.Block.Round, Digest: q.Block.Digest(), Voter: uint8(m.id)}
	}
	if v == nil {
		return
	}
	if int(v.Voter) != m.id {
		c.s.bad("box %d sent a vote of box %d", m.id, v.Voter)
	}
	at, term := voteKey{m.id, v.Round}, voteKey{m.id, v.Round / c.s.o.Term}
	switch v.Kind {
	case coord.VoteNotarize:
		c.once(m, c.notar, at, v)
	case coord.VoteFinalize:
		c.once(m, c.fin, at, v)
		if l, ok := c.empty[term]; ok && v.Round >= l {
			c.s.bad("box %d votes to finalize round %d after empty at %d", m.id, v.Round, l)
		}
		c.finTop[term] = max(c.finTop[term], v.Round)
	case coord.VoteEmpty:
		if l, ok := c.empty[term]; ok && l != v.Round {
			c.s.bad("box %d votes empty at %d and %d of a term", m.id, l, v.Round)
		}
		c.empty[term] = v.Round
		if r, ok := c.finTop[term]; ok && r >= v.Round {
			c.s.bad("box %d votes empty at %d after finalize at %d", m.id, v.Round, r)
		}
	}
}

func (c *checker) once(m *machine, seen map[voteKey]coord.Digest, k voteKey, v *coord.Vote) {
	if o, ok := seen[k]; ok && o != v.Digest {
		c.s.bad("box %d votes twice to %v in round %d", m.id, v.Kind, v.Round)
	}
	seen[k] = v.Digest
}

func (c *checker) evidence(m *machine, e coord.Evidence) {
	for _, x := range c.s.honest {
		if x.id == int(e.A.Voter) && m.liar == "" {
			c.s.bad("evidence of box %d convicts honest box %d", m.idx, x.idx)
		}
	}
}

// wireEvery is how often a message goes through the codec on its way.
const wireEvery = 16

func (c *checker) onWire(p *coord.PeerMsg) *coord.PeerMsg {
	if c.wires++; c.wires%wireEvery != 0 {
		return p
	}
	q, err := wire.DecodePeer(wire.AppendPeer(nil, p))
	if err != nil {
		c.s.bad("a message does not survive the wire: %v: %s", err, describe(p))
		return p
	}
	return q
}

func describe(p *coord.PeerMsg) string {
	v := reflect.ValueOf(*p)
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			return fmt.Sprintf("%s %+v", v.Type().Field(i).Name, v.Field(i))
		}
	}
	return "empty"
}

// finished says whether all that clients asked is done and every honest box has it, and if not, what is missing.
func (s *Sim) finished() (bool, string) {
	for _, c := range s.clients {
		if !c.finished() {
			return false, fmt.Sprintf("client %d still waits", c.session)
		}
	}
	want := map[uint64]uint64{}
	puts := uint64(0)
	for _, c := range s.clients {
		for _, o := range c.ops {
			if o.kind == coord.KindPut {
				puts++
			} else {
				want[o.object]++
			}
		}
	}
	var total uint64
	for _, n := range want {
		total += n
	}
	for _, m := range s.honest {
		if m.box == nil {
			return false, fmt.Sprintf("box %d is down", m.idx)
		}
		st := m.box.State()
		sum, _, top := st.Top(len(want))
		if sum > total || st.Revision() > puts {
			s.bad("DOUBLE: box %d counts %d of %d accesses and %d of %d puts", m.idx, sum, total, st.Revision(), puts)
			return true, ""
		}
		if sum < total || st.Revision() < puts {
			return false, fmt.Sprintf("box %d has %d of %d accesses, %d of %d puts, at height %d", m.idx, sum, total, st.Revision(), puts, m.applied)
		}
		for _, c := range top {
			if want[c.Object] != c.Count {
				s.bad("LOST: box %d counts %d for object %d, want %d", m.idx, c.Count, c.Object, want[c.Object])
			}
		}
	}
	return true, ""
}
