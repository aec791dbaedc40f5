package batch

import "time"

// gauge is the average of a number of messages over about the last window. It is in integers, so that a
// simulation runs alike on every architecture.
type gauge struct {
	window int64 // nanoseconds
	at     int64 // when it was last brought up to date
	milli  int64 // the average, in thousandths of a message
}

// spanMax bounds the time that one step looks back, in windows: after 10 of them the past does not matter, and
// the products stay far below 2^63.
const spanMax = 10

// hold says that the number was n from the last call until now.
func (g *gauge) hold(n int, now int64) {
	dt := min(now-g.at, spanMax*g.window)
	if dt <= 0 {
		return
	}
	g.at = now
	// dt / (dt + window) approximates 1 - exp(-dt/window) within 1/4 of it, without floating point.
	g.milli += (int64(n)*1000 - g.milli) * dt / (dt + g.window)
}

// latencyFirst is what a round trip is taken for until one was seen: two fdatasyncs and three
// flights on a slow board.
const latencyFirst = 4 * time.Millisecond

// latencyWeight: an eighth of each sample, as TCP's smoothed round trip (RFC 6298, 2.3).
const latencyWeight = 8

// smooth is the round trip after one more sample.
func smooth(before, sample time.Duration) time.Duration {
	return before + (sample-before)/latencyWeight
}
