package coord

import "github.com/holdfast-edge/holdfast/coord/kv"

// Limits. A frame from outside is compared with these before anything is allocated.
const (
	// MembersMax bounds a site. The design is for 4 to 16 boxes; a change of
	// membership may hold old and new ones for a while, hence the double.
	MembersMax = 32

	// BatchMessagesMax bounds the messages of one batch, and of one client request.
	BatchMessagesMax = 8192
	// BatchBytesMax bounds the keys and values of one batch after decompression.
	BatchBytesMax = 2 << 20
	// BatchBodyBytesMax bounds an encoded batch body: columns of BatchMessagesMax
	// messages take at most 30 bytes of numbers each beside keys and values.
	BatchBodyBytesMax = BatchBytesMax + 32*BatchMessagesMax
	// KeyBytesMax and ValueBytesMax bound one message; the latter is etcd's limit of a request.
	KeyBytesMax   = kv.KeyBytesMax
	ValueBytesMax = 3 << 19

	// BlockRefsMax bounds the batches of one block: 4 boxes x 32 batches leaves room for
	// a burst; a block stays below 14 KiB.
	BlockRefsMax = 256
	// ProofCertsMax bounds the certificates in a proposal or a message.
	ProofCertsMax = 64
	// CatchUpBlocksMax bounds the blocks in one reply to a box that was away.
	CatchUpBlocksMax = 256
	// AnnounceRefsMax and FetchDigestsMax bound one message about batches.
	AnnounceRefsMax = 128
	FetchDigestsMax = 128

	// SnapshotChunkBytes is the size of one piece of a state snapshot; a piece may exceed it
	// by one entry.
	SnapshotChunkBytes = 256 << 10
	// SnapshotChunksMax bounds a manifest: 16 GiB of state.
	SnapshotChunksMax = 1 << 16

	// FrameBytesMax bounds one frame between boxes, or between a client and a box, both as it
	// travels and after decompression: a snapshot manifest of SnapshotChunksMax digests is the largest thing said.
	FrameBytesMax = 4 << 20
)
