package suspicion

import (
	"math"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// The points of events. suspectAt is 10.
const (
	wrongStatePoints   = 10.0 // an honest box has the quorum's state: it lies or is damaged
	badSignaturePoints = 4.0  // TLS carries no damage; one may be a defect, three are not
	wrongAnswerPoints  = 6.0
	silencePoints      = 6.0 // the test of unanswered challenges gave a result
	latePoints         = 6.0 // the test of late proposals did
	clockPoints        = 2.0 // for each interval of clockEvery
	volumePoints       = 3.0 // for each interval of volumeEvery
)

// cusum is Page's cumulative sum test (Biometrika 1954) of "bad happens with probability at most p0" against p1. It gives a result when the
// log-likelihood ratio has risen by testHeight from its lowest, and begins anew. While p0 holds for every event, whatever went before,
// the mean number of events up to a false result is at least exp(testHeight) (Lorden 1971).
type cusum struct{ sum float64 }

// testHeight is ln(100,000): at 10 proposals a second of one leader a false result in three hours of its own lead at the worst p0. Two within
// minutes make a suspect.
const testHeight = 11.5

func (c *cusum) add(bad bool, p0, p1 float64) bool {
	step := math.Log((1 - p1) / (1 - p0))
	if bad {
		step = math.Log(p1 / p0)
	}
	c.sum = max(0, c.sum+step)
	if c.sum < testHeight {
		return false
	}
	c.sum = 0
	return true
}

// Class is a kind of traffic between boxes.
type Class uint8

// The classes of traffic; Batches and Telemetry are counted in bytes, Control in messages.
const (
	Control   Class = iota // votes, certificates, proposals, questions
	Batches                // batches and blocks
	Telemetry              // what is not ordered
	classes
)

var classNames = [...]string{Control: "control messages", Batches: "bytes of batches", Telemetry: "bytes of telemetry"}

// Rate is what a box may send of a class: PerSecond for long, Burst at once.
type Rate struct{ PerSecond, Burst float64 }

// volumeEvery is how often too much traffic counts.
const volumeEvery = int64(time.Second)

// volume holds a token bucket for each box and class. An honest sender paces itself by the same rates, and the burst covers what
// waited on the way: then it is never accused.
type volume struct {
	rates [classes]Rate
	boxes map[coord.BoxID]*[classes]bucket
}

type bucket struct {
	used float64 // of Burst; above it: overdrawn
	over float64 // overdrawn since the last event
	at   int64
	said int64
}

func (v *volume) add(box coord.BoxID, c Class, n int, now int64) *event {
	b := v.boxes[box]
	if b == nil || c >= classes || v.rates[c].PerSecond <= 0 {
		return nil
	}
	k, r := &b[c], v.rates[c]
	if now > k.at {
		k.used = max(0, k.used-float64(now-k.at)*r.PerSecond/float64(time.Second))
		k.at = now
	}
	k.used += float64(n)
	if k.used <= r.Burst {
		return nil
	}
	k.over += k.used - r.Burst
	k.used = r.Burst
	if k.said != 0 && now-k.said < volumeEvery {
		return nil
	}
	e := &event{box, Volume, volumePoints, detail("%.0f %s more than %.0f a second", k.over, classNames[c], r.PerSecond)}
	k.said, k.over = now, 0
	return e
}

// reportsMax is how many state digests of a box are kept: checkpoints are half a log apart.
const reportsMax = 8

// states compares the state digests that boxes sign at checkpoints. Each box has its own places: nobody pushes out what another said.
type states struct {
	boxes map[coord.BoxID]*[reportsMax]report
}

type report struct {
	height uint64
	digest coord.Digest
	judged bool
}

// add takes a report and names those whose digest at this height is not the one that a quorum has. A second report for one height is not
// taken: two signed states at one height are evidence (coord.RuleOneState).
func (s *states) add(box coord.BoxID, height uint64, d coord.Digest) (out []*event) {
	rs := s.boxes[box]
	if rs == nil || height == 0 {
		return nil
	}
	oldest := 0
	for i := range rs {
		if rs[i].height == height {
			return nil
		}
		if rs[i].height < rs[oldest].height {
			oldest = i
		}
	}
	rs[oldest] = report{height: height, digest: d}
	count := map[coord.Digest]int{}
	for _, rs := range s.boxes {
		if r := at(rs, height); r != nil {
			count[r.digest]++
		}
	}
	for right, n := range count {
		if n < coord.Quorum(len(s.boxes)) {
			continue
		}
		for id, rs := range s.boxes {
			if r := at(rs, height); r != nil && r.digest != right && !r.judged {
				r.judged = true
				out = append(out, &event{id, WrongState, wrongStatePoints, detail("height %d: %s where %d boxes have %s", height, r.digest.Short(), n, right.Short())})
			}
		}
	}
	return out
}

func at(rs *[reportsMax]report, height uint64) *report {
	for i := range rs {
		if rs[i].height == height {
			return &rs[i]
		}
	}
	return nil
}

const (
	// precision is how far the clocks of honest boxes may be apart; NTP over a LAN keeps some milliseconds.
	precision = 500 * time.Millisecond
	// roundTripMax: of a sample that took longer nothing is learned.
	roundTripMax = 2 * time.Second
	// sampleFresh is how long a sample says something: a quartz drifts 6 ms in that time at 100 ppm.
	sampleFresh = int64(time.Minute)
	clockEvery  = int64(10 * time.Second)
)

// clocks compares the boxes' clocks with the median of a quorum. A sample is an interval that holds the true offset (it is wrong by at
// most half the round trip, RFC 5905 11.1). Of at least 2f+1 samples at most f lie, so some honest clock is at or below the median of
// the upper ends and some at or above that of the lower ends: a box whose whole interval is farther than precision beyond is not honest,
// while honest clocks are within precision of each other.
type clocks struct {
	self  coord.BoxID
	boxes map[coord.BoxID]*sample
}

type sample struct {
	low, high time.Duration
	at, said  int64 // at 0: none
}

func (c *clocks) add(box coord.BoxID, offset, roundTrip time.Duration, now int64) *event {
	s := c.boxes[box]
	if s == nil || box == c.self || roundTrip < 0 || roundTrip > roundTripMax {
		return nil
	}
	// A clock of 1970 is as far off as a day is: sums must not overflow.
	const far = 24 * time.Hour
	offset = min(max(offset, -far), far)
	s.low, s.high, s.at = offset-roundTrip/2, offset+roundTrip/2, now
	var low, high [coord.MembersMax]time.Duration // our own is exact: 0
	k := 1
	for id, s := range c.boxes {
		if id != c.self && s.at != 0 && now-s.at <= sampleFresh && k < len(low) {
			low[k], high[k] = s.low, s.high
			k++
		}
	}
	if n := len(c.boxes); k < coord.Quorum(n) || coord.MaxFaulty(n) == 0 {
		return nil // of two clocks nobody knows which is wrong
	}
	slices.Sort(low[:k])
	slices.Sort(high[:k])
	from, to := low[k/2]-precision, high[k/2]+precision
	if s.low <= to && s.high >= from || s.said != 0 && now-s.said < clockEvery {
		return nil
	}
	s.said = now
	return &event{box, Clock, clockPoints, detail("%v ahead of this box, outside %v to %v", offset, from, to)}
}

const (
	// delaysMax is how many delays of a leader are kept, delaysMin how many it takes to compare with them.
	delaysMax = 128
	delaysMin = 32
	// lateQuantile of another leader's delays, times lateFactor for links and boards that differ, is what counts as late. A higher one
	// would be that of the rare stalls (a full garbage collection, an SD card), which nothing but a very late leader exceeds.
	lateQuantile = 0.9
	lateFactor   = 2.0
	// paceMin is the least that a delay is measured by: below it scheduling is all there is.
	paceMin = 2 * time.Millisecond
	// lateHonest is how often an honest leader may be late, lateLiar how often who wants to harm is.
	lateHonest = 1 - lateQuantile
	lateLiar   = 0.6
	// quantileEvery: the quantile is found anew after so many delays.
	quantileEvery = 8
)

// lateness compares a leader's delays with those of the others who led, each measured in the pace of its round, so that a site under
// load is not a late leader. Of the others' quantiles, ascending, the one at place f counts, and there must be 2f. If the judged one is
// honest, up to f of these are liars', and some honest one is at most as high; if it lies, at most f-1 are, and some honest one
// is at least as high. So liars can neither make an honest leader late nor hide a late one.
type lateness struct {
	self  coord.BoxID
	boxes map[coord.BoxID]*delays
}

type delays struct {
	ring     [delaysMax]float64
	n        int // ever
	quantile float64
	test     cusum
}

func (d *delays) add(x float64) {
	d.ring[d.n%delaysMax] = x
	d.n++
	if d.n == delaysMin || d.n > delaysMin && d.n%quantileEvery == 0 {
		sorted := d.ring
		k := min(d.n, delaysMax)
		slices.Sort(sorted[:k])
		d.quantile = sorted[min(int(math.Ceil(lateQuantile*float64(k))), k-1)]
	}
}

func (l *lateness) add(leader coord.BoxID, delay, pace time.Duration) *event {
	d := l.boxes[leader]
	if d == nil || leader == l.self || delay < 0 {
		return nil
	}
	x := float64(delay) / float64(max(pace, paceMin))
	var others [coord.MembersMax]float64
	k := 0
	for id, o := range l.boxes {
		if id != leader && id != l.self && o.n >= delaysMin && k < len(others) {
			others[k] = o.quantile
			k++
		}
	}
	d.add(x)
	f := coord.MaxFaulty(len(l.boxes))
	if k < max(2*f, 1) || k <= f {
		return nil
	}
	slices.Sort(others[:k])
	bound := max(lateFactor*others[f], 1)
	if !d.test.add(x > bound, lateHonest, lateLiar) {
		return nil
	}
	return &event{leader, Late, latePoints, detail("%v after its turn, %.1f times the pace; others take up to %.1f", delay, x, others[f])}
}

// How often an honest box that is connected may leave a challenge unanswered, and how often one that hides something does.
const (
	silenceHonest = 0.05
	silenceLiar   = 0.5
)

// challenges counts answers.
type challenges struct {
	boxes map[coord.BoxID]*cusum
}

// Answer is what came of a challenge.
type Answer uint8

// The answers.
const (
	Right Answer = iota
	None         // not in time, while the link was up
	Wrong
)

func (c *challenges) add(box coord.BoxID, what string, a Answer) *event {
	t := c.boxes[box]
	switch {
	case t == nil:
		return nil
	case a == Wrong:
		return &event{box, Challenge, wrongAnswerPoints, "a wrong answer: " + what}
	case t.add(a == None, silenceHonest, silenceLiar):
		return &event{box, Challenge, silencePoints, "too many not answered, the last one: " + what}
	}
	return nil
}
