// Package anomaly says how unusual each point of a series is, while the series goes on: from the points
// so far only, in a fixed amount of memory, without being told what the series means, how often it is
// sampled or what its day looks like.
//
// Values, pairs of neighbours, the spread of the last points and how far a value is from its hour's mean
// are each compared with a bounded cover of all that were seen before (novelty). How far the newest one
// is from the cover is put in proportion twice: its rank among the distances so far, and its ratio to
// the largest of them. An Eye sees that; a Teller makes one score of it, which a rest after each peak
// and a bar that rises with each keep from being told many times. docs/anomaly.md has the figures. Pure:
// times and values come in, scores come out.
package anomaly

import (
	"slices"
	"time"
)

// Point is what the detector says of one point.
type Point struct {
	Score float64 // 0 nothing, 1 unlike everything before; ranks points within and across series
	// Chance is how often a point as unusual would come by chance, a point, judged by the tail of what
	// was seen: the figure that false alarms are bounded with. 1 while little has been seen.
	Chance float64
}

// Default is what the fit of package nab chooses on all files of the benchmark that ship with the
// project; a test of tools/nab says so.
var Default = Tuning{Rare: 0.8, Spend: 0.04, Handicap: 0.4, Repeat: 0.02, Rest: 100}

// Detector watches one series. Its size is fixed.
type Detector struct {
	eye    *Eye
	teller *Teller
	odds   odds
}

// New watches a series that has not begun.
func New(t Tuning) *Detector { return &Detector{eye: NewEye(), teller: NewTeller(t)} }

// Push takes the next point. Values that are no numbers leave no trace and score 0; times may stand
// still or go back.
func (d *Detector) Push(at time.Time, value float64) Point {
	sight, ok := d.eye.See(at, value)
	if !ok {
		return Point{Chance: 1}
	}
	return Point{Score: d.teller.Tell(sight), Chance: d.odds.add(d.eye.recent.back(0))}
}

// Expected is where all but the outermost hundredths of the last values before the newest lay; ok is false
// before there are a few.
func (d *Detector) Expected() (low, high float64, ok bool) {
	n := min(d.eye.points, recentMax) - 1
	if n < 8 {
		return 0, 0, false
	}
	sorted := make([]float64, n)
	for i := range sorted {
		sorted[i] = d.eye.recent.back(1 + i)
	}
	slices.Sort(sorted)
	return sorted[n/100], sorted[n-1-n/100], true
}
