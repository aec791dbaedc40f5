package sim

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
)

// newLiar makes the lying side of a machine.
func (s *Sim) newLiar(m *machine) *liar.Liar {
	return liar.New(m.liar, liar.Config{
		Self: m.says.Self, Members: m.says.Members, Keys: m.says.Keys, Rand: s.rng, Timeout: timeout, TermRounds: s.o.Term,
	})
}

// lie is what a dishonest box does with what its box wants to send.
func (s *Sim) lie(m *machine, p coord.Parcel) {
	o := coord.Out{To: coord.ToAll, Msg: p.Msg}
	if p.To != (coord.BoxID{}) {
		o.To = m.says.Members.Index(p.To)
	}
	if o.To < coord.ToAll || m.lies == nil || o.To == -1 && p.To != (coord.BoxID{}) { // to a box that is no member
		s.tell(m, p)
		return
	}
	s.say(m, m.lies.Out(o, s.now))
}

// hear is what it says because of what it hears.
func (s *Sim) hear(m *machine, from coord.BoxID, p *coord.PeerMsg) {
	if i := m.says.Members.Index(from); i >= 0 && m.lies != nil {
		s.say(m, m.lies.In(i, p))
	}
}

func (s *Sim) say(m *machine, sends []liar.Send) {
	members := m.says.Members
	for i := range sends {
		x := &sends[i]
		p := coord.Parcel{To: members.List[x.To].ID, Msg: x.Msg}
		if x.After == 0 {
			s.tell(m, p)
			continue
		}
		s.callFor(m, s.now+int64(x.After/time.Nanosecond), func() { s.tell(m, p) })
	}
}
