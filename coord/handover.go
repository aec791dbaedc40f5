package coord

import (
	"crypto/sha256"
	"encoding/binary"
)

// Handover is how one epoch of a site became the next: the block Header ends the epoch Members.Epoch, whose members ordered it,
// and the members from then on are Next. Blocks of that epoch above Header are void.
//
// It convinces a box that knows Members in one of two ways: Cert, by a quorum of them, makes Header final, alone or as the ancestor of
// the last header of Tail; then who reads the block knows Next by itself. Or f+1 of them signed VoteEpoch, so that an honest one says that
// Next is what follows. So a chain of handovers teaches whoever knows one member set all later ones. It is immutable once made.
type Handover struct {
	Members *Members
	Header  *Block
	// Tail is the void headers above Header, ascending, up to the one that Cert names; empty when that is Header.
	Tail []*Block
	// Cert may be nil, or lack signatures, where f+1 members vouched for the block.
	Cert *Cert
	Next *Members
	// Sigs are VoteEpoch by members of Members, with Round = Header.Height and Digest = HandoverDigest, ascending by voter.
	Sigs []VoteSig
}

// HandoverTailMax bounds Handover.Tail: more void blocks than a leader may stack are not known to be final (bft's DepthMax is far below).
const HandoverTailMax = 64

// Digest binds all of a member set: SHA-256("holdfast members" || site || epoch || number of members, then of each the id and, each with
// its length before it, name, key and addresses, and the first round of its votes), numbers big-endian of 8 bytes.
func (m *Members) Digest() Digest {
	h := sha256.New()
	b := append([]byte("holdfast members"), m.Site[:]...)
	b = binary.BigEndian.AppendUint64(b, m.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(len(m.List)))
	for i := range m.List {
		x := &m.List[i]
		b = append(b, x.ID[:]...)
		for _, s := range [...]string{x.Name, string(x.Key), x.Peer, x.Client, x.Native, x.Console} {
			b = append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
		}
		b = binary.BigEndian.AppendUint64(b, x.VotesFrom)
	}
	h.Write(b)
	var d Digest
	h.Sum(d[:0])
	return d
}

// IDs is the names of the members, by index. The caller owns it.
func (m *Members) IDs() []BoxID {
	ids := make([]BoxID, len(m.List))
	for i := range ids {
		ids[i] = m.List[i].ID
	}
	return ids
}

// HandoverDigest is what a VoteEpoch names: SHA-256("holdfast epoch 1" || the block that ends the epoch || the members from then on).
func HandoverDigest(header, next Digest) Digest {
	var a [80]byte
	copy(a[:16], "holdfast epoch 1")
	copy(a[16:48], header[:])
	copy(a[48:], next[:])
	return sha256.Sum256(a[:])
}

// Digest is HandoverDigest of what the handover says.
func (h *Handover) Digest() Digest { return HandoverDigest(h.Header.Digest(), h.Next.Digest()) }
