package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
)

// Options of one trial. What happens depends on them alone.
type Options struct {
	N    int
	Seed uint64
	// Term is K; 0 picks 1, 3, 8, 64 or 1000 by the seed.
	Term uint64
	// Faulty is how many boxes lie or have a disk that forgets; -1: up to f, by the seed. More than f breaks
	// the promises: the trial says which.
	Faulty int
	// Liar, when not empty, is how all boxes lie that do.
	Liar liar.Kind
	// Plan is what is done to the site; nil: from the seed.
	Plan *Plan
	// Identities, when not nil, sign for real (ECDSA P-256) in place of keyed hashes; at least N.
	Identities []Identity
	// Suspicion has the boxes keep scores of each other, and order whom they suspect.
	Suspicion bool
	// Changes is how many changes of members a plan from the seed has, about.
	Changes int
	// Log, when set, gets the timeline.
	Log func(Entry)
}

// Entry is one line of a timeline.
type Entry struct {
	At   time.Duration
	Box  int // machine; -1: the site
	Kind string
	Text string
}

func (e Entry) String() string {
	who := "site"
	if e.Box >= 0 {
		who = fmt.Sprintf("box %d", e.Box)
	}
	return fmt.Sprintf("%9.1f ms  %-6s %-9s %s", float64(e.At)/1e6, who, e.Kind, e.Text)
}

// OptionsFor is the options of a seed: mostly four boxes, sometimes seven, now and then another number.
func OptionsFor(seed uint64) Options {
	n := 4
	switch seed % 20 {
	case 17, 19:
		n = 7
	case 18:
		n = []int{1, 2, 3, 5, 6, 10}[seed/20%6]
	}
	return Options{N: n, Seed: seed, Faulty: -1}
}

// Plan is everything that is done to a site in a trial. Faults end at End at the latest.
type Plan struct {
	End     time.Duration
	Net     Net
	Liars   []Liar
	Weak    []int // boxes whose disk may forget: they count as faulty, and yet must never vote twice
	Faults  []Fault
	Clients []Client
	Changes []Change
	Traps   []Trap
	// Fresh is how the machines lie that are not there at first: those with the numbers after the first ones.
	Fresh []liar.Kind
}

// Net is the network between the faults.
type Net struct {
	DelayLo, DelayHi time.Duration // one way, uniform
	Loss             float64       // after the faults a tenth of it stays
}

// Liar is a box that lies from the start to the end of the trial.
type Liar struct {
	Box  int
	Kind liar.Kind
}

// Client opens a session at Start and sends a message every Gap on average until the plan's end.
type Client struct{ Start, Gap time.Duration }

// Fault is one thing that is done to boxes. What Amount and Rate mean depends on the kind.
type Fault struct {
	Kind FaultKind
	At   time.Duration
	For  time.Duration
	// Box is the machine it happens to, -1 for all; Peer the other end of a link.
	Box, Peer int
	Amount    time.Duration
	Rate      float64
	// Sides, for partitions: i*N+j set: box i cannot reach box j. Or Split: by machine, who can only reach
	// those with the same number (twins are machines from N on, in the order of the plan's liars).
	Sides []bool
	Split []uint8
}

func (f Fault) String() string {
	var s strings.Builder
	s.WriteString(fmt.Sprintf("%8.1f ms  %-10s", float64(f.At)/1e6, f.Kind))
	if f.Box >= 0 {
		s.WriteString(fmt.Sprintf(" box %d", f.Box))
	} else {
		s.WriteString(" all")
	}
	if f.Kind == faultFlap {
		s.WriteString(fmt.Sprintf(" and %d", f.Peer))
	}
	if f.For > 0 {
		s.WriteString(fmt.Sprintf(" for %v", f.For.Round(time.Millisecond/10)))
	}
	if f.Amount != 0 {
		s.WriteString(fmt.Sprintf(" by %v", f.Amount.Round(time.Millisecond/10)))
	}
	if f.Rate != 0 {
		s.WriteString(fmt.Sprintf(" rate %.2f", f.Rate))
	}
	if f.Split != nil {
		s.WriteString(fmt.Sprintf(" split %v", f.Split))
	}
	if f.Sides != nil {
		n := 0
		for n*n < len(f.Sides) {
			n++
		}
		for i := range n {
			s.WriteString(" ")
			for j := range n {
				s.WriteString(map[bool]string{true: "x", false: "."}[f.Sides[i*n+j]])
			}
		}
	}
	return s.String()
}

// String prints the scenario, one thing a line.
func (p *Plan) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "network   delay %v to %v, loss %.2f\n", p.Net.DelayLo.Round(time.Microsecond), (p.Net.DelayLo + p.Net.DelayHi).Round(time.Microsecond), p.Net.Loss)
	for _, l := range p.Liars {
		fmt.Fprintf(&s, "liar      box %d is %s\n", l.Box, l.Kind)
	}
	for _, w := range p.Weak {
		fmt.Fprintf(&s, "weak      box %d has a disk that forgets\n", w)
	}
	for i, c := range p.Clients {
		fmt.Fprintf(&s, "client    %d from %v, a message every %v\n", i, c.Start.Round(time.Millisecond), c.Gap.Round(time.Millisecond))
	}
	for _, f := range p.Faults {
		fmt.Fprintf(&s, "fault  %v\n", f)
	}
	for _, t := range p.Traps {
		fmt.Fprintf(&s, "trap      box %d loses power for %v, site %v, %d times, when %v\n", t.Box, t.For, t.Site, t.Times, t.At)
	}
	for _, c := range p.Changes {
		fmt.Fprintf(&s, "change %v\n", c)
	}
	fmt.Fprintf(&s, "heal      at %v\n", p.End.Round(time.Millisecond))
	return s.String()
}

// lied says whether a box lies, now or later.
func (p *Plan) lied() bool {
	return len(p.Liars) > 0 || slices.ContainsFunc(p.Fresh, func(k liar.Kind) bool { return k != "" })
}

// honest says that no box lies and no disk forgets.
func (p *Plan) honest() bool { return !p.lied() && len(p.Weak) == 0 }

// clone is a copy whose lists can be changed.
func (p *Plan) clone() *Plan {
	q := *p
	q.Liars, q.Weak = slices.Clone(p.Liars), slices.Clone(p.Weak)
	q.Faults, q.Clients = slices.Clone(p.Faults), slices.Clone(p.Clients)
	q.Changes, q.Fresh = slices.Clone(p.Changes), slices.Clone(p.Fresh)
	return &q
}

// NewPlan draws a plan: each generator is used or not, more or less often.
func NewPlan(o Options) *Plan {
	r := newRand(o.Seed, 0x706c616e)
	p := &Plan{End: time.Second + span(r, 5*time.Second)}
	p.Net = Net{DelayLo: span(r, 2*time.Millisecond), DelayHi: 1 + span(r, 40*time.Millisecond)}
	if r.IntN(30) == 0 { // a satellite: longer than the time-out
		p.Net.DelayLo = span(r, 600*time.Millisecond)
	}
	if r.IntN(3) > 0 {
		p.Net.Loss = r.Float64() * 0.25
	}
	for range 1 + r.IntN(3) {
		p.Clients = append(p.Clients, Client{Start: span(r, 100*time.Millisecond), Gap: 10*time.Millisecond + span(r, 150*time.Millisecond)})
	}
	f := coord.MaxFaulty(o.N)
	faulty := f
	if o.Faulty >= 0 {
		faulty = min(o.Faulty, o.N)
	} else if r.IntN(4) == 0 {
		faulty = r.IntN(f + 1)
	}
	kinds := liar.Kinds()
	for _, i := range r.Perm(o.N)[:faulty] {
		k := kinds[r.IntN(len(kinds))]
		switch weak := r.IntN(4) == 0; {
		case o.Liar != "":
			p.Liars = append(p.Liars, Liar{i, o.Liar})
		case weak:
			p.Weak = append(p.Weak, i)
		default:
			p.Liars = append(p.Liars, Liar{i, k})
		}
	}
	g := &generator{Rand: r, p: p, n: o.N}
	if o.Changes > 0 {
		p.End += time.Duration(o.Changes) * time.Second
		g.walk(o.Changes)
		g.n += len(p.Fresh)
	}
	for i := range generators {
		if x := &generators[i]; r.Float64() < x.often {
			x.make(g)
		}
	}
	if o.Changes > 0 { // a member set that an operator wrote by hand would not be the site's
		p.Faults = slices.DeleteFunc(p.Faults, func(f Fault) bool { return f.Kind == faultReplace })
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	return p
}

func span(r *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(d)))
}
