package bft

import (
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// A box votes twice when it comes back with a log that is not the one it voted with: an old image of its disk, a
// log whose end was damaged, no log at all. So a box that starts asks the others, before it votes, which
// votes of it they know. If one of those is not in its log, or if it knows itself that its log is not
// whole, it has amnesia: what it signed is unknown, and it must not vote where it may have voted.
//
// Where may it have voted? In rounds up to the one that it was in, c. It entered c by certificates of
// n-f votes; with it among the f faulty ones, at least n-2f honest others voted there and are in the same
// term or a later one, and of any n-f-1 others that answer, one is among those. So with R the highest round in the
// answers, the box was at most at the first round of the term after R's, and nothing that it signed is
// in the term after that one. There it votes again; the others end their terms early to let it (stepsAside).
//
// The answers must be newer than the start, hence the nonce. Asking for n-f-1 answers costs a site no
// liveness: with fewer boxes up nothing could become final anyhow.

// recalled is what one member answered.
type recalled struct {
	ok    bool
	round uint64
}

type recall struct {
	// from is the first round in which the box votes; coord.SilentUnknown: to be learned.
	from uint64
	// logged is the last round that is final by our own log: what we signed up to it is not kept.
	logged uint64
	mine   []coord.Vote // what we signed above it, by our own log
	asking bool
	by     []recalled
	// known are the highest votes of each member, by kind, to tell it when it asks.
	known [][coord.VoteEmpty + 1]*coord.Vote
	kept  [][coord.VoteEmpty + 1]*coord.Vote // what of that is in the log
	// asideAt and asides limit how often terms are ended for boxes with amnesia.
	asideAt int64
	asides  int
}

// asideEvery: in so many timeouts at most asidesMax terms are ended early for the others, so that a liar who asks
// for it costs little; two for each box that may be faulty, and one.
const asideEvery = 60

func (c *Core) asidesMax() int { return 2*c.f + 1 }

// mayVote says whether the box may sign a vote for a round.
func (c *Core) mayVote(r uint64) bool {
	return !c.recall.asking && r >= c.recall.from && !c.blank && !c.muted && c.last == nil
}

// Silent says why the box does not vote, if it does not: asking, because it has started and too few others have
// answered yet, or until a round, because it does not know what it signed (coord.SilentUnknown: it does not know
// the round yet). 0 and false: it votes.
func (c *Core) Silent() (until uint64, asking bool) {
	if c.cur < c.recall.from {
		until = c.recall.from
	}
	return until, c.recall.asking
}

// Claim is a round such that every block that this box has ever voted to finalize is of it or of a round before; ok says
// whether the box knows that. A box that has come to a round knows a notarization at or above all that could become final
// before it, so that this holds for a box, too, that is silent no more and has forgotten what it signed.
func (c *Core) Claim() (round uint64, ok bool) {
	until, asking := c.Silent()
	return max(c.finTop, c.hiRound), until == 0 && !asking
}

func (c *Core) startRecall() {
	c.recall.logged = c.finalKnown()
	for r, rs := range c.rounds {
		if v := rs.votes[c.cfg.Self]; v.has {
			c.recall.mine = append(c.recall.mine, coord.Vote{Kind: coord.VoteNotarize, Round: r, Digest: v.digest})
		}
		if v := rs.fins[c.cfg.Self]; v.has {
			c.recall.mine = append(c.recall.mine, coord.Vote{Kind: coord.VoteFinalize, Round: r, Digest: v.digest})
		}
	}
	for _, ts := range c.terms {
		if v := ts.empties[c.cfg.Self]; v.has {
			c.recall.mine = append(c.recall.mine, coord.Vote{Kind: coord.VoteEmpty, Round: v.round})
		}
	}
	c.recall.asking = c.cfg.Nonce != 0 || c.recall.from == coord.SilentUnknown
	c.recallDone()
}

// forget makes the box silent until the others have told where they are.
func (c *Core) forget() {
	c.silence(coord.SilentUnknown)
}

// silence makes the box silent until a round; durable before anything is said.
func (c *Core) silence(from uint64) {
	c.recall.from = from
	c.persist(coord.Record{Silent: &coord.Silence{Epoch: c.cfg.Epoch, From: from}})
	c.rd.Sync = true
}

func (c *Core) askRecall() {
	if !c.recall.asking {
		return
	}
	for i := range c.recall.by {
		if i != c.cfg.Self && !c.recall.by[i].ok {
			c.send(i, &coord.PeerMsg{Recall: &coord.Recall{Nonce: c.cfg.Nonce}})
		}
	}
}

// remember keeps a member's vote for the day that it asks.
func (c *Core) remember(v *coord.Vote) {
	if k := &c.recall.known[v.Voter][v.Kind]; *k == nil || (*k).Round < v.Round {
		*k = v
	}
}

// keepKnown writes down what is known of the others' votes since the last time: at every retransmission, so that a
// site that was shut down still knows them.
func (c *Core) keepKnown() {
	for i := range c.recall.known {
		for k, v := range c.recall.known[i] {
			if v != nil && i != c.cfg.Self && c.recall.kept[i][k] != v {
				c.recall.kept[i][k] = v
				c.persist(coord.Record{Vote: v})
				c.rd.Sync = true
			}
		}
	}
}

// rememberCert keeps the votes of a certificate that we hold, for after our own restart.
func (c *Core) rememberCert(x *coord.Cert) {
	for i := range x.Sigs {
		s := &x.Sigs[i]
		if int(s.Voter) >= c.n || x.Kind > coord.VoteEmpty {
			continue
		}
		v := &coord.Vote{Kind: x.Kind, Epoch: x.Epoch, Round: x.Round, Digest: x.Digest, Voter: s.Voter, Sig: s.Sig}
		if x.Kind == coord.VoteEmpty {
			v.Round = s.Level
		}
		c.remember(v)
	}
}

func (c *Core) onRecall(from int, m *coord.Recall) {
	c.send(from, &coord.PeerMsg{Recalled: &coord.Recalled{Nonce: m.Nonce, Round: c.cur, Votes: c.Known(from)}})
}

// Known is the highest votes of a member that we know, at most one of each kind: those that we heard, and those in the
// certificates that we hold.
func (c *Core) Known(member int) (vs []*coord.Vote) {
	for _, rs := range c.rounds {
		for _, x := range [2]*coord.Cert{rs.notar, rs.fin} {
			if x != nil {
				c.rememberCert(x)
			}
		}
	}
	for _, ts := range c.terms {
		if ts.end != nil {
			c.rememberCert(ts.end)
		}
	}
	if c.finalCert != nil {
		c.rememberCert(c.finalCert)
	}
	for _, v := range c.recall.known[member] {
		if v != nil {
			vs = append(vs, v)
		}
	}
	return vs
}

func (c *Core) onRecalled(from int, m *coord.Recalled) {
	if !c.recall.asking || m.Nonce != c.cfg.Nonce || len(m.Votes) > coord.RecalledVotesMax {
		return
	}
	for _, v := range m.Votes {
		if v == nil || int(v.Voter) != c.cfg.Self || v.Epoch != c.cfg.Epoch || c.knows(v) {
			continue
		}
		if !c.verify(v) {
			c.bad(from) // or a liar sent it what it takes for our vote; either way it proves nothing
			continue
		}
		m = &coord.Recalled{Nonce: m.Nonce, Round: max(m.Round, v.Round)}
		if c.recall.from != coord.SilentUnknown {
			c.forget()
		}
	}
	c.recall.by[from] = recalled{true, m.Round}
	c.recallDone()
	c.progressed = true
}

// knows says whether a vote of ours was in our log when we started, or so old that the log need not have it. What became
// final since does not count: that we forgot a vote below it says that we may have forgotten one above.
func (c *Core) knows(v *coord.Vote) bool {
	old := v.Round <= c.recall.logged
	if v.Kind == coord.VoteEmpty { // its round is the level from which it finalizes nothing in the term
		old = c.term(v.Round) < c.term(c.recall.logged)
	}
	if old {
		return true
	}
	return slices.ContainsFunc(c.recall.mine, func(m coord.Vote) bool {
		return m.Kind == v.Kind && m.Round == v.Round && m.Digest == v.Digest
	})
}

// recallDone ends the asking when enough others have answered.
func (c *Core) recallDone() {
	if !c.recall.asking {
		return
	}
	k, high := 0, c.cur
	for i := range c.recall.by {
		if c.recall.by[i].ok {
			k++
			high = max(high, c.recall.by[i].round)
		}
	}
	if k < c.q-1 {
		return
	}
	c.recall.asking = false
	if c.recall.from == coord.SilentUnknown {
		c.silence(c.first(c.term(high) + 2))
	}
}

// stepsAside says whether to end this term early for a box that may not vote in it. Only while few terms
// are open since the last final block, so that whoever asks for ever cannot make the chain of empty
// certificates long.
func (c *Core) stepsAside() bool {
	wanted := false
	for i := range c.heard {
		from := c.heard[i].VotesFrom
		wanted = wanted || (from > c.cur && from != coord.SilentUnknown && c.term(from) <= c.term(c.cur)+2)
	}
	if !wanted || c.term(c.cur) > c.term(c.finalRound)+uint64(c.asidesMax()) {
		return false
	}
	if c.now > c.recall.asideAt+asideEvery*c.cfg.Timeout {
		c.recall.asideAt, c.recall.asides = c.now, 0
	}
	if c.recall.asides >= c.asidesMax() {
		return false
	}
	c.recall.asides++
	return true
}
