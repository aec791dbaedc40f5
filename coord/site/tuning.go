package site

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord/batch"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// TermRounds is the default of Tuning.TermRounds.
const TermRounds = 1000

// Tuning is the box's times and sizes. The zero value of a field means its default.
type Tuning struct {
	// TermRounds: one leader orders this many rounds; at 1,000 a dead box costs one time-out in a
	// thousand rounds (docs/decisions/0001).
	TermRounds uint64
	// Timeout is how long a leader may be without a final block while there is work. 500 ms: longer
	// than the stalls of a slow SD card's ordinary fsync (100-400 ms), below the second in which writes
	// must go on. It doubles for each leader that fails in a row.
	Timeout time.Duration
	// LeaderDown replaces Timeout when the link to the leader is down: 150 ms lets a restarted process
	// or a flapping link come back first.
	LeaderDown time.Duration
	// Retransmit: half of Timeout, so that a lost message is repeated before a leader is blamed for it.
	Retransmit time.Duration
	// IdleStatus: 1 s; a box that missed the last block hears of it within that time.
	IdleStatus time.Duration
	// FetchDelay: 15 ms, about twice the time that a batch is on its way on a loaded small site.
	FetchDelay time.Duration
	// Starve: 8 x Timeout; an honest leader that is told of a batch orders it well before.
	Starve time.Duration
	// DepthMax: 2 blocks notarized and not final. While one is voted to be final the next is proposed; a deeper
	// pipeline makes more and emptier blocks, and blocks are what costs (64 clients on two cores: 228 CPU-s
	// per million writes at 2, 307 at 8).
	DepthMax uint64
	// PipelineBytes and PipelineDelay: a block below 64 KiB waits for the one below it to be final, at most 25 ms. That is
	// the last of three message delays, and on a small or near site blocks are half again as full (64 clients of the
	// etcd API on two cores: 26 messages a block, not 18, and a tenth less CPU for each).
	PipelineBytes int
	PipelineDelay time.Duration
	// Spacing: where those who send change from block to block, small blocks begin at least 3 ms after the one before is final: about
	// two hundred blocks a second instead of six hundred, half the CPU, and at most so much later.
	Spacing time.Duration
	// BlockBytes: 1 MiB of batches in a block; applying one takes a few milliseconds.
	BlockBytes int
	// PendingMax: batches of one box that wait to be ordered; a box keeps at most
	// batch.Policy's in-flight limit of its own, this leaves room for restarts.
	PendingMax int
	// CommitEvery and CommitBytes: state goes to bbolt every 5 s or after 8 MiB (about 17,000 small writes), so that it does not
	// wear the flash and a restart replays little. One commit of 12,000 keys takes 0.1 s. The boxes take turns.
	CommitEvery time.Duration
	CommitBytes int
	// SegmentBytes is when the log starts a new segment.
	SegmentBytes int
	// RetryAfter is the hint given with CodeBusy and CodeWindow.
	RetryAfter time.Duration
	Batch      batch.Policy
	// Checkpoint is part of the protocol: all boxes of a site have the same. The zero value is the product's.
	Checkpoint state.Rule
}

func (t Tuning) withDefaults() Tuning {
	def(&t.TermRounds, TermRounds)
	def(&t.Timeout, 500*time.Millisecond)
	def(&t.LeaderDown, 150*time.Millisecond)
	def(&t.Retransmit, t.Timeout/2)
	def(&t.IdleStatus, time.Second)
	def(&t.FetchDelay, 15*time.Millisecond)
	def(&t.Starve, 8*t.Timeout)
	def(&t.DepthMax, 2)
	def(&t.PipelineBytes, 64<<10)
	def(&t.PipelineDelay, 25*time.Millisecond)
	def(&t.Spacing, 3*time.Millisecond)
	def(&t.BlockBytes, 1<<20)
	def(&t.PendingMax, 256)
	def(&t.CommitEvery, 5*time.Second)
	def(&t.CommitBytes, 8<<20)
	def(&t.SegmentBytes, 16<<20)
	def(&t.RetryAfter, 50*time.Millisecond)
	def(&t.Checkpoint, state.DefaultRule())
	return t
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
