package sim

import (
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
)

// Report is the outcome of one trial.
type Report struct {
	Options  Options // with Term and Plan as they were
	Fail     string  // empty: everything held; else a word in capitals, and what happened
	Events   uint64
	Heights  uint64
	Acked    uint64        // client messages acknowledged
	Evidence int           // pairs of votes handed up by honest boxes
	Healed   time.Duration // from the end of the faults to everything done
	Faults   map[FaultKind]int
	Suspects []Suspicion // with Options.Suspicion: whom honest boxes came to suspect, in order
	Digest   uint64      // of every event: the same for the same Options
}

// RestMax is how long after everything is done a site may still have something to do: a box that does not know what
// it signed is silent until then at most, for the others end so many terms for it early at once, and as many
// more after 60 timeouts.
const RestMax = 70 * timeout

// rest says whether the honest boxes have come to rest, as far as no liar keeps them busy, or which has not.
func (s *Sim) rest() (*machine, bool) {
	for _, m := range s.current() {
		if m.box == nil {
			return m, false
		}
		c := m.box.Core()
		until, asking := c.Silent()
		if s.starved() && c.Pending() > 0 {
			return m, false
		}
		if !s.plan.lied() && (c.Working() || c.Pending() > 0 || c.Overdue(m.clock.now(s.now)) || until != 0 || asking) {
			return m, false
		}
	}
	return nil, true
}

// starved: the only thing that liars do is to leave batches out, so that all must be ordered in the end.
func (s *Sim) starved() bool {
	for _, l := range s.plan.Liars {
		if l.Kind != liar.Starver {
			return false
		}
	}
	return len(s.plan.Liars) > 0
}

// Trial runs one seed: a time of faults, then everything must be done.
func Trial(o Options) Report {
	s := newSim(o)
	healed := int64(0)
	s.schedule(s.plan)
	s.scheduleChanges(s.plan)
	for i, c := range s.plan.Clients {
		id := uint64(100 + i)
		s.call(int64(c.Start), func() {
			c, gap := s.newClient(id), int64(c.Gap)
			s.clients = append(s.clients, c)
			s.call(s.now, func() { s.pump(c, gap) })
		})
	}
	if o.Seed%3 == 2 {
		s.etcd = newKVClient(s)
		s.call(0, func() { s.etcd.pump(int64(40 * time.Millisecond)) })
	}
	if o.Seed%4 == 0 && !s.plan.replaces() {
		s.decide = newDecideClient(s)
		s.call(0, func() { s.decide.pump(int64(60 * time.Millisecond)) })
	}
	for _, m := range s.nodes {
		if m.liar != liar.Dead {
			s.boot(m)
		}
	}
	s.run(s.endAt, nil)
	if s.fail == "" {
		s.heal()
		done := func() bool { ok, _ := s.finished(); return ok }
		s.run(s.endAt+int64(HealMax(&s.o)), done)
		healed = s.now - s.endAt
		if ok, missing := s.finished(); !ok && s.fail == "" {
			for _, m := range s.nodes {
				if m.box != nil {
					s.log(m.idx, "stuck", "%s %v", m.liar, m.box)
				}
			}
			s.bad("STALL: %v after everything healed: %s", HealMax(&s.o), missing)
		}
		s.finalStates()
	}
	return Report{
		Options: s.o, Fail: s.fail, Events: s.events, Heights: uint64(len(s.check.canon)), Acked: s.acked, Evidence: s.evidence,
		Healed: time.Duration(healed), Faults: s.used, Suspects: s.suspects, Digest: uint64(s.digest),
	}
}

func (s *Sim) pump(c *client, gap int64) {
	if s.now >= s.endAt {
		return
	}
	c.add()
	s.call(s.now+1+s.rng.Int64N(2*gap), func() { s.pump(c, gap) })
}

// heal ends every fault but the liars.
func (s *Sim) heal() {
	s.log(-1, "heal", "every fault ends")
	s.healed = true
	for i := range s.flapped {
		clear(s.flapped[i])
	}
	s.mend()
	s.loss, s.dup, s.jitter, s.spike = s.plan.Net.Loss*0.1, 0, 0, 0
	for _, m := range s.nodes {
		m.slow, m.slowState, m.cost, m.stuck, m.full, m.eio, m.busyUntil = 0, 0, 0, false, false, false, 0
		m.clock.set(s.now, 1)
		if m.failed {
			s.powerCut(m)
		}
		if m.box == nil && !m.joins && !m.gone {
			down := int64(0)
			if m.forgot {
				down = int64(weakDown)
			}
			s.bootAt(m, s.now+down+1)
		}
		s.kick(m)
	}
	for _, c := range s.clients {
		for range 3 {
			c.add()
		}
	}
	if s.decide != nil {
		s.decide.healed()
	}
}

// finalStates lets every box commit what it has and compares the states of those at one height.
func (s *Sim) finalStates() {
	if s.fail != "" {
		return
	}
	s.run(s.now+int64(2*time.Second), nil)
	s.run(s.now+int64(RestMax+slow(&s.o)), func() bool { _, at := s.rest(); return at })
	if m, at := s.rest(); !at && s.fail == "" {
		s.bad("RESTLESS: box %d, %v after everything is done: %v", m.idx, RestMax, m.box)
	}
	for range leaseRounds { // what nobody waited for may grant a lease late, as long as there is something to order
		if s.etcd == nil || s.etcd.leasesEnded() {
			break
		}
		s.run(s.now+int64(leasesEnd), func() bool { return s.etcd.leasesEnded() })
		s.run(s.now+int64(2*time.Second), nil)
		s.run(s.now+int64(RestMax), func() bool { _, at := s.rest(); return at })
	}
	s.closeDecisions()
	at := map[uint64]coord.Digest{}
	for _, m := range s.current() {
		s.check.ended(m)
		if s.etcd != nil {
			s.etcd.ended(m)
		}
		if s.decide != nil {
			s.decide.ended(m)
		}
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

// String names what was tried, in one line.
func (r *Report) String() string {
	o := &r.Options
	return fmt.Sprintf("seed %d: n=%d K=%d, liars %v, weak %v, %d faults, %d events, %d heights, %d acknowledged, healed in %v",
		o.Seed, o.N, o.Term, o.Plan.Liars, o.Plan.Weak, len(o.Plan.Faults), r.Events, r.Heights, r.Acked, r.Healed.Round(time.Millisecond))
}
