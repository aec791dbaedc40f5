package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// FaultKind names a fault.
type FaultKind string

// The faults. All of them end by themselves.
const (
	faultCrash     FaultKind = "crash"     // power cut; unsynced writes are lost, the last one torn
	faultRestart   FaultKind = "restart"   // kill -9: what was written is in the page cache and survives
	faultLoss      FaultKind = "loss"      // messages are lost at a rate
	faultDup       FaultKind = "duplicate" // messages arrive twice, the second time late
	faultReorder   FaultKind = "reorder"   // every message takes up to Amount longer
	faultSpikes    FaultKind = "spikes"    // some messages take up to Amount longer
	faultPartition FaultKind = "partition" // Sides
	faultFlap      FaultKind = "flap"      // a link goes up and down every Amount
	faultSlowDisk  FaultKind = "slow disk" // each sync takes Amount longer
	faultStuckDisk FaultKind = "stuck disk"
	faultSlowState FaultKind = "slow state" // each commit of the state takes Amount longer
	faultFull      FaultKind = "disk full"  // neither log nor state take anything until it ends
	faultEIO       FaultKind = "fsync EIO"  // the sync fails; the box is silent until it is restarted
	faultDrift     FaultKind = "drift"      // the box's clock runs at Rate
	faultJump      FaultKind = "jump"       // the box's clock jumps ahead by Amount
	faultPause     FaultKind = "pause"      // SIGSTOP
	faultSlowCPU   FaultKind = "slow cpu"   // each step takes Amount
	faultTail      FaultKind = "torn tail"  // synced records at the end of the log are lost without a trace
	faultDamage    FaultKind = "bit flip"   // damage is found when the log is opened: it is set aside
	faultWipe      FaultKind = "wiped"      // log and state are gone, the key is not
	faultOldDisk   FaultKind = "old disk"   // an image that was taken Amount before is restored
	faultReplace   FaultKind = "replace"    // on the stopped site, the box's place is given to a new one
)

// generator draws faults into a plan.
type generator struct {
	*rand.Rand
	p *Plan
	n int
}

func (g *generator) span(d time.Duration) time.Duration { return span(g.Rand, d) }
func (g *generator) when() time.Duration                { return g.span(g.p.End) }
func (g *generator) box() int                           { return g.IntN(g.n) }
func (g *generator) add(f Fault)                        { g.p.Faults = append(g.p.Faults, f) }

// every adds a fault now and then, on average every d.
func (g *generator) every(d time.Duration, f func(at time.Duration) Fault) {
	for at := g.span(d); at < g.p.End; at += d/20 + g.span(2*d) {
		g.add(f(at))
	}
}

// weak calls f for each box whose disk may forget.
func (g *generator) weak(f func(box int, at, down time.Duration) Fault) {
	for _, b := range g.p.Weak {
		if g.IntN(2) == 0 {
			g.add(f(b, g.when(), weakDown+g.span(time.Second)))
		}
	}
}

// weakDown is how long a box stays away at least when its disk is changed or repaired: what it had sent before
// is gone from the network by then, and its connections ended.
const weakDown = 1200 * time.Millisecond

// generators are composed into a plan, each with its chance of being used.
var generators = []struct {
	name  string
	often float64
	make  func(g *generator)
}{
	{"crashes", 0.6, func(g *generator) {
		g.every(1000*time.Millisecond, func(at time.Duration) Fault {
			return Fault{Kind: faultCrash, At: at, Box: g.box(), For: g.span(1400 * time.Millisecond)}
		})
	}},
	{"restarts", 0.25, func(g *generator) {
		g.every(800*time.Millisecond, func(at time.Duration) Fault {
			return Fault{Kind: faultRestart, At: at, Box: g.box(), For: g.span(300 * time.Millisecond)}
		})
	}},
	{"crash storm", 0.15, func(g *generator) {
		at := g.when()
		for range 5 + g.IntN(15) {
			g.add(Fault{Kind: faultCrash, At: at, Box: g.box(), For: g.span(100 * time.Millisecond)})
			at += g.span(120 * time.Millisecond)
		}
	}},
	{"site power loss", 0.3, func(g *generator) {
		g.every(4*time.Second, func(at time.Duration) Fault {
			return Fault{Kind: faultCrash, At: at, Box: -1, For: g.span(1400 * time.Millisecond)}
		})
	}},
	{"loss", 0.2, func(g *generator) {
		g.add(Fault{Kind: faultLoss, At: g.when(), For: g.span(2 * time.Second), Box: -1, Rate: g.Float64()})
	}},
	{"duplicates", 0.5, func(g *generator) {
		g.add(Fault{Kind: faultDup, At: g.when() / 2, For: g.p.End, Box: -1, Rate: g.Float64() * 0.2})
	}},
	{"reorder", 0.2, func(g *generator) {
		g.add(Fault{Kind: faultReorder, At: g.when(), For: g.span(2 * time.Second), Box: -1, Amount: g.span(300 * time.Millisecond)})
	}},
	{"delay spikes", 0.6, func(g *generator) {
		g.add(Fault{Kind: faultSpikes, At: 0, For: g.p.End, Box: -1, Amount: 400 * time.Millisecond})
	}},
	{"partitions", 0.65, func(g *generator) {
		g.every(1300*time.Millisecond, func(at time.Duration) Fault {
			return Fault{Kind: faultPartition, At: at, Box: -1, For: g.span(2500 * time.Millisecond), Sides: g.sides(g.IntN(4))}
		})
	}},
	{"flapping link", 0.15, func(g *generator) {
		g.add(Fault{
			Kind: faultFlap, At: g.when(), For: g.span(3 * time.Second), Box: g.box(), Peer: g.box(),
			Amount: 20*time.Millisecond + g.span(300*time.Millisecond),
		})
	}},
	{"slow disks", 0.4, func(g *generator) {
		for range 1 + g.IntN(2) {
			g.add(Fault{Kind: faultSlowDisk, At: g.when() / 2, For: g.p.End, Box: g.box(), Amount: g.span(40 * time.Millisecond)})
		}
	}},
	{"very slow disk", 0.1, func(g *generator) {
		g.add(Fault{Kind: faultSlowDisk, At: g.when(), For: g.p.End, Box: g.box(), Amount: g.span(2 * time.Second)})
	}},
	{"stuck disk", 0.12, func(g *generator) {
		g.add(Fault{Kind: faultStuckDisk, At: g.when(), For: g.span(4 * time.Second), Box: g.box()})
	}},
	{"disk full", 0.1, func(g *generator) {
		g.add(Fault{Kind: faultFull, At: g.when(), For: g.span(3 * time.Second), Box: g.box()})
	}},
	{"fsync error", 0.12, func(g *generator) {
		g.add(Fault{Kind: faultEIO, At: g.when(), For: g.span(2 * time.Second), Box: g.box()})
	}},
	{"clock drift", 0.2, func(g *generator) {
		for range 1 + g.IntN(g.n) {
			g.add(Fault{Kind: faultDrift, At: g.when() / 2, For: g.p.End, Box: g.box(), Rate: 0.5 + g.Float64()*1.5})
		}
	}},
	{"clock jumps", 0.15, func(g *generator) {
		g.every(2*time.Second, func(at time.Duration) Fault {
			return Fault{Kind: faultJump, At: at, Box: g.box(), Amount: g.span(20 * time.Second)}
		})
	}},
	{"pauses", 0.2, func(g *generator) {
		g.every(2*time.Second, func(at time.Duration) Fault {
			return Fault{Kind: faultPause, At: at, Box: g.box(), For: g.span(2 * time.Second)}
		})
	}},
	{"slow cpu", 0.12, func(g *generator) {
		g.add(Fault{Kind: faultSlowCPU, At: g.when(), For: g.span(3 * time.Second), Box: g.box(), Amount: g.span(8 * time.Millisecond)})
	}},
	{"torn tail", 0.5, func(g *generator) {
		g.weak(func(b int, at, down time.Duration) Fault { return Fault{Kind: faultTail, At: at, Box: b, For: down} })
	}},
	{"bit flips", 0.5, func(g *generator) {
		g.weak(func(b int, at, down time.Duration) Fault { return Fault{Kind: faultDamage, At: at, Box: b, For: down} })
	}},
	{"wiped disk", 0.3, func(g *generator) {
		g.weak(func(b int, at, down time.Duration) Fault { return Fault{Kind: faultWipe, At: at, Box: b, For: down} })
	}},
	{"old disk image", 0.5, func(g *generator) {
		g.weak(func(b int, at, down time.Duration) Fault {
			return Fault{Kind: faultOldDisk, At: at, Box: b, For: down, Amount: g.span(at + 1)}
		})
	}},
	{"box replaced", 0.3, func(g *generator) {
		if len(g.p.Weak) > 0 && g.IntN(2) == 0 {
			g.add(Fault{Kind: faultReplace, At: g.when(), Box: g.p.Weak[0], For: weakDown})
		}
	}},
}

// sides cuts the network: at random, one box (perhaps one way only), in two sides, or, kind 3, not at all.
func (g *generator) sides(kind int) []bool {
	n := g.n
	cut := make([]bool, n*n)
	switch kind {
	case 0:
		for i := range cut {
			cut[i] = i/n != i%n && g.IntN(2) == 0
		}
	case 1:
		v, way := g.box(), g.IntN(3)
		for j := range n {
			cut[v*n+j] = way != 1 && j != v
			cut[j*n+v] = way != 2 && j != v
		}
	case 2:
		side := make([]bool, n)
		for i := range side {
			side[i] = g.IntN(2) == 0
		}
		for i := range cut {
			cut[i] = side[i/n] != side[i%n]
		}
	}
	return cut
}

// schedule puts a plan's faults on the clock.
func (s *Sim) schedule(p *Plan) {
	for i := range p.Faults {
		f := &p.Faults[i]
		s.call(int64(f.At), func() {
			if !s.healed {
				s.inject(f)
			}
		})
		if f.Kind == faultOldDisk {
			s.call(int64(f.At-f.Amount), func() { s.image(f) })
		}
	}
}

// image takes the image that an old-disk fault will restore.
func (s *Sim) image(f *Fault) {
	m := s.nodes[f.Box]
	m.old = m.disk.clone()
	s.log(m.idx, "fault", "an image of the disk is taken")
}

// inject does one fault.
func (s *Sim) inject(f *Fault) {
	until := min(s.now+int64(f.For), s.endAt)
	s.log(f.Box, "fault", "%v", f)
	s.used[f.Kind]++
	var ms []*machine
	for _, m := range s.nodes {
		if f.Box < 0 || m.id() == f.Box {
			ms = append(ms, m)
		}
	}
	after := func(fn func()) { s.call(until, fn) }
	switch f.Kind {
	case faultLoss:
		s.loss = max(s.loss, f.Rate)
		after(func() { s.loss = s.plan.Net.Loss })
	case faultDup:
		s.dup = f.Rate
		after(func() { s.dup = 0 })
	case faultReorder:
		s.jitter = int64(f.Amount)
		after(func() { s.jitter = 0 })
	case faultSpikes:
		s.spike = int64(f.Amount)
		after(func() { s.spike = 0 })
	case faultPartition:
		s.cutAs(f)
		s.cutBy = f
		after(func() {
			if s.cutBy == f {
				s.mend()
			}
		})
	case faultFlap:
		s.flap(f, until, true)
	default:
		for _, m := range ms {
			s.injectBox(m, f, until)
		}
	}
}

func (s *Sim) injectBox(m *machine, f *Fault, until int64) {
	after := func(fn func()) { s.call(until, fn) }
	switch f.Kind {
	case faultCrash:
		if s.powerCut(m) {
			s.bootAt(m, until)
		}
	case faultRestart:
		if s.kill(m) {
			s.bootAt(m, until)
		}
	case faultSlowDisk:
		m.slow = int64(f.Amount)
		after(func() { m.slow = 0 })
	case faultSlowState:
		m.slowState = int64(f.Amount)
		after(func() { m.slowState = 0 })
	case faultStuckDisk, faultFull:
		m.stuck, m.full = true, f.Kind == faultFull
		after(func() {
			m.stuck, m.full = false, false
			s.kick(m)
		})
	case faultEIO:
		m.eio = true
		after(func() {
			if m.eio {
				m.eio = false
			} else if m.failed {
				s.powerCut(m)
				s.bootAt(m, s.now+1)
			}
		})
	case faultDrift:
		m.clock.set(s.now, f.Rate)
		after(func() { m.clock.set(s.now, 1) })
	case faultJump:
		m.clock.jump(int64(f.Amount))
		s.wakeSoon(m)
	case faultPause:
		m.busyUntil = max(m.busyUntil, until)
	case faultSlowCPU:
		m.cost = int64(f.Amount)
		after(func() { m.cost = 0 })
	case faultTail, faultDamage, faultWipe, faultOldDisk:
		s.forgetful(m, f)
	case faultReplace:
		s.replace(m, f)
	}
}

// forgetful takes a box down and gives it back with a disk that does not know all that it signed.
func (s *Sim) forgetful(m *machine, f *Fault) {
	if m.liar == liar.Dead || !s.powerCut(m) {
		return
	}
	m.lost = true
	switch f.Kind {
	case faultTail:
		m.lost = m.disk.loseTail(s.site(), s.rng)
	case faultDamage:
		m.disk.setAside(s.site(), s.rng.IntN(3) == 0)
		m.lost = false
	case faultWipe:
		m.disk = newDisk()
	case faultOldDisk:
		if m.old == nil {
			break
		}
		m.disk, m.old = m.old, nil
		m.disk.powerCut(s.site(), s.rng)
	}
	m.forgot = true
	// It may be down beyond the end of the faults: what it sent before must be gone from the network.
	s.bootAt(m, s.now+int64(f.For))
}

// replace stops the site, gives a box's place to a new one with an empty disk, and starts the site.
func (s *Sim) replace(m *machine, f *Fault) {
	if m.liar != "" {
		return
	}
	from := uint64(0)
	for _, x := range s.nodes {
		if x.box != nil {
			from = max(from, x.box.Core().Round())
		}
		from = max(from, x.round)
		s.powerCut(x)
	}
	term := s.o.Term
	members := *s.founders
	members.List = append(members.List[:0:0], members.List...)
	who := &members.List[m.id()]
	who.ID[7]++
	who.VotesFrom = (from/term + 2) * term
	s.ids[m.id()] = who.ID
	s.numbers[who.ID] = m.id()
	s.founders, s.epochs[1] = &members, &members
	for _, x := range s.nodes {
		x.members = &members
	}
	s.check.replaced(m)
	m.disk = newDisk()
	m.applied, m.forgot = 0, true
	for _, x := range s.nodes {
		if x.liar != liar.Dead {
			s.bootAt(x, s.now+int64(f.For))
		}
	}
}

// bootAt starts a machine later, unless something else did.
func (s *Sim) bootAt(m *machine, at int64) {
	inc := m.inc
	s.call(at, func() {
		if m.box == nil && m.inc == inc && m.liar != liar.Dead {
			s.boot(m)
		}
	})
}

func (s *Sim) flap(f *Fault, until int64, up bool) {
	if s.now >= until || s.healed {
		up = true
	}
	for _, a := range s.nodes {
		for _, b := range s.nodes {
			if a.id() == f.Box && b.id() == f.Peer {
				s.flapped[a.idx][b.idx], s.flapped[b.idx][a.idx] = !up, !up
				s.relink(a, b)
				s.relink(b, a)
			}
		}
	}
	if s.now < until && !s.healed {
		s.call(s.now+int64(f.Amount), func() { s.flap(f, until, !up) })
	}
}

func (s *Sim) cutAs(f *Fault) {
	for _, a := range s.nodes {
		for _, b := range s.nodes {
			if f.Split != nil {
				s.cut[a.idx][b.idx] = f.Split[a.idx] != f.Split[b.idx]
			} else {
				s.cut[a.idx][b.idx] = a.id() != b.id() && f.Sides[a.id()*s.total+b.id()]
			}
		}
	}
	s.relinkAll()
}

func (s *Sim) mend() {
	for i := range s.cut {
		clear(s.cut[i])
	}
	s.cutBy = nil
	s.relinkAll()
}

func (s *Sim) relinkAll() {
	for _, a := range s.nodes {
		for _, b := range s.nodes {
			s.relink(a, b)
		}
	}
}

// wakeSoon steps a box because its clock changed.
func (s *Sim) wakeSoon(m *machine) {
	s.callFor(m, s.now+1, func() { s.step(m, site.Input{}) })
}

// clock is a box's monotonic clock: it runs at a rate and may jump ahead.
type clock struct {
	base, at int64 // it showed base at the site's time at
	rate     float64
}

func (c *clock) now(t int64) int64 {
	if c.rate == 0 {
		return t + c.base
	}
	return c.base + int64(float64(t-c.at)*c.rate)
}

// when is the site's time at which the clock shows l.
func (c *clock) when(l int64) int64 {
	if c.rate == 0 {
		return l - c.base
	}
	return c.at + int64(float64(l-c.base)/c.rate)
}

func (c *clock) set(t int64, rate float64) { *c = clock{c.now(t), t, rate} }
func (c *clock) jump(d int64)              { c.base += d }

func (s *Sim) log(box int, kind, format string, args ...any) {
	if s.o.Log != nil {
		s.o.Log(Entry{time.Duration(s.now), box, kind, fmt.Sprintf(format, args...)})
	}
}
