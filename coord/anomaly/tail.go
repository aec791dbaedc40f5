package anomaly

import "math"

const (
	// blockPoints are summed up before level and spread are judged: what lasts is seen far better in
	// the mean of some points than in one, and one mean in a block keeps them apart.
	blockPoints = 16
	// centreMemory points tell where the middle of the values is.
	centreMemory = 20_000
	// tailTop distances estimate a tail.
	tailTop = 50
	// tailFrom distances are needed before anything is judged by it.
	tailFrom = 4 * tailTop
	// tailDoubt is added to the tail's heaviness before it is relied on: the estimate's relative
	// standard error, 1/sqrt(tailTop).
	tailDoubt = 0.1414
)

// odds tells how likely a point is by chance: by its own distance from the middle, and where a block
// ends, by that of the block's mean and by its spread.
type odds struct {
	points        int
	centre        float64
	n             int // points in the open block
	sum, sum2     float64
	one, all, dev tail
}

// add counts a value and returns its chance, which holds for the three looks together (Bonferroni).
func (o *odds) add(v float64) float64 {
	o.points++
	apart := v - o.centre
	if o.points == 1 {
		apart = 0
		o.centre = v
	}
	chance := o.one.add(math.Abs(apart))
	o.n++
	o.sum += apart
	o.sum2 += apart * apart
	if o.n == blockPoints {
		mean := o.sum / blockPoints
		chance = min(chance, o.all.add(math.Abs(mean)), o.dev.add(math.Sqrt(max(0, o.sum2/blockPoints-mean*mean))))
		o.n, o.sum, o.sum2 = 0, 0, 0
	}
	o.centre += apart / float64(min(o.points, centreMemory))
	return min(1, 3*chance)
}

// tail extrapolates how often a distance is exceeded beyond all that were seen: Weissman's estimate
// ("Estimation of parameters and large quantiles based on the k largest observations", 1978) with
// Hill's for the tail's heaviness, from the largest distances of a life. A tail lighter than a power
// is judged too heavy, which costs sensitivity and no false alarm.
type tail struct {
	top    [tailTop]float64 // falling
	n      int
	points int
}

// add counts a distance and returns the chance, judged by those before it, that one is as large.
func (t *tail) add(distance float64) float64 {
	chance := t.chance(distance)
	t.points++
	i := t.n
	if t.n < tailTop {
		t.n++
	} else if i--; distance <= t.top[i] {
		return chance
	}
	for ; i > 0 && t.top[i-1] < distance; i-- {
		t.top[i] = t.top[i-1]
	}
	t.top[i] = distance
	return chance
}

func (t *tail) chance(distance float64) float64 {
	least := t.top[tailTop-1]
	// Without tailTop distances above zero (a constant, but for a few points) nothing is known of a tail.
	if t.points < tailFrom || distance <= least || least == 0 {
		return 1
	}
	heaviness := 0.0
	for _, v := range t.top {
		heaviness += math.Log(v/least) / tailTop
	}
	if heaviness == 0 {
		return 1 / float64(t.points)
	}
	return tailTop / float64(t.points) * math.Pow(distance/least, -1/(heaviness*(1+tailDoubt)))
}
