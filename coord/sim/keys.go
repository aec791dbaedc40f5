package sim

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// Identity signs for real.
type Identity = *trust.Identity

// keys signs with a keyed hash: what a box can sign only it can sign, and checking is cheap. With Options.Identities it
// signs as the product does.
type keys struct {
	id      int
	members *coord.Members
	real    Identity
	check   *trust.Verifier
}

func (s *Sim) keys(id int) keys {
	k := keys{id: id, members: s.members}
	if s.o.Identities != nil {
		k.real, k.check = s.o.Identities[id], s.verifier
	}
	return k
}

func (s *Sim) keysOf(id int) site.KeysOf {
	return func(*coord.Members) (site.Keys, int, error) { return s.keys(id), id, nil }
}

func tag(id int, what []byte) (s coord.Signature) {
	var a [8 + 8 + coord.VoteBytesLen]byte
	copy(a[:], "sim key")
	binary.BigEndian.PutUint64(a[8:], uint64(id))
	d := sha256.Sum256(a[:16+copy(a[16:], what)])
	copy(s[:], d[:])
	return s
}

func (k keys) SignVote(kind coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature {
	if k.real != nil {
		return k.real.SignVote(k.members.Site, kind, epoch, round, d)
	}
	a := coord.VoteBytes(k.members.Site, kind, epoch, round, d)
	return tag(k.id, a[:])
}

func (k keys) VerifyVote(v *coord.Vote) bool {
	if k.check != nil {
		return k.check.VerifyVote(v)
	}
	a := coord.VoteBytes(k.members.Site, v.Kind, v.Epoch, v.Round, v.Digest)
	return tag(int(v.Voter), a[:]) == v.Sig
}

func (k keys) SignBatch(b *coord.Batch) coord.Signature {
	if k.real != nil {
		c := *b
		k.real.SignBatch(k.members.Site, &c)
		return c.Sig
	}
	d := b.Digest(k.members.Site)
	return tag(k.id, d[:])
}

func (k keys) VerifyBatch(b *coord.Batch) bool {
	if k.check != nil {
		return k.check.VerifyBatch(b)
	}
	d := b.Digest(k.members.Site)
	i := k.members.Index(b.Author)
	return i >= 0 && tag(i, d[:]) == b.Sig
}
