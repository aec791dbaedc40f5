package bft

import (
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// doubtsMax is how many contradictions that came from one member a box looks into while it is in one term, of two
	// verifications each: one suffices, and a liar must not keep the site busy with its lies.
	doubtsMax = 4
	// exposedKept is how many contradictions of one member are known not to be new: those of a term.
	exposedKept = 2 * doubtsMax
)

// contradiction names a broken rule, so that it is told once.
type contradiction struct {
	rule coord.Rule
	at   uint64
}

// court is what a box knows of the others' contradictions. Votes count on arrival, unverified; evidence does not:
// a bad signature convicts nobody.
type court struct {
	term    uint64
	doubts  []int             // by the member that they came from, in this term
	exposed [][]contradiction // by the member that lied, newest last
}

// expose compares a vote that came from a member, its own or one in a certificate, with those of the same voter that
// we hold, also when it comes too late to count.
func (c *Core) expose(from int, v *coord.Vote) {
	for _, o := range c.recall.known[v.Voter] {
		if o != nil && c.contradicts(from, o, v) {
			return
		}
	}
	t := c.term(v.Round)
	switch v.Kind {
	case coord.VoteNotarize:
		if rs := c.rounds[v.Round]; rs != nil {
			c.against(from, v.Kind, &rs.votes[v.Voter], v)
		}
	case coord.VoteFinalize:
		if rs := c.rounds[v.Round]; rs != nil && c.against(from, v.Kind, &rs.fins[v.Voter], v) {
			return
		}
		if ts := c.terms[t]; ts != nil {
			c.against(from, coord.VoteEmpty, &ts.empties[v.Voter], v)
		}
	case coord.VoteEmpty:
		if ts := c.terms[t]; ts != nil && c.against(from, v.Kind, &ts.empties[v.Voter], v) {
			return
		}
		var top *slot
		for _, rs := range c.rounds {
			if s := &rs.fins[v.Voter]; s.has && c.term(s.round) == t && (top == nil || s.round > top.round) {
				top = s
			}
		}
		if top != nil {
			c.against(from, coord.VoteFinalize, top, v)
		}
	case coord.VoteCheckpoint:
		for _, o := range c.ckpt.votes[v.Voter] {
			if c.contradicts(from, o, v) {
				return
			}
		}
	}
}

// exposeCert looks at the votes in a certificate, whatever the certificate is worth.
func (c *Core) exposeCert(from int, x *coord.Cert) {
	if x == nil || x.Epoch != c.cfg.Epoch || len(x.Sigs) > c.n || (x.Kind == coord.VoteEmpty && x.Digest != coord.Digest{}) {
		return
	}
	for i := range x.Sigs {
		s := &x.Sigs[i]
		if int(s.Voter) >= c.n {
			return
		}
		v := coord.Vote{Kind: x.Kind, Epoch: x.Epoch, Round: x.Round, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig}
		if x.Kind == coord.VoteEmpty {
			v.Round = s.Level
		}
		c.expose(from, &v)
	}
}

// against compares v with a stored vote of its voter.
func (c *Core) against(from int, k coord.VoteKind, s *slot, v *coord.Vote) bool {
	if !s.has || (k == v.Kind && s.round == v.Round && s.digest == v.Digest) {
		return false
	}
	return c.contradicts(from, &coord.Vote{Kind: k, Epoch: c.cfg.Epoch, Round: s.round, Digest: s.digest, Voter: v.Voter, Sig: s.sig}, v)
}

// contradicts says whether two votes of one voter exclude each other, and makes it evidence when both are signed.
func (c *Core) contradicts(from int, old, v *coord.Vote) bool {
	rule, at := coord.Conflict(old, v, c.cfg.TermRounds)
	if rule == 0 {
		return false
	}
	if t := c.term(c.cur); c.court.term != t {
		c.court.term = t
		clear(c.court.doubts)
	}
	known := &c.court.exposed[v.Voter]
	if slices.Contains(*known, contradiction{rule, at}) || c.court.doubts[from] >= doubtsMax {
		return true
	}
	c.court.doubts[from]++
	if from == int(v.Voter) {
		c.bad(from)
	}
	if !c.verify(v) {
		if from == int(v.Voter) {
			c.sawBadSignature(from, "a vote that goes against another")
		}
		return true
	}
	if !c.verify(old) {
		return true
	}
	if len(*known) >= exposedKept {
		*known = slices.Delete(*known, 0, 1)
	}
	*known = append(*known, contradiction{rule, at})
	c.rd.Evidence = append(c.rd.Evidence, coord.Evidence{A: *old, B: *v})
	return true
}
