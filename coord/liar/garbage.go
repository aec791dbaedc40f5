package liar

import (
	"math"

	"github.com/holdfast-edge/holdfast/coord"
)

// garbage is a message that no honest box sends, well-formed or not.
func (l *Liar) garbage() *coord.PeerMsg {
	switch l.r.IntN(13) {
	case 0:
		return &coord.PeerMsg{Vote: l.oddVote()}
	case 1:
		p := &coord.Proposal{Block: l.oddBlock(), Proof: l.oddCerts(), Parent: l.oddBlock()}
		if l.r.IntN(2) == 0 {
			p.Parent = nil
		}
		return &coord.PeerMsg{Proposal: p}
	case 2:
		return &coord.PeerMsg{Certs: append(l.oddCerts(), l.oddCert())}
	case 3:
		return &coord.PeerMsg{Status: &coord.Status{
			Height: l.odd(), FinalRound: l.odd(), FinalDigest: l.oddDigest(), Round: l.odd(), VotesFrom: l.odd(),
		}}
	case 4:
		return &coord.PeerMsg{Announce: l.oddRefs(coord.AnnounceRefsMax)}
	case 5:
		return &coord.PeerMsg{Fetch: []coord.Digest{l.oddDigest(), l.oddDigest()}}
	case 6:
		h := l.odd()
		return &coord.PeerMsg{FetchFrom: &h}
	case 7:
		d := l.oddDigest()
		return &coord.PeerMsg{FetchBlock: &d}
	case 8:
		return &coord.PeerMsg{Block: l.oddBlock()}
	case 9:
		u := &coord.CatchUp{Cert: l.oddCert()}
		for range l.r.IntN(3) {
			u.Blocks = append(u.Blocks, l.oddBlock())
		}
		if l.r.IntN(4) == 0 {
			u.Cert = nil
		}
		return &coord.PeerMsg{CatchUp: u}
	case 10:
		return &coord.PeerMsg{Checkpoint: &coord.Checkpoint{Header: l.oddBlock().Header(), State: l.oddDigest(), Cert: l.oddCert()}}
	case 11:
		return &coord.PeerMsg{SnapshotPart: &coord.SnapshotPart{Height: l.odd(), Chunk: l.r.IntN(5) - 1, Data: make([]byte, l.r.IntN(100))}}
	}
	return &coord.PeerMsg{Recalled: &coord.Recalled{Nonce: l.odd(), Round: l.odd(), Votes: []*coord.Vote{l.oddVote()}}}
}

func (l *Liar) odd() uint64 {
	switch l.r.IntN(5) {
	case 0:
		return 0
	case 1:
		return math.MaxUint64 - l.r.Uint64N(3)
	case 2:
		return l.r.Uint64N(50)
	}
	return l.round + l.r.Uint64N(100)
}

func (l *Liar) oddDigest() (d coord.Digest) {
	if l.r.IntN(3) > 0 {
		d[l.r.IntN(32)] = byte(l.r.IntN(256))
	}
	return d
}

func (l *Liar) oddVote() *coord.Vote {
	v := l.vote(coord.VoteKind(l.r.IntN(6)), uint64(l.r.IntN(3)), l.odd(), l.oddDigest()).Vote
	if l.r.IntN(4) == 0 {
		v.Voter = uint8(l.r.IntN(256))
	}
	return v
}

func (l *Liar) oddCert() *coord.Cert {
	x := &coord.Cert{Kind: coord.VoteKind(l.r.IntN(6)), Epoch: uint64(l.r.IntN(3)), Round: l.odd(), Digest: l.oddDigest()}
	for range l.r.IntN(l.n + 3) {
		x.Sigs = append(x.Sigs, coord.VoteSig{
			Voter: uint8(l.r.IntN(l.n + 2)), Level: l.odd(), Sig: l.c.Keys.SignVote(x.Kind, x.Epoch, x.Round, x.Digest),
		})
	}
	return x
}

func (l *Liar) oddCerts() []*coord.Cert {
	xs := make([]*coord.Cert, l.r.IntN(3))
	for i := range xs {
		xs[i] = l.oddCert()
	}
	return xs
}

func (l *Liar) oddRefs(most int) []coord.BatchRef {
	refs := make([]coord.BatchRef, l.r.IntN(most+1))
	for i := range refs {
		refs[i] = coord.BatchRef{Author: l.c.Members.List[l.any()].ID, Seq: l.odd(), Digest: l.oddDigest()}
		if l.r.IntN(4) == 0 {
			refs[i].Author = coord.BoxID{byte(l.r.IntN(256))}
		}
	}
	return refs
}

func (l *Liar) oddBlock() *coord.Block {
	b := &coord.Block{
		Epoch: uint64(l.r.IntN(3)), Round: l.odd(), ParentRound: l.odd(), Height: l.odd(), Parent: l.oddDigest(), Refs: l.oddRefs(3),
	}
	if l.r.IntN(3) > 0 {
		b.Root = coord.RefsRoot(b.Refs)
	}
	return b
}
