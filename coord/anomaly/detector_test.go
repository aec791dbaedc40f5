package anomaly

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// walk is a series of many tempers: a day, noise, bursts, holes, constants, numbers that are none.
func walk(seed uint64, n int) (times []time.Time, values []float64) {
	r := rand.New(rand.NewPCG(seed, 1))
	at, level := epoch, 100.0
	for i := range n {
		at = at.Add(time.Duration(20+r.IntN(20)) * time.Second)
		v := level + 20*math.Sin(float64(i)/288*2*math.Pi) + r.NormFloat64()
		switch r.IntN(500) {
		case 0:
			at = at.Add(time.Hour)
		case 1:
			level *= 0.5 + r.Float64()
		case 2:
			v = math.NaN()
		case 3:
			v = math.Inf(1)
		case 4:
			v *= 10
		case 5:
			at = at.Add(-time.Minute)
		}
		times, values = append(times, at), append(values, v)
	}
	return times, values
}

func scores(times []time.Time, values []float64) []Point {
	d := New(Default)
	points := make([]Point, len(values))
	for i := range values {
		points[i] = d.Push(times[i], values[i])
	}
	return points
}

func TestTheScoresOfAPrefixAreThePrefixOfTheScores(t *testing.T) {
	times, values := walk(1, 6000)
	whole := scores(times, values)
	for _, n := range []int{1, 2, 17, 500, 777, 4001} {
		for i, p := range scores(times[:n], values[:n]) {
			if p != whole[i] {
				t.Fatalf("point %d of %d: %v in the prefix, %v in the whole", i, n, p, whole[i])
			}
		}
	}
}

func TestScoresLieBetweenZeroAndOneWhateverComes(t *testing.T) {
	series := map[string]func(i int) float64{
		"constant": func(int) float64 { return 3 },
		"zero":     func(int) float64 { return 0 },
		"no numbers": func(i int) float64 {
			return []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[i%3]
		},
		"largest":  func(i int) float64 { return math.MaxFloat64 * float64(i%3-1) },
		"smallest": func(i int) float64 { return math.SmallestNonzeroFloat64 * float64(i%5) },
		"growing":  func(i int) float64 { return math.Exp(float64(i) / 10) },
		"ramp":     func(i int) float64 { return float64(i) },
		"two":      func(i int) float64 { return float64(i % 2) },
	}
	for name, f := range series {
		d := New(Default)
		for i := range 8000 {
			p := d.Push(epoch.Add(time.Duration(i)*time.Second), f(i))
			if !(p.Score >= 0 && p.Score <= 1 && p.Chance > 0 && p.Chance <= 1) {
				t.Fatalf("%s, point %d: %+v", name, i, p)
			}
			if (name == "constant" || name == "zero" || name == "no numbers") && p.Score != 0 {
				t.Fatalf("%s, point %d is unusual: %+v", name, i, p)
			}
		}
	}
}

func TestTimesMayStandStillGoBackAndLeaveHoles(t *testing.T) {
	_, values := walk(2, 3000)
	for name, at := range map[string]func(i int) time.Time{
		"none":     func(int) time.Time { return time.Time{} },
		"back":     func(i int) time.Time { return epoch.Add(-time.Duration(i) * time.Second) },
		"far away": func(i int) time.Time { return epoch.AddDate(i*200, 0, 0) },
	} {
		d := New(Default)
		for i, v := range values {
			if p := d.Push(at(i), v); math.IsNaN(p.Score) {
				t.Fatalf("%s, point %d: %+v", name, i, p)
			}
		}
	}
}

// told says whether a score from the given point on, for the next few, is above what threshold boxes of
// the benchmark had.
func told(points []Point, from, within int) bool {
	for _, p := range points[from : from+within] {
		if p.Score >= 0.4 {
			return true
		}
	}
	return false
}

func TestWhatAPersonWouldSeeIsTold(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	const n, event = 3000, 2500
	noise := func(scale float64) func(i int) float64 {
		return func(int) float64 { return 100 + scale*r.NormFloat64() }
	}
	day := func(i int) float64 { return 100 + 50*math.Sin(float64(i)/288*2*math.Pi) + r.NormFloat64() }
	for name, f := range map[string]func(i int) float64{
		"a spike":           func(i int) float64 { return noise(1)(i) + 20*float64(b2i(i == event)) },
		"a step":            func(i int) float64 { return noise(1)(i) + 20*float64(b2i(i >= event)) },
		"a dropout":         func(i int) float64 { return noise(1)(i) * float64(b2i(i < event)) },
		"noise that grows":  func(i int) float64 { return noise(1 + 9*float64(b2i(i >= event)))(i) },
		"noise that ends":   func(i int) float64 { return noise(1 - float64(b2i(i >= event)))(i) },
		"a constant's jump": func(i int) float64 { return 7 + float64(b2i(i >= event)) },
		"a day's new peak":  func(i int) float64 { return day(i) + 50*float64(b2i(i >= event && i < event+60)) },
	} {
		times, values := make([]time.Time, n), make([]float64, n)
		for i := range n {
			times[i], values[i] = epoch.Add(time.Duration(i)*5*time.Minute), f(i)
		}
		if !told(scores(times, values), event, 60) {
			t.Errorf("%s is not told", name)
		}
	}
}

func TestWhatIsUsualAtAnotherHourOnlyIsSeen(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	const day, days, missing, begin, end = 288, 14, 11, 108, 192 // whole hours
	eye, hour := NewEye(), len(Sight{}.Others)-1
	for i := range day * days {
		busy := i%day >= begin && i%day < end && i/day != missing
		s, ok := eye.See(epoch.Add(time.Duration(i)*5*time.Minute), 20+r.NormFloat64()+60*float64(b2i(busy)))
		if !ok {
			t.Fatal("a number is none")
		}
		if i != missing*day+begin {
			continue
		}
		// The first of its hours is told apart by nothing else: nights are as quiet.
		if n := s.Others[hour]; n.Far < 1 || n.Rare < 0.7 {
			t.Errorf("the hour is %+v when nothing goes on", n)
		}
		for _, n := range append(s.Others[:hour], s.Value) {
			if n.Far > 0.1 {
				t.Errorf("what is usual at night is %+v", s)
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestASeriesTakesAtMost64KiB(t *testing.T) {
	const bytesMax = 64 << 10
	d := New(Default)
	times, values := walk(4, 20000)
	for i := range values {
		d.Push(times[i], values[i])
	}
	bytes := int(unsafe.Sizeof(*d)+unsafe.Sizeof(*d.eye)+unsafe.Sizeof(*d.teller)) + 8*cap(d.eye.value.line.sorted) + 8*cap(d.eye.hour.line.sorted)
	for _, s := range d.eye.spreads {
		bytes += 8 * cap(s.line.sorted)
	}
	t.Logf("%d bytes a series", bytes)
	if bytes > bytesMax {
		t.Errorf("a series takes %d bytes, at most %d are promised", bytes, bytesMax)
	}
	// What thinning allocates is given back at once; nothing else may be allocated.
	i := 0
	if n := testing.AllocsPerRun(5000, func() { d.Push(times[i], values[i]+float64(i)/1000); i++ }); n > 0.5 {
		t.Errorf("%.2f allocations a point", n)
	}
}

func TestTheSmallestAreFoundWithoutSorting(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for n := 1; n < 60; n++ {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(r.IntN(n)) // with ties
		}
		sorted := slices.Sorted(slices.Values(v))
		for k := range v {
			if got := smallest(v, k); got != sorted[k] {
				t.Fatalf("number %d of %v is %v", k, sorted, got)
			}
		}
	}
}

func BenchmarkPoint(b *testing.B) {
	times, values := walk(5, 1<<16)
	d := New(Default)
	for i := 0; b.Loop(); i++ {
		d.Push(times[i&(1<<16-1)], values[i&(1<<16-1)])
	}
}
