package trace

import (
	"sync"
	"sync/atomic"
)

// RingDefault is how many records a box remembers: seconds at full load, hours of a quiet site, in 2 MB.
const RingDefault = 8192

// Ring has the last records of a box, of all batches, in fixed memory. Its methods may be used by many goroutines; none of those that
// write allocates.
type Ring struct {
	mu   sync.Mutex
	recs []Record
	ids  []ID // of recs, beside each other: a search touches nothing else
	out  []bool
	next uint64
	s    sampler

	unusualUntil atomic.Int64
}

// NewRing makes a ring of at least one record, of whose batches one in 1/rate is kept by chance, rate 0 to 1.
func NewRing(records int, rate float64) *Ring {
	n := max(records, 1)
	return &Ring{recs: make([]Record, n), ids: make([]ID, n), out: make([]bool, n), s: newSampler(rate)}
}

// Put takes over a record, in place of the oldest, and says where it is: places count up.
func (r *Ring) Put(rec *Record) (place uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.next % uint64(len(r.recs))
	r.recs[i], r.ids[i], r.out[i] = *rec, rec.Trace, false
	r.next++
	return r.next - 1
}

// at is the record of a place, nil when it was overwritten.
func (r *Ring) at(place uint64) *Record {
	if place >= r.next || r.next-place > uint64(len(r.recs)) {
		return nil
	}
	return &r.recs[place%uint64(len(r.recs))]
}

// Applied says that the records from a place to before another were applied by now.
func (r *Ring) Applied(from, to uint64, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; from < to; from++ {
		if rec := r.at(from); rec != nil && rec.At[Final] != 0 {
			rec.At[Applied] = now
		}
	}
}

// Answered says that the answers of an own batch left, gives its record, and judges whether its trace is to be kept: Reasons says why.
// with has reasons beside the ring's own. ok is false when the record was overwritten.
func (r *Ring) Answered(place uint64, with Reason, now int64) (rec Record, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.at(place)
	if p == nil {
		return rec, false
	}
	p.At[Answered] = now
	if now < r.unusualUntil.Load() {
		with |= Unusual
	}
	p.Reasons = r.s.judge(p, p.Reasons|with, now)
	return *p, true
}

// Unusual has the traces of the batches that are answered before a time kept (monotonic nanoseconds): something is not as it mostly is.
func (r *Ring) Unusual(until int64) { r.unusualUntil.Store(until) }

// Find appends the records of a trace, their points moved by shift nanoseconds, oldest first, at most RecordsMax.
func (r *Ring) Find(dst []Record, id ID, shift int64) []Record { return r.find(dst, id, shift, false) }

// Once is Find without the records that it gave before.
func (r *Ring) Once(dst []Record, id ID, shift int64) []Record { return r.find(dst, id, shift, true) }

func (r *Ring) find(dst []Record, id ID, shift int64, once bool) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, held := uint64(len(r.recs)), min(r.next, uint64(len(r.recs)))
	most := len(dst) + RecordsMax
	for place := r.next - held; place < r.next && len(dst) < most; place++ {
		if r.ids[place%n] == id && !(once && r.out[place%n]) {
			r.out[place%n] = r.out[place%n] || once
			rec := r.recs[place%n]
			rec.Shift(shift)
			dst = append(dst, rec)
		}
	}
	return dst
}

// Counts says how many traces were judged, how many of these are kept, and how many were not only because too many would have been.
func (r *Ring) Counts() (judged, kept, spared uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.s.judged, r.s.kept, r.s.spared
}
