package coord

// Record is one entry of a box's log: exactly one field is set. The log is replayed in
// order on start; what is in it before a vote is there when the vote is.
type Record struct {
	Batch *Batch
	Block *Block // whole
	Vote  *Vote  // our own; or another's, the newest that we know, to tell it when it asks (Recall)
	Cert  *Cert
	// Final says that the block Header and its ancestors are final; Cert, if any, proves it.
	Final *Final
	// Stable is the newest checkpoint that a quorum signed.
	Stable *Checkpoint
	// Handover says that the box has left an epoch: it works in the next one from then on.
	Handover *Handover
	// Silent says that the box does not vote for a while, because it does not know what it signed.
	Silent *Silence
}

// Silence is the round of an epoch before which a box does not vote; SilentUnknown until the others have told where they are. Epoch 0:
// in whatever epoch it starts, for it does not know that either. A silence in a later record replaces one in an earlier, and one of
// an epoch that is over is over.
type Silence struct{ Epoch, From uint64 }

// SilentUnknown is Silence.From before the first round of voting is known.
const SilentUnknown = 1<<64 - 1

// Final is a delivered block's header and the certificate that it was judged by (which may be
// that of a descendant, or absent when f+1 members vouched for it).
type Final struct {
	Header *Block
	Cert   *Cert
}

// Change is one write to the state's storage: in a space, a key gets a value, or is
// removed when Value is nil. Slices are immutable once made.
type Change struct {
	Space Space
	Key   []byte
	Value []byte
}

// Space separates the kinds of keys that the state keeps; each is a bucket of its own.
type Space uint8

// The spaces; the numbers are part of the files and of snapshots.
const (
	SpaceMeta     Space = 1 // the state's own scalars (revision, sizes)
	SpaceKeys     Space = 2 // user keys
	SpaceCounters Space = 3 // observed objects
	SpaceSessions Space = 4 // client sessions
	SpaceBoxes    Space = 5 // which batches of each box took effect
	// SpaceHistory has large values of keys that newer ones replaced, by key and revision.
	SpaceHistory Space = 6
	// SpaceRevisions has what each revision changed, in pages by revision.
	SpaceRevisions Space = 7
	SpaceLeases    Space = 8  // leases
	SpaceLeaseKeys Space = 9  // keys of leases, by lease and key
	SpaceAudit     Space = 10 // the last head of each box's audit log
	SpaceSite      Space = 11 // what the site decided about itself: documents, open decisions
	SpaceOpinions  Space = 12 // whom each member suspects
	SpaceMax             = 12
)

// Commit is the changes of the blocks up to and including Header, to be made durable together.
type Commit struct {
	Header  *Block
	Cert    *Cert // may be nil, as in Final
	Changes []Change
	// Checkpoint asks that the state exactly at Header be kept for a snapshot.
	Checkpoint bool
	// Handover, if not nil, says that Header ends an epoch; it becomes durable with the changes.
	Handover *Handover
}
