// Package state is the deterministic state machine of a site: it applies the messages
// of final blocks, in their order, to keys with revisions, object counters and client
// sessions, and says what changed. Every box that applies the same blocks produces the
// same changes, byte for byte: there is no clock, no randomness and no map order in
// anything that is decided or written.
//
// What it promises:
//   - A batch takes effect at most once for each (author, number), and a message at most
//     once for each (session, number), whatever is repeated, lost, reordered or sent
//     through several boxes at once.
//   - Memory is bounded by limits.go and by what was written since the last durable
//     commit; keys and counters may be far larger than memory.
//   - It never guesses: a Backend that fails to read stops it for good (Err).
//
// Beside what programs keep it has what the site decided about itself, its documents (docs.go): every member may propose a change of
// them, and it takes effect when a quorum of the members has given its word (decide.go).
//
// Data flow: coord/site calls Begin, Batch for each batch of the block, and End; Take
// hands out the changes since the last Take, store makes them durable in the background
// while further blocks are applied, and Committed says that they are. Reads look at what
// is not yet durable first and at the Backend after that.
//
// The values it writes are drawn in docs/state.md.
package state
