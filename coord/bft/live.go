package bft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// LiveRecords is what a restart needs besides the state and the final blocks, in the order of Replay: the
// head of a new log segment. Everything is by reference.
func (c *Core) LiveRecords() []coord.Record {
	var recs []coord.Record
	if c.ckpt.stable != nil {
		recs = append(recs, coord.Record{Stable: c.ckpt.stable})
	}
	// An empty vote may be for a term before ours. What an older log says of silence must not hold in a later epoch.
	if from := c.recall.from; c.finalRound < from || c.cfg.Epoch > 1 {
		recs = append(recs, coord.Record{Silent: &coord.Silence{Epoch: c.cfg.Epoch, From: from}})
	}
	bs := make([]*coord.Block, 0, len(c.blocks))
	used := map[coord.Digest]struct{}{}
	for _, b := range c.blocks {
		if b.Height > c.final.Height {
			bs = append(bs, b)
			for i := range b.Refs {
				used[b.Refs[i].Digest] = struct{}{}
			}
		}
	}
	slices.SortFunc(bs, func(a, b *coord.Block) int {
		if a.Round != b.Round {
			return cmp(a.Round, b.Round)
		}
		return slices.Compare(a.Root[:], b.Root[:])
	})
	for _, h := range c.pool.order {
		if h.pending {
			recs = append(recs, coord.Record{Batch: h.Batch})
			delete(used, h.Digest)
		}
	}
	rest := make([]coord.Digest, 0, len(used))
	for d := range used {
		rest = append(rest, d)
	}
	slices.SortFunc(rest, func(a, b coord.Digest) int { return slices.Compare(a[:], b[:]) })
	for _, d := range rest {
		if h := c.pool.held[d]; h != nil {
			recs = append(recs, coord.Record{Batch: h.Batch})
		}
	}
	for _, b := range bs {
		recs = append(recs, coord.Record{Block: b})
	}
	recs = append(recs, coord.Record{Final: &coord.Final{Header: c.final, Cert: c.finalCert}})
	return append(recs, c.liveVotes()...)
}

func (c *Core) liveVotes() []coord.Record {
	var recs []coord.Record
	rounds, terms := keys(c.rounds), keys(c.terms)
	self := c.cfg.Self
	vote := func(k coord.VoteKind, r uint64, s slot) {
		if s.has {
			recs = append(recs, coord.Record{Vote: c.mine(k, r, s).Vote})
		}
	}
	for _, r := range rounds {
		for _, x := range []*coord.Cert{c.rounds[r].notar, c.rounds[r].fin} {
			if x != nil {
				recs = append(recs, coord.Record{Cert: x})
			}
		}
	}
	for _, t := range terms {
		if x := c.terms[t].end; x != nil {
			recs = append(recs, coord.Record{Cert: x})
		}
		vote(coord.VoteEmpty, c.terms[t].empties[self].round, c.terms[t].empties[self])
	}
	for i := range c.recall.known {
		for _, v := range c.recall.known[i] {
			if v != nil && i != self {
				recs = append(recs, coord.Record{Vote: v})
			}
		}
	}
	for _, r := range rounds {
		vote(coord.VoteNotarize, r, c.rounds[r].votes[self])
		vote(coord.VoteFinalize, r, c.rounds[r].fins[self])
	}
	return recs
}

func keys[V any](m map[uint64]V) []uint64 {
	ks := make([]uint64, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

func cmp(a, b uint64) int {
	if a < b {
		return -1
	}
	return 1
}

// String describes the core for people who look into a stall.
func (c *Core) String() string {
	e := c.myEmpty()
	rs := c.rounds[c.cur]
	var s strings.Builder
	s.WriteString(fmt.Sprintf("round %d term %d leader %d proven %d high %d (have %v) final round %d height %d", c.cur, c.term(c.cur), c.Leader(c.cur), c.proven,
		c.hiRound, c.blocks[c.hiDigest] != nil, c.finalRound, c.final.Height))
	s.WriteString(fmt.Sprintf(" target %v pending %d need %d armed %v empty %v@%d", c.target != nil, c.pool.pending, len(c.pool.need), c.armedAt != 0, e.has, e.round))
	if rs != nil {
		s.WriteString(fmt.Sprintf(" proposal %v voted %v votes", rs.prop != nil, rs.votes[c.cfg.Self].has))
		for i := range rs.votes {
			if rs.votes[i].has {
				s.WriteString(fmt.Sprintf(" %d:%s", i, rs.votes[i].digest.Short()))
			}
		}
	}
	for t := c.term(c.finalRound); t <= c.term(c.cur)+1; t++ {
		ts := c.terms[t]
		if ts == nil {
			continue
		}
		s.WriteString(fmt.Sprintf(" term %d:", t))
		if ts.end != nil {
			s.WriteString(fmt.Sprintf(" end@%d", ts.end.Round))
		}
		for i := range ts.empties {
			if ts.empties[i].has {
				s.WriteString(fmt.Sprintf(" %d@%d", i, ts.empties[i].round))
			}
		}
	}
	return s.String()
}
