package bft

import "github.com/holdfast-edge/holdfast/coord"

// lagMax is how many blocks behind a box may seem to be while the blocks are only on their way.
const lagMax = 64

// retransmit repeats the state of the current round, idempotently, until it is over.
func (c *Core) retransmit() {
	c.sendStatus(coord.ToAll)
	c.askRecall()
	c.keepKnown()
	clear(c.badCerts)
	c.forgetNeeds()
	c.sweep() // the state may have moved on since the last block, or was fetched
	if c.hi != nil && c.hiRound > c.finalRound && !c.blank && c.blocks[c.hiDigest] == nil {
		c.miss(c.hiDigest)
	}
	c.repeatCheckpoint()
	if !c.work() && !c.myEmpty().has {
		return
	}
	c.announce()
	self := c.cfg.Self
	proof, _, parent, ok := c.proof(c.cur)
	if xs := c.follow(); len(xs) > 0 {
		c.send(coord.ToAll, &coord.PeerMsg{Certs: xs})
	}
	for r := c.finalRound + 1; r <= c.cur; r++ {
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
		if c.leads() && b != nil && ok && b.Parent == parent && c.blocks[b.Parent] != nil {
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
		Height: c.final.Height, FinalRound: c.finalRound, FinalDigest: c.finalDigest, Round: c.cur,
	}
	if c.cur < c.recall.from {
		s.VotesFrom = c.recall.from
	}
	if c.ckpt.offer != nil {
		s.Checkpoint = c.ckpt.offer.Header.Height
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
		if s.FinalRound > c.finalRound && s.FinalDigest != (coord.Digest{}) && !c.blank {
			c.claim(from, vouched(coord.VoteFinalize, c.cfg.Epoch, s.FinalRound, s.FinalDigest), true)
		}
		// Messages on their way look like lag for a moment: ask when it is much, or lasts.
		if s.Height > c.final.Height+lagMax || c.now-c.finalAt > c.cfg.Retransmit/2 {
			c.pull(from)
		}
	case s.Height < c.final.Height:
		if old.Height != s.Height || old.FinalRound != s.FinalRound {
			c.sendStatus(from) // so that it knows whom to ask
		}
		if s.Round < c.cur { // what makes that final may convince nobody but us: then it needs our votes of its round
			c.helpRound(from, s.Round)
		}
	case s.Round < c.cur && s.FinalRound <= c.finalRound:
		c.helpRound(from, s.Round)
	}
}

// follow is what lets others come to where we are, as far as we can prove it.
func (c *Core) follow() []*coord.Cert {
	var xs []*coord.Cert
	if c.provenCert != nil {
		xs = append(xs, c.provenCert)
	}
	for t := c.term(c.proven + 1); t < c.term(c.cur) && len(xs) < coord.ProofCertsMax; t++ {
		if ts := c.terms[t]; ts != nil && ts.end != nil {
			xs = append(xs, ts.end)
		}
	}
	return xs
}

// helpRound gives a box in an earlier round what lets it follow: the certificates that we hold, and our own
// votes of its round and term, for the certificates may carry a liar's bad signature.
func (c *Core) helpRound(to int, r uint64) {
	if xs := c.follow(); len(xs) > 0 {
		c.send(to, &coord.PeerMsg{Certs: xs})
	}
	self := c.cfg.Self
	if rs := c.rounds[r]; rs != nil {
		if rs.votes[self].has {
			c.send(to, c.mine(coord.VoteNotarize, r, rs.votes[self]))
		}
		if rs.notar != nil && rs.proven {
			c.send(to, &coord.PeerMsg{Certs: []*coord.Cert{rs.notar}})
		}
	}
	if ts := c.terms[c.term(r)]; ts != nil && ts.empties[self].has {
		c.send(to, c.mine(coord.VoteEmpty, ts.empties[self].round, ts.empties[self]))
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
