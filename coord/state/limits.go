package state

import (
	"errors"

	"github.com/holdfast-edge/holdfast/coord"
)

// KindCheckpoint asks for a checkpoint as soon as checkpointGapBlocks have passed since
// the last one. It belongs to no session (its Session and Seq are not looked at), and
// only boxes send it: asking twice does nothing more.
const KindCheckpoint coord.Kind = 6

// Limits. They are part of the protocol: boxes that disagree on one of them fork.
const (
	// SessionsMax bounds the open sessions; one more drops the least recently used. Four
	// thousand clients are ten times what a site of 16 boxes was seen to have, and cost
	// about 5 MiB.
	SessionsMax = 4096
	// SessionAheadMax bounds how far a number may be ahead of its session's oldest gap: 8
	// requests of the largest size in flight.
	SessionAheadMax = 8 * coord.BatchMessagesMax
	// sessionSpansMax bounds the separate ranges of numbers above a session's oldest gap: a
	// client with 1,000 single messages in flight, every second one applied.
	sessionSpansMax = 512
	// sessionAcksMax is how many puts and deletes of a session keep their outcome for a
	// retry: a retry that comes later still has no second effect, it only learns less.
	sessionAcksMax = 64
	// sessionNameBytesMax cuts the text that names a session's client.
	sessionNameBytesMax = 64

	// BoxBatchesAboveFloorMax bounds the batches of one author that took effect above its
	// floor. An honest author has at most a few dozen in flight.
	BoxBatchesAboveFloorMax = 4096
	// boxesMax bounds the authors ever seen: 32 changes of the largest membership.
	boxesMax = 32 * coord.MembersMax
	// startBits is the width of a batch number's lower part; the rest counts the author's starts.
	startBits = 20

	// readBytesMax bounds the values that the reads of one batch give: a batch could
	// otherwise ask for 4 GiB. A read beyond it answers CodeBusy and is repeated. With one value more
	// it still fits a frame.
	readBytesMax = 2 << 20

	// provesMax bounds the proven reads of one block.
	provesMax = 16

	// openMax bounds the decisions that are open: all that the largest membership may propose. OpenOfOneMax and openBytesOfOneMax bound
	// those of one box, so that boxes that lie leave room for the others: 8 of usual size, or 4 of the largest.
	openMax           = OpenOfOneMax * coord.MembersMax
	OpenOfOneMax      = 8
	openBytesOfOneMax = 4 * (coord.DecisionBytesMax + 1)
	// decidedMax is how many outcomes are remembered, of those that took effect and of the others: as far back as a decision
	// may have been made.
	decidedMax = coord.DecisionSeenMax
	// DocsMax and DocsBytesMax bound the site's documents, which all boxes keep in memory: a thousand programs with roles and
	// tokens that were revoked, and 1 KiB for each.
	DocsMax      = 4096
	DocsBytesMax = 4 << 20
	// docSecondsMax is the longest time that a document may have: a hundred years.
	docSecondsMax = 100 * 366 * 86400

	// TopMax is the longest list that Top gives.
	TopMax = 1024
)

// The checkpoint rule (see End).
const (
	// checkpointBytesMin: half of what the log keeps; it is replayed in about a second on the slowest
	// board, so a checkpoint would save nothing.
	checkpointBytesMin = 32 << 20
	// checkpointGapBlocks keeps KindCheckpoint from being used to make boxes hash their
	// state all the time.
	checkpointGapBlocks = 256
	// What the log holds beside keys and values, roughly: numbers and lengths of a message,
	// and header, votes and certificates of a block (more than the messages at idle).
	messageLogBytes = 64
	blockLogBytes   = 1 << 10
	// brokenBatchLogBytes stands for a batch whose body cannot be decoded: between nothing
	// and the 1.3 MiB that a liar may have sent.
	brokenBatchLogBytes = 64 << 10
	// What a counter and a session count for in StateBytes. Their real size changes with
	// every message; only that all boxes agree matters.
	counterStateBytes = 16
	sessionStateBytes = 512
)

// What is kept in memory although it is durable, so that hot entries need no read. These
// affect speed only.
const (
	cleanKeyBytesMax = 4 << 20
	cleanEntriesMax  = 64 << 10
)

// Errors.
var (
	// ErrBackend says that a read of the Backend failed; the cause is wrapped beside it.
	ErrBackend = errors.New("state: the storage could not be read")
	// ErrDamaged says that a stored value is not one that this package wrote.
	ErrDamaged = errors.New("state: stored value is damaged")
	// ErrVersion says that a stored value was written by a later release.
	ErrVersion = errors.New("state: stored value has a newer format")
	// ErrOrder says that Begin, Batch and End were called out of turn, or that a block does
	// not follow the last one: a fault of the caller.
	ErrOrder = errors.New("state: block out of order")
)
