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
	// authors are the members with batches in the last non-empty block, a bit each; changes is how many of a thousand blocks had
	// others than the one before, and fill a thousand times the messages of a block, both smoothed.
	authors       uint64
	changes, fill int
	of            []companion
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

const (
	// changesMilli is from when on blocks are spaced, fillMilli up to when: fuller ones are worth what they cost.
	changesMilli = 650
	fillMilli    = 8000
)

// spaces says that the next block waits a moment after the last one because those who send change from block to block: such messages
// come at times of their own, not after answers, each would have a block to itself, and it is blocks that cost. Clients
// that wait for their answers, one or many, are in every block.
func (c *Core) spaces() bool {
	until := c.finalAt + c.cfg.Spacing
	if w := &c.company; w.changes < changesMilli || w.fill > fillMilli || c.now >= until {
		return false
	}
	c.wake(until)
	return true
}

func (c *Core) in(refs []coord.BatchRef, member int) bool {
	for k := range refs {
		if refs[k].Author == c.cfg.Members[member] {
			return true
		}
	}
	return false
}

// accompany notes who is in a block that has become final, and how long that took. bs are its batches; those that were final before
// are nil.
func (c *Core) accompany(b *coord.Block, bs []*coord.Batch) {
	w := &c.company
	if rs := c.rounds[b.Round]; rs != nil && rs.proposedAt > 0 {
		w.took += (c.now - rs.proposedAt - w.took) / 8
	}
	if len(b.Refs) == 0 {
		return
	}
	w.filled++
	authors := uint64(0)
	for i := range w.of {
		p := &w.of[i]
		if !c.in(b.Refs, i) {
			continue
		}
		p.seen = w.filled
		authors |= 1 << i
		switch {
		case p.skip > 0:
			p.skip--
		case w.filled%vainMax == 0:
			p.vain /= 2
		}
	}
	changed, n := 0, 0
	for _, bt := range bs {
		if bt != nil {
			n += int(min(bt.Count, fillMilli))
		}
	}
	w.fill += (min(n, fillMilli)*1000 - w.fill) / 8
	if authors != w.authors {
		changed = 1000
	}
	w.authors = authors
	w.changes += (changed - w.changes) / 32
}
