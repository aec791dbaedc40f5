package liar

import (
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// otherEnd is a handover that is not what its epoch came to, as far as a liar can make one.
func (l *Liar) otherEnd(h *coord.Handover) *coord.Handover {
	x := *h
	x.Sigs = slices.Clone(h.Sigs)
	switch l.r.IntN(6) {
	case 0: // other members, with the signatures for the right ones
		x.Next = l.fewer(h.Next)
	case 1: // another block, signed by the liar alone
		b := *h.Header
		b.Height += uint64(l.r.IntN(3))
		b.Root[5] ^= 1
		x.Header = &b
		x.Sigs = l.ends(&x, false)
	case 2: // other members, signed by the liar in everybody's place
		x.Next = l.fewer(h.Next)
		x.Sigs = l.ends(&x, true)
	case 3: // the liar's own signature over and over
		x.Next = l.fewer(h.Next)
		one := l.ends(&x, false)
		x.Sigs = slices.Concat(one, one, one)
	case 4: // other members who ordered it, so that its signature suffices
		x.Members = &coord.Members{Site: h.Members.Site, Epoch: h.Members.Epoch, List: []coord.Member{l.c.Members.List[l.c.Self]}}
		x.Next = l.fewer(h.Next)
		x.Sigs = []coord.VoteSig{{Voter: 0, Sig: l.c.Keys.SignVote(coord.VoteEpoch, h.Members.Epoch, h.Header.Height, x.Digest())}}
	case 5: // a state that nobody has
		d := coord.CheckpointDigest(h.Header.Digest(), coord.Digest{7})
		x.Checkpoint = &coord.Checkpoint{Header: h.Header, State: coord.Digest{7}, Cert: &coord.Cert{
			Kind: coord.VoteCheckpoint, Epoch: h.Members.Epoch, Round: h.Header.Height, Digest: d,
		}}
		for i := range h.Members.List {
			x.Checkpoint.Cert.Sigs = append(x.Checkpoint.Cert.Sigs, coord.VoteSig{
				Voter: uint8(i), Sig: l.c.Keys.SignVote(coord.VoteCheckpoint, h.Members.Epoch, h.Header.Height, d),
			})
		}
	}
	return &x
}

// fewer is a member set without one that is in it, but for the liar.
func (l *Liar) fewer(ms *coord.Members) *coord.Members {
	x := *ms
	x.List = slices.Clone(ms.List)
	if at := l.r.IntN(len(x.List)); len(x.List) > 1 && x.List[at].ID != l.c.Members.List[l.c.Self].ID {
		x.List = slices.Delete(x.List, at, at+1)
	} else {
		x.List[at].Name += "'"
	}
	return &x
}

// ends is the liar's signature of the end of an epoch, in its own place or in that of each.
func (l *Liar) ends(h *coord.Handover, all bool) (sigs []coord.VoteSig) {
	for i := range h.Members.List {
		if all || h.Members.List[i].ID == l.c.Members.List[l.c.Self].ID {
			sigs = append(sigs, coord.VoteSig{
				Voter: uint8(i), Sig: l.c.Keys.SignVote(coord.VoteEpoch, h.Members.Epoch, h.Header.Height, h.Digest()),
			})
		}
	}
	return sigs
}

// forgeEnd ends the epoch that a box is in, with members that suit the liar.
func (l *Liar) forgeEnd(st *coord.Status) *coord.Handover {
	next := l.fewer(l.c.Members)
	next.Epoch++
	h := &coord.Handover{Members: l.c.Members, Next: next, Header: &coord.Block{
		Epoch: l.c.Members.Epoch, Round: st.FinalRound + 1, ParentRound: st.FinalRound, Height: st.Height + 1, Parent: st.FinalDigest, Root: coord.RefsRoot(nil),
	}}
	h.Sigs = l.ends(h, l.r.IntN(2) == 0)
	return h
}
