package liar

import "github.com/holdfast-edge/holdfast/coord"

// resealed is p with another block, signed.
func (l *Liar) resealed(p *coord.Proposal, b *coord.Block) *coord.PeerMsg {
	b.Root = coord.RefsRoot(b.Refs)
	q := *p
	q.Block, q.Sig = b, l.c.Keys.SignVote(coord.VoteNotarize, b.Epoch, b.Round, b.Digest())
	return &coord.PeerMsg{Proposal: &q}
}

// withhold gives a batch to one box, and names batches that nobody has.
func (l *Liar) withhold(o coord.Out) bool {
	if o.Msg.Batch != nil && o.To == coord.ToAll {
		l.send(l.any(), o.Msg)
		return true
	}
	p := o.Msg.Proposal
	if p == nil || l.r.IntN(3) > 0 {
		return false
	}
	l.send(o.To, l.inflated(p))
	return true
}

// inflated is p with one more batch, which does not exist.
func (l *Liar) inflated(p *coord.Proposal) *coord.PeerMsg {
	b := *p.Block
	b.Refs = append([]coord.BatchRef{{
		Author: l.c.Members.List[l.c.Self].ID, Seq: l.r.Uint64(), Digest: coord.Digest{byte(l.r.IntN(256)), 9},
	}}, b.Refs...)
	return l.resealed(p, &b)
}

// starve leaves one author's batches out of a proposal.
func (l *Liar) starve(to int, p *coord.Proposal) bool {
	b := *p.Block
	b.Refs = nil
	for _, r := range p.Block.Refs {
		if r.Author != l.c.Members.List[(l.c.Self+1)%l.n].ID {
			b.Refs = append(b.Refs, r)
		}
	}
	if len(b.Refs) == len(p.Block.Refs) {
		return false
	}
	l.send(to, l.resealed(p, &b))
	return true
}

// poison gives out batches that only those can use who got them from it.
func (l *Liar) poison(o coord.Out) bool {
	switch {
	case o.Msg.Vote != nil || o.Msg.Proposal != nil:
	case o.Msg.Batch != nil && o.To != coord.ToAll:
	case o.Msg.Batch != nil:
		without := (l.c.Self + 1 + l.r.IntN(l.n-1)) % l.n // another one for each batch, so that every leader has some
		l.each(o, func(to int) {
			if to != without {
				l.send(to, spoilt(o.Msg))
			}
		})
	default:
		return false
	}
	return true
}

// equivocate shows two or three blocks of one round to different boxes, and votes for each.
func (l *Liar) equivocate(p *coord.Proposal) bool {
	ways := make([]*coord.Proposal, 2+l.r.IntN(2))
	for w := range ways {
		b := *p.Block
		b.Refs = append([]coord.BatchRef(nil), p.Block.Refs...)
		if w > 0 && len(b.Refs) > 0 {
			b.Refs = b.Refs[:l.r.IntN(len(b.Refs))]
		}
		if w == 2 {
			b.Height += uint64(l.r.IntN(2))
		}
		ways[w] = l.resealed(p, &b).Proposal
	}
	for to := range l.n {
		q := ways[l.r.IntN(len(ways))]
		l.send(to, &coord.PeerMsg{Proposal: q})
		l.send(to, l.vote(coord.VoteFinalize, q.Block.Epoch, q.Block.Round, q.Block.Digest()))
		if l.r.IntN(2) == 0 {
			l.send(to, l.vote(coord.VoteEmpty, q.Block.Epoch, q.Block.Round, coord.Digest{}))
		}
	}
	return true
}

// usurp proposes a block that forgets what came after an older one: to half of the boxes, the others get the
// honest proposal.
func (l *Liar) usurp(p *coord.Proposal) bool {
	if len(l.proposals) == 0 || l.r.IntN(3) == 0 {
		return false
	}
	old := l.proposals[l.r.IntN(len(l.proposals))]
	if old.Block.Round >= p.Block.Round {
		return false
	}
	b, q := *p.Block, *p
	b.ParentRound, b.Parent, b.Height = old.Parent.Round, old.Parent.Digest(), old.Parent.Height+1
	q.Parent = old.Parent
	switch l.r.IntN(4) {
	case 3: // the honest parent, with another content, and the honest one's proof
		fake := *p.Parent
		fake.Root[0] ^= 1
		b = *p.Block
		b.Parent, q.Parent = fake.Digest(), &fake
	case 0: // the proof of the honest parent
	case 1: // that of the older one, and nothing for what lies between
		q.Proof = old.Proof
	default: // as if it were the next round after the older one
		b.Round = old.Parent.Round + 1
		q.Proof = old.Proof
	}
	x := l.resealed(&q, &b)
	for to := range l.n {
		if l.r.IntN(2) == 0 {
			l.send(to, x)
			l.send(to, l.vote(coord.VoteFinalize, b.Epoch, b.Round, b.Digest()))
		} else {
			l.send(to, &coord.PeerMsg{Proposal: p})
		}
	}
	return true
}
