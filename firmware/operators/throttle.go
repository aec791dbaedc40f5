package operators

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Wait says how long somebody has to wait after failures; it is an ErrWait.
type Wait struct {
	For time.Duration
	// Name says that it is the operator's name that too many guess at, not this address alone.
	Name bool
}

func (w *Wait) Error() string {
	d := (w.For + time.Second - 1).Truncate(time.Second) // who waits that long is not told to wait again
	s := fmt.Sprintf("%s from this address; wait %s", ErrWait, d)
	if w.Name {
		s = fmt.Sprintf("%s for this name; wait %s, or use a browser that has logged in before, or the box's own console (`holdfast operator`)", ErrWait, d)
	}
	return s
}

// Is makes errors.Is(err, ErrWait) hold.
func (w *Wait) Is(target error) bool { return errors.Is(target, ErrWait) }

// rule is how one kind of failure is slowed: the first free ones cost nothing, each further one doubles the wait up to most.
type rule struct {
	free int
	most time.Duration
}

const (
	// firstWait follows the first failure that is not free.
	firstWait = time.Second
	// forgetAfter a time without failures they are forgotten.
	forgetAfter = time.Hour
	// bucketsMax bounds what is remembered of each kind, about 100 bytes each; of more sources those with the least to wait are forgotten.
	bucketsMax = 4096
	// sampled is how many are looked at for that.
	sampled = 16
)

// The rules. A person mistypes a few times. A source waits up to a quarter of an hour. For one name, whoever guesses from many
// sources may do so once a minute: 1,440 a day; the operator's own browsers are told apart by a cookie and have a rule of their own.
var (
	sourceRule = rule{free: 4, most: 15 * time.Minute}
	nameRule   = rule{free: 16, most: time.Minute}
	deviceRule = rule{free: 8, most: time.Minute}
)

// bucket counts failures of one source, name or device.
type bucket struct {
	failures    int
	until, last time.Time
}

// throttle slows guessing down. A kind's map is bounded; nothing that a stranger sends makes it grow beyond.
type throttle struct {
	mu                     sync.Mutex
	sources, names, device map[string]*bucket
	strange                map[string]*bucket // of names that nobody has, by their hash: apart, so that they take no place of the others
}

func newThrottle() *throttle {
	return &throttle{sources: map[string]*bucket{}, names: map[string]*bucket{}, device: map[string]*bucket{}, strange: map[string]*bucket{}}
}

// attempt is one try to log in. known is the operator's name if there is such an operator, strange the hash of what was given where there is
// none, device what a valid device cookie says, source where it comes from, as crowd.Source has it.
type attempt struct{ source, known, strange, device string }

// begin says whether a try may be made now, and counts it as failed; forgive takes that back. Tries that are made at the same
// moment are counted so.
func (t *throttle) begin(a attempt, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.buckets(a, now)
	for _, b := range list {
		if w := b.until.Sub(now); w > 0 {
			return &Wait{For: w, Name: b.name}
		}
	}
	for _, b := range list {
		b.fail(b.rule, now)
	}
	return nil
}

// forgive takes a begin back: it was no failure. What failed before stays: who has an account cannot wipe out guesses at another.
func (t *throttle) forgive(a attempt, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.buckets(a, now) {
		if b.failures > 0 {
			b.failures--
		}
		b.until = time.Time{}
	}
}

type ruled struct {
	*bucket
	rule
	name bool
}

// buckets are those that an attempt counts in; mu is held. A device that logged in before counts in its own alone, so that nobody
// else's failures concern it.
func (t *throttle) buckets(a attempt, now time.Time) []ruled {
	if a.device != "" {
		return []ruled{{get(t.device, a.device, now), deviceRule, false}}
	}
	list := []ruled{{get(t.sources, a.source, now), sourceRule, false}}
	switch {
	case a.known != "":
		list = append(list, ruled{get(t.names, a.known, now), nameRule, true})
	case a.strange != "": // there is nothing to guess but whether there is such a name
		list = append(list, ruled{get(t.strange, a.strange, now), nameRule, true})
	}
	return list
}

func get(m map[string]*bucket, key string, now time.Time) *bucket {
	b := m[key]
	if b == nil {
		if len(m) >= bucketsMax {
			forget(m, now)
		}
		b = new(bucket)
		m[key] = b
	}
	if now.Sub(b.last) > forgetAfter {
		*b = bucket{}
	}
	b.last = now
	return b
}

// forget makes room for one: of some, that which has the least to wait for.
func forget(m map[string]*bucket, now time.Time) {
	var worst string
	var least time.Time
	n := 0
	for k, b := range m { // Go's order of maps is random enough
		at := b.until
		if now.Sub(b.last) > forgetAfter {
			at = time.Time{}
		}
		if n == 0 || at.Before(least) {
			worst, least = k, at
		}
		if n++; n == sampled {
			break
		}
	}
	delete(m, worst)
}

func (b *bucket) fail(r rule, now time.Time) {
	b.failures++
	over := b.failures - r.free
	if over <= 0 {
		return
	}
	wait := r.most
	if shift := over - 1; shift < 20 {
		wait = min(firstWait<<shift, r.most)
	}
	b.until = now.Add(wait)
}
