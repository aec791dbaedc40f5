package bft

import "github.com/holdfast-edge/holdfast/coord"

// lagMax is how many blocks behind a box may seem to be while the blocks are only on their way.
const lagMax = 64

// retransmit repeats the state of the current round, idempotently, until it is over.
func (c *Core) retransmit() {
	c.sendStatus(coord.ToAll)
	clear(c.badCerts)
	c.forgetNeeds()
	if c.cfg.Mutant&MutantNoRetransmit != 0 {
		return
	}
	if c.hi != nil && c.hiRound > c.final.Round && c.blocks[c.hiDigest] == nil {
		c.miss(c.hiDigest)
	}
	c.repeatCheckpoint()
	if !c.work() && !c.myEmpty().has {
		return
	}
	c.announce()
	self := c.cfg.Self
	proof, ok := c.proof(c.cur)
	if ok && len(proof) > 0 {
		c.send(coord.ToAll, &coord.PeerMsg{Certs: proof})
	}
	for r := c.final.Round + 1; r <= c.cur; r++ {
		if rs := c.rounds[r]; rs != nil && rs.fins[self].has {
			c.send(coord.ToAll, c.mine(coord.VoteFinalize, r, rs.fins[self]))
		}
		if r == c.hiRound && r+1 < c.cur {
			r = c.cur - 2 // nothing of ours between
		}
	}
	if rs := c.rounds[c.cur]; rs != nil && rs.votes[self].has {
		s := rs.votes[self]
		b := c.blocks[s.digest]
		if c.leads() && b != nil && ok && b.Parent == c.hiDigest && c.blocks[b.Parent] != nil {
			c.send(coord.ToAll, &coord.PeerMsg{Proposal: &coord.Proposal{
				Block: b, Sig: s.sig, Parent: c.blocks[b.Parent].Header(), Proof: proof,
			}})
		} else {
			c.send(coord.ToAll, c.mine(coord.VoteNotarize, c.cur, s))
		}
	}
	if e := c.myEmpty(); e.has {
		c.send(coord.ToAll, c.mine(coord.VoteEmpty, e.round, e))
	}
}

// announce tells of batches that wait: our own to all, and others' that have waited long, in a window
// that moves so that none hides behind others.
func (c *Core) announce() {
	me := c.cfg.Members[c.cfg.Self]
	var refs []coord.BatchRef
	n := len(c.pool.order)
	for k := range n {
		h := c.pool.order[(c.pool.window+k)%n]
		if !h.pending || (h.Batch.Author != me && c.now-max(h.since, c.termAt) < c.cfg.Timeout) {
			continue
		}
		refs = append(refs, coord.BatchRef{Author: h.Batch.Author, Seq: h.Batch.Seq, Digest: h.Digest})
		if len(refs) == coord.AnnounceRefsMax {
			c.pool.window = (c.pool.window + k + 1) % n
			break
		}
	}
	if len(refs) > 0 {
		c.send(coord.ToAll, &coord.PeerMsg{Announce: refs})
	}
}

func (c *Core) sendStatus(to int) {
	s := &coord.Status{
		Height: c.final.Height, FinalRound: c.final.Round, FinalDigest: c.finalDigest, Round: c.cur,
	}
	if c.ckpt.stable != nil {
		s.Checkpoint = c.ckpt.stable.Header.Height
	}
	c.send(to, &coord.PeerMsg{Status: s})
}

// onStatus helps a box that is behind us, and asks for help when we are behind.
func (c *Core) onStatus(from int, s *coord.Status) {
	old := c.heard[from]
	c.heard[from] = *s
	switch {
	case s.Height > c.final.Height:
		// The word of f+1 boxes for one final block is as good as a certificate.
		if s.FinalRound > c.final.Round && s.FinalDigest != (coord.Digest{}) {
			c.claim(from, vouched(coord.VoteFinalize, c.cfg.Epoch, s.FinalRound, s.FinalDigest))
		}
		// Messages on their way look like lag for a moment: ask when it is much, or lasts.
		if s.Height > c.final.Height+lagMax || c.now-c.finalAt > c.cfg.Retransmit/2 {
			c.pull(from)
		}
	case s.Height < c.final.Height:
		if old.Height != s.Height || old.FinalRound != s.FinalRound {
			c.sendStatus(from) // so that it knows whom to ask
		}
	case s.Round < c.cur && s.FinalRound <= c.final.Round:
		if p, ok := c.proof(c.cur); ok && len(p) > 0 {
			c.send(from, &coord.PeerMsg{Certs: p})
		}
	}
}

// pull asks one member for the final blocks after ours, at most every quarter of a retransmission, or at once
// when the last answer has come.
func (c *Core) pull(from int) {
	if c.now < c.pullAt {
		return
	}
	c.pullAt = c.now + c.cfg.Retransmit/4
	h := c.final.Height
	c.send(from, &coord.PeerMsg{FetchFrom: &h})
}
