// Package observe is how measurements are kept: samples of many series in columns over one list of times (Segment), their compressed form
// (Encode, Decode), falling resolution (Thinner) and a time line that a wrong clock does not tear (Timeline). It is pure: firmware/history
// brings samples, times and answers queries, store keeps the blocks.
package observe

import (
	"math"
	"slices"
)

// staleBits is the value by which Prometheus marks that a series has no sample at a time (prometheus/model/value, StaleNaN).
const staleBits = 0x7ff0000000000002

// Stale is the value of a series at a time at which it was not there.
func Stale() float64 { return math.Float64frombits(staleBits) }

// IsStale says whether v is Stale.
func IsStale(v float64) bool { return math.Float64bits(v) == staleBits }

// Sample is one value of one series.
type Sample struct {
	ID    uint32
	Value float64
}

// Segment is samples in columns over one list of times, which ascend. Not safe for concurrent use.
type Segment struct {
	times []int64
	at    map[uint32]int // column by series
	ids   []uint32
	cols  [][]float64 // may be shorter than times: then the series was not there any more
	room  int
}

// NewSegment makes an empty segment with room for so many times.
func NewSegment(room int) *Segment { return &Segment{at: map[uint32]int{}, room: room} }

// Len is the number of times.
func (s *Segment) Len() int { return len(s.times) }

// IDs are the series that have samples; the slice is the segment's.
func (s *Segment) IDs() []uint32 { return s.ids }

// Span is the first and the last time, in milliseconds; ok is false for an empty segment.
func (s *Segment) Span() (from, to int64, ok bool) {
	if len(s.times) == 0 {
		return 0, 0, false
	}
	return s.times[0], s.times[len(s.times)-1], true
}

// Append adds the samples of one time, which is later than those before; of a series that is there twice the last value counts.
func (s *Segment) Append(t int64, samples []Sample) {
	n := len(s.times)
	if s.times == nil {
		s.times = make([]int64, 0, s.room)
	}
	s.times = append(s.times, t)
	for _, x := range samples {
		i, ok := s.at[x.ID]
		if !ok {
			i = len(s.cols)
			s.at[x.ID], s.ids = i, append(s.ids, x.ID)
			s.cols = append(s.cols, make([]float64, 0, max(s.room, n+1)))
		}
		s.cols[i] = pad(s.cols[i], n)
		s.cols[i] = append(s.cols[i][:n], x.Value)
	}
}

func pad(col []float64, n int) []float64 {
	for len(col) < n {
		col = append(col, Stale())
	}
	return col
}

// Shift moves all times by so many milliseconds.
func (s *Segment) Shift(by int64) {
	for i := range s.times {
		s.times[i] += by
	}
}

// Points calls fn for each time of a series from..to, with Stale where it was not there.
func (s *Segment) Points(id uint32, from, to int64, fn func(t int64, v float64)) {
	i, ok := s.at[id]
	if !ok {
		return
	}
	col := s.cols[i]
	k, _ := slices.BinarySearch(s.times, from)
	for ; k < len(s.times) && s.times[k] <= to; k++ {
		if k < len(col) {
			fn(s.times[k], col[k])
		} else {
			fn(s.times[k], Stale())
		}
	}
}
