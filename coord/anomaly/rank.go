package anomaly

import "math"

const (
	binsPerOctave = 8
	bins          = 128 * binsPerOctave // distances from 2^-64 to 2^64
	heaviest      = 1e12                // where the weights are scaled down again
)

// ranks tells how rare a distance is among those so far (a conformal p-value; Vovk, Gammerman, Shafer
// 2005), older ones counting less: sums over a logarithmic histogram in a Fenwick tree, whose newest
// entries weigh most.
type ranks struct {
	sums   [bins + 1]float32
	weight float64 // of the next entry
	total  float64
}

// add counts a distance and returns the share of those so far, itself included, that were as large.
func (r *ranks) add(distance float64) float64 {
	if r.weight == 0 {
		r.weight = 1
	}
	from := bins - bin(distance) // the tree runs from the largest down
	asLarge := 0.0
	for i := from; i > 0; i -= i & -i {
		asLarge += float64(r.sums[i])
	}
	share := (r.weight + asLarge) / (r.weight + r.total)
	for i := from; i <= bins; i += i & -i {
		r.sums[i] += float32(r.weight)
	}
	r.total += r.weight
	r.weight *= 1 + 1./rankMemory
	if r.weight > heaviest {
		for i := range r.sums {
			r.sums[i] /= float32(r.weight)
		}
		r.total /= r.weight
		r.weight = 1
	}
	if distance <= 0 {
		return 1 // exactly: sums of many weights are not
	}
	return min(share, 1)
}

func bin(distance float64) int {
	if distance <= 0 {
		return 0
	}
	return min(max(int(math.Log2(distance)*binsPerOctave)+bins/2, 1), bins-1)
}

// rest lets a score through when none of the last points had as high a one: a queue of falling scores.
type rest struct {
	queue [restMax + 1]struct {
		at    int
		score float32
	}
	first, n int
}

// peak says whether none of the length points before at scored as high. at rises by one a call.
func (r *rest) peak(at, length int, score float64) bool {
	for r.n > 0 && r.queue[r.first].at < at-length {
		r.first, r.n = (r.first+1)%len(r.queue), r.n-1
	}
	s := float32(score)
	high := r.n == 0 || r.queue[r.first].score < s
	for r.n > 0 && r.queue[(r.first+r.n-1)%len(r.queue)].score <= s {
		r.n--
	}
	q := &r.queue[(r.first+r.n)%len(r.queue)]
	q.at, q.score = at, s
	r.n++
	return high
}
