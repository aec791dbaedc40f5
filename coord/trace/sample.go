package trace

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"
)

const (
	// RateDefault keeps one trace in a hundred by chance.
	RateDefault = 0.01

	// keepEvery and keepBurst bound what is kept: 20 traces a second, of a few KiB each with all boxes' records, are a load that a card
	// does not feel, and a burst has room for a change of leader under load.
	// An anomaly, in which all are kept, leaves half of the burst to what is more than that.
	keepEvery = int64(time.Second / 20)
	keepBurst = 64

	// slowShare of the batches are slow: those beyond the 99th percentile.
	slowShare = 100
	// slowAfter is how many batches it takes to know what is usual.
	slowAfter = 200
	// forgetAfter is how many batches are counted before each count is halved: the distribution is that of the last few thousand.
	forgetAfter = 4096
	// thresholdEvery is after how many batches the threshold is computed anew.
	thresholdEvery = 64

	// Latencies are counted in 16 classes an octave, so that a threshold is exact to 4.5%, from 2^14 ns (16 µs) to 2^38 (275 s).
	classBits   = 4
	octaveFirst = 14
	classes     = (38 - octaveFirst) << classBits
)

// sampler decides at the end of a trace whether to keep it. It is of fixed size and is told of every own batch.
type sampler struct {
	threshold uint64 // of the trace id's 56 random bits, see judge
	counts    [classes]uint32
	total     uint32
	since     uint32 // batches since slow was computed
	slow      int64  // nanoseconds from which on a batch is slow

	tokens               int64
	refilled             int64
	judged, kept, spared uint64
}

func newSampler(rate float64) sampler {
	return sampler{threshold: uint64((1 - min(max(rate, 0), 1)) * (1 << 56)), slow: math.MaxInt64, tokens: keepBurst}
}

// class of a latency, monotonic.
func class(d int64) int {
	u := uint64(max(d, 1<<octaveFirst))
	octave := bits.Len64(u) - 1
	sub := int(u>>(octave-classBits)) & (1<<classBits - 1)
	return min((octave-octaveFirst)<<classBits|sub, classes-1)
}

// least is the shortest latency of a class.
func least(class int) int64 {
	octave := class>>classBits + octaveFirst
	return 1<<octave | int64(class&(1<<classBits-1))<<(octave-classBits)
}

// judge gives the reasons for which a batch's trace is kept, 0: it is not.
//
// Chance is in the trace's id: its last 56 bits are random, and it is kept when they are not below the threshold (OpenTelemetry's
// consistent probability sampling), so that whoever samples by the same rule keeps the same traces.
func (s *sampler) judge(r *Record, why Reason, now int64) Reason {
	s.judged++
	d := r.Duration()
	if r.Part == 0 && d > 0 {
		if d > s.slow {
			why |= Slow
		}
		s.count(d)
	}
	if binary.BigEndian.Uint64(r.Trace[8:])&(1<<56-1) >= s.threshold {
		why |= Random
	}
	if why == 0 {
		return 0
	}
	if n := (now - s.refilled) / keepEvery; n > 0 {
		s.tokens, s.refilled = min(s.tokens+n, keepBurst), s.refilled+n*keepEvery
	}
	if s.tokens == 0 || why == Unusual && s.tokens <= keepBurst/2 {
		s.spared++
		return 0
	}
	s.tokens--
	s.kept++
	return why
}

func (s *sampler) count(d int64) {
	s.counts[class(d)]++
	s.total++
	if s.since++; s.since >= thresholdEvery && s.total >= slowAfter {
		s.since = 0
		left := s.total / slowShare
		for c := classes - 1; c >= 0; c-- {
			if s.counts[c] > left {
				s.slow = least(c + 1)
				break
			}
			left -= s.counts[c]
		}
	}
	if s.total >= forgetAfter {
		s.total = 0
		for c := range s.counts {
			s.counts[c] /= 2
			s.total += s.counts[c]
		}
	}
}
