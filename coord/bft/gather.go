package bft

import "github.com/holdfast-edge/holdfast/coord"

// Blocks are what costs, so a leader waits a moment for the batches of those who were in the last blocks: clients that
// wait for each answer come back together, and one full block then serves them all where two half ones took turns.

const (
	// recentBlocks is in how many blocks a member must have been missing before nobody waits for it.
	recentBlocks = 2
	// vainMax bounds the blocks for which a member that was waited for in vain is not waited for.
	vainMax = 64
)

// company is what a leader knows of who comes into blocks together.
type company struct {
	took   int64  // from proposal to finality, smoothed, in nanoseconds
	filled uint64 // non-empty blocks
	waits  bool   // the next block waits for somebody
	of     []companion
}

// companion is what a leader knows of a member's part in the last blocks.
type companion struct {
	seen uint64 // the last block, of filled, that had a batch of it; 0: none
	// skip is for how many blocks nobody waits for it; vain what skip is next time.
	skip, vain int
}

// gathers says that a proposal of refs waits for more of them: at most as long as a block takes to become final, and
// PipelineDelay, from the last final block on.
func (c *Core) gathers(refs []coord.BatchRef) bool {
	w := &c.company
	until := c.finalAt + min(c.cfg.PipelineDelay, w.took)
	waits := false
	for i := range w.of {
		p := &w.of[i]
		if p.seen == 0 || w.filled-p.seen >= recentBlocks || p.skip > 0 || c.down[i] || c.in(refs, i) {
			continue
		}
		if c.now < until {
			waits = true
		} else if w.waits {
			p.vain = min(max(1, 2*p.vain), vainMax)
			p.skip = p.vain
		}
	}
	w.waits = waits
	if waits {
		c.wake(until)
	}
	return waits
}

func (c *Core) in(refs []coord.BatchRef, member int) bool {
	for k := range refs {
		if refs[k].Author == c.cfg.Members[member] {
			return true
		}
	}
	return false
}

// accompany notes who is in a block that has become final, and how long that took.
func (c *Core) accompany(b *coord.Block) {
	w := &c.company
	if rs := c.rounds[b.Round]; rs != nil && rs.proposedAt > 0 {
		w.took += (c.now - rs.proposedAt - w.took) / 8
	}
	if len(b.Refs) == 0 {
		return
	}
	w.filled++
	for i := range w.of {
		p := &w.of[i]
		if !c.in(b.Refs, i) {
			continue
		}
		p.seen = w.filled
		switch {
		case p.skip > 0:
			p.skip--
		case w.filled%vainMax == 0:
			p.vain /= 2
		}
	}
}
