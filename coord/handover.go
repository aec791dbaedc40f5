package coord

import (
	"crypto/sha256"
	"encoding/binary"
)

// Handover is how one epoch of a site became the next: the block Header ends the epoch of Members, who ordered it, and the members from
// then on are Next. Blocks of that epoch above Header are void.
//
// It convinces whoever knows Members once f+1 of them have signed it: then an honest one has come to that end. So a chain of handovers
// teaches whoever knows one member set all later ones. It is immutable once made.
type Handover struct {
	Members *Members
	Header  *Block
	Next    *Members
	// Sigs are VoteEpoch by members of Members, with Round = Header.Height and Digest = HandoverDigest, ascending by voter.
	Sigs []VoteSig
	// Checkpoint, if not nil, is the state after Header, signed by members of Members: a site that grows from one box to many has nobody
	// else yet who could sign it.
	Checkpoint *Checkpoint
}

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

// Fits says whether a handover makes sense by itself: it leads from one epoch of a site to the next.
func (h *Handover) Fits() bool {
	return h.Members != nil && h.Header != nil && h.Next != nil && h.Members.Site == h.Next.Site && h.Members.Epoch+1 == h.Next.Epoch &&
		h.Header.Epoch == h.Members.Epoch && h.Header.Height > 0 && h.Members.N() <= MembersMax && h.Next.N() > 0
}

// Signed says whether f+1 of Members say that the epoch ended so.
func (h *Handover) Signed(verify func(*Vote) bool) bool {
	x := Cert{Kind: VoteEpoch, Epoch: h.Members.Epoch, Round: h.Header.Height, Digest: h.Digest(), Sigs: h.Sigs}
	return x.Distinct(h.Members.N(), verify) > MaxFaulty(h.Members.N())
}

// Distinct counts the members, of n, whose signatures in a certificate are good; it is not for VoteEmpty. 0 when one is there twice, or
// more than there are members.
func (x *Cert) Distinct(n int, verify func(*Vote) bool) int {
	if len(x.Sigs) > n {
		return 0
	}
	var seen uint64 // a bit a member
	good := 0
	for i := range x.Sigs {
		s := &x.Sigs[i]
		if int(s.Voter) >= n || seen&(1<<s.Voter) != 0 {
			return 0
		}
		seen |= 1 << s.Voter
		if verify(&Vote{Kind: x.Kind, Epoch: x.Epoch, Round: x.Round, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig}) {
			good++
		}
	}
	return good
}

// Holds says whether f+1 of n members signed a checkpoint in an epoch: one of them is honest.
func (p *Checkpoint) Holds(epoch uint64, n int, verify func(*Vote) bool) bool {
	x := p.Cert
	return x != nil && p.Header != nil && x.Kind == VoteCheckpoint && x.Epoch == epoch && x.Round == p.Header.Height &&
		x.Digest == CheckpointDigest(p.Header.Digest(), p.State) && x.Distinct(n, verify) > MaxFaulty(n)
}
