package trace

import (
	"testing"
	"time"
)

// What a box does for a batch of its own: with a batch of a hundred messages a hundredth of that is for one.
func BenchmarkBatch(b *testing.B) {
	g, now := NewRing(RingDefault, RateDefault), int64(time.Hour)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		r := own(i, time.Millisecond)
		now += int64(time.Millisecond)
		at := g.Put(&r)
		g.Applied(at, at+1, now)
		g.Answered(at, 0, now)
	}
}
