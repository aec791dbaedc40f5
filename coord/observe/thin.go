package observe

import "math"

// Thinner makes samples of a lower resolution: of each interval the last value of a counter, so that what it grew by stays exact, and of
// everything else the mean. When a counter falls, which is a restart, what was before the fall ends an interval of its own.
type Thinner struct {
	interval int64 // milliseconds
	counter  func(id uint32) bool
	slot     int64 // which interval is open
	time     int64 // of the newest sample in it; 0: none
	sums     []sum // by series
	present  []uint32
}

type sum struct {
	total, last float64
	n           int
	open        bool // there is a last value, of whatever interval
}

// NewThinner makes a Thinner for an interval in milliseconds; counter says whether a series is one.
func NewThinner(interval int64, counter func(id uint32) bool) *Thinner {
	return &Thinner{interval: interval, counter: counter}
}

// Add takes the samples of a time and calls emit for the interval that they end, if they do. The samples that emit gets are valid until it
// returns.
func (t *Thinner) Add(at int64, samples []Sample, emit func(at int64, samples []Sample)) {
	fell := false
	for _, s := range samples {
		if int(s.ID) < len(t.sums) && t.sums[s.ID].open && s.Value < t.sums[s.ID].last && t.counter(s.ID) {
			fell = true
			break
		}
	}
	slot := at / t.interval
	if t.time != 0 && (slot != t.slot || fell) {
		t.Flush(emit)
	}
	t.slot, t.time = slot, at
	for _, s := range samples {
		for int(s.ID) >= len(t.sums) {
			t.sums = append(t.sums, sum{})
		}
		x := &t.sums[s.ID]
		if x.n == 0 {
			t.present = append(t.present, s.ID)
			x.total = 0
		}
		x.n++
		x.total += s.Value
		x.last, x.open = s.Value, true
	}
}

// Flush ends the interval that is open.
func (t *Thinner) Flush(emit func(at int64, samples []Sample)) {
	if t.time == 0 {
		return
	}
	out := make([]Sample, 0, len(t.present))
	for _, id := range t.present {
		x := &t.sums[id]
		v := x.last
		if !t.counter(id) && x.n > 1 {
			v = x.total / float64(x.n)
			if math.Abs(v-x.last) <= 1e-12*math.Abs(v) {
				v = x.last // a sum of equal values is not quite a multiple of them
			}
		}
		out = append(out, Sample{id, v})
		x.n = 0
	}
	emit(t.time, out)
	t.present, t.time = t.present[:0], 0
}

// Shift moves the open interval when the clock was set.
func (t *Thinner) Shift(by int64) {
	if t.time != 0 {
		t.time += by
		t.slot = t.time / t.interval
	}
}
