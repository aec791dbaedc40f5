package batch

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Batcher holds the open batch of one box and says when to close it. It is for one goroutine.
type Batcher struct {
	p       Policy
	open    coord.Columns
	since   int64 // when the oldest open message came
	push    bool  // a batch returned, or no more fits: the open one leaves
	sent    []int // messages of each batch on its way, oldest first
	waiting int   // sum of sent
	load    gauge
	levels  [3]Level
	level   int
	latency time.Duration
	back    returning
	now     int64
}

// New returns a batcher; zero fields of p have their defaults.
func New(p Policy) *Batcher {
	p = p.withDefaults()
	return &Batcher{
		p: p, levels: [...]Level{p.Low, p.Normal, p.High},
		load: gauge{window: int64(p.LoadWindow)}, latency: latencyFirst,
	}
}

// Use gives the open batch other memory, that of c. What it held is lost.
func (b *Batcher) Use(c coord.Columns) {
	b.open = c
	b.open.Reset()
}

// Add copies the messages of c to the end of the open batch; now is monotonic, in nanoseconds. It takes all or
// none: false means that they do not fit. When Ready then says true, Take makes room for them; otherwise the box is
// overloaded. Messages beyond the limits of a batch on their own never fit.
func (b *Batcher) Add(c *coord.Columns, now int64) bool {
	n := c.Len()
	if b.open.Len()+n > b.p.MessagesMax || b.open.Bytes()+c.Bytes() > b.p.BytesMax {
		b.push = b.open.Len() > 0
		return false
	}
	if n == 0 {
		return true
	}
	b.observe(now)
	b.back.came(n)
	if b.open.Len() == 0 {
		b.since = now
	}
	b.open.Append(c)
	return true
}

// Ready says that the open batch is to be taken now. It stays true until it is.
func (b *Batcher) Ready(now int64) bool {
	b.observe(now)
	n := b.open.Len()
	if n == 0 || len(b.sent) >= b.p.InflightMax || b.awaits() {
		return false
	}
	return len(b.sent) == 0 || b.push || n >= b.Target() || b.open.Bytes() >= b.p.TargetBytes ||
		now-b.since >= int64(b.Linger())
}

// Deadline is the time from which Ready says true if nothing else happens; 0 when time alone changes nothing.
func (b *Batcher) Deadline() int64 {
	switch {
	case b.open.Len() == 0 || len(b.sent) >= b.p.InflightMax:
		return 0
	case b.awaits():
		return b.back.until
	case len(b.sent) == 0:
		return 0
	}
	return b.since + int64(b.Linger())
}

// Take swaps the open batch into into, whose memory becomes that of the next open batch, and counts it as on its
// way. What into held is lost.
func (b *Batcher) Take(into *coord.Columns) {
	*into, b.open = b.open, *into
	b.open.Reset()
	b.push = false
	b.sent = append(b.sent, into.Len())
	b.waiting += into.Len()
}

// Sent counts a batch of ours that did not come from Take as on its way.
func (b *Batcher) Sent() { b.sent = append(b.sent, 0) }

// Done says that a batch of ours is not on its way any more, at the time of the last call that named
// one: it is final and applied after latency, or, with latency 0, it is lost. What has gathered leaves next.
func (b *Batcher) Done(latency time.Duration) {
	if len(b.sent) > 0 {
		if latency > 0 {
			b.back.left(b.sent[0], b.now, int64(min(b.p.LingerMax, b.latency/2)))
		}
		// Batches return nearly in order; which one it was matters for the load only.
		b.waiting -= b.sent[0]
		b.sent = b.sent[:copy(b.sent, b.sent[1:])]
	}
	if latency > 0 {
		b.latency = smooth(b.latency, latency)
	}
	b.push = b.push || b.open.Len() > 0
}

// observe brings load and level up to date.
func (b *Batcher) observe(now int64) {
	b.now = now
	b.back.passes(now)
	b.load.hold(b.waiting+b.open.Len(), now)
	load := b.Load()
	borders := [...]float64{b.p.LowLoad, b.p.HighLoad}
	for b.level < len(borders) && load > borders[b.level] {
		b.level++
	}
	for b.level > 0 && load < borders[b.level-1]-b.p.Hysteresis {
		b.level--
	}
}

// Load is between 0 and 1; see the package's comment.
func (b *Batcher) Load() float64 {
	return min(1, float64(b.load.milli)/float64(1000*b.p.FullMessages))
}

// Target is how many messages close a batch at this load.
func (b *Batcher) Target() int { return b.levels[b.level].Target }

// awaits says that the open batch, unless it is full, waits for clients who were just answered.
func (b *Batcher) awaits() bool {
	return b.back.awaits() && b.open.Len() < b.p.High.Target && b.open.Bytes() < b.p.TargetBytes
}

// Linger is how long the oldest message waits for others at this load and round trip: all of it when clients come back
// at once, for then they come together.
func (b *Batcher) Linger() time.Duration {
	share := b.levels[b.level].LingerShare
	if b.back.likely() {
		share = 1
	}
	return min(b.p.LingerMax, time.Duration(float64(b.latency)*share))
}

// Inflight is how many of our batches are on their way.
func (b *Batcher) Inflight() int { return len(b.sent) }

// Open is how many messages the open batch has.
func (b *Batcher) Open() int { return b.open.Len() }
