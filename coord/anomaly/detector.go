// Package anomaly says how unusual each point of a series is, while the series goes on: from the points
// so far only, in a fixed amount of memory, without being told what the series means, how often it is
// sampled or what its day looks like.
//
// Values, pairs of neighbours and the spread of the last points are each compared with a bounded cover
// of all that were seen before (novelty). How far the newest one is from the cover is put in proportion
// twice: its rank among the distances so far, and its ratio to the largest of them. The sum is the
// score; a rest after each peak keeps one event from being told many times. docs/anomaly.md has the
// figures. Pure: times and values come in, scores come out.
package anomaly

import (
	"math"
	"slices"
	"time"
)

// Tuning are the numbers that a benchmark may choose. Default is what boxes use.
type Tuning struct {
	Rank     float64 // what a tenfold rarer distance is worth, in units of "as far as the farthest yet"
	Spend    float64 // by how much a tenfold longer history raises the bar
	Handicap float64 // how much more unusual a pair or a spread must be than a value
	Rest     int     // points after a peak in which only a higher one is told, for a short history
}

// Default lies on a plateau: docs/anomaly.md has what other numbers give.
var Default = Tuning{Rank: 1.4, Spend: 0.4, Handicap: 1.6, Rest: 100}

const (
	valuesMax = 512 // values that stand for all seen: with 500 no file of the benchmark loses by it
	pairsMax  = 256 // pairs, for which a search is linear
	// A distance's rank is among about the last 4,000, and the farthest one fades with a half-life of
	// 1,400 points: what was extraordinary last week shall not hide what is extraordinary today.
	rankMemory = 4000
	farFade    = 0.9995
	farMax     = 2 // twice as far as the farthest: more is not more unusual
	// The rest grows with the history, up to restMax points: a series that has been told of often is
	// told of less often.
	restShare = 0.03
	restMax   = 600
	// spendFrom is the history at which the bar is where Threshold puts it.
	spendFrom = 1000
	scale     = 6      // makes the sum's largest a score of about 1
	hugeValue = 1e140  // squares of more would overflow
	gapSteps  = 8      // a hole of that many usual steps: no pair or spread reaches across it
	recentMax = 256    // values that the expected range is taken from
	stepFade  = 1. / 8 // weight of the newest step in the usual one
)

// spans are the lengths, in points, over which the spread is watched.
var spans = [...]int{4, 16, 48}

// Point is what the detector says of one point.
type Point struct {
	Score float64 // 0 nothing, 1 unlike everything before; ranks points within and across series
	// Chance is how often a point as unusual would come by chance, a point, judged by the tail of what
	// was seen: the figure that false alarms are bounded with. 1 while little has been seen.
	Chance float64
}

// stream is one view of the series.
type stream struct {
	rank ranks
	far  float64
}

// add takes how far the newest sight was from all before, and says how unusual that is.
func (s *stream) add(distance, rankWeight float64) float64 {
	far := 0.0
	if s.far > 0 {
		far = min(farMax, distance/s.far)
	}
	s.far = max(s.far*farFade, distance)
	return rankWeight*-math.Log10(s.rank.add(distance)) + far
}

// Detector watches one series. Its size is fixed: see Size.
type Detector struct {
	tuning Tuning
	points int
	last   time.Time
	step   float64 // usual seconds between points

	values  line
	one     stream // distance to the nearest value
	three   stream // distance to the third nearest
	spreads [len(spans)]struct {
		line line
		stream
	}
	pairs cover
	pair  stream

	odds odds

	recent ring // the last values as they came
	whole  int  // how many of them lie behind the last hole
	rest   rest
}

// New watches a series that has not begun.
func New(t Tuning) *Detector {
	d := &Detector{tuning: t}
	d.values.init(valuesMax)
	for i := range d.spreads {
		d.spreads[i].line.init(valuesMax)
	}
	return d
}

// Push takes the next point. Values that are no numbers leave no trace and score 0; times may stand
// still or go back.
func (d *Detector) Push(at time.Time, value float64) Point {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return Point{Chance: 1}
	}
	value = min(max(value, -hugeValue), hugeValue)
	d.clock(at)
	d.recent.push(value)
	d.whole++
	d.points++

	// The square root evens out counts and waiting times, whose noise grows with their size (Bartlett
	// 1936), and leaves what lies far from zero nearly as it is.
	root := math.Copysign(math.Sqrt(math.Abs(value)), value)
	one, three := d.values.add(root)
	sum := (d.one.add(one, d.tuning.Rank) + d.three.add(three, d.tuning.Rank)) / 2
	for i, n := range spans {
		if d.whole < n {
			continue
		}
		s := &d.spreads[i]
		_, far := s.line.add(d.recent.spread(n))
		sum = max(sum, s.add(far, d.tuning.Rank)-d.tuning.Handicap)
	}
	if d.whole >= 2 {
		far := d.pairs.add([2]float64{value, d.recent.back(1)})
		sum = max(sum, d.pair.add(far, d.tuning.Rank)-d.tuning.Handicap)
	}
	score := 0.0
	if sum > 0 {
		sum -= d.tuning.Spend * math.Log10(float64(d.points)/spendFrom)
		score = min(max(sum/scale, 0), 1)
	}
	length := min(d.tuning.Rest+int(restShare*float64(d.points)), restMax)
	if !d.rest.peak(d.points, length, score) {
		score = 0
	}
	return Point{Score: score, Chance: d.odds.add(value)}
}

// clock notices holes.
func (d *Detector) clock(at time.Time) {
	passed := at.Sub(d.last).Seconds()
	switch {
	case d.points == 0 || passed <= 0:
	case d.step == 0:
		d.step = passed
	case passed > gapSteps*d.step:
		d.whole = 0
	default:
		d.step += (passed - d.step) * stepFade
	}
	d.last = at
}

// Expected is where all but the outermost hundredths of the last values lay; ok is false before there
// are a few.
func (d *Detector) Expected() (low, high float64, ok bool) {
	n := min(d.points, recentMax)
	if n < 8 {
		return 0, 0, false
	}
	sorted := slices.Sorted(slices.Values(d.recent.values[:n]))
	return sorted[n/100], sorted[n-1-n/100], true
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
