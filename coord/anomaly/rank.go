package anomaly

import "math"

const (
	binsPerOctave = 8
	bins          = 96 * binsPerOctave // distances from 2^-40 to 2^56
	binOfOne      = 40 * binsPerOctave
	heaviest      = 1e12 // where the weights are scaled down again
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
	return min(max(int(math.Log2(distance)*binsPerOctave)+binOfOne, 1), bins-1)
}
