package site

import (
	"context"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// Log is the durable log of one box (package store). Append, Sync, Roll and Prune are called by one
// goroutine, the reads by others. After an error nothing is acknowledged any more.
type Log interface {
	Append(recs []coord.Record) error
	Sync() error
	// Roll starts a segment that begins with head; what came before may be pruned.
	Roll(head []coord.Record) error
	// Prune drops segments that only have blocks up to height, beyond what the configuration keeps.
	Prune(height uint64) error
	Replay(fn func(r *coord.Record) error) error
	Batch(d coord.Digest) (*coord.Batch, error)
	// Blocks gives final blocks after a height, ending with one that has a certificate if it can.
	Blocks(after uint64, most int) ([]*coord.Block, *coord.Cert, error)
	// LogFrom is the lowest height that Blocks can give.
	LogFrom() uint64
	// Written is the bytes appended since the log was opened.
	Written() uint64
}

// Base is the durable state of one box (package store).
type Base interface {
	Backend() state.Backend
	// Committed is the last block whose changes are durable, nil for none.
	Committed() *coord.Final
	// Commit keeps Commit.Handover, if there is one, as KeepHandover does, and together with the changes.
	Commit(c *coord.Commit) error
	// KeepHandover keeps one in place of one of the same epoch, and the newest HandoversMax of them; Handovers gives them, ascending.
	KeepHandover(h *coord.Handover) error
	Handovers() ([]*coord.Handover, error)
	// Snapshot keeps the state of the last Commit for others.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Install begins to replace the state by a fetched one.
	Install(cp *coord.Checkpoint, manifest []byte) (Install, error)
	// KeepEvidence keeps a finding once, and a bounded number of them; Evidence gives them, from any goroutine.
	KeepEvidence(f *coord.Finding) (kept bool, err error)
	Evidence() (*coord.Exhibit, error)
}

// Snapshot is a state kept for others.
type Snapshot interface {
	// Build computes the digests; the rest may be called after it.
	Build(ctx context.Context) error
	Header() *coord.Block
	State() coord.Digest
	Manifest() []byte
	Chunk(i int) ([]byte, error)
	Close() error
}

// Install is a fetched state being put in place.
type Install interface {
	Put(i int, data []byte) error
	Finish() error
	Abort() error
}

// Links are the authenticated links to the other boxes (package link).
type Links interface {
	// Send never blocks. A parcel to nobody in particular goes to all other members of the epoch in Use.
	Send(p coord.Parcel)
	// Use is called when the box's epoch changes, in the order of Sends, and never blocks: from then on there are links to the
	// members of e. Boxes that are none any more may stay connected for a while, to be told so.
	Use(e *Epoch)
	Run(ctx context.Context) error
	Peers() []PeerState
	// Starved is the time for which this process was not run when it should have been.
	Starved() time.Duration
}

// PeerState is a link as a View shows it.
type PeerState struct {
	ID                               coord.BoxID
	Up                               bool
	Since, Heard                     time.Time
	RTT                              time.Duration
	SentBytes, ReceivedBytes         uint64
	SentMessages, Dropped, BadFrames uint64
	// Twins is how often a second machine with the peer's identity was seen.
	Twins uint64
	// Silences counts verdicts of the failure detector, Stalls those that it took back; Timeout is the silence that
	// makes one now.
	Silences, Stalls uint64
	Timeout          time.Duration
	// Control is how many messages came from it that are not bulk, Bulk how many bytes of those that are.
	Control, Bulk uint64
	// Ahead is how far its clock is ahead of ours, measured at Compared over RoundTrip; Compared is zero when it is not known.
	Ahead, RoundTrip time.Duration
	Compared         time.Time
}

// Handlers are what links call, with the names of boxes that have proved to have their keys: Message from the reader of one peer (it may block, which is
// back-pressure), State when a link comes up or goes down.
type Handlers struct {
	Message func(from coord.BoxID, m *coord.PeerMsg)
	State   func(peer coord.BoxID, up bool)
}
