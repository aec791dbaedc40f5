package alarms

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// outboxMax bounds the notices that wait for one receiver: a day of a site that is not well. Each has at most some KiB.
	outboxMax = 500
	// outboxAge is when a notice is worth nothing any more.
	outboxAge = 3 * 24 * time.Hour
	// retryMin and retryMax bound the wait between tries; it doubles, and half of it is by chance, so that the boxes of many sites
	// do not come back to a receiver at the same moment.
	retryMin = time.Second
	retryMax = 5 * time.Minute
)

// Outbox is what waits for one receiver, in order. It is pure, and used by one goroutine at a time.
type Outbox struct {
	list []Notice
	seq  uint64
	// dropped counts what was given up: too old, or no room.
	dropped uint64
}

// Put appends a notice. When there is no room, one that a later notice of the same alarm supersedes goes, or else the oldest.
func (o *Outbox) Put(n Notice) {
	o.seq++
	n.Seq = o.seq
	if o.list = append(o.list, n); len(o.list) <= outboxMax {
		return
	}
	o.dropped++
	last := map[string]int{}
	for i := range o.list {
		last[o.list[i].Alert.Fingerprint] = i
	}
	for i := range o.list {
		if last[o.list[i].Alert.Fingerprint] != i {
			o.list = slices.Delete(o.list, i, i+1)
			return
		}
	}
	o.list = slices.Delete(o.list, 0, 1)
}

// Next are the first n notices at most; they stay until Done.
func (o *Outbox) Next(n int, now time.Time) []Notice {
	old := 0
	for old < len(o.list) && now.Sub(o.list[old].At) > outboxAge {
		old++
	}
	o.dropped += uint64(old)
	o.list = slices.Delete(o.list, 0, old)
	return slices.Clone(o.list[:min(n, len(o.list))])
}

// Done forgets those that were told.
func (o *Outbox) Done(told []Notice) {
	o.list = slices.DeleteFunc(o.list, func(n Notice) bool {
		return slices.ContainsFunc(told, func(t Notice) bool { return t.Seq == n.Seq })
	})
}

// restore takes what waited before a restart.
func (o *Outbox) restore(list []Notice) {
	for _, n := range list[max(0, len(list)-outboxMax):] {
		if n.Alert != nil && (n.Status == Firing || n.Status == Resolved) {
			o.Put(n)
		}
	}
}

// retryWait is how long to wait after so many tries that failed, from 1.
func retryWait(failures int, random *rand.Rand) time.Duration {
	d := min(retryMin<<min(failures-1, 20), retryMax)
	return d/2 + time.Duration(random.Int64N(int64(d/2)))
}

// bucket lets through so many a time: burst at once, then one each period.
type bucket struct {
	burst  int
	period time.Duration
	full   time.Time // when it has all its tokens again
}

// wait is how long to wait before the next may go; it counts as gone.
func (b *bucket) wait(now time.Time) time.Duration {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(b.period)
	return max(b.full.Sub(now)-time.Duration(b.burst)*b.period, 0)
}
