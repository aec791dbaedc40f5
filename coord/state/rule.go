package state

import "github.com/holdfast-edge/holdfast/coord"

// Rule is when a checkpoint is due, and for how long decisions are open at least; it is part of the protocol, so all boxes of a site have the same.
type Rule struct {
	// BytesMin is the least that is ordered between two checkpoints.
	BytesMin uint64
	// GapBlocks is the least distance of a checkpoint that a KindCheckpoint asked for.
	GapBlocks uint64
	// DecisionSeconds is the least time that members have for their word, by the site's clock.
	DecisionSeconds uint64
}

// DefaultRule is the product's: 32 MiB, half of the log, which the slowest board replays in about a second, and 256
// blocks, so that nobody can make boxes hash their state all the time.
func DefaultRule() Rule {
	return Rule{BytesMin: checkpointBytesMin, GapBlocks: checkpointGapBlocks, DecisionSeconds: coord.DecisionSecondsMin}
}

// SetRule replaces the rule before the first block; coord/sim uses small ones.
func (m *Machine) SetRule(r Rule) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rule = r
}
