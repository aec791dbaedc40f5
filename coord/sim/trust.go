package sim

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

// Suspicion is that an honest box came to suspect another one.
type Suspicion struct {
	At     time.Duration
	By, Of int // members
	Reason suspicion.Reason
	Why    string
}

// ear is what a box counted of another one since it listened last.
type ear struct{ control, bulk int }

// messageBytes is about what the frame of a batch takes beside its body.
const messageBytes = 160

// hears counts a message, as links do.
func (m *machine) hears(from coord.BoxID, p *coord.PeerMsg) {
	if m.ears == nil {
		m.ears = map[coord.BoxID]*ear{}
	}
	if m.ears[from] == nil {
		m.ears[from] = new(ear)
	}
	if p.Batch != nil {
		m.ears[from].bulk += messageBytes + len(p.Batch.Body)
		return
	}
	m.ears[from].control++
}

// listen tells a box each second what its links counted, and how the clocks, which are all right, look over links whose delay nobody knows.
func (s *Sim) listen(m *machine) {
	s.callFor(m, s.now+int64(time.Second), func() {
		heard := []site.Heard{}
		members := m.box.Epoch().Members
		for i := range members.List {
			h := site.Heard{Box: members.List[i].ID}
			if e := m.ears[h.Box]; e != nil {
				h.Control, h.Bulk = e.control, e.bulk
				*e = ear{}
			}
			if h.RoundTrip = time.Duration(2 * s.delay()); i != m.box.Epoch().Self {
				h.Clock, h.Ahead = true, time.Duration(s.rng.Int64N(int64(h.RoundTrip)+1))-h.RoundTrip/2
				heard = append(heard, h)
			}
		}
		s.step(m, site.Input{Heard: heard})
		s.listen(m)
	})
}

// suspicion notes whom an honest box suspects. Without liars, and without a fault that is done to the site, it is wrong.
func (s *Sim) suspicion(m *machine, c *suspicion.Change) {
	if m.liar != "" || c.Level != suspicion.Suspect {
		return
	}
	x := Suspicion{At: time.Duration(s.now), By: m.id(), Of: s.numbers[c.Box], Reason: c.Grounds[0].Reason, Why: c.Why()}
	s.suspects = append(s.suspects, x)
	s.log(m.idx, "suspects", "box %d: %s", x.Of, x.Why)
	if p := s.plan; p.honest() && len(p.Faults) == 0 && p.Net.Loss == 0 {
		s.bad("SUSPECTED: box %d suspects honest box %d: %s", m.idx, x.Of, x.Why)
	}
}
