package anomaly

import (
	"math"
	"slices"
)

// near is how many neighbours a value needs to be at home: one or two may be an earlier anomaly.
const near = 3

// line remembers numbers: sorted, each at most near times, thinned where they lie closest when there are
// too many, so that the outermost ones and the ends of every hole stay for ever.
type line struct{ sorted []float64 }

func (l *line) init(size int) { l.sorted = make([]float64, 0, size+1) }

// add remembers v and returns how far it is from the nearest and from the near-th nearest number so far.
func (l *line) add(v float64) (nearest, nth float64) {
	at, _ := slices.BinarySearch(l.sorted, v)
	if len(l.sorted) > near {
		low, high := at-1, at
		for i := range near {
			below, above := math.Inf(1), math.Inf(1)
			if low >= 0 {
				below = v - l.sorted[low]
			}
			if high < len(l.sorted) {
				above = l.sorted[high] - v
			}
			if below < above {
				nth = below
				low--
			} else {
				nth = above
				high++
			}
			if i == 0 {
				nearest = nth
			}
		}
	}
	if at+near <= len(l.sorted) && l.sorted[at+near-1] == v {
		return nearest, nth
	}
	l.sorted = slices.Insert(l.sorted, at, v)
	if len(l.sorted) == cap(l.sorted) {
		l.thin()
	}
	return nearest, nth
}

// thin drops numbers whose neighbours on both sides are closest together, never two in a row.
func (l *line) thin() {
	span := func(i int) float64 { return l.sorted[i+near] - l.sorted[i-1] }
	spans := make([]float64, 0, len(l.sorted))
	for i := 1; i+near < len(l.sorted); i++ {
		spans = append(spans, span(i))
	}
	limit := smallest(spans, len(spans)/4)
	kept, dropped := 1, false
	for i := 1; i < len(l.sorted); i++ {
		if !dropped && i+near < len(l.sorted) && span(i) <= limit {
			dropped = true
			continue
		}
		dropped = false
		l.sorted[kept] = l.sorted[i]
		kept++
	}
	l.sorted = l.sorted[:kept]
}

// smallest is the k-th of the numbers from below, which change places (Hoare 1961, "Algorithm 65: find").
func smallest(v []float64, k int) float64 {
	low, high := 0, len(v)-1
	for low < high {
		pivot, i, j := v[k], low, high
		for i <= j {
			for v[i] < pivot {
				i++
			}
			for pivot < v[j] {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i++
				j--
			}
		}
		if j < k {
			low = i
		}
		if k < i {
			high = j
		}
	}
	return v[k]
}

// cover remembers pairs: at most pairsMax centres, such that every pair seen lies close to one. When
// there are too many the radius grows and centres within it of another go (the doubling algorithm:
// Charikar, Chekuri, Feder, Motwani, "Incremental clustering and dynamic information retrieval", 1997).
type cover struct {
	centres [pairsMax + 1][2]float64
	n       int
	radius2 float64 // squared
}

// radiusGrowth squared: a quarter more each time.
const radiusGrowth2 = 1.25 * 1.25

// add remembers p and returns how far it is from the nearest centre so far.
func (c *cover) add(p [2]float64) float64 {
	nearest := math.Inf(1)
	for i := range c.n {
		nearest = min(nearest, apart2(p, c.centres[i]))
	}
	if c.n == 0 || nearest > c.radius2 {
		c.centres[c.n] = p
		c.n++
		for c.n > pairsMax {
			c.grow()
		}
	}
	if math.IsInf(nearest, 1) {
		return 0
	}
	return math.Sqrt(nearest)
}

func (c *cover) grow() {
	if c.radius2 == 0 {
		c.radius2 = math.Inf(1)
		for i := range c.n {
			for j := range i {
				c.radius2 = min(c.radius2, apart2(c.centres[i], c.centres[j]))
			}
		}
	}
	c.radius2 *= radiusGrowth2
	kept := 0
next:
	for i := range c.n {
		for j := range kept {
			if apart2(c.centres[i], c.centres[j]) <= c.radius2 {
				continue next
			}
		}
		c.centres[kept] = c.centres[i]
		kept++
	}
	c.n = kept
}

func apart2(a, b [2]float64) float64 {
	x, y := a[0]-b[0], a[1]-b[1]
	return x*x + y*y
}
