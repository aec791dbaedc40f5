package coord

import (
	"crypto/sha256"
	"encoding/binary"
)

// BatchRef names a batch in a block without carrying it.
type BatchRef struct {
	Author BoxID
	Seq    uint64
	Digest Digest
}

// Batch is messages of one box, compressed and signed once. Body is the wire's encoding
// of Columns (wire.AppendBody, wire.DecodeBody): the bytes that travel are the bytes
// that are hashed, signed and kept. A Batch is immutable once made and may be shared.
type Batch struct {
	Author BoxID
	// Seq numbers the author's batches. Its upper 44 bits count the author's starts, so that a
	// restart never uses a number again; gaps mean nothing.
	Seq uint64
	// Floor is the author's word that it will never again need a batch of its own with
	// Seq <= Floor to take effect.
	Floor uint64
	// Count is the number of messages as the author says; who applies counts again.
	Count uint32
	Body  []byte
	Sig   Signature // over Digest, by the author
}

// Digest binds everything but the signature:
// SHA-256("holdfast batch 1" || site || author || seq || floor || count || body),
// numbers big-endian of 8 bytes.
func (b *Batch) Digest(site SiteID) Digest {
	h := sha256.New()
	var a [56]byte
	copy(a[:16], "holdfast batch 1")
	copy(a[16:24], site[:])
	copy(a[24:32], b.Author[:])
	binary.BigEndian.PutUint64(a[32:], b.Seq)
	binary.BigEndian.PutUint64(a[40:], b.Floor)
	binary.BigEndian.PutUint64(a[48:], uint64(b.Count))
	h.Write(a[:])
	h.Write(b.Body)
	var d Digest
	h.Sum(d[:0])
	return d
}

// Block is an ordered list of batches on top of a parent block.
type Block struct {
	Epoch uint64
	Round uint64
	// ParentRound, Height and Parent place it: Height is the parent's plus one. The
	// genesis block has Round and Height 0.
	ParentRound uint64
	Height      uint64
	Parent      Digest
	// Root is RefsRoot(Refs). A header is a Block without its Refs: the digest is the same.
	Root Digest
	Refs []BatchRef
}

// RefsRoot is SHA-256 over author, seq (big-endian) and digest of each ref in order.
func RefsRoot(refs []BatchRef) Digest {
	h := sha256.New()
	var a [48]byte
	for i := range refs {
		copy(a[:8], refs[i].Author[:])
		binary.BigEndian.PutUint64(a[8:], refs[i].Seq)
		copy(a[16:], refs[i].Digest[:])
		h.Write(a[:])
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

// Digest binds epoch, round, parent round, height, parent and root:
// SHA-256("holdfast block 1" || those, numbers big-endian of 8 bytes).
func (b *Block) Digest() Digest {
	var a [112]byte
	copy(a[:16], "holdfast block 1")
	binary.BigEndian.PutUint64(a[16:], b.Epoch)
	binary.BigEndian.PutUint64(a[24:], b.Round)
	binary.BigEndian.PutUint64(a[32:], b.ParentRound)
	binary.BigEndian.PutUint64(a[40:], b.Height)
	copy(a[48:80], b.Parent[:])
	copy(a[80:112], b.Root[:])
	return sha256.Sum256(a[:])
}

// Header is the block without its refs.
func (b *Block) Header() *Block {
	h := *b
	h.Refs = nil
	return &h
}

// Whole says whether Refs are those that Root binds.
func (b *Block) Whole() bool { return RefsRoot(b.Refs) == b.Root }

// VoteKind says what a vote is for.
type VoteKind uint8

// The kinds of votes; the numbers are part of the wire, the log and what is signed.
const (
	// VoteNotarize: the block Digest in Round is acceptable.
	VoteNotarize VoteKind = 1
	// VoteFinalize: the block Digest, notarized in Round, is final.
	VoteFinalize VoteKind = 2
	// VoteEmpty: no block from Round to the end of its term; Digest is zero.
	VoteEmpty VoteKind = 3
	// VoteCheckpoint: at height Round the state is Digest (see CheckpointDigest).
	VoteCheckpoint VoteKind = 4
	// VoteEpoch: the block of height Round ends the epoch, and Digest says how (see HandoverDigest).
	VoteEpoch VoteKind = 5
)

func (k VoteKind) String() string {
	switch k {
	case VoteNotarize:
		return "notarize"
	case VoteFinalize:
		return "finalize"
	case VoteEmpty:
		return "empty"
	case VoteCheckpoint:
		return "checkpoint"
	case VoteEpoch:
		return "epoch"
	}
	return "unknown"
}

// Vote is one signed statement of one member.
type Vote struct {
	Kind   VoteKind  `json:"kind"`
	Epoch  uint64    `json:"epoch"`
	Round  uint64    `json:"round"`
	Digest Digest    `json:"digest"`
	Voter  uint8     `json:"voter"` // index in the epoch's member list
	Sig    Signature `json:"signature"`
}

// VoteBytesLen is the size of VoteBytes.
const VoteBytesLen = 16 + 8 + 8 + 8 + 8 + 32

// VoteBytes is what a vote's signature is over (its SHA-256 is signed):
// "holdfast vote 01" || site || epoch || kind || round || digest, numbers big-endian of 8 bytes.
func VoteBytes(site SiteID, k VoteKind, epoch, round uint64, d Digest) (a [VoteBytesLen]byte) {
	copy(a[:16], "holdfast vote 01")
	copy(a[16:24], site[:])
	binary.BigEndian.PutUint64(a[24:], epoch)
	binary.BigEndian.PutUint64(a[32:], uint64(k))
	binary.BigEndian.PutUint64(a[40:], round)
	copy(a[48:], d[:])
	return a
}

// VoteSig is one member's part of a certificate.
type VoteSig struct {
	Voter uint8
	// Level, for VoteEmpty only, is the round that this member's empty vote names.
	Level uint64
	Sig   Signature
}

// Cert is a quorum of votes of one kind, epoch, round and digest. For VoteEmpty, Round is the
// highest Level among its signatures: it proves that nothing from Round to the end of
// its term can become final. For VoteCheckpoint, Round is a height.
type Cert struct {
	Kind   VoteKind
	Epoch  uint64
	Round  uint64
	Digest Digest
	Sigs   []VoteSig
}

// Proposal is a leader's block with all that a voter needs to judge it.
type Proposal struct {
	Block *Block
	// Sig is the leader's signature on its own vote for the block: proposing is voting.
	Sig Signature
	// Parent is the parent's header; Proof its notarization (absent on genesis), then the
	// empty certificates that cover the rounds between.
	Parent *Block
	Proof  []*Cert
}

// Status is what a box says of itself now and then, and at once when it lags.
type Status struct {
	Height      uint64
	FinalRound  uint64
	FinalDigest Digest
	Round       uint64
	// Checkpoint is the height of the newest checkpoint that it can serve, LogFrom the lowest
	// height whose block it can serve.
	Checkpoint uint64
	LogFrom    uint64
	// VotesFrom, when not 0, is the round before which the box does not vote, because it does not know
	// what it signed; the others may end their terms early for it.
	VotesFrom uint64
}

// Recall is what a box asks when it has started and before it votes: what do you have of mine? Nonce is new
// for each start, so that an answer to an earlier start does not count.
type Recall struct{ Nonce uint64 }

// Recalled answers a Recall: the round that the sender is in, and the highest votes of the asker that it
// knows, at most one of each kind of a round's votes. A vote that the asker's log does not have proves
// to it that the log is an old one.
type Recalled struct {
	Nonce uint64
	Round uint64
	Votes []*Vote
}

// RecalledVotesMax is the most votes in a Recalled: one of each kind.
const RecalledVotesMax = 3

// CatchUp is final blocks for a box that was away, ascending, and the final
// certificate of the last one.
type CatchUp struct {
	Blocks []*Block
	Cert   *Cert
}

// Checkpoint names a state: after the block Header, the state's digest is State. Cert is a
// VoteCheckpoint certificate with Round = Header.Height and Digest = CheckpointDigest.
type Checkpoint struct {
	Header *Block
	State  Digest
	Cert   *Cert
}

// CheckpointDigest binds a block to a state: SHA-256("holdfast state 1" || block || state).
func CheckpointDigest(block, state Digest) Digest {
	var a [80]byte
	copy(a[:16], "holdfast state 1")
	copy(a[16:48], block[:])
	copy(a[48:], state[:])
	return sha256.Sum256(a[:])
}

// SnapshotAsk asks for a piece of the newest state snapshot: Chunk -1 is the manifest.
type SnapshotAsk struct {
	Height uint64 // of the checkpoint; 0: the newest
	Chunk  int
}

// SnapshotPart answers SnapshotAsk. With the manifest, Checkpoint is set and Data is the
// digests of the chunks, 32 bytes each, whose SHA-256 is Checkpoint.State; otherwise
// Data is one chunk. Data is empty when the box does not have what was asked.
type SnapshotPart struct {
	Height     uint64
	Chunk      int
	Checkpoint *Checkpoint
	Data       []byte
}

// PeerMsg is one message between boxes: Epoch, and exactly one of the other fields. It is immutable once sent.
type PeerMsg struct {
	// Epoch is the one that the sender is in; indexes of members in the message are of it.
	Epoch uint64

	Batch    *Batch
	Proposal *Proposal
	Vote     *Vote
	// Certs tells what the sender holds; one good certificate says nothing of the others.
	Certs  []*Cert
	Status *Status
	// Announce lists batches that the sender holds and that are not ordered yet.
	Announce []BatchRef
	// Fetch asks for batches by digest.
	Fetch []Digest
	// FetchFrom asks for final blocks after this height (answered by CatchUp). FetchBlock asks
	// for one block by digest, answered by Block.
	FetchFrom  *uint64
	FetchBlock *Digest
	Block      *Block
	CatchUp    *CatchUp
	// Checkpoint carries a certificate of a state to whoever can use it.
	Checkpoint   *Checkpoint
	SnapshotAsk  *SnapshotAsk
	SnapshotPart *SnapshotPart
	Recall       *Recall
	Recalled     *Recalled
	Reading      *ReadVote
	// IndexAsk asks, with a nonce, which round the receiver claims (answered by Index).
	IndexAsk *uint64
	Index    *Index
	// Handover tells how an epoch ended; HandoverAsk asks for that of the epoch that it names.
	Handover    *Handover
	HandoverAsk *uint64
	// TraceAsk asks for what the receiver knows of a trace, and has it keep that; answered by Trace.
	TraceAsk *[16]byte
	Trace    *TracePart
}

// TracePart is what one box knows of a trace: trace.AppendRecords's encoding of at most TracePartBytesMax.
type TracePart struct {
	ID      [16]byte
	Records []byte
}

// TracePartBytesMax bounds a TracePart: of the records of one trace a box has few.
const TracePartBytesMax = 16 << 10

// Index says that all that its sender voted to finalize is of Round or of rounds before it.
type Index struct{ Nonce, Round uint64 }

// Out is a message to be sent: To is a member's index, or ToAll for all others.
type Out struct {
	To  int
	Msg *PeerMsg
}

// ToAll addresses every other member.
const ToAll = -1

// Parcel is a message to a box by its name, or, when To is zero, to all other members of the epoch that Msg is of.
type Parcel struct {
	To  BoxID
	Msg *PeerMsg
}
