// Package nab scores anomaly detectors by the rules of the Numenta Anomaly Benchmark (Lavin and Ahmad,
// "Evaluating Real-time Anomaly Detection Algorithms", ICMLA 2015, section III; the sweep of
// nab/sweeper.py). Point scores and labelled windows come in, a score between "never alarms" (0) and
// "alarms at the first point of every window and nowhere else" (100) comes out. Pure.
package nab

import (
	"cmp"
	"math"
	"slices"
)

// Profile is what alarms are worth: TP for a window found at its first point, FP for an alarm far from
// any window, FN for a window missed.
type Profile struct {
	Name       string
	TP, FP, FN float64
}

// Profiles are the three of the benchmark, the standard one first.
var Profiles = [...]Profile{
	{"standard", 1, 0.11, 1},
	{"low FP", 1, 0.22, 1},
	{"low FN", 1, 0.11, 2},
}

// Window is a labelled anomaly: the first and the last point that belong to it, as indexes.
type Window struct{ First, Last int }

// Labels are what is known of a file: how many points it has, and its windows, ascending and apart.
type Labels struct {
	Points  int
	Windows []Window
}

// Probation is how many points at a file's begin are not judged: 15%, of 5,000 points at most.
func Probation(points int) int { return min(points, 5000) * 15 / 100 }

// outside is the window of a point that lies in none.
const outside = -1

// weigh calls f for each point that is judged, with what an alarm there is worth, and its window.
func (l Labels) weigh(p Profile, f func(point int, worth float64, window int)) {
	probation, w := Probation(l.Points), 0
	for i := range l.Points {
		for w < len(l.Windows) && i > l.Windows[w].Last {
			w++
		}
		worth, window := -p.FP, outside
		switch {
		case w < len(l.Windows) && i >= l.Windows[w].First:
			width := float64(l.Windows[w].Last - l.Windows[w].First + 1)
			worth, window = p.TP*sigmoid(-float64(l.Windows[w].Last-i+1)/width)/sigmoid(-1), w
		case w > 0:
			past := l.Windows[w-1]
			worth = p.FP * sigmoid(float64(i-past.Last)/float64(max(past.Last-past.First, 1)))
		}
		if i >= probation {
			f(i, worth, window)
		}
	}
}

// sigmoid falls from 1 in front of a window's end (x < 0, in widths of the window) to -1 behind it.
func sigmoid(x float64) float64 {
	if x > 3 {
		return -1
	}
	return 2/(1+math.Exp(5*x)) - 1
}

// Tally is what a file, or several, got from one threshold.
type Tally struct {
	Raw    float64 // the sum of what the alarms are worth, less what was missed
	Null   float64 // what no alarm at all gets
	Best   float64 // what a perfect detector gets
	Found  int     // windows with an alarm
	Missed int     // windows without
	False  int     // alarms outside windows
}

// Score is 0 for no alarm at all and 100 for a perfect detector; without a window in sight, the
// difference itself.
func (t Tally) Score() float64 {
	if t.Best == t.Null {
		return t.Raw - t.Null
	}
	return 100 * (t.Raw - t.Null) / (t.Best - t.Null)
}

// Add sums two tallies.
func (t Tally) Add(u Tally) Tally {
	return Tally{t.Raw + u.Raw, t.Null + u.Null, t.Best + u.Best, t.Found + u.Found, t.Missed + u.Missed, t.False + u.False}
}

// Judge is what a file gets when every point with a score of at least the threshold is an alarm.
// The scores are one a point.
func (l Labels) Judge(p Profile, scores []float64, threshold float64) Tally {
	var t Tally
	best := map[int]float64{}
	l.weigh(p, func(i int, worth float64, window int) {
		if window != outside {
			if _, ok := best[window]; !ok {
				best[window] = -p.FN
			}
		}
		switch {
		case scores[i] < threshold:
		case window == outside:
			t.False++
			t.Raw += worth
		default:
			best[window] = max(best[window], worth)
		}
	})
	for _, b := range best {
		t.Raw, t.Null, t.Best = t.Raw+b, t.Null-p.FN, t.Best+p.TP
		if b == -p.FN {
			t.Missed++
		} else {
			t.Found++
		}
	}
	return t
}

// Sweep finds the threshold that gives most over the files, and its score. Files and scores go in pairs.
func Sweep(p Profile, files []Labels, scores [][]float64) (threshold, score float64) {
	type alarm struct {
		score, worth float64
		file, window int
	}
	type place struct{ file, window int }
	var alarms []alarm
	best := map[place]float64{}
	var sum Tally
	for f, l := range files {
		l.weigh(p, func(i int, worth float64, window int) {
			alarms = append(alarms, alarm{scores[f][i], worth, f, window})
			if window != outside {
				best[place{f, window}] = -p.FN
			}
		})
	}
	sum.Null, sum.Best = -p.FN*float64(len(best)), p.TP*float64(len(best))
	sum.Raw = sum.Null
	threshold, score = math.Inf(1), sum.Score()
	slices.SortStableFunc(alarms, func(a, b alarm) int { return cmp.Compare(b.score, a.score) })
	for i, a := range alarms {
		if a.window == outside {
			sum.Raw += a.worth
		} else if at := (place{a.file, a.window}); a.worth > best[at] {
			sum.Raw += a.worth - best[at]
			best[at] = a.worth
		}
		if i+1 < len(alarms) && alarms[i+1].score == a.score {
			continue
		}
		if s := sum.Score(); s > score {
			threshold, score = a.score, s
		}
	}
	return threshold, score
}
