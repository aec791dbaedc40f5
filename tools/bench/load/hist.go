package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of 1.6 % of their size and less, in a fixed amount of memory.
type histogram struct {
	counts [bucketsMax]uint32
	n      uint64
	most   time.Duration
}

const (
	// bucketBits: each power of two has 64 buckets.
	bucketBits = 6
	// bucketsMax is enough for the largest uint64.
	bucketsMax = (64 - bucketBits + 1) << bucketBits
)

func bucket(v uint64) int {
	e := bits.Len64(v) - bucketBits - 1
	if e <= 0 {
		return int(v)
	}
	return e<<bucketBits + int(v>>e)
}

// upper is the largest value of a bucket.
func upper(i int) uint64 {
	e := i>>bucketBits - 1
	if e <= 0 {
		return uint64(i)
	}
	return uint64(i-e<<bucketBits+1)<<e - 1
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.n++
	h.most = max(h.most, d)
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.most = max(h.most, o.most)
}

// quantile is the smallest duration that at least q of all are not above, up to a bucket's width; 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if q >= 1 || h.n == 0 {
		return h.most
	}
	rank, sum := uint64(q*float64(h.n)), uint64(0)
	for i, c := range h.counts {
		if sum += uint64(c); sum > rank {
			return min(time.Duration(upper(i)), h.most)
		}
	}
	return h.most
}
