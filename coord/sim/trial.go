package sim

import (
	"fmt"
	"hash/crc64"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// HealMax is how long after all faults have ended everything must be done. A leader is given up after at
// most timeout << 5 = 16 s when five in a row failed; up to f liars lead one after the other, and a client
// waits clientTry for each box. Seen: see docs/decisions/0001.
const HealMax = 60 * time.Second

// Report is the outcome of one trial.
type Report struct {
	Options Options
	Fail    string // empty: everything held
	Liars   string
	Events  uint64
	Heights uint64
	Healed  time.Duration // from the end of the faults to everything done
	Digest  uint64        // of every event: the same for the same Options
}

// Trial runs one seed: a time of faults, then everything must be done.
func Trial(o Options) Report {
	s := newSim(o)
	s.pickLiars()
	r := s.rng
	healed := int64(0)
	end := 1000*ms + r.Int64N(5000*ms)
	s.chaos(end)
	for i := range 1 + r.IntN(3) {
		gap := 10*ms + r.Int64N(150*ms)
		id := uint64(100 + i)
		s.call(r.Int64N(100*ms), func() {
			c := s.newClient(id)
			s.clients = append(s.clients, c)
			s.call(s.now, func() { s.pump(c, gap, end) })
		})
	}
	for _, m := range s.nodes {
		if m.liar != liarDead {
			s.boot(m)
		}
	}
	s.run(end, nil)
	if s.fail == "" {
		s.heal()
		done := func() bool { ok, _ := s.finished(); return ok }
		s.run(end+int64(HealMax), done)
		healed = s.now - end
		if ok, missing := s.finished(); !ok && s.fail == "" {
			for _, m := range s.nodes {
				if m.box != nil {
					s.logf("box %d %s: %v", m.idx, m.liar, m.box.Core())
				}
			}
			s.bad("STALL: %v after everything healed: %s", HealMax, missing)
		}
		s.finalStates()
	}
	return Report{
		Options: s.o, Fail: s.fail, Liars: s.liarNames(), Events: s.events, Heights: uint64(len(s.check.canon)),
		Healed: time.Duration(healed), Digest: crc64.Checksum(s.digest.Sum(nil), crc64.MakeTable(crc64.ECMA)),
	}
}

func (s *Sim) pump(c *client, gap, end int64) {
	if s.now >= end {
		return
	}
	c.add()
	s.call(s.now+1+s.rng.Int64N(2*gap), func() { s.pump(c, gap, end) })
}

func (s *Sim) pickLiars() {
	k := s.f
	if s.o.Liars >= 0 {
		k = min(k, s.o.Liars)
	} else if s.rng.IntN(4) == 0 {
		k = s.rng.IntN(s.f + 1)
	}
	for _, i := range s.rng.Perm(s.n)[:k] {
		s.nodes[i].liar = liars[s.rng.IntN(len(liars))]
		if s.nodes[i].liar == liarTwins {
			s.addMachine(i).liar = liarTwins
		}
	}
	for _, m := range s.nodes {
		if m.liar == "" {
			s.honest = append(s.honest, m)
		}
	}
}

func (s *Sim) liarNames() string {
	var out strings.Builder
	for _, m := range s.nodes {
		if m.liar != "" {
			fmt.Fprintf(&out, "%d:%s ", m.idx, m.liar)
		}
	}
	return out.String()
}

// heal ends every fault but the liars.
func (s *Sim) heal() {
	s.logf("everything heals")
	s.healed = true
	s.mend()
	s.loss, s.dup, s.spikes = s.loss*0.1, 0, false
	for _, m := range s.nodes {
		m.slow = 0
		if m.box == nil && m.liar != liarDead {
			s.boot(m)
		}
	}
	s.relinkAll()
	for _, c := range s.clients {
		for range 3 {
			c.add()
		}
	}
}

// finalStates lets every box commit what it has and compares the states of those at one height.
func (s *Sim) finalStates() {
	if s.fail != "" {
		return
	}
	s.run(s.now+int64(2*time.Second), nil)
	at := map[uint64]coord.Digest{}
	for _, m := range s.honest {
		f := m.disk.back.Committed()
		if f == nil {
			continue
		}
		_, _, d := chunks(m.disk.back)
		if o, ok := at[f.Header.Height]; ok && o != d {
			s.bad("DIVERGED: box %d has another state at height %d", m.idx, f.Header.Height)
		}
		at[f.Header.Height] = d
	}
}
