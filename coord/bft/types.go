package bft

import "github.com/holdfast-edge/holdfast/coord"

// Keys signs for this box and checks what others signed.
type Keys interface {
	// SignVote signs coord.VoteBytes of the site.
	SignVote(k coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature
	// VerifyVote says whether v.Sig is by member v.Voter.
	VerifyVote(v *coord.Vote) bool
}

// Config is fixed for the life of a Core. Times are nanoseconds of the caller's monotonic clock.
type Config struct {
	// Self is the index of this box; -1 makes a core that is only looked at: it must not be stepped.
	Self    int
	Members []coord.BoxID // by index
	Site    coord.SiteID
	Epoch   uint64
	// TermRounds is K. Long terms make a dead leader cost one time-out a term; 1,000 or more keeps
	// that below a thousandth (facts: K=64 gave p99 242 ms with one dead box, K=1024 59 ms).
	TermRounds uint64
	// Timeout is how long work may wait for finality before the leader is given up; it doubles for
	// each failed term in a row, up to 32 times. LeaderDown replaces it when the link to the leader
	// is down.
	Timeout, LeaderDown int64
	// Retransmit is the interval of repeating the current state while there is work, IdleStatus
	// that of telling the height when there is none.
	Retransmit, IdleStatus int64
	// FetchDelay is how long a box waits for batches or votes that are probably on their way before
	// it asks for them or checks signatures itself.
	FetchDelay int64
	// Starve is how long a verified batch may wait in one leader's term before the leader is given up
	// although it orders others' batches.
	Starve int64
	// DepthMax bounds the blocks that are notarized and not final; more only adds latency.
	DepthMax uint64
	// PipelineBytes: a block of less waits, PipelineDelay at most, until the one below it is final. Blocks are what costs,
	// and a message that waits is in a fuller one; bulk does not wait.
	PipelineBytes int
	PipelineDelay int64
	// Spacing is how long after a final block the next small one begins when other members have batches in each; gather.go.
	Spacing int64
	// BlockBytes bounds the batches' bytes in a proposal, so that a block stays cheap to
	// apply and to fetch.
	BlockBytes int
	// PendingMax bounds the batches of one author that wait to be ordered.
	PendingMax int
	// Blank says that the base is not known: the box is a member of an epoch whose state it must fetch before it takes part.
	Blank bool
	// VotesFrom, when not 0, is the first round in which this box may vote: a box that took the place of
	// one whose disk is lost does not know what that one signed, so it is silent until a term
	// that nobody has voted in.
	VotesFrom uint64
	// Nonce is new for each start: before it votes a box asks the others what they have of its votes
	// (recall.go). 0: it does not ask, for a site in which no disk can be old (tests).
	Nonce uint64
	// Done says whether a batch took effect already (or never will): it need not be ordered.
	Done func(author coord.BoxID, seq uint64) bool
	Keys Keys
}

// Input is one thing that happened. Exactly one of the fields is set, or none: only time passed.
type Input struct {
	// From is the member whose authenticated link Msg or Batch came over; -1: a box that is no member. It may give final blocks once Last
	// is known, and batches that these need.
	From int
	Msg  *coord.PeerMsg // anything but Batch, Fetch of what the core does not hold, snapshots
	// Batch arrived (or is our own: From is Self). Verified says that the author's signature
	// was checked. The core keeps the pointer.
	Batch       *coord.Batch
	BatchDigest coord.Digest
	Verified    bool
	// Checked answers Ready.Verify for one batch.
	Checked *Checked
	// Link says that the link to a member came up or went down.
	Link *Link
	// State is the digest of our state at a checkpoint height.
	State *State
	// Installed says that the state now is that of this checkpoint, fetched from others.
	Installed *coord.Checkpoint
	// Last is the block that ends the epoch, which From can give: it is known to be final, and nothing above it counts. The box does
	// not vote any more.
	Last *coord.Block
}

// Checked is the outcome of a signature check.
type Checked struct {
	Digest coord.Digest
	OK     bool
}

// Link is a member's link going up or down.
type Link struct {
	Peer int
	Up   bool
}

// State is our state's digest after the block Header.
type State struct {
	Header *coord.Block
	Digest coord.Digest
}

// Delivery is one final block with its batches, in the order of its Refs. Cert is the
// certificate that made it final, nil for an ancestor of that block.
type Delivery struct {
	Block   *coord.Block
	Digest  coord.Digest
	Batches []*coord.Batch
	Cert    *coord.Cert
	At      Times
}

// Times are when a block passed its steps on this box, by the caller's clock; 0: not known, as of a block that was fetched.
type Times struct {
	Held       []int64 // of each batch: when it came
	Proposed   int64   // the proposal came, or was made
	Voted      int64   // this box voted for it
	Notarized  int64
	Finalizing int64 // this box voted to make it final
	Final      int64
}

// Serve is work for whoever can read the log: send To the final blocks after After (when Blocks) with
// their batches, or the batches named.
type Serve struct {
	To      int
	Blocks  bool
	After   uint64
	Batches []coord.Digest
}

// Ready is what one Step wants done; see the package comment for the order.
type Ready struct {
	Persist []coord.Record
	Sync    bool
	Send    []coord.Out
	Deliver []Delivery
	Serve   []Serve
	// Verify lists batches whose author's signature should be checked (answered by Input.Checked).
	Verify []*Held
	// Stable is a checkpoint that a quorum has signed now, Offer one that f+1 have.
	Stable   *coord.Checkpoint
	Offer    *coord.Checkpoint
	Evidence []coord.Evidence
	// Seen is for scores of suspicion; it is valid until the next Step.
	Seen []Seen
	// Wake is when Step wants to be called again though nothing happened.
	Wake int64
	// Fault, when set, is something that cannot happen with at most f liars and an undamaged
	// disk: the box must stop voting and say so.
	Fault string
}

// Held is a batch that the core holds.
type Held struct {
	Batch  *coord.Batch
	Digest coord.Digest
	// verified: the author's signature was checked; checking: Verify is under way; pending: it waits to
	// be ordered, since when.
	verified, checking, pending bool
	since                       int64
	direct                      bool   // it came over its author's link
	named                       uint64 // the round whose proposal named it; 0: none
}
