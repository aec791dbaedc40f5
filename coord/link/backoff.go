package link

import "time"

// backoff is how long to wait between tries: from min it doubles up to max, and the
// upper half of each wait is random.
type backoff struct {
	min, max time.Duration
	current  time.Duration
	// random is uniform in [0, n).
	random func(n int64) int64
}

func (b *backoff) next() time.Duration {
	b.current = min(max(b.min, 2*b.current), b.max)
	half := int64(b.current / 2)
	return time.Duration(half + b.random(half+1))
}

func (b *backoff) reset() { b.current = 0 }
