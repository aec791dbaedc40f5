package bft

import "github.com/holdfast-edge/holdfast/coord"

// SeenKind is what was seen.
type SeenKind uint8

// The kinds.
const (
	SeenBadSignature SeenKind = iota + 1 // Member sent What over its own link, and its signature is bad
	SeenState                            // Member signed Digest for its state at Height; this box too
	SeenProposal                         // Member's proposal came Took after it could have, or did not until its turn was over
	SeenNotarized                        // a proposal was notarized Took after it came
	SeenGiven                            // Member said that it holds a batch, and gave it
	SeenNotGiven                         // and did not
)

// Seen is something about a member that proves nothing and is for a score of suspicion (coord/trust/suspicion says how).
type Seen struct {
	Kind   SeenKind
	Member int
	What   string
	Height uint64
	Digest coord.Digest
	Took   int64 // nanoseconds
}

func (c *Core) see(s Seen) {
	if c.started {
		c.seen = append(c.seen, s)
	}
}

func (c *Core) sawBadSignature(member int, what string) {
	c.see(Seen{Kind: SeenBadSignature, Member: member, What: what})
}

// sawProposal tells how late the proposal of our round is.
func (c *Core) sawProposal(rs *roundState) {
	rs.propAt = c.now
	if at, ok := c.turn(); ok {
		c.see(Seen{Kind: SeenProposal, Member: c.Leader(c.cur), Took: max(c.now-at, 0)})
	}
	c.named(rs.prop)
}

// sawNoProposal tells of a turn that this box gives up before a proposal came.
func (c *Core) sawNoProposal() {
	l := c.Leader(c.cur)
	if rs := c.rounds[c.cur]; rs != nil && rs.prop != nil || c.down[l] || c.heard[l].VotesFrom > c.cur {
		return
	}
	if at, ok := c.turn(); ok {
		c.see(Seen{Kind: SeenProposal, Member: l, Took: c.now - at})
	}
}

func (c *Core) sawNotarized(rs *roundState) {
	if rs.prop != nil && rs.propAt > 0 && rs.propDigest == rs.notar.Digest {
		c.see(Seen{Kind: SeenNotarized, Member: c.Leader(rs.prop.Round), Took: c.now - rs.propAt})
	}
}

// turn is since when the leader of our round could propose, as far as this box knows: it had entered the round, the block below was final or
// PipelineDelay was over (propose says why), and the leader had a batch that no block names. That is so of batches of its own and of
// ours, which went over the link between us; what others gave it is their word.
func (c *Core) turn() (at int64, ok bool) {
	l, parent := c.Leader(c.cur), c.blocks[c.hiDigest]
	if l == c.cfg.Self || parent == nil || parent.Height >= c.final.Height+c.cfg.DepthMax {
		return 0, false
	}
	may := c.enteredAt + c.cfg.PipelineDelay
	if parent.Height <= c.final.Height {
		may = min(may, max(c.finalAt, c.enteredAt))
	}
	for _, h := range c.pool.order {
		a := h.Batch.Author
		if h.pending && (h.named == 0 || c.term(h.named) != c.term(c.cur)) && (a == c.cfg.Members[l] || a == c.cfg.Members[c.cfg.Self]) {
			at = max(h.since, may)
			return at, c.upAt[l] != 0 && c.upAt[l] <= at
		}
	}
	return 0, false
}

// named notes that a proposal of our round has these batches: they say nothing of the next one.
func (c *Core) named(b *coord.Block) {
	for i := range b.Refs {
		if h := c.pool.held[b.Refs[i].Digest]; h != nil {
			h.named = b.Round
		}
	}
}

// sawGiven tells that a batch came from whom it was asked of.
func (c *Core) sawGiven(from int, nd *need) {
	if nd != nil && nd.askedAt > 0 && from == nd.claimedBy {
		c.see(Seen{Kind: SeenGiven, Member: from, What: "a batch that it said it holds"})
	}
}

// sawNotGiven tells that one did not, for at least the time between two retransmissions. The order of several in one Step does not matter: they
// are of one member, or of members that are judged apart.
func (c *Core) sawNotGiven(nd *need) {
	if m := nd.claimedBy; nd.askedAt > 0 && c.now-nd.askedAt >= c.cfg.Retransmit && !c.down[m] && c.upAt[m] != 0 && c.upAt[m] <= nd.askedAt {
		c.see(Seen{Kind: SeenNotGiven, Member: m, What: "a batch that it said it holds"})
	}
}
