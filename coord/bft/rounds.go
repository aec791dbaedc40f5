package bft

import (
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// progressMax bounds the passes of one Step; each pass that goes on has cast a vote or moved a
// round, so more than a few is a defect of ours.
const progressMax = 1000

func (c *Core) progress() {
	for range progressMax {
		c.progressed = false
		c.prove()
		c.finalizeVote()
		if c.enter() {
			c.progressed = true
		}
		c.castLate()
		c.unstash()
		c.deliver()
		c.vote()
		c.propose()
		c.timer()
		if !c.progressed {
			return
		}
	}
	c.fault("progress does not end")
}

// enter moves to the highest round that we hold the proof of.
func (c *Core) enter() bool {
	p := c.hiRound
	if c.term(p+1) != c.term(p) && p > c.proven {
		p = c.proven // a term is left only by what others can follow
	}
	next := max(c.cur, p+1)
	for t := c.term(c.proven + 1); c.covered(t, c.proven); t++ {
		next = max(next, c.first(t+1))
	}
	if next == c.cur {
		return false
	}
	if c.term(next) != c.term(c.cur) {
		c.armedAt, c.termAt = 0, c.now
		c.stats.Terms++
	}
	c.cur, c.enteredAt = next, c.now
	return true
}

// castLate votes empty in the terms that we left by an empty certificate without a vote of ours: the votes in the
// certificate may be known to us alone, and ours makes the honest ones a quorum.
func (c *Core) castLate() {
	for t := c.term(c.finalKnown()); t < c.term(c.cur); t++ {
		ts := c.terms[t]
		if ts == nil || ts.end == nil || ts.empties[c.cfg.Self].has {
			continue
		}
		if r := c.emptyLevelIn(t); c.term(r) == t && c.mayVote(r) {
			c.stats.EmptyVotes++
			c.castAndSend(coord.VoteEmpty, r, coord.Digest{})
		}
	}
}

func (c *Core) myEmpty() slot {
	if ts := c.terms[c.term(c.cur)]; ts != nil {
		return ts.empties[c.cfg.Self]
	}
	return slot{}
}

// finalizeVote for the highest notarization that we can prove, never at or above the level of an empty
// vote of ours in that term.
func (c *Core) finalizeVote() {
	r := c.proven
	if r <= c.finalRound || !c.mayVote(r) {
		return
	}
	rs := c.round(r)
	if rs.fins[c.cfg.Self].has || (rs.fin != nil && len(rs.fin.Sigs) > 0) {
		return
	}
	if ts := c.terms[c.term(r)]; ts != nil {
		if e := ts.empties[c.cfg.Self]; e.has && r >= e.round {
			return
		}
	}
	c.castAndSend(coord.VoteFinalize, r, c.provenDigest)
}

// onProposal judges a leader's block. What is wrong in itself is dropped; what we cannot judge yet
// because we did not see its proof form waits a moment for that.
func (c *Core) onProposal(from int, p *coord.Proposal) {
	b := p.Block
	if b == nil || p.Parent == nil || b.Epoch != c.cfg.Epoch || b.Round == 0 || from != c.Leader(b.Round) ||
		len(b.Refs) > coord.BlockRefsMax || len(p.Proof) > coord.ProofCertsMax || !b.Whole() ||
		p.Parent.Digest() != b.Parent || p.Parent.Round != b.ParentRound || p.Parent.Height+1 != b.Height || b.ParentRound >= b.Round ||
		p.Parent.Epoch != b.Epoch && c.root != (coord.Digest{}) && b.Parent != c.root {
		c.bad(from)
		return
	}
	if slices.Contains(p.Proof, nil) {
		c.bad(from)
		return
	}
	for i := range b.Refs {
		if _, ok := c.index[b.Refs[i].Author]; !ok {
			c.bad(from)
			return
		}
	}
	if b.Round < c.cur {
		d := b.Digest()
		if rs := c.rounds[b.Round]; rs != nil && ((rs.notar != nil && rs.notar.Digest == d) || (rs.fin != nil && rs.fin.Digest == d)) {
			c.keepBlock(b) // late, and needed
			c.progressed = true
		}
		c.onVote(from, c.leaderVote(from, p))
		return
	}
	if !c.sawForm(p.Proof) && (c.stash == nil || c.stash.p.Block.Round < b.Round) {
		c.stash = &stash{from, p, c.now + c.cfg.FetchDelay}
		return
	}
	c.judge(from, p)
}

// unstash judges the proposal that waited, once its proof formed here or the wait is over.
func (c *Core) unstash() {
	s := c.stash
	if s == nil {
		return
	}
	if c.sawForm(s.p.Proof) || c.now >= s.at {
		c.stash = nil
		c.judge(s.from, s.p)
	}
}

func (c *Core) sawForm(xs []*coord.Cert) bool {
	for _, x := range xs {
		if !c.same(x) {
			return false
		}
	}
	return true
}

func (c *Core) leaderVote(from int, p *coord.Proposal) *coord.Vote {
	return &coord.Vote{
		Kind: coord.VoteNotarize, Epoch: c.cfg.Epoch, Round: p.Block.Round, Digest: p.Block.Digest(), Voter: uint8(from), Sig: p.Sig,
	}
}

// judge checks that the proof covers everything from the parent to the block's round.
func (c *Core) judge(from int, p *coord.Proposal) {
	b, xs := p.Block, p.Proof
	parent := b.ParentRound
	for _, x := range xs {
		if !c.believe(from, x, false) {
			return
		}
	}
	switch {
	case b.Parent == c.root:
		parent = c.rootRound
	case p.Parent.Epoch != b.Epoch && c.root == (coord.Digest{}): // we have restarted above it, and the leader is far behind
		return
	case len(xs) == 0 || xs[0].Kind == coord.VoteEmpty || xs[0].Round != b.ParentRound || xs[0].Digest != b.Parent:
		c.bad(from)
		return
	default:
		xs = xs[1:]
	}
	if b.Round != parent+1 {
		// A gap ends only at a term's first round, and every term in it is covered.
		t := c.term(parent + 1)
		for _, x := range xs {
			if x.Kind != coord.VoteEmpty || c.term(x.Round) != t || x.Round > max(parent+1, c.first(t)) {
				return
			}
			t++
		}
		if t != c.term(b.Round) || b.Round != c.first(t) {
			return
		}
	}
	c.prove()
	c.finalizeVote()
	c.enter()
	d := b.Digest()
	if c.want.digest == d {
		c.keepBlock(b)
	}
	switch {
	case b.Round == c.cur:
		if rs := c.round(b.Round); rs.prop == nil {
			rs.prop, rs.propDigest = b, d
			c.progressed = true
			c.sawProposal(rs)
		}
	case b.Round > c.cur && c.near(b.Round) && (c.stash == nil || c.stash.p.Block.Round <= b.Round):
		// We know its proof and may not follow yet: the last round of a term is left only when it is proven,
		// which takes a moment.
		c.stash = &stash{from, p, c.now + c.voteWait()}
	}
	c.onVote(from, c.leaderVote(from, p))
}

func (c *Core) keepBlock(b *coord.Block) {
	d := b.Digest()
	if old := c.blocks[d]; (old == nil || len(old.Refs) == 0) && b.Height > c.final.Height {
		c.blocks[d] = b
		c.persist(coord.Record{Block: b})
	}
}

// vote for the proposal of our round once we hold all its batches.
func (c *Core) vote() {
	rs := c.rounds[c.cur]
	if rs == nil || rs.prop == nil || rs.votes[c.cfg.Self].has || !c.mayVote(c.cur) {
		return
	}
	if !c.holdAll(rs.prop, c.Leader(c.cur), false) {
		return
	}
	c.keepBlock(rs.prop)
	c.castAndSend(coord.VoteNotarize, c.cur, rs.propDigest)
}

func (c *Core) propose() {
	if !c.leads() || !c.mayVote(c.cur) {
		return
	}
	if rs := c.rounds[c.cur]; rs != nil && (rs.prop != nil || rs.votes[c.cfg.Self].has) {
		return
	}
	proof, parentRound, parentDigest, ok := c.proof(c.cur)
	parent := c.blocks[parentDigest]
	if !ok || parent == nil || len(proof) > coord.ProofCertsMax {
		return
	}
	// In a new term the block that makes the ones before final may always be added.
	if parent.Height >= c.final.Height+c.cfg.DepthMax && c.term(parent.Round) == c.term(c.cur) {
		return
	}
	refs, size := c.choose(parent)
	switch {
	case len(refs) == 0:
		// Nothing new: only to make an older block final, and only when that is late. Where finality takes long, empty
		// blocks on empty ones would never end.
		late := len(parent.Refs) > 0 && c.now-c.enteredAt >= c.timeout()/4
		if c.hiRound <= c.finalRound || (c.cur == parentRound+1 && !late) {
			return
		}
	case size < c.cfg.PipelineBytes && parent.Height > c.final.Height && c.now-c.enteredAt < c.cfg.PipelineDelay:
		c.wake(c.enteredAt + c.cfg.PipelineDelay)
		return
	case size < c.cfg.PipelineBytes && (c.gathers(refs) || c.spaces()):
		return
	}
	b := &coord.Block{
		Epoch: c.cfg.Epoch, Round: c.cur, ParentRound: parent.Round, Height: parent.Height + 1, Parent: parentDigest,
		Root: coord.RefsRoot(refs), Refs: refs,
	}
	rs := c.round(c.cur)
	rs.prop, rs.propDigest, rs.proposedAt = b, b.Digest(), c.now
	rs.propAt = c.now
	c.named(b)
	c.keepBlock(b)
	v := c.cast(coord.VoteNotarize, c.cur, rs.propDigest)
	c.send(coord.ToAll, &coord.PeerMsg{Proposal: &coord.Proposal{Block: b, Sig: v.Sig, Parent: parent.Header(), Proof: proof}})
}

// backoff is how many terms in a row have failed, at most slowMax; or how many had to, lately, before something became
// final: on a network slower than the time-out every leader would be given up otherwise.
func (c *Core) backoff() int64 { return max(c.failed(), c.slow) }

func (c *Core) failed() int64 {
	return min(max(int64(c.term(c.cur))-int64(c.term(c.finalRound))-1, 0), slowMax)
}

const (
	// slowMax is how often the time-out is doubled at most.
	slowMax = 5
	// slowBlocks is how many blocks must become final in time before the time-out is halved again.
	slowBlocks = 32
)

// learn adapts the time-out to what it took to make a block final, just now. Where a term was given up and its block became final all the
// same, each term would make one block final and leave another one to the next term, without end. There the time from our vote counts,
// twice, for the way before it: a leader can send late, and that does not make the time-out longer at f+1 honest boxes, as fewer
// than a quorum have voted when they do.
func (c *Core) learn(b *coord.Block) {
	timeout := c.cfg.Timeout << c.slow
	var need int64 // 0: not known
	if rs := c.rounds[b.Round]; rs != nil && rs.votedAt > 0 && rs.propDigest == b.Digest() {
		need = 2 * (c.now - rs.votedAt)
	}
	ts := c.terms[c.term(b.Round)]
	gaveUp := ts != nil && ts.empties[c.cfg.Self].has
	switch n := c.failed(); {
	case n > c.slow:
		c.slow, c.inTime = n, 0
	case gaveUp && need > timeout && c.slow < slowMax:
		c.slow, c.inTime = c.slow+1, 0
	case n == 0 && c.slow > 0 && need <= timeout/2:
		if c.inTime++; c.inTime >= slowBlocks {
			c.slow, c.inTime = c.slow-1, 0
		}
	}
}

func (c *Core) timeout() int64 { return c.cfg.Timeout << c.backoff() }

// Lead asks this box to let a member lead: it ends the terms of others early until that one leads, at most one term of
// each. An ordered message says so to all boxes.
func (c *Core) Lead(member int) { c.lead, c.leadBefore = member, c.term(c.cur)+uint64(c.n) }

// makesWay says whether to end this term early for the member that is to lead.
func (c *Core) makesWay() bool {
	return c.term(c.cur) < c.leadBefore && c.Leader(c.cur) != c.lead || c.aside&(1<<c.Leader(c.cur)) != 0
}

// SetAside says which members should not lead, a bit each: their terms are ended early. All boxes are told the same by an ordered
// message, and safety does not depend on it; at most f of them keep n-f to lead.
func (c *Core) SetAside(members uint32) { c.aside = members }

func (c *Core) work() bool {
	if c.pool.pending > 0 || c.hiRound > c.finalRound || c.target != nil {
		return true
	}
	rs := c.rounds[c.cur]
	return rs != nil && rs.prop != nil
}

// timer: no progress in finality while there is work, or a batch that starves, ends the
// leader's term. f+1 empty votes of others are joined at once.
func (c *Core) timer() {
	ts := c.terms[c.term(c.cur)]
	if ts != nil {
		if ts.empties[c.cfg.Self].has {
			return
		}
		k := 0
		for i := range ts.empties {
			if ts.empties[i].has {
				k++
			}
		}
		if k > c.f && c.mayVote(c.emptyLevel()) {
			c.castEmpty()
			return
		}
	}
	if !c.mayVote(c.emptyLevel()) {
		c.armedAt = 0
		return
	}
	if c.stepsAside() || c.makesWay() {
		c.castEmpty()
		return
	}
	if !c.work() {
		c.armedAt = 0
		return
	}
	if c.armedAt == 0 {
		c.armedAt = c.now
	}
	at := c.deadline()
	if s := c.starving(); s > 0 {
		at = min(at, s)
	}
	if c.now >= at {
		c.sawNoProposal()
		c.castEmpty()
		return
	}
	c.wake(at)
}

// deadline is when the leader is given up for lack of finality.
func (c *Core) deadline() int64 {
	d := c.timeout()
	if l := c.Leader(c.cur); c.down[l] {
		d = min(d, c.cfg.LeaderDown<<c.backoff())
	}
	return c.armedAt + d
}

func (c *Core) castEmpty() {
	r := c.emptyLevel()
	c.stats.EmptyVotes++
	c.castAndSend(coord.VoteEmpty, r, coord.Digest{})
}

func (c *Core) onLink(l Link) {
	if l.Peer < 0 || l.Peer >= c.n || l.Peer == c.cfg.Self {
		return
	}
	c.down[l.Peer] = !l.Up
	if l.Up {
		c.upAt[l.Peer] = c.now
		c.nextRetx = c.now // what it missed while it was away
	}
}
