package bft

import (
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// onVote takes a vote that came over from's own link. Only the voter itself is believed.
func (c *Core) onVote(from int, v *coord.Vote) {
	if int(v.Voter) != from || v.Epoch != c.cfg.Epoch || v.Round == 0 {
		c.bad(from)
		return
	}
	if v.Kind != coord.VoteEmpty || v.Digest == (coord.Digest{}) {
		c.expose(from, v)
	}
	switch v.Kind {
	case coord.VoteNotarize, coord.VoteFinalize:
		if !c.inWindow(v.Round) {
			return
		}
	case coord.VoteEmpty:
		if v.Digest != (coord.Digest{}) || c.term(v.Round) < c.term(c.cur) || !c.near(v.Round) {
			return
		}
	case coord.VoteCheckpoint:
		c.onCheckpointVote(from, v)
		return
	default:
		c.bad(from)
		return
	}
	if c.liar[from] && !c.verify(v) {
		c.bad(from)
		c.sawBadSignature(from, "a vote")
		return
	}
	c.put(v)
	c.tally(v)
}

// near bounds what a liar can make us remember: rounds shortly after ours, or at the start of one of the next terms.
func (c *Core) near(r uint64) bool {
	t := c.term(r)
	return r <= c.cur+voteWindow || (t <= c.term(c.cur)+2 && r < c.first(t)+voteWindow)
}

func (c *Core) inWindow(r uint64) bool { return r > c.finalRound && c.near(r) }

// put stores a vote; the first of a kind, round (term) and voter counts.
func (c *Core) put(v *coord.Vote) {
	var s *slot
	switch v.Kind {
	case coord.VoteNotarize:
		s = &c.round(v.Round).votes[v.Voter]
	case coord.VoteFinalize:
		s = &c.round(v.Round).fins[v.Voter]
	default:
		s = &c.termOf(c.term(v.Round)).empties[v.Voter]
	}
	c.remember(v)
	if !s.has {
		if v.Round >= c.cur {
			c.absent[v.Voter] = false
		}
		*s = slot{has: true, round: v.Round, digest: v.Digest, sig: v.Sig}
	}
}

func (c *Core) verify(v *coord.Vote) bool {
	c.stats.Verified++
	return c.cfg.Keys.VerifyVote(v)
}

// tally makes a certificate when v completes one.
func (c *Core) tally(v *coord.Vote) {
	if v.Kind == coord.VoteEmpty {
		c.tallyEmpty(c.term(v.Round))
		return
	}
	rs := c.round(v.Round)
	slots, have := rs.votes, rs.notar
	if v.Kind == coord.VoteFinalize {
		slots, have = rs.fins, rs.fin
	}
	if have != nil && len(have.Sigs) >= c.q {
		return
	}
	k := 0
	for i := range slots {
		if slots[i].has && slots[i].digest == v.Digest {
			k++
		}
	}
	if k < c.q {
		return
	}
	x := &coord.Cert{Kind: v.Kind, Epoch: v.Epoch, Round: v.Round, Digest: v.Digest, Sigs: make([]coord.VoteSig, 0, c.q)}
	for i := range slots {
		if slots[i].has && slots[i].digest == v.Digest && len(x.Sigs) < c.q {
			x.Sigs = append(x.Sigs, coord.VoteSig{Voter: uint8(i), Sig: slots[i].sig})
		}
	}
	c.gotCert(x)
}

// tallyEmpty makes the strongest certificate: the quorum of lowest levels.
func (c *Core) tallyEmpty(t uint64) {
	ts := c.termOf(t)
	var sigs []coord.VoteSig
	for i, s := range ts.empties {
		if s.has {
			sigs = append(sigs, coord.VoteSig{Voter: uint8(i), Level: s.round, Sig: s.sig})
		}
	}
	if len(sigs) < c.q {
		return
	}
	slices.SortStableFunc(sigs, func(a, b coord.VoteSig) int {
		switch {
		case a.Level < b.Level:
			return -1
		case a.Level > b.Level:
			return 1
		}
		return 0
	})
	sigs = sigs[:c.q]
	c.gotCert(&coord.Cert{Kind: coord.VoteEmpty, Epoch: c.cfg.Epoch, Round: sigs[c.q-1].Level, Sigs: sigs})
}

// cast signs, remembers, persists and tallies one vote of ours; the caller sends it.
func (c *Core) cast(k coord.VoteKind, r uint64, d coord.Digest) *coord.Vote {
	c.stats.Signed++
	v := &coord.Vote{
		Kind: k, Epoch: c.cfg.Epoch, Round: r, Digest: d, Voter: uint8(c.cfg.Self),
		Sig: c.cfg.Keys.SignVote(k, c.cfg.Epoch, r, d),
	}
	c.put(v)
	switch k {
	case coord.VoteNotarize:
		c.round(r).votedAt = c.now
	case coord.VoteFinalize:
		c.finTop = max(c.finTop, r)
		c.round(r).finedAt = c.now
	}
	c.persist(coord.Record{Vote: v})
	c.rd.Sync = true
	c.tally(v)
	c.progressed = true
	return v
}

func (c *Core) castAndSend(k coord.VoteKind, r uint64, d coord.Digest) {
	c.send(coord.ToAll, &coord.PeerMsg{Vote: c.cast(k, r, d)})
}

// mine is our stored vote as a message.
func (c *Core) mine(k coord.VoteKind, r uint64, s slot) *coord.PeerMsg {
	return &coord.PeerMsg{Vote: &coord.Vote{
		Kind: k, Epoch: c.cfg.Epoch, Round: r, Digest: s.digest, Voter: uint8(c.cfg.Self), Sig: s.sig,
	}}
}
