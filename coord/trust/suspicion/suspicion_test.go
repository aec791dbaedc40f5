package suspicion_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

const second = int64(time.Second)

func ids(n int) (out []coord.BoxID) {
	for i := range n {
		out = append(out, coord.BoxID{byte(i + 1)})
	}
	return out
}

func watch(n int) *suspicion.Watch {
	return suspicion.New(suspicion.Config{Self: ids(n)[0], Members: ids(n), Rates: suspicion.DefaultRates()})
}

func standing(w *suspicion.Watch, box byte, now int64) suspicion.Standing {
	for _, s := range w.Standings(now) {
		if s.Box == (coord.BoxID{box}) {
			return s
		}
	}
	return suspicion.Standing{}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

func TestAScoreHalvesAndIsForgiven(t *testing.T) {
	w := watch(4)
	now := second
	for range 3 {
		w.BadSignature(coord.BoxID{2}, "a vote", now)
	}
	s := standing(w, 2, now)
	if s.Level != suspicion.Suspect || !near(s.Points, 12) || len(s.Grounds) != 1 || s.Grounds[0].Events != 3 || s.Grounds[0].Detail != "a vote" || s.Grounds[0].Last != now {
		t.Fatalf("%+v", s)
	}
	if c := w.Changes(now); len(c) != 1 || c[0].From != suspicion.Fine || c[0].Level != suspicion.Suspect {
		t.Errorf("changes %+v", c)
	}
	if c := w.Changes(now); len(c) != 0 {
		t.Errorf("the same change twice: %+v", c)
	}
	// 6 points after a half-life: below what makes a suspect, but not yet clear.
	now += int64(10 * time.Minute)
	if s := standing(w, 2, now); s.Level != suspicion.Suspect || !near(s.Points, 6) {
		t.Errorf("after a half-life: %+v", s)
	}
	if got := w.Opinion(ids(4), now); got != 1<<1 {
		t.Errorf("opinion %b", got)
	}
	at := now + int64(standing(w, 2, now).FineIn)
	now += int64(6 * time.Minute)
	if c := w.Changes(now); len(c) != 1 || c[0].Level != suspicion.Watched || w.Opinion(ids(4), now) != 0 {
		t.Errorf("at 4 points: %+v", c)
	}
	if s := standing(w, 2, at); s.Level != suspicion.Fine || s.Points > 3 {
		t.Errorf("when it was said to be fine: %+v", s)
	}
	if got := standing(w, 2, now-int64(time.Hour)); !near(got.Points, standing(w, 2, at).Points) {
		t.Errorf("time that goes back changes %+v", got)
	}
}

func TestNothingMakesAScoreGrowForEver(t *testing.T) {
	w := watch(4)
	for range 10_000 {
		w.BadSignature(coord.BoxID{2}, "a vote", second)
	}
	if s := standing(w, 2, second); !near(s.Points, 20) {
		t.Errorf("%v points", s.Points)
	}
	if s := standing(w, 2, second+int64(30*time.Minute)); s.Level != suspicion.Fine {
		t.Errorf("who stopped half an hour ago is %v", s.Level)
	}
}

func TestOnlyMembersAreJudgedAndNeverOneself(t *testing.T) {
	w := watch(4)
	for _, b := range []byte{1, 9} {
		for range 10 {
			w.BadSignature(coord.BoxID{b}, "", second)
			w.Challenge(coord.BoxID{b}, "a proven read", suspicion.Wrong, second)
			w.Traffic(coord.BoxID{b}, suspicion.Control, 1<<30, second)
			w.ClockSample(coord.BoxID{b}, time.Hour, 0, second)
			w.Proposal(coord.BoxID{b}, time.Hour, 0, second)
		}
	}
	if s := w.Standings(second); len(s) != 4 || s[0].Points != 0 {
		t.Errorf("%+v", s)
	}
	w.BadSignature(coord.BoxID{2}, "", second)
	w.BadSignature(coord.BoxID{3}, "", second)
	w.SetMembers([]coord.BoxID{{1}, {2}, {7}})
	if s := w.Standings(second); len(s) != 3 || s[0].Box != (coord.BoxID{2}) || !near(s[0].Points, 4) || s[1].Points != 0 {
		t.Errorf("after a change of members: %+v", s)
	}
}

func TestWhoHasAnotherStateThanTheQuorumIsNamed(t *testing.T) {
	a, b := coord.Digest{1}, coord.Digest{2}
	type say struct {
		box byte
		d   coord.Digest
	}
	for name, c := range map[string]struct {
		says []say
		want []byte
	}{
		"all the same":           {[]say{{1, a}, {2, a}, {3, a}, {4, a}}, nil},
		"no quorum yet":          {[]say{{1, a}, {2, b}, {3, a}}, nil},
		"one differs, last":      {[]say{{1, a}, {2, a}, {3, a}, {4, b}}, []byte{4}},
		"one differs, first":     {[]say{{4, b}, {1, a}, {2, a}, {3, a}}, []byte{4}},
		"split":                  {[]say{{1, a}, {2, a}, {3, b}, {4, b}}, nil},
		"this one, not the rest": {[]say{{1, b}, {2, a}, {3, a}, {4, a}}, []byte{1}}, // this box is damaged, and accuses nobody else
		"said twice":             {[]say{{1, a}, {2, a}, {3, a}, {3, b}, {4, a}}, nil},
	} {
		w := watch(4)
		for _, s := range c.says {
			w.State(coord.BoxID{s.box}, 100, s.d, second)
		}
		var got []byte
		for _, s := range w.Standings(second) {
			if s.Level == suspicion.Suspect {
				got = append(got, s.Box[0])
				if g := s.Grounds[0]; len(s.Grounds) != 1 || g.Reason != suspicion.WrongState || g.Events != 1 {
					t.Errorf("%s: one event expected: %+v", name, s)
				}
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v are suspected, want %v", name, got, c.want)
		}
	}
	// Reports that come later do not make it two events.
	w := suspicion.New(suspicion.Config{Self: coord.BoxID{1}, Members: ids(7)})
	for box := range byte(7) {
		d := a
		if box == 1 {
			d = b
		}
		w.State(coord.BoxID{box + 1}, 100, d, second)
	}
	if s := w.Standings(second); s[0].Box != (coord.BoxID{2}) || s[0].Grounds[0].Events != 1 || s[1].Points != 0 {
		t.Errorf("seven boxes, one differs: %+v", s[:2])
	}
	// A liar that reports far heights does not push out what others said.
	w = watch(4)
	w.State(coord.BoxID{1}, 100, a, second)
	w.State(coord.BoxID{2}, 100, a, second)
	for h := range uint64(1000) {
		w.State(coord.BoxID{4}, 1000+h, b, second)
	}
	w.State(coord.BoxID{3}, 100, b, second)
	if s := w.Standings(second); s[0].Points != 0 {
		t.Errorf("without a quorum: %+v", s[0])
	}
	w = watch(4)
	for h := range uint64(1000) {
		w.State(coord.BoxID{4}, 1000+h, b, second)
	}
	for _, box := range []byte{1, 2, 3} {
		w.State(coord.BoxID{box}, 100, a, second)
	}
	w.State(coord.BoxID{4}, 100, b, second) // far heights do not hide it
	if s := w.Standings(second); s[0].Box != (coord.BoxID{4}) || s[0].Level != suspicion.Suspect || s[1].Points != 0 {
		t.Errorf("behind far heights: %+v", s[:2])
	}
}

func TestAClockOffTheMedianIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		offset, trip []time.Duration // of boxes 2, 3, 4
		want         []byte
	}{
		"together":                    {[]time.Duration{0, 300 * time.Millisecond, -200 * time.Millisecond}, []time.Duration{0, 0, 0}, nil},
		"one ahead":                   {[]time.Duration{0, 0, time.Second}, []time.Duration{0, 0, 0}, []byte{4}},
		"one behind":                  {[]time.Duration{0, 0, -time.Second}, []time.Duration{0, 0, 0}, []byte{4}},
		"ahead within its trip":       {[]time.Duration{0, 0, time.Second}, []time.Duration{0, 0, time.Second + time.Millisecond}, nil},
		"too long a trip":             {[]time.Duration{0, 0, time.Hour}, []time.Duration{0, 0, time.Minute}, nil},
		"this box is off, not others": {[]time.Duration{time.Hour, time.Hour, time.Hour}, []time.Duration{0, 0, 0}, nil},
		"of 1970":                     {[]time.Duration{0, 0, math.MinInt64}, []time.Duration{0, 0, time.Second}, []byte{4}},
		"of another age":              {[]time.Duration{0, 0, math.MaxInt64}, []time.Duration{0, 0, time.Second}, []byte{4}},
		"no two agree":                {[]time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour}, []time.Duration{0, 0, 0}, []byte{2, 4}}, // then more than f are off
	} {
		w := watch(4)
		now := second
		for range 120 {
			for i := range 3 {
				w.ClockSample(coord.BoxID{byte(i + 2)}, c.offset[i], c.trip[i], now)
			}
			now += second
		}
		var got []byte
		for _, s := range w.Standings(now) {
			if s.Level == suspicion.Suspect {
				got = append(got, s.Box[0])
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v are suspected, want %v", name, got, c.want)
		}
	}
}

// Fewer than a quorum of fresh samples say nothing, and a step of this box's own clock is forgiven.
func TestClocksAreJudgedByAFreshQuorum(t *testing.T) {
	w := watch(7) // a quorum is 5 with this one
	now := second
	for range 60 {
		for i, o := range []time.Duration{0, 0, time.Hour} {
			w.ClockSample(coord.BoxID{byte(i + 2)}, o, 0, now)
		}
		now += second
	}
	w.ClockSample(coord.BoxID{5}, 0, 0, now-2*int64(time.Minute)) // the fifth, but of long ago
	w.ClockSample(coord.BoxID{4}, time.Hour, 0, now)
	if s := standing(w, 4, now); s.Points != 0 {
		t.Errorf("by four of seven clocks: %+v", s)
	}
	w.ClockSample(coord.BoxID{5}, 0, 0, now)
	w.ClockSample(coord.BoxID{4}, time.Hour, 0, now)
	if s := standing(w, 4, now); s.Points == 0 {
		t.Errorf("by five of seven clocks: %+v", s)
	}
	w = watch(7)
	for i := range 600 {
		offset := time.Duration(0)
		if i >= 300 { // this box's clock was set back by an hour
			offset = time.Hour
		}
		for j := 2; j <= 7; j++ {
			w.ClockSample(coord.BoxID{byte(j)}, offset, 0, now)
			now += second / 6
		}
	}
	for _, s := range w.Standings(now) {
		if s.Level != suspicion.Fine {
			t.Errorf("after a step of its own: %+v", s)
		}
	}
}

// A little above the rate, for long, is noticed, and the little below it is not.
func TestTheRateHoldsForLong(t *testing.T) {
	r := suspicion.DefaultRates()[suspicion.Telemetry]
	for share, want := range map[float64]suspicion.Level{0.99: suspicion.Fine, 1.2: suspicion.Suspect} {
		w := watch(4)
		now := second
		for range 600 {
			w.Traffic(coord.BoxID{2}, suspicion.Telemetry, int(share*r.PerSecond/10), now)
			now += second / 10
		}
		if s := standing(w, 2, now); s.Level != want {
			t.Errorf("%v of the rate: %+v", share, s)
		}
	}
}

func TestVolumeIsForgivenWithinTheBurst(t *testing.T) {
	r := suspicion.DefaultRates()[suspicion.Batches]
	w := watch(4)
	now := second
	for range 600 { // at the limit for ten minutes, with what a minute's stall held back at once
		w.Traffic(coord.BoxID{2}, suspicion.Batches, int(r.PerSecond), now)
		now += second
	}
	w.Traffic(coord.BoxID{2}, suspicion.Batches, int(r.Burst-r.PerSecond), now)
	if s := standing(w, 2, now); s.Points != 0 {
		t.Errorf("%+v", s)
	}
	for range 10 {
		for range 10 {
			w.Traffic(coord.BoxID{3}, suspicion.Batches, int(r.Burst), now)
		}
		now += second
	}
	if s := standing(w, 3, now); s.Level != suspicion.Suspect || s.Grounds[0].Reason != suspicion.Volume {
		t.Errorf("%+v", s)
	}
}

func TestWhoIsSetAsideIsAgreedAndBounded(t *testing.T) {
	bits := func(js ...int) (b uint32) {
		for _, j := range js {
			b |= 1 << j
		}
		return b
	}
	for name, c := range map[string]struct {
		n        int
		opinions []uint32
		want     []int
	}{
		"one liar alone":             {4, []uint32{0, 0, 0, bits(0, 1, 2)}, nil},
		"two see it":                 {4, []uint32{bits(3), bits(3), 0, 0}, []int{3}},
		"itself does not count":      {4, []uint32{bits(3), 0, 0, bits(3)}, nil},
		"never more than f":          {4, []uint32{bits(2, 3), bits(2, 3), 0, 0}, []int{2}},
		"those whom most suspect":    {7, []uint32{bits(4, 5, 6), bits(4, 5, 6), bits(4, 5, 6), bits(6), bits(5)}, []int{5, 6}},
		"a site that stands no liar": {3, []uint32{bits(2), bits(2), 0}, nil},
		"no member":                  {4, []uint32{bits(9), bits(9), bits(9)}, nil},
	} {
		if got := suspicion.Aside(c.n, c.opinions); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// world simulates what one box sees of a site: load that drifts and jumps, links and boards that differ up to 1.5 times, lognormal noise,
// stalls of 20 times in one of a hundred rounds, clocks within the precision over asymmetric links, lost challenges, bursts.
type world struct {
	rnd    *rand.Rand
	w      *suspicion.Watch
	n      int
	now    int64
	load   float64
	base   []float64
	clock  []time.Duration
	height uint64
	// late and the others are what the liars do; a liar is box n, n-1, ... up to f of them.
	late   float64       // times as late; 0: as the others
	skew   time.Duration // of their clocks
	flood  int
	silent float64 // part of the challenges that they do not answer
	forge  bool
	state  bool
	rush   bool // they propose at once, to make others look late
}

func newWorld(seed uint64, n int) *world {
	x := &world{rnd: rand.New(rand.NewPCG(seed, uint64(n))), w: watch(n), n: n, now: second, load: 1}
	for range n {
		x.base = append(x.base, 1+x.rnd.Float64()/2)
		x.clock = append(x.clock, time.Duration(x.rnd.Int64N(int64(500*time.Millisecond))))
	}
	return x
}

func (x *world) liar(i int) bool { return i >= x.n-coord.MaxFaulty(x.n) }

func (x *world) noise() float64 {
	f := math.Exp(x.rnd.NormFloat64() * 0.5)
	if x.rnd.IntN(100) == 0 {
		f *= 20
	}
	return f
}

// round is one round of leader i and, about once a second, what else is said.
func (x *world) round(i int) {
	x.load = min(max(x.load*math.Exp(x.rnd.NormFloat64()*0.01), 0.5), 50)
	if x.rnd.IntN(2000) == 0 {
		x.load = 0.5 + x.rnd.Float64()*30
	}
	pace := 4 * x.load * math.Exp(x.rnd.NormFloat64()*0.1) // ms
	delay := 2 * x.load * x.base[i] * x.noise()
	if x.liar(i) && x.late > 0 {
		delay *= x.late
	}
	if x.liar(i) && x.rush {
		delay = 0
	}
	ms := func(f float64) time.Duration { return time.Duration(f * float64(time.Millisecond)) }
	x.w.Proposal(coord.BoxID{byte(i + 1)}, ms(delay), ms(pace), x.now)
	before := x.now / second
	x.now += int64(ms(delay + pace))
	for j := 1; j < x.n && x.now/second != before; j++ {
		id := coord.BoxID{byte(j + 1)}
		lies := x.liar(j)
		there, back := ms(x.load*x.base[j]*x.noise()), ms(x.load*x.base[j]*x.noise())
		offset := x.clock[j] - x.clock[0] + (there-back)/2
		if lies {
			offset += x.skew
		}
		x.w.ClockSample(id, offset, there+back, x.now)
		answer := suspicion.Right
		if x.rnd.Float64() < 0.02 || lies && x.rnd.Float64() < x.silent {
			answer = suspicion.None
		}
		x.w.Challenge(id, "a proven read", answer, x.now)
		x.w.Traffic(id, suspicion.Control, 2000+x.rnd.IntN(10_000), x.now)
		if lies && x.flood > 0 {
			x.w.Traffic(id, suspicion.Control, x.flood, x.now)
		}
		if lies && x.forge {
			x.w.BadSignature(id, "a vote", x.now)
		}
	}
	if x.rnd.IntN(300) == 0 {
		x.height += 256
		for j := range x.n {
			d := coord.Digest{byte(x.height)}
			if x.liar(j) && x.state {
				d[5] = 1
			}
			x.w.State(coord.BoxID{byte(j + 1)}, x.height, d, x.now)
		}
	}
}

// run plays rounds, in terms of 200 for each leader, and gives who was ever suspected.
func (x *world) run(rounds int) (suspects map[int]suspicion.Reason) {
	suspects = map[int]suspicion.Reason{}
	for r := range rounds {
		x.round(r / 200 % x.n)
		for _, c := range x.w.Changes(x.now) {
			if c.Level == suspicion.Suspect {
				suspects[int(c.Box[0])-1] = c.Grounds[0].Reason
			}
		}
	}
	return suspects
}

// Nobody honest is suspected under plausible noise. The bound is that of the test of late proposals: the mean distance of false results is at
// least exp(11.5) = 98,700 proposals, and two within minutes are needed. 400,000 of them are played in 80 sites.
func TestHonestBoxesAreNotSuspected(t *testing.T) {
	watched := 0
	for _, n := range []int{4, 5, 7, 16} {
		for seed := range uint64(20) {
			x := newWorld(seed, n)
			if got := x.run(5000); len(got) > 0 {
				t.Errorf("%d boxes, seed %d: %v", n, seed, got)
			}
			for _, s := range x.w.Standings(x.now) {
				for _, g := range s.Grounds {
					watched += int(g.Events)
				}
			}
		}
	}
	if watched > 4 { // 400,000/98,700
		t.Errorf("%d events about honest boxes", watched)
	}
	t.Logf("%d events about honest boxes", watched)
}

// Each way to harm is noticed for what it is, with all f liars at it together, and no honest box is suspected beside them.
func TestEachAttackIsSuspected(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(x *world)
		reason suspicion.Reason
	}{
		"late proposals":     {func(x *world) { x.late = 12 }, suspicion.Late},
		"a clock ahead":      {func(x *world) { x.skew = 3 * time.Second }, suspicion.Clock},
		"a clock behind":     {func(x *world) { x.skew = -3 * time.Second }, suspicion.Clock},
		"a flood":            {func(x *world) { x.flood = 200_000 }, suspicion.Volume},
		"no answers":         {func(x *world) { x.silent = 0.9 }, suspicion.Challenge},
		"forged signatures":  {func(x *world) { x.forge = true }, suspicion.BadSignature},
		"another state told": {func(x *world) { x.state = true }, suspicion.WrongState},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{4, 7, 16} {
				for seed := range uint64(5) {
					x := newWorld(seed, n)
					c.set(x)
					got := x.run(8000)
					for i := range n {
						reason, suspected := got[i]
						if suspected != x.liar(i) || suspected && reason != c.reason {
							t.Errorf("%d boxes, seed %d, box %d: suspected %v for %v", n, seed, i, suspected, reason)
						}
					}
				}
			}
		})
	}
}

// Liars that propose at once do not make the others look late.
func TestHonestLeadersAreNotFramed(t *testing.T) {
	for _, n := range []int{4, 7, 16} {
		for seed := range uint64(10) {
			x := newWorld(seed, n)
			x.rush = true
			if got := x.run(8000); len(got) > 0 {
				t.Errorf("%d boxes, seed %d: %v", n, seed, got)
			}
		}
	}
}

// How many proposals it takes, for docs/trust.md.
func TestALateLeaderIsNoticedSoon(t *testing.T) {
	for _, late := range []float64{3, 4, 6, 12, 30} {
		most := 0
		for seed := range uint64(20) {
			x := newWorld(seed, 4)
			x.run(1600) // all have led twice
			x.late = late
			n := 0
			for ; n < 2000 && x.w.Opinion(ids(4), x.now) == 0; n++ {
				x.round(3)
			}
			most = max(most, n)
		}
		t.Logf("%v times as late: at most %d proposals", late, most)
		if late >= 6 && most > 100 {
			t.Errorf("%v times as late: %d proposals", late, most)
		}
	}
}

func BenchmarkProposal(b *testing.B) {
	for _, n := range []int{4, 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := newWorld(1, n)
			x.run(200 * n)
			i := 0
			for b.Loop() {
				i++
				x.w.Proposal(coord.BoxID{byte(2 + i%(n-1))}, 3*time.Millisecond, 4*time.Millisecond, x.now)
			}
		})
	}
}
