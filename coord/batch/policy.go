package batch

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Level is what holds at low, normal or high load.
type Level struct {
	// Target is how many messages close a batch.
	Target int
	// LingerShare of the round trip is how long the oldest message waits for others.
	LingerShare float64
}

// Policy is the batcher's numbers. The zero value of a field means its default.
type Policy struct {
	// Low, Normal and High hold below LowLoad, between, and above HighLoad.
	//
	// Low: 10 messages and a quarter of the round trip. There is CPU to spare: latency first.
	// Normal: 100 and a third of it: three batches are on their way at most, one of them ready when the next block is made, and at 100 messages the
	// signature's 64 bytes and the frame are below 1 byte a message.
	// High: 200 and all of it: nearly everything leaves when a batch returns, full blocks are what CPU is short of.
	Low, Normal, High Level
	// LowLoad 0.3 and HighLoad 0.8 are the borders.
	LowLoad, HighLoad float64
	// Hysteresis 0.05 is how far below its border the load must fall for a lower level: more than the
	// ripple that one batch of 10 messages makes in FullMessages.
	Hysteresis float64
	// FullMessages 100 is load 1: as many messages waiting as the target of normal load. A client that waits for each
	// answer contributes 1: 30 of them on one box are normal, 80 high load.
	FullMessages int
	// LoadWindow 100 ms is the time constant of the load: several blocks, and short against a second's peak.
	LoadWindow time.Duration
	// LingerMax 50 ms bounds the linger whatever the round trip is: what a person does not notice, and
	// a tenth of a leader's time-out.
	LingerMax time.Duration
	// TargetBytes 128 KiB closes a batch of large values early: at 100 Mbit/s that is 10 ms of a link.
	TargetBytes int
	// InflightMax 8 bounds our batches on their way.
	InflightMax int
	// MessagesMax and BytesMax bound the open batch; coord.BatchMessagesMax and coord.BatchBytesMax at most.
	MessagesMax, BytesMax int
}

func (p Policy) withDefaults() Policy {
	for _, l := range []struct {
		level *Level
		to    Level
	}{{&p.Low, Level{10, 0.25}}, {&p.Normal, Level{100, 0.3}}, {&p.High, Level{200, 1}}} {
		def(&l.level.Target, l.to.Target)
		def(&l.level.LingerShare, l.to.LingerShare)
	}
	def(&p.LowLoad, 0.3)
	def(&p.HighLoad, 0.8)
	def(&p.Hysteresis, 0.05)
	def(&p.FullMessages, 100)
	def(&p.LoadWindow, 100*time.Millisecond)
	def(&p.LingerMax, 50*time.Millisecond)
	def(&p.TargetBytes, 128<<10)
	def(&p.InflightMax, 8)
	def(&p.MessagesMax, coord.BatchMessagesMax)
	def(&p.BytesMax, coord.BatchBytesMax)
	p.MessagesMax = min(p.MessagesMax, coord.BatchMessagesMax)
	p.BytesMax = min(p.BytesMax, coord.BatchBytesMax)
	return p
}

// def sets what is zero.
func def[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}
