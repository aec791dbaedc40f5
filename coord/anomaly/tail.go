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
	// tailLeast distances of another kind than the rest are a tail of their own.
	tailLeast = 8
	tailAlien = 0.35
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
// Hill's for the tail's heaviness and its relative standard error added, from the largest distances of a
// life. A tail lighter than a power is judged too heavy, which costs sensitivity and no false alarm.
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
	top, points := t.top[:], float64(t.points)
	// Without tailTop distances above zero (a constant, but for a few points) nothing is known of a tail.
	if t.points < tailFrom || distance <= top[tailTop-1] || top[tailTop-1] == 0 {
		return 1
	}
	if n := alien(top); n > 0 {
		if n < tailLeast {
			return float64(n) / points
		}
		if top = top[:n]; distance <= top[n-1] {
			return 1
		}
	}
	n := float64(len(top))
	heaviness := 0.0
	for _, v := range top {
		heaviness += math.Log(v/top[len(top)-1]) / n
	}
	// A Gaussian tail has about half of one over the logarithm; what is judged lighter takes few values, and
	// the next one may come any time.
	heaviness = max(heaviness, 0.5/math.Log(points/n)) * (1 + 1/math.Sqrt(n))
	return n / points * math.Pow(distance/top[len(top)-1], -1/heaviness)
}

// alien says how many of the largest distances, which fall, are of another kind than the rest: 0 when
// they are of one. In one tail that is a power, i times the logarithm of the i-th's ratio to the next
// is exponential and the same for all i (Renyi 1953); one of them that is tailAlien of the sum has a
// chance of 1e-7 (Fisher 1929, "Tests of significance in harmonic analysis").
func alien(top []float64) int {
	sum, largest, n := 0.0, 0.0, 0
	for i := 1; i < len(top); i++ {
		space := float64(i) * math.Log(top[i-1]/top[i])
		sum += space
		if space > largest {
			largest, n = space, i
		}
	}
	if largest <= tailAlien*sum {
		return 0
	}
	return n
}
