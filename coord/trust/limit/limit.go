// Package limit keeps each identity at a box's ports to its share: a token bucket a key, in bounded memory, fair to those who are
// known when strangers come in any number. Pure: the time comes with each question.
//
// A bucket is one number, the time at which it is full again (the generic cell rate algorithm, ITU-T I.371): taking n tokens moves it n
// intervals on, and is refused where it would be more than a burst ahead of now. Who has not been seen for a while is forgotten when
// there is no room; nobody else is. When every place is taken, those who are new share one bucket: a flood of them takes
// from each other, never from those who were there before.
package limit

import (
	"container/list"
	"net/netip"
	"time"
)

// Host is the key of a caller by its address: an IPv4 address, or the /64 that whoever has one IPv6 address has all of (RFC 6177).
func Host(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// Rate is how much one identity may do: Burst at once, and then one each Every.
type Rate struct {
	Every time.Duration
	Burst int
}

// sharedTimes is how many times the rate all of those have together for whom there is no place.
const sharedTimes = 16

// Buckets are the buckets of many identities. It is for one goroutine at a time.
type Buckets[K comparable] struct {
	rate   Rate
	most   int
	keep   time.Duration
	order  *list.List // of *bucket[K], least lately used first
	known  map[K]*list.Element
	shared time.Duration // when the bucket of those who have none is full
}

type bucket[K comparable] struct {
	key  K
	full time.Duration // when it is
	used time.Duration // when it was last asked
}

// New keeps up to most identities to rate, and remembers each for at least keep after it was seen last (or until its bucket is full, if that is
// longer: forgetting then gives nothing away). Keys are small values: an address, a hash of a name.
func New[K comparable](rate Rate, most int, keep time.Duration) *Buckets[K] {
	rate.Every, rate.Burst = max(rate.Every, 1), max(rate.Burst, 1)
	return &Buckets[K]{
		rate: rate, most: max(most, 1), keep: max(keep, time.Duration(rate.Burst)*rate.Every),
		order: list.New(), known: map[K]*list.Element{},
	}
}

// Take takes n tokens from key's bucket at now, a time that only goes forward. When there are not as many it takes none, and
// says how long until there are; more than a burst there never are.
func (b *Buckets[K]) Take(now time.Duration, key K, n int) (ok bool, wait time.Duration) {
	n = min(max(n, 0), b.rate.Burst+1) // the product below stays within a Duration
	e := b.known[key]
	if e == nil && b.room(now) {
		e = b.order.PushBack(&bucket[K]{key: key})
		b.known[key] = e
	}
	if e == nil {
		return take(now, &b.shared, n, Rate{b.rate.Every / sharedTimes, b.rate.Burst * sharedTimes})
	}
	b.order.MoveToBack(e)
	own := e.Value.(*bucket[K])
	own.used = now
	return take(now, &own.full, n, b.rate)
}

// Len is how many identities have a bucket of their own.
func (b *Buckets[K]) Len() int { return len(b.known) }

// room says whether there is a place for one more, forgetting who was not seen for so long that it may be.
func (b *Buckets[K]) room(now time.Duration) bool {
	for len(b.known) >= b.most {
		e := b.order.Front()
		old := e.Value.(*bucket[K])
		if now-old.used < b.keep {
			return false
		}
		delete(b.known, old.key)
		b.order.Remove(e)
	}
	return true
}

func take(now time.Duration, full *time.Duration, n int, r Rate) (bool, time.Duration) {
	ahead := max(*full-now, 0) + time.Duration(n)*r.Every
	if over := ahead - time.Duration(r.Burst)*r.Every; over > 0 {
		return false, over
	}
	*full = now + ahead
	return true, 0
}
