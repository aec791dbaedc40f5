package nab

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

const (
	// Steps are the thresholds that a fit looks at: 1/Steps, 2/Steps, ... 1.
	Steps = 400
	// plateau: a threshold is as good as the mean of those within this many steps of it, near ones
	// counting most, so that a fit takes the middle of a plateau and not the luck of one window.
	plateau = 10
)

// Curve is what a file gets at each threshold.
type Curve struct {
	Raw        [Steps]float64
	Null, Best float64
}

// Threshold is the i-th.
func Threshold(i int) float64 { return float64(i+1) / Steps }

// CurveOf judges the scores of a file, which lie in [0, 1], at every threshold.
func CurveOf(p Profile, l Labels, scores []float64) *Curve {
	var c Curve
	var outsiders [Steps]float64
	windows := map[int]*[Steps]float64{}
	l.weigh(p, func(i int, worth float64, window int) {
		best := windows[window]
		if best == nil && window != outside {
			best = new([Steps]float64)
			for j := range best {
				best[j] = -p.FN
			}
			windows[window] = best
		}
		at := min(int(scores[i]*Steps), Steps) - 1
		switch {
		case at < 0:
		case window == outside:
			outsiders[at] += worth
		default:
			best[at] = max(best[at], worth)
		}
	})
	sum := 0.0
	for i := Steps - 1; i >= 0; i-- {
		sum += outsiders[i]
		c.Raw[i] = sum
	}
	for _, w := range slices.Sorted(maps.Keys(windows)) {
		best := -p.FN
		for i := Steps - 1; i >= 0; i-- {
			best = max(best, windows[w][i])
			c.Raw[i] += best
		}
		c.Null -= p.FN
		c.Best += p.TP
	}
	return &c
}

// Sum adds the curves of some files.
func Sum(curves []*Curve, files []int) *Curve {
	var s Curve
	for _, f := range files {
		for i, v := range curves[f].Raw {
			s.Raw[i] += v
		}
		s.Null += curves[f].Null
		s.Best += curves[f].Best
	}
	return &s
}

// Score is that of the i-th threshold.
func (c *Curve) Score(i int) float64 { return Tally{Raw: c.Raw[i], Null: c.Null, Best: c.Best}.Score() }

// Fit finds the threshold in the middle of the best plateau, and the mean score there.
func (c *Curve) Fit() (threshold int, score float64) {
	score = math.Inf(-1)
	for i := range c.Raw {
		mean, n := 0.0, 0.0
		for j := max(0, i-plateau); j <= min(Steps-1, i+plateau); j++ {
			weight := 1 - math.Abs(float64(i-j))/(plateau+1)
			mean += weight * c.Score(j)
			n += weight
		}
		if mean/n > score {
			threshold, score = i, mean/n
		}
	}
	return threshold, score
}

// Halves splits n files in two by chance, as the seed has it.
func Halves(n int, seed uint64) (a, b []int) {
	order := rand.New(rand.NewPCG(seed, 0)).Perm(n)
	a, b = order[:n/2], order[n/2:]
	slices.Sort(a)
	slices.Sort(b)
	return a, b
}

// doubt is by how many points the scores of two tunings may differ on half of the files by chance: about
// what a half's score itself does.
const doubt = 4

// Candidates are tunings that may be chosen: all combinations of some levels of each number.
type Candidates struct {
	Levels []int      // how many levels each number has; the last one changes fastest in Curves
	Curves [][]*Curve // by tuning, by file
}

// Choose fits a tuning and a threshold to some files. The tuning is not the best one, which is the
// luck of a few windows, but each number's mean level, every combination counting as far as its score,
// within doubt, comes up to the best one's (a posterior mean; all combinations are as likely before).
func (c Candidates) Choose(files []int) (tuning, threshold int) {
	scores := make([]float64, len(c.Curves))
	best := math.Inf(-1)
	for i, curves := range c.Curves {
		_, scores[i] = Sum(curves, files).Fit()
		best = max(best, scores[i])
	}
	levels, sum := make([]float64, len(c.Levels)), 0.0
	for i, score := range scores {
		weight := math.Exp((score - best) / doubt)
		sum += weight
		for n, rest := len(c.Levels)-1, i; n >= 0; n-- {
			levels[n] += weight * float64(rest%c.Levels[n])
			rest /= c.Levels[n]
		}
	}
	for n, level := range levels {
		tuning = tuning*c.Levels[n] + int(math.Round(level/sum))
	}
	threshold, _ = Sum(c.Curves[tuning], files).Fit()
	return tuning, threshold
}

// Cross tunes on some files and scores on others.
func (c Candidates) Cross(train, test []int) float64 {
	tuning, threshold := c.Choose(train)
	return Sum(c.Curves[tuning], test).Score(threshold)
}

// CrossFit is the mean, over the seeds, of both halves' scores, each tuned on the other.
func (c Candidates) CrossFit(seeds []uint64) float64 {
	sum := 0.0
	for _, seed := range seeds {
		a, b := Halves(len(c.Curves[0]), seed)
		sum += (c.Cross(a, b) + c.Cross(b, a)) / 2
	}
	return sum / float64(len(seeds))
}
