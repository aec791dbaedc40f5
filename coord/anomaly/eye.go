package anomaly

import (
	"math"
	"time"
)

const (
	valuesMax = 512 // values that stand for all seen: with 500 no file of the benchmark loses by it
	pairsMax  = 256 // pairs, for which a search is linear
	// A distance's rank is among about the last 4,000, and the farthest one fades with a half-life of
	// 1,400 points: what was extraordinary last week shall not hide what is extraordinary today.
	rankMemory = 4000
	farFade    = 0.9995
	farMax     = 2         // twice as far as the farthest: more is not more unusual
	rareFull   = 3.6       // log10 of rankMemory: the rank of what is farther than all
	gapSteps   = 8         // a hole of that many usual steps: no pair or spread reaches across it
	stepFade   = 1. / 8    // weight of the newest step in the usual one
	recentMax  = 256       // values that the expected range is taken from
	hugeValue  = 1e140     // squares of more would overflow
	daysMemory = 8         // days of which an hour's mean is one
	hourEnd    = time.Hour // after that long the same hour is another day's
)

// spans are the lengths, in points, over which the spread is watched.
var spans = [...]int{4, 16, 48}

// Novelty is how unusual a sight is: Rare by its rank (0 as common as any, 1 one in 4,000), Far by its
// ratio to the farthest yet (0 seen before, 1/2 as far as that, at most 1). Nothing to compare with is 0.
type Novelty struct{ Rare, Far float64 }

// Sight is what is seen in one point, before it is weighed.
type Sight struct {
	Value  Novelty
	Others [len(spans) + 2]Novelty // spreads, the pair with the value before, the hour of the day
}

// stream is one view of the series.
type stream struct {
	rank ranks
	far  float64
}

// add takes how far the newest sight was from all before.
func (s *stream) add(distance float64) Novelty {
	far := 0.0
	if s.far > 0 {
		far = min(farMax, distance/s.far)
	}
	s.far = max(s.far*farFade, distance)
	return Novelty{-math.Log10(s.rank.add(distance)) / rareFull, far / farMax}
}

func mean(a, b Novelty) Novelty { return Novelty{(a.Rare + b.Rare) / 2, (a.Far + b.Far) / 2} }

// plain is a number whose distances to the nearest and to the third nearest of all before are watched.
type plain struct {
	line       line
	one, three stream
}

func (p *plain) add(v float64) Novelty {
	one, three := p.line.add(v)
	return mean(p.one.add(one), p.three.add(three))
}

// Eye sees the points of one series. Its size is fixed. Make one with NewEye.
type Eye struct {
	points int
	last   time.Time
	step   float64 // usual seconds between points

	value   plain
	hour    plain // how far the value is from its hour's mean
	spreads [len(spans)]struct {
		line line
		stream
	}
	pairs cover
	pair  stream
	day   day

	recent ring // the last values as they came
	whole  int  // how many of them lie behind the last hole
}

// NewEye has seen nothing.
func NewEye() *Eye {
	e := &Eye{day: day{hour: noHour}}
	e.value.line.init(valuesMax)
	e.hour.line.init(valuesMax)
	for i := range e.spreads {
		e.spreads[i].line.init(valuesMax)
	}
	return e
}

// See takes the next point; ok is false for values that are no numbers, which leave no trace. Times may
// stand still or go back.
func (e *Eye) See(at time.Time, value float64) (s Sight, ok bool) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return Sight{}, false
	}
	value = min(max(value, -hugeValue), hugeValue)
	e.clock(at)
	e.recent.push(value)
	e.whole++
	e.points++

	// The square root evens out counts and waiting times, whose noise grows with their size (Bartlett
	// 1936), and leaves what lies far from zero nearly as it is.
	root := math.Copysign(math.Sqrt(math.Abs(value)), value)
	s.Value = e.value.add(root)
	for i, n := range spans {
		if e.whole < n {
			continue
		}
		_, far := e.spreads[i].line.add(e.recent.spread(n))
		s.Others[i] = e.spreads[i].add(far)
	}
	if e.whole >= 2 {
		s.Others[len(spans)] = e.pair.add(e.pairs.add([2]float64{value, e.recent.back(1)}))
	}
	if apart, known := e.day.add(at, root); known {
		s.Others[len(spans)+1] = e.hour.add(apart)
	}
	return s, true
}

// clock notices holes.
func (e *Eye) clock(at time.Time) {
	passed := at.Sub(e.last).Seconds()
	switch {
	case e.points == 0 || passed <= 0:
	case e.step == 0:
		e.step = passed
	case passed > gapSteps*e.step:
		e.whole = 0
	default:
		e.step += (passed - e.step) * stepFade
	}
	e.last = at
}

// noHour is before the first.
const noHour = -1

// day knows the mean of each hour of the last days: what is usual at noon may be unusual at night.
type day struct {
	means [24]float64
	days  [24]int // at most daysMemory
	hour  int     // of the newest point
	begin time.Time
	sum   float64
	n     int
}

// add counts a value and says how far it is from what the days before had at that hour.
func (d *day) add(at time.Time, v float64) (apart float64, known bool) {
	if hour := at.UTC().Hour(); hour != d.hour || at.Sub(d.begin) > hourEnd {
		if d.n > 0 {
			d.days[d.hour] = min(d.days[d.hour]+1, daysMemory)
			d.means[d.hour] += (d.sum/float64(d.n) - d.means[d.hour]) / float64(d.days[d.hour])
		}
		d.hour, d.begin, d.sum, d.n = hour, at, 0, 0
	}
	d.sum += v
	d.n++
	return v - d.means[d.hour], d.days[d.hour] > 0
}

// ring holds the last recentMax values.
type ring struct {
	values [recentMax]float64
	next   int
}

func (r *ring) push(v float64) {
	r.values[r.next] = v
	r.next = (r.next + 1) % recentMax
}

// back is the value n points ago; 0 is the newest.
func (r *ring) back(n int) float64 { return r.values[(r.next-1-n+2*recentMax)%recentMax] }

// spread is the standard deviation of the last n.
func (r *ring) spread(n int) float64 {
	mean, sum := 0.0, 0.0
	for i := range n {
		mean += r.back(i) / float64(n)
	}
	for i := range n {
		sum += (r.back(i) - mean) * (r.back(i) - mean)
	}
	return math.Sqrt(sum / float64(n))
}
