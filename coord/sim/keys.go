package sim

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/holdfast-edge/holdfast/coord"
)

// keys signs with a keyed hash: what a box can sign only it can sign, and checking is cheap.
type keys struct {
	id      int
	members *coord.Members
}

func tag(id int, what []byte) (s coord.Signature) {
	h := sha256.New()
	var a [16]byte
	copy(a[:], "sim key")
	binary.BigEndian.PutUint64(a[8:], uint64(id))
	h.Write(a[:])
	h.Write(what)
	h.Sum(s[:0])
	return s
}

func (k keys) SignVote(kind coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature {
	a := coord.VoteBytes(k.members.Site, kind, epoch, round, d)
	return tag(k.id, a[:])
}

func (k keys) VerifyVote(v *coord.Vote) bool {
	a := coord.VoteBytes(k.members.Site, v.Kind, v.Epoch, v.Round, v.Digest)
	return tag(int(v.Voter), a[:]) == v.Sig
}

func (k keys) SignBatch(b *coord.Batch) coord.Signature {
	d := b.Digest(k.members.Site)
	return tag(k.id, d[:])
}

func (k keys) VerifyBatch(b *coord.Batch) bool {
	d := b.Digest(k.members.Site)
	return tag(k.members.Index(b.Author), d[:]) == b.Sig
}

// vote is a signed vote of this identity, as a liar makes them.
func (k keys) vote(kind coord.VoteKind, epoch, round uint64, d coord.Digest) *coord.Vote {
	return &coord.Vote{Kind: kind, Epoch: epoch, Round: round, Digest: d, Voter: uint8(k.id), Sig: k.SignVote(kind, epoch, round, d)}
}
