package anomaly

import "math"

// Tuning are the numbers that a benchmark may choose. Default is what boxes use. All but Rest are in
// units of the score.
type Tuning struct {
	Rare     float64 // how much of a novelty is its rank; the rest of 1 is its ratio to the farthest yet
	Spend    float64 // by how much a tenfold longer history raises the bar
	Handicap float64 // how much more unusual a spread, a pair or an hour must be than a value
	Repeat   float64 // by how much each earlier peak that was as high raises the bar
	Rest     int     // points after a peak in which only a higher one is told, for a short history
}

const (
	// The rest grows with the history, up to restMax points: a series that has been told of often is
	// told of less often.
	restShare = 0.03
	restMax   = 600
	// spendFrom is the history at which the bar is where a threshold puts it.
	spendFrom = 1000
	// peaksMax is how many peaks are remembered, peakLeast how high one is.
	peaksMax  = 32
	peakLeast = 0.25
)

// Teller weighs what an Eye sees, and tells it once. Its size is fixed. Make one with NewTeller.
type Teller struct {
	tuning Tuning
	points int
	rest   rest
	peaks  [peaksMax]peak // a ring
	n      int            // peaks so far
}

type peak struct {
	at    int
	score float64
}

// NewTeller has heard nothing.
func NewTeller(t Tuning) *Teller { return &Teller{tuning: t} }

// Tell takes the sight of the next point and returns its score, from 0 to 1.
func (t *Teller) Tell(s Sight) float64 {
	t.points++
	rare, far := t.tuning.Rare, 1-t.tuning.Rare
	score := rare*s.Value.Rare + far*s.Value.Far
	for _, n := range s.Others {
		score = max(score, rare*n.Rare+far*n.Far-t.tuning.Handicap)
	}
	if score > 0 {
		score = max(score-t.tuning.Spend*math.Log10(float64(t.points)/spendFrom), 0)
	}
	length := min(t.tuning.Rest+int(restShare*float64(t.points)), restMax)
	if !t.rest.peak(t.points, length, score) {
		return 0
	}
	if score > peakLeast {
		score -= t.tuning.Repeat * float64(t.repeats(length, score))
	}
	return min(max(score, 0), 1)
}

// repeats remembers a peak, and says how many earlier ones were as high. One that comes while the last
// one's rest goes on is the same.
func (t *Teller) repeats(length int, score float64) int {
	count, same := 0, false
	for i := range min(t.n, peaksMax) {
		p := &t.peaks[(t.n-1-i)%peaksMax]
		switch {
		case t.points-p.at > length:
			if p.score >= score {
				count++
			}
		case i == 0:
			same = true
		}
	}
	if !same {
		t.n++
		t.peaks[(t.n-1)%peaksMax] = peak{t.points, score}
	} else if last := &t.peaks[(t.n-1)%peaksMax]; score > last.score {
		*last = peak{t.points, score}
	}
	return count
}

// rest lets a score through when none of the last points had as high a one: a queue of falling scores.
type rest struct {
	queue [restMax + 1]struct {
		at    int32 // modulo 2^32: only differences count
		score float32
	}
	first, n int
}

// peak says whether none of the length points before at scored as high. at rises by one a call.
func (r *rest) peak(at, length int, score float64) bool {
	now := int32(uint32(at))
	for r.n > 0 && now-r.queue[r.first].at > int32(length) {
		r.first, r.n = (r.first+1)%len(r.queue), r.n-1
	}
	s := float32(score)
	high := r.n == 0 || r.queue[r.first].score < s
	for r.n > 0 && r.queue[(r.first+r.n-1)%len(r.queue)].score <= s {
		r.n--
	}
	q := &r.queue[(r.first+r.n)%len(r.queue)]
	q.at, q.score = now, s
	r.n++
	return high
}
