package main

import (
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/holdfast-edge/holdfast/coord/anomaly"
	"github.com/holdfast-edge/holdfast/coord/anomaly/nab"
)

const (
	// splitSeeds are 1 to this: the five splits of the figure that is promised.
	splitSeeds = 5
	// manySeeds show what five splits' luck is.
	manySeeds = 200
)

// levels are what cross-fitting chooses from: each number's range is as wide as makes any sense of it.
var levels = struct {
	rare, spend, handicap, repeat []float64
	rest                          []int
}{
	rare:     []float64{0.6, 0.7, 0.8, 0.9},
	spend:    []float64{0, 0.04, 0.08},
	handicap: []float64{0.1, 0.25, 0.4, 0.55},
	repeat:   []float64{0, 0.02, 0.04},
	rest:     []int{60, 100, 160},
}

// tunings are all combinations, and how many levels each number has.
func tunings() (all []anomaly.Tuning, counts []int) {
	for _, rare := range levels.rare {
		for _, spend := range levels.spend {
			for _, handicap := range levels.handicap {
				for _, repeat := range levels.repeat {
					for _, rest := range levels.rest {
						all = append(all, anomaly.Tuning{Rare: rare, Spend: spend, Handicap: handicap, Repeat: repeat, Rest: rest})
					}
				}
			}
		}
	}
	return all, []int{len(levels.rare), len(levels.spend), len(levels.handicap), len(levels.repeat), len(levels.rest)}
}

// verdict is all that the files say of the detector.
type verdict struct {
	files  []nab.Series
	points [][]float64 // with the default tuning, by file
	fixed  [len(nab.Profiles)]nab.Candidates
	tuned  nab.Candidates // standard profile
}

func judge(files []nab.Series) *verdict {
	v := &verdict{files: files, points: make([][]float64, len(files))}
	points := make([][]seen, len(files))
	each(len(files), func(f int) {
		points[f] = look(&files[f])
		v.points[f] = tell(points[f], anomaly.Default)
	})
	for i, p := range nab.Profiles {
		var curves []*nab.Curve
		for f := range files {
			curves = append(curves, nab.CurveOf(p, files[f].Labels, v.points[f]))
		}
		v.fixed[i].Curves = [][]*nab.Curve{curves}
	}
	all, counts := tunings()
	v.tuned = nab.Candidates{Levels: counts, Curves: make([][]*nab.Curve, len(all))}
	each(len(all), func(t int) {
		for f := range files {
			v.tuned.Curves[t] = append(v.tuned.Curves[t], nab.CurveOf(nab.Profiles[0], files[f].Labels, tell(points[f], all[t])))
		}
	})
	return v
}

// each calls f for 0 to n-1 on all cores and waits.
func each(n int, f func(i int)) {
	var wait sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wait.Wait()
}

func seeds(n int) []uint64 {
	all := make([]uint64, n)
	for i := range all {
		all[i] = uint64(i + 1)
	}
	return all
}

// withoutCategory tunes on all other categories and scores one.
func withoutCategory(files []nab.Series, candidates nab.Candidates, category string) float64 {
	var train, test []int
	for f := range files {
		if files[f].Category() == category {
			test = append(test, f)
		} else {
			train = append(train, f)
		}
	}
	return candidates.Cross(train, test)
}

func (v *verdict) tables() string {
	var b strings.Builder
	windows, points := 0, 0
	all := make([]int, len(v.files))
	for f := range v.files {
		windows += len(v.files[f].Labels.Windows)
		points += v.files[f].Labels.Points
		all[f] = f
	}
	fmt.Fprintf(&b, "%d files, %d points, %d windows.\n\n", len(v.files), points, windows)
	fmt.Fprintf(&b, "| what is tuned on one half and scored on the other | splits of seeds 1 to %d | of seeds 1 to %d |\n|---|---|---|\n", splitSeeds, manySeeds)
	for i, p := range nab.Profiles {
		fmt.Fprintf(&b, "| the threshold, %s profile | %.2f | %.2f |\n", p.Name, v.fixed[i].CrossFit(seeds(splitSeeds)), v.fixed[i].CrossFit(seeds(manySeeds)))
	}
	fmt.Fprintf(&b, "| everything: the threshold and the five numbers of Tuning (%d choices), standard profile | %.2f | %.2f |\n\n",
		len(v.tuned.Curves), v.tuned.CrossFit(seeds(splitSeeds)), v.tuned.CrossFit(seeds(manySeeds)))

	fmt.Fprint(&b, "| category left out of the tuning | threshold alone | all |\n|---|---|---|\n")
	for _, c := range categories(v.files) {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f |\n", c, withoutCategory(v.files, v.fixed[0], c), withoutCategory(v.files, v.tuned, c))
	}

	at, _ := nab.Sum(v.fixed[0].Curves[0], all).Fit()
	threshold := nab.Threshold(at)
	fmt.Fprintf(&b, "\nWith one threshold for all files, %.3f, chosen on these very files (not a figure to compare with):\n\n", threshold)
	fmt.Fprint(&b, "| file | points | windows | found | false alarms | standard | low FP | low FN |\n|---|---|---|---|---|---|---|---|\n")
	var sums [len(nab.Profiles)]nab.Tally
	row := func(name string, points int, t [len(nab.Profiles)]nab.Tally) {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |", name, points, t[0].Found+t[0].Missed, t[0].Found, t[0].False)
		for _, t := range t {
			fmt.Fprintf(&b, " %.2f |", t.Score())
		}
		fmt.Fprintln(&b)
	}
	for f := range v.files {
		var t [len(nab.Profiles)]nab.Tally
		for i, p := range nab.Profiles {
			t[i] = v.files[f].Labels.Judge(p, v.points[f], threshold)
			sums[i] = sums[i].Add(t[i])
		}
		row(v.files[f].Name, v.files[f].Labels.Points, t)
	}
	row("all", points, sums)
	fmt.Fprint(&b, "\nA file without a window has the sum of what its false alarms cost; a window found at once is worth 1.\n")
	return b.String()
}
