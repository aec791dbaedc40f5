// Package cause says on what a revision of the state depends: which decisions happened before it, and why they did (Lamport, "Time,
// Clocks, and the Ordering of Events in a Distributed System", CACM 21(7), 1978). It reads what every box signed and agreed on, the blocks and their
// batches, and what the state's history has; nothing is sampled and nothing is guessed from clocks.
//
// A message depends on the batch that it is in, on the revisions whose keys it compared, read or replaced, and on the message that its
// session sent before. A batch depends on the block that orders it and on its author's batch before; a block on its parent.
//
// The package is pure: it asks a Source, and gives a Graph.
package cause
