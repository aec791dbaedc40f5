package bft

import "github.com/holdfast-edge/holdfast/coord"

// want is the one block that we miss and know to be notarized or final.
type want struct {
	digest coord.Digest
	at     int64 // when to ask (again)
	to     int   // whom to ask next
}

// deliver hands out final blocks in order, once they and their batches are here: those up to the
// highest that is known to be final or, when a block on the way is missing, those of the last catch-up.
func (c *Core) deliver() {
	if c.blank {
		return
	}
	if c.last != nil {
		c.target = c.last
	}
	if c.target != nil && c.target.Round <= c.finalRound {
		c.target = nil
	}
	if c.partial != nil && c.partial.Round <= c.finalRound {
		c.partial = nil
	}
	if c.target != nil && c.deliverTo(c.target) {
		return
	}
	if c.partial != nil {
		c.deliverTo(c.partial)
	}
}

// finalKnown is the last round that is known to be final, delivered or not.
func (c *Core) finalKnown() uint64 {
	if c.target != nil {
		return max(c.finalRound, c.target.Round)
	}
	return c.finalRound
}

// deliverTo delivers up to the block of x. false: a block is missing.
func (c *Core) deliverTo(x *coord.Cert) bool {
	var chain []*coord.Block
	for d := x.Digest; d != c.finalDigest; {
		b := c.blocks[d]
		if b == nil {
			c.miss(d)
			return false
		}
		if b.Height <= c.final.Height {
			c.fault("the final chain does not contain our final block")
			return false
		}
		chain = append(chain, b)
		d = b.Parent
	}
	// Oldest first; what is whole is delivered even when a later one is not, and all that is missing
	// is asked for together.
	whole := true
	for i := len(chain) - 1; i >= 0; i-- {
		b := chain[i]
		whole = c.holdAll(b, c.Leader(b.Round), true) && whole
		if !whole {
			continue
		}
		var cert *coord.Cert
		if i == 0 {
			cert = x
		}
		c.apply(b, cert)
	}
	if whole {
		c.target, c.partial = nil, nil
		c.settle()
	}
	return true
}

func (c *Core) apply(b *coord.Block, cert *coord.Cert) {
	d := b.Digest()
	bs, at := make([]*coord.Batch, len(b.Refs)), Times{Final: c.now}
	if rs := c.rounds[b.Round]; rs != nil && rs.propDigest == d {
		at.Proposed, at.Voted, at.Notarized, at.Finalizing = rs.propAt, rs.votedAt, rs.notarAt, rs.finedAt
	}
	at.Held = make([]int64, len(b.Refs))
	for i := range b.Refs {
		if h := c.pool.held[b.Refs[i].Digest]; h != nil {
			bs[i], at.Held[i] = h.Batch, h.since
			c.unpend(h)
		}
		c.dropped = append(c.dropped, b.Refs[i].Digest)
	}
	delete(c.blocks, c.finalDigest)
	c.learn(b)
	c.accompany(b, bs)
	c.final, c.finalDigest, c.finalCert, c.finalRound = b.Header(), d, cert, b.Round
	c.blocks[d] = c.final
	c.persist(coord.Record{Final: &coord.Final{Header: c.final, Cert: cert}})
	c.rd.Deliver = append(c.rd.Deliver, Delivery{Block: b, Digest: d, Batches: bs, Cert: cert, At: at})
	c.armedAt, c.finalAt, c.progressed = 0, c.now, true
}

// settle drops what a new final block makes useless.
func (c *Core) settle() {
	if c.finalRound > c.hiRound {
		c.hi, c.hiRound, c.hiDigest = c.finalProof(), c.finalRound, c.finalDigest
	}
	if c.finalRound >= c.proven {
		c.proven, c.provenCert, c.provenDigest = c.finalRound, c.finalProof(), c.finalDigest
	}
	for r, rs := range c.rounds {
		if r <= c.finalRound {
			delete(c.rounds, r)
		} else if rs.fin != nil && (c.target == nil || r > c.target.Round) {
			c.target = rs.fin // known before a snapshot of something lower came
		}
	}
	for t := range c.terms {
		if t < c.term(c.finalRound) {
			delete(c.terms, t)
		}
	}
	for d, b := range c.blocks {
		if b.Round <= c.finalRound && d != c.finalDigest {
			delete(c.blocks, d)
		}
	}
	for i := range c.claims.by {
		for k := range c.claims.by[i] {
			xs := c.claims.by[i][k]
			keep := xs[:0]
			for _, x := range xs {
				if x.Round > c.finalRound || (x.Kind == coord.VoteEmpty && c.term(x.Round) >= c.term(c.finalRound)) {
					keep = append(keep, x)
				}
			}
			c.claims.by[i][k] = keep
		}
	}
	if c.stash != nil && c.stash.p.Block.Round <= c.finalRound {
		c.stash = nil
	}
	c.sweep()
	if from := c.catching - 1; from >= 0 {
		c.catching = 0
		if c.heard[from].Height > c.final.Height || c.last != nil && c.last.Round > c.finalRound {
			c.pullAt = c.now
			c.pull(from)
		}
	}
	c.progressed = true
}

// onLast: the epoch ends with h. That may be all that we know of it, for its last blocks are final by certificates that only those have
// who are in the next epoch by now.
func (c *Core) onLast(from int, h *coord.Block) {
	if c.blank || h.Height <= c.final.Height {
		return
	}
	if c.last == nil {
		c.last = vouched(coord.VoteFinalize, c.cfg.Epoch, h.Round, h.Digest())
		c.gotCert(c.last)
	}
	if from >= 0 && from != c.cfg.Self {
		c.pull(from)
	}
}

// known is the certificate for a block that ends a catch-up without one.
func (c *Core) known(u *coord.CatchUp) *coord.Cert {
	if n := len(u.Blocks); u.Cert == nil && c.last != nil && n > 0 && u.Blocks[n-1] != nil && u.Blocks[n-1].Digest() == c.last.Digest {
		return c.last
	}
	return u.Cert
}

// miss notes a block to be fetched; a known one is asked for at once, then from one member after
// the other.
func (c *Core) miss(d coord.Digest) {
	if c.want.digest != d {
		c.want = want{digest: d, at: c.now + c.cfg.FetchDelay, to: c.Leader(c.cur)}
	}
}

func (c *Core) onBlock(b *coord.Block) {
	if c.want.digest != (coord.Digest{}) && b.Whole() && b.Digest() == c.want.digest {
		c.keepBlock(b)
		c.want = want{}
		c.progressed = true
	}
}

// onCatchUp takes final blocks: the certificate makes the last one final, the hash chain the others.
func (c *Core) onCatchUp(from int, u *coord.CatchUp) {
	if c.blank {
		return
	}
	if x := c.known(u); x != u.Cert {
		u = &coord.CatchUp{Blocks: u.Blocks, Cert: x}
	}
	if u.Cert == nil || u.Cert.Kind != coord.VoteFinalize || len(u.Blocks) == 0 || len(u.Blocks) > coord.CatchUpBlocksMax {
		c.bad(from)
		return
	}
	if u.Cert.Round <= c.finalRound {
		return // we have these by now
	}
	if !chained(u) {
		c.bad(from)
		return
	}
	if !c.believe(from, u.Cert, true) {
		// Another member can prove it, or says the same: f+1 of them are believed.
		if next := c.other(&c.pullTo); next != from && c.heard[next].Height > c.final.Height {
			c.pullAt = c.now
			c.pull(next)
		}
		return
	}
	c.takeCatchUp(u)
	c.catching = from + 1
}

// chained says whether the blocks of a catch-up are whole and lead to what its certificate names.
func chained(u *coord.CatchUp) bool {
	next := u.Cert.Digest
	for i := len(u.Blocks) - 1; i >= 0; i-- {
		b := u.Blocks[i]
		if b == nil || b.Digest() != next || !b.Whole() {
			return false
		}
		next = b.Parent
	}
	return true
}

func (c *Core) takeCatchUp(u *coord.CatchUp) {
	for _, b := range u.Blocks {
		c.keepBlock(b)
	}
	if c.partial == nil || c.partial.Round > u.Cert.Round {
		c.partial = u.Cert
	}
	c.want = want{}
	c.progressed = true
}

// onForeignCatchUp takes final blocks from a box that is a member of a later epoch only: its word is nothing here, but signatures are,
// and what ends the epoch is known.
func (c *Core) onForeignCatchUp(u *coord.CatchUp) {
	x := c.known(u)
	if c.blank || c.last == nil || x == nil || x.Kind != coord.VoteFinalize || x.Epoch != c.cfg.Epoch || x.Round <= c.finalRound ||
		len(u.Blocks) == 0 || len(u.Blocks) > coord.CatchUpBlocksMax {
		return
	}
	u = &coord.CatchUp{Blocks: u.Blocks, Cert: x}
	if !chained(u) || x != c.last && !c.same(x) && !c.verifyCert(x) {
		return
	}
	c.gotCert(x)
	c.takeCatchUp(u)
}

// onInstalled: the state was fetched from others and is that of a signed checkpoint.
func (c *Core) onInstalled(p *coord.Checkpoint) {
	if p.Header == nil || p.Header.Height <= c.final.Height {
		return
	}
	delete(c.blocks, c.finalDigest)
	c.blank = false
	c.setBase(p.Header.Header(), nil)
	if p.Cert.Epoch == c.cfg.Epoch {
		c.ckpt.stable = p
		c.persist(coord.Record{Stable: p})
	}
	c.target, c.partial, c.want, c.armedAt = nil, nil, want{}, 0
	c.settle()
}
