package bft

import (
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// claimsKept is how many things of a kind a box remembers that one member said it holds.
const claimsKept = 4

// claim is a certificate that somebody says to hold; bound: and to be able to prove.
type claim struct {
	*coord.Cert
	bound bool
}

// said is what one member claims to hold, newest last, by kind of vote.
type said [coord.VoteEmpty + 1][]claim

// claims collects certificates whose signatures did not hold: the word of their sender.
type claims struct{ by []said }

// vouched is a certificate without signatures: known to be true, not provable to others.
func vouched(k coord.VoteKind, epoch, round uint64, d coord.Digest) *coord.Cert {
	return &coord.Cert{Kind: k, Epoch: epoch, Round: round, Digest: d}
}

// believe takes a certificate that came from a member: true when it is known to hold, by what we
// saw ourselves, by its signatures, or because f+1 members say so. bound: an honest sender can prove
// it (prove.go); the proof in a proposal it may only have counted.
func (c *Core) believe(from int, x *coord.Cert, bound bool) bool {
	if x == nil || x.Kind < coord.VoteNotarize || x.Kind > coord.VoteEmpty || x.Epoch != c.cfg.Epoch || x.Round == 0 ||
		(x.Kind == coord.VoteEmpty) != (x.Digest == coord.Digest{}) {
		c.bad(from)
		return false
	}
	c.exposeCert(from, x)
	if c.same(x) {
		c.strengthen(from, x, bound)
		return true
	}
	if !c.useful(x) {
		return false
	}
	if len(x.Sigs) > 0 && c.badCerts[from] < badCertsMax {
		if c.verifyCert(x) {
			c.gotCert(x)
			if rs := c.rounds[x.Round]; x.Kind == coord.VoteNotarize && rs != nil && rs.notar == x {
				rs.proven = true
			}
			return true
		}
		c.badCerts[from]++
		c.bad(from)
	}
	return c.claim(from, x, bound)
}

// strengthen looks at what others know of a notarization that we hold and could not prove in time.
func (c *Core) strengthen(from int, x *coord.Cert, bound bool) {
	rs := c.rounds[x.Round]
	if x.Kind != coord.VoteNotarize || rs == nil || rs.notar == nil || rs.proven || c.now < rs.notarAt+c.voteWait() {
		return
	}
	if len(x.Sigs) > 0 && c.badCerts[from] < badCertsMax {
		if c.verifyCert(x) {
			rs.notar, rs.proven, c.progressed = x, true, true
			if c.hiRound == x.Round {
				c.hi = x
			}
			c.persist(coord.Record{Cert: x})
			return
		}
		c.badCerts[from]++
	}
	if bound {
		c.claim(from, x, true)
	}
}

// claim remembers from's word and counts the members that gave the same.
func (c *Core) claim(from int, x *coord.Cert, bound bool) bool {
	mine := &c.claims.by[from][x.Kind]
	known := false
	for i := range *mine {
		o := &(*mine)[i]
		if o.Round == x.Round && o.Digest == x.Digest {
			known, o.bound = true, o.bound || bound
		}
	}
	if !known {
		if len(*mine) >= claimsKept {
			*mine = slices.Delete(*mine, 0, 1)
		}
		*mine = append(*mine, claim{Cert: vouched(x.Kind, x.Epoch, x.Round, x.Digest), bound: bound})
	}
	need := c.f + 1
	// One entry a member. An empty certificate of a lower level says more than one of a higher,
	// so of those that speak of the term, the need-th lowest level is vouched for.
	var levels []uint64
	bounds := 0
	for i := range c.claims.by {
		low := uint64(0)
		for _, o := range c.claims.by[i][x.Kind] {
			if (x.Kind == coord.VoteEmpty && c.term(o.Round) == c.term(x.Round)) || (o.Round == x.Round && o.Digest == x.Digest) {
				if low == 0 || o.Round < low {
					low = o.Round
				}
				if o.bound {
					bounds++
				}
			}
		}
		if low > 0 {
			levels = append(levels, low)
		}
	}
	if len(levels) < need {
		return false
	}
	slices.Sort(levels)
	level := levels[need-1]
	y := vouched(x.Kind, x.Epoch, level, x.Digest)
	c.gotCert(y)
	if rs := c.rounds[x.Round]; x.Kind == coord.VoteNotarize && bounds >= need && rs != nil && rs.notar != nil &&
		rs.notar.Digest == x.Digest && !rs.proven {
		rs.proven, c.progressed = true, true
	}
	return c.same(x)
}

// verifyCert checks a certificate in full: a quorum of distinct members, each signature over
// the certificate's kind, epoch, round (for VoteEmpty: its level) and digest.
func (c *Core) verifyCert(x *coord.Cert) bool {
	if len(x.Sigs) < c.q || len(x.Sigs) > c.n {
		return false
	}
	var seen, top uint64
	for i := range x.Sigs {
		s := &x.Sigs[i]
		if int(s.Voter) >= c.n || seen&(1<<s.Voter) != 0 {
			return false
		}
		seen |= 1 << s.Voter
		r := x.Round
		if x.Kind == coord.VoteEmpty {
			r = s.Level
			if r == 0 || r > x.Round || c.term(r) != c.term(x.Round) {
				return false
			}
			top = max(top, r)
		}
		if !c.verify(&coord.Vote{Kind: x.Kind, Epoch: x.Epoch, Round: r, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig}) {
			return false
		}
	}
	return x.Kind != coord.VoteEmpty || top == x.Round
}

// same: we hold a certificate that says this.
func (c *Core) same(x *coord.Cert) bool {
	if x.Kind == coord.VoteEmpty {
		ts := c.terms[c.term(x.Round)]
		return ts != nil && ts.end != nil && ts.end.Round <= x.Round
	}
	if x.Round == c.finalRound && x.Digest == c.finalDigest {
		return true
	}
	rs := c.rounds[x.Round]
	if rs == nil {
		return false
	}
	if rs.fin != nil && rs.fin.Digest == x.Digest {
		return true
	}
	return x.Kind == coord.VoteNotarize && rs.notar != nil && rs.notar.Digest == x.Digest
}

// useful says whether a certificate would tell us something new.
func (c *Core) useful(x *coord.Cert) bool {
	switch x.Kind {
	case coord.VoteNotarize:
		rs := c.rounds[x.Round]
		return x.Round > c.finalRound && (rs == nil || rs.notar == nil)
	case coord.VoteFinalize:
		rs := c.rounds[x.Round]
		return x.Round > c.finalRound && (rs == nil || rs.fin == nil || (len(rs.fin.Sigs) == 0 && len(x.Sigs) > 0))
	case coord.VoteEmpty:
		t := c.term(x.Round)
		ts := c.terms[t]
		return t >= c.term(c.finalRound) && (ts == nil || ts.end == nil || ts.end.Round > x.Round)
	}
	return false
}

func (c *Core) gotCert(x *coord.Cert) {
	if c.useful(x) {
		c.takeCert(x)
		c.persist(coord.Record{Cert: x})
		c.progressed = true
	}
}

func (c *Core) takeCert(x *coord.Cert) {
	switch x.Kind {
	case coord.VoteEmpty:
		c.termOf(c.term(x.Round)).end = x
		return
	case coord.VoteNotarize:
		rs := c.round(x.Round)
		rs.notar, rs.notarAt = x, c.now
		c.sawNotarized(rs)
		if rs.fin != nil && rs.fin.Digest != x.Digest {
			c.fault("a round's notarized and final blocks differ")
		}
	case coord.VoteFinalize:
		rs := c.round(x.Round)
		rs.fin = x
		if rs.notar != nil && rs.notar.Digest != x.Digest {
			c.fault("a round's notarized and final blocks differ")
		}
		if c.target == nil || x.Round >= c.target.Round {
			c.target = x
		}
	}
	if x.Round > c.hiRound {
		c.hi, c.hiRound, c.hiDigest = x, x.Round, x.Digest
	}
	// A proposal that we could not vote for in time, for want of a batch, is needed all the same.
	if rs := c.rounds[x.Round]; rs.prop != nil && rs.propDigest == x.Digest {
		c.keepBlock(rs.prop)
	}
}

// proof lists what shows that round r may start: the certificate of the notarized block in round p and
// the empty certificates that cover p+1..r-1. ok is false if we do not hold that. Within a term p is the
// highest we know; across terms the highest that we can prove.
func (c *Core) proof(r uint64) (xs []*coord.Cert, p uint64, d coord.Digest, ok bool) {
	x, p, d := c.hi, c.hiRound, c.hiDigest
	if r != p+1 {
		x, p, d = c.provenCert, c.proven, c.provenDigest
	}
	if x != nil {
		xs = append(xs, x)
	}
	if r == p+1 {
		return xs, p, d, true
	}
	if r <= p || r != c.first(c.term(r)) {
		return nil, 0, d, false
	}
	for t := c.term(p + 1); t < c.term(r); t++ {
		if !c.covered(t, p) {
			return nil, 0, d, false
		}
		xs = append(xs, c.terms[t].end)
	}
	return xs, p, d, true
}

// covered says whether the term t is over for whoever holds the notarization of round p: it has
// an empty certificate, and one whose level is above the term's first round counts only with the
// notarization just below it.
func (c *Core) covered(t, p uint64) bool {
	ts := c.terms[t]
	return ts != nil && ts.end != nil && ts.end.Round <= max(p+1, c.first(t))
}

func (c *Core) fault(why string) {
	if c.rd.Fault == "" {
		c.rd.Fault = why
	}
}
