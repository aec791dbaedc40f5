package state

import (
	"bytes"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// boxTable knows which batches of each author took effect.
//
// An author numbers its batches (start counter << 20) + i, and may send and see ordered
// several at once, in any order. A number took effect if it is at or below the author's
// floor or in the set above it. The floor rises in three ways: by the Floor that the
// author signs into a batch, when the number just above it takes effect, and when a
// batch of a later start takes effect: then everything of earlier starts is done.
//
// The last rule throws away what an author had under way when it stopped. That harms
// nobody: it had not answered the clients of those batches, they repeat their messages
// through some box, and a message has one effect whichever of its copies is ordered. A
// box that lies about its floor or start only throws away its own batches.
type boxTable struct {
	m     map[coord.BoxID]*box
	dirty []*box
}

type box struct {
	id    coord.BoxID
	seen  seqSet
	dirty bool
}

func newBoxTable() boxTable { return boxTable{m: map[coord.BoxID]*box{}} }

func (t *boxTable) done(author coord.BoxID, seq uint64) bool {
	b := t.m[author]
	return seq == 0 || b != nil && b.seen.has(seq)
}

// verdict on a batch.
type verdict int

const (
	batchNew  verdict = iota
	batchDone         // it took effect before, or is number 0, which nobody uses
	batchFull         // the limits leave no room for it now
)

// admit decides on a batch and, when it is new, marks it as done.
func (t *boxTable) admit(author coord.BoxID, seq, floor uint64) verdict {
	b := t.m[author]
	switch {
	case seq == 0 || b != nil && b.seen.has(seq):
		return batchDone
	case b == nil && len(t.m) >= boxesMax:
		return batchFull
	case b == nil:
		b = &box{id: author}
		t.m[author] = b
	}
	if !b.dirty {
		b.dirty = true
		t.dirty = append(t.dirty, b)
	}
	// A floor at or above the batch itself would make it done before it was applied.
	b.seen.raise(min(floor, seq-1))
	if start := seq >> startBits << startBits; start > 0 {
		b.seen.raise(start - 1)
	}
	if b.seen.above >= BoxBatchesAboveFloorMax || !b.seen.add(seq, BoxBatchesAboveFloorMax) {
		return batchFull
	}
	return batchNew
}

// take appends what changed since the last take, by ascending id.
func (t *boxTable) take(out []coord.Change) []coord.Change {
	slices.SortFunc(t.dirty, func(a, b *box) int { return bytes.Compare(a.id[:], b.id[:]) })
	for _, b := range t.dirty {
		b.dirty = false
		out = append(out, coord.Change{
			Space: coord.SpaceBoxes, Key: bytes.Clone(b.id[:]), Value: appendBox(nil, &b.seen),
		})
	}
	t.dirty = t.dirty[:0]
	return out
}
