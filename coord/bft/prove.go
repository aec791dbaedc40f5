package bft

import "github.com/holdfast-edge/holdfast/coord"

// A notarization that we counted from votes over their voters' links is true, but a liar among the voters
// may have given us a bad signature and the others no vote at all: then nobody else can follow us, and if
// we had bound ourselves to that round (by voting to finalize it, or by leaving its term) the site would
// stand still. So a box binds itself only to what it can prove:
//
//   - all n members voted for the block: the honest ones, a quorum, repeat their votes to whoever
//     lags, whatever the liars do; or
//   - the signatures of a quorum hold; or
//   - f+1 members vouched for it, of whom one is honest and is bound itself.
//
// In a site whose boxes are all well the first is the rule and costs no verification: the last vote comes
// a moment after the quorum. For a vote that is not there after FetchDelay/8, or whose sender's link is
// down or which was late before, we do not wait.

// prove raises c.proven over the rounds that are notarized since.
func (c *Core) prove() {
	from := max(c.proven, c.finalRound) + 1
	for r := c.hiRound; r >= from; r-- {
		rs := c.rounds[r]
		if rs == nil || (rs.notar == nil && rs.fin == nil) {
			continue
		}
		if rs.notar == nil || rs.proven || c.proveRound(rs) {
			x := rs.notar
			if x == nil {
				x = rs.fin
			}
			rs.proven = true
			c.proven, c.provenCert, c.provenDigest = r, x, x.Digest
			c.progressed = true
			return
		}
	}
}

// proveRound says whether a round's notarization is proven, checking signatures if it may not wait.
func (c *Core) proveRound(rs *roundState) bool {
	missing := -1
	all := true
	for i := range rs.votes {
		if v := &rs.votes[i]; !v.has || v.digest != rs.notar.Digest {
			all = false
			if !c.absent[i] && !c.down[i] {
				missing = i
			}
		}
	}
	if all {
		return true
	}
	if late := rs.notarAt + c.voteWait(); missing >= 0 && c.now < late {
		c.wake(late)
		return false
	}
	for i := range rs.votes {
		if v := &rs.votes[i]; !v.has {
			c.absent[i] = true
		}
	}
	return c.checkVotes(rs)
}

// voteWait is how long a vote may be on its way after the quorum's.
func (c *Core) voteWait() int64 { return c.cfg.FetchDelay / 8 }

// checkVotes looks for a quorum of votes with good signatures and makes them the certificate: those that came over
// their voters' links, and those of the certificate as we wrote it down before a restart. A bad one is
// dropped, and its sender is not believed again without a check.
func (c *Core) checkVotes(rs *roundState) bool {
	for _, s := range rs.notar.Sigs {
		if v := &rs.votes[s.Voter]; !v.has {
			*v = slot{has: true, round: rs.notar.Round, digest: rs.notar.Digest, sig: s.Sig}
		}
	}
	x := &coord.Cert{Kind: coord.VoteNotarize, Epoch: c.cfg.Epoch, Round: rs.notar.Round, Digest: rs.notar.Digest}
	for i := range rs.votes {
		v := &rs.votes[i]
		if !v.has || v.digest != x.Digest || len(x.Sigs) >= c.q {
			continue
		}
		if i != c.cfg.Self && !v.good {
			if !c.verify(&coord.Vote{Kind: x.Kind, Epoch: x.Epoch, Round: x.Round, Digest: x.Digest, Voter: uint8(i), Sig: v.sig}) {
				*v, c.liar[i] = slot{}, true
				c.bad(i)
				c.sawBadSignature(i, "a vote")
				continue
			}
			v.good = true
		}
		x.Sigs = append(x.Sigs, coord.VoteSig{Voter: uint8(i), Sig: v.sig})
	}
	if len(x.Sigs) < c.q {
		return false
	}
	rs.notar = x
	if c.hiRound == x.Round {
		c.hi = x
	}
	c.persist(coord.Record{Cert: x})
	return true
}

// emptyLevel is the round that an empty vote of ours would name: above everything that we can prove, so that
// every box can follow, and so above everything that we voted to finalize.
func (c *Core) emptyLevel() uint64 { return max(c.proven+1, c.finTop+1, c.first(c.term(c.cur))) }

// emptyLevelIn is that in a term that we left; beyond the term's end when nothing in it is left to be empty.
func (c *Core) emptyLevelIn(t uint64) uint64 {
	level := c.first(t)
	if f := c.finalKnown(); c.term(f) == t {
		level = max(level, f+1)
	}
	for r, rs := range c.rounds {
		if c.term(r) == t && (rs.proven || rs.fins[c.cfg.Self].has) {
			level = max(level, r+1)
		}
	}
	return level
}
