package liar

import (
	"crypto/sha256"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// rewrite gives a box that catches up something else than what was.
func (l *Liar) rewrite(o coord.Out) bool {
	switch {
	case o.Msg.CatchUp != nil && len(o.Msg.CatchUp.Blocks) > 0 && o.Msg.CatchUp.Cert != nil:
		l.otherBlocks(o.To, o.Msg.CatchUp)
	case o.Msg.Handover != nil:
		l.send(o.To, &coord.PeerMsg{Handover: l.otherEnd(o.Msg.Handover)})
	case o.Msg.SnapshotPart != nil:
		l.send(o.To, &coord.PeerMsg{SnapshotPart: l.otherState(o.Msg.SnapshotPart)})
	default:
		return false
	}
	return true
}

func (l *Liar) otherBlocks(to int, u *coord.CatchUp) {
	v := &coord.CatchUp{Blocks: slices.Clone(u.Blocks), Cert: u.Cert}
	at := l.r.IntN(len(v.Blocks))
	b, x := *v.Blocks[at], *u.Cert
	switch l.r.IntN(7) {
	case 0: // another content
		b.Refs = append([]coord.BatchRef{{Author: l.c.Members.List[l.c.Self].ID, Seq: l.r.Uint64(), Digest: coord.Digest{9}}}, b.Refs...)
		if l.r.IntN(2) == 0 {
			b.Root = coord.RefsRoot(b.Refs)
		}
		v.Blocks[at] = &b
	case 1: // a hole
		v.Blocks = slices.Delete(v.Blocks, at, at+1)
	case 2: // a certificate of another epoch
		x.Epoch++
		v.Cert = &x
	case 3: // of notarization only
		x.Kind = coord.VoteNotarize
		v.Cert = &x
	case 4: // of a block that nobody has
		b.Height++
		b.Root, b.Refs = coord.RefsRoot(nil), nil
		x.Digest = b.Digest()
		x.Sigs = append([]coord.VoteSig{{Voter: uint8(l.c.Self), Sig: l.c.Keys.SignVote(x.Kind, x.Epoch, x.Round, x.Digest)}}, x.Sigs...)
		v.Blocks[len(v.Blocks)-1], v.Cert = &b, &x
	case 5: // several certificates of which one is good
		bad := x
		bad.Digest[3] ^= 1
		l.send(to, &coord.PeerMsg{Certs: []*coord.Cert{u.Cert, &bad, u.Cert}})
	case 6: // in reverse
		slices.Reverse(v.Blocks)
	}
	l.send(to, &coord.PeerMsg{CatchUp: v})
}

// otherState is a piece of another state than the one asked for.
func (l *Liar) otherState(p *coord.SnapshotPart) *coord.SnapshotPart {
	q := *p
	q.Data = slices.Clone(p.Data)
	switch {
	case len(q.Data) == 0:
		q.Data = make([]byte, 32)
	case l.r.IntN(3) == 0:
		q.Data = q.Data[:len(q.Data)-1]
	default:
		q.Data[l.r.IntN(len(q.Data))] ^= 0x10
	}
	return &q
}

// forge answers a status with things that are not so.
func (l *Liar) forge(to int, st *coord.Status) {
	b := &coord.Block{
		Epoch: l.c.Members.Epoch, Round: st.FinalRound + 1 + uint64(l.r.IntN(4)), ParentRound: st.FinalRound, Height: st.Height + 1,
		Parent: st.FinalDigest, Root: coord.RefsRoot(nil),
	}
	d := b.Digest()
	switch l.r.IntN(6) {
	case 5:
		l.send(to, &coord.PeerMsg{Handover: l.forgeEnd(st)})
	case 0:
		l.send(to, &coord.PeerMsg{CatchUp: &coord.CatchUp{Blocks: []*coord.Block{b}, Cert: l.forged(coord.VoteFinalize, b.Round, d)}})
	case 1:
		l.send(to, &coord.PeerMsg{Certs: []*coord.Cert{l.forged(coord.VoteNotarize, b.Round, d), l.forged(coord.VoteFinalize, b.Round, d)}})
	case 2:
		l.send(to, &coord.PeerMsg{Certs: []*coord.Cert{l.forged(coord.VoteEmpty, st.Round, coord.Digest{})}})
	case 3:
		l.send(to, &coord.PeerMsg{Status: &coord.Status{Height: st.Height + 5, FinalRound: b.Round, FinalDigest: d, Round: b.Round + 9}})
	case 4: // a state without anything in it, far ahead; whoever asks for its pieces gets them
		b.Height += 50
		cp := &coord.Checkpoint{Header: b, State: sha256.Sum256(nil)}
		at := coord.CheckpointDigest(b.Digest(), cp.State)
		cp.Cert = l.forged(coord.VoteCheckpoint, b.Height, at)
		if l.r.IntN(2) == 0 {
			cp.Cert.Sigs = []coord.VoteSig{{Voter: uint8(l.c.Self), Sig: l.c.Keys.SignVote(coord.VoteCheckpoint, b.Epoch, b.Height, at)}}
		}
		l.send(to, &coord.PeerMsg{Checkpoint: cp})
	}
}

// forged is a certificate whose signatures are all the liar's, or that has none.
func (l *Liar) forged(k coord.VoteKind, round uint64, d coord.Digest) *coord.Cert {
	x := &coord.Cert{Kind: k, Epoch: l.c.Members.Epoch, Round: round, Digest: d}
	same := l.r.IntN(3) == 0
	for i := range coord.Quorum(l.n) {
		s := coord.VoteSig{Voter: uint8(i), Sig: l.c.Keys.SignVote(k, x.Epoch, round, d)}
		if same {
			s.Voter = uint8(l.c.Self)
		}
		if k == coord.VoteEmpty {
			s.Level = round
		}
		x.Sigs = append(x.Sigs, s)
	}
	if l.r.IntN(3) == 0 {
		x.Sigs = nil // a bare claim
	}
	return x
}
