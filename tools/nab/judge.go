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

// tunings are what cross-fitting chooses from: Default's numbers, and each about half and double.
func tunings() []anomaly.Tuning {
	var all []anomaly.Tuning
	for _, rank := range []float64{0.7, 1.4, 2.8} {
		for _, spend := range []float64{0.2, 0.4, 0.8} {
			for _, handicap := range []float64{1.2, 1.6, 2.4} {
				for _, rest := range []int{50, 100, 200} {
					all = append(all, anomaly.Tuning{Rank: rank, Spend: spend, Handicap: handicap, Rest: rest})
				}
			}
		}
	}
	return all
}

// verdict is all that the files say of the detector.
type verdict struct {
	files  []nab.Series
	points [][]float64 // with the default tuning, by file
	fixed  [len(nab.Profiles)][]*nab.Curve
	tuned  [][]*nab.Curve // standard profile, by tuning
}

func judge(files []nab.Series) *verdict {
	v := &verdict{files: files, points: make([][]float64, len(files))}
	each(len(files), func(f int) { v.points[f] = scores(&files[f], anomaly.Default) })
	for i, p := range nab.Profiles {
		for f := range files {
			v.fixed[i] = append(v.fixed[i], nab.CurveOf(p, files[f].Labels, v.points[f]))
		}
	}
	all := tunings()
	v.tuned = make([][]*nab.Curve, len(all))
	for i := range all {
		v.tuned[i] = make([]*nab.Curve, len(files))
	}
	each(len(all)*len(files), func(i int) {
		t, f := i/len(files), i%len(files)
		v.tuned[t][f] = nab.CurveOf(nab.Profiles[0], files[f].Labels, scores(&files[f], all[t]))
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
func withoutCategory(files []nab.Series, candidates [][]*nab.Curve, category string) float64 {
	var train, test []int
	for f := range files {
		if files[f].Category() == category {
			test = append(test, f)
		} else {
			train = append(train, f)
		}
	}
	score, _, _ := nab.Cross(candidates, train, test)
	return score
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
		one := [][]*nab.Curve{v.fixed[i]}
		fmt.Fprintf(&b, "| the threshold, %s profile | %.2f | %.2f |\n", p.Name, nab.CrossFit(one, seeds(splitSeeds)), nab.CrossFit(one, seeds(manySeeds)))
	}
	fmt.Fprintf(&b, "| the threshold and the four numbers of Tuning (%d choices), standard profile | %.2f | %.2f |\n\n",
		len(v.tuned), nab.CrossFit(v.tuned, seeds(splitSeeds)), nab.CrossFit(v.tuned, seeds(manySeeds)))

	fmt.Fprint(&b, "| category left out of the tuning | threshold alone | all |\n|---|---|---|\n")
	for _, c := range categories(v.files) {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f |\n", c, withoutCategory(v.files, [][]*nab.Curve{v.fixed[0]}, c), withoutCategory(v.files, v.tuned, c))
	}

	at, _ := nab.Sum(v.fixed[0], all).Fit()
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
