// Package bft orders blocks of batch digests among the n = 3f+1 boxes of a site although f of
// them lie, as a pure state machine: Step takes one input and the time and returns what to
// write, send and deliver. It has no goroutine, no clock, no channel, no I/O and no randomness.
//
// The protocol is Simplex (Chan and Pass, TCC 2023, eprint 2023/463) with terms:
//
//   - Rounds are numbered from 1; K consecutive rounds are a term, whose leader is
//     members[term mod n]: a pure function of the round.
//   - In a round the leader proposes a block on a notarized parent. A box votes to notarize at
//     most one block a round, and only when it holds the block's batches. A quorum (n-f) of
//     these votes is a notarization and starts the next round.
//   - A box that leaves a round by its notarization votes to finalize that block, unless it
//     has voted empty at or below that round in the term. A quorum of these makes the block and all
//     its ancestors final.
//   - A box that sees no finality while there is work votes empty at its round r: nothing from r
//     to the end of the term. A quorum of empty votes ends the term.
//
// What safety rests on, and nothing else (checked for any n with z3, docs/decisions/0001):
// one block vote a round, durable before it is sent; the parent's very digest is notarized in the
// round that the block names and every round between is covered by an empty certificate; finalize
// and empty votes exclude each other; a certificate counts distinct members of one kind, epoch,
// round and digest.
//
// # What counts as known
//
// A vote that comes over its voter's own authenticated link counts at once: the link says whose it is.
// Its signature matters only to third parties, so it is checked only by those who hear of a certificate
// that they did not see form. A certificate whose signatures do not hold (one liar's bad
// signature suffices for that) is still the word of the box that sent it; the same word from f+1
// boxes includes an honest one, and what an honest box holds is true. So bad signatures cost a
// lagging box a little time, and nobody safety or progress.
//
// # When the log cannot be trusted
//
// A box that starts asks the others which votes of it they know, before it votes. If its log is an old or a
// damaged one, it is silent until it cannot contradict what it signed: recall.go, docs/decisions/0002.
//
// # Ready's contract
//
// Append Persist to the log, in the order of the Steps. When Sync is set make the log durable
// before Send, Deliver or anything that follows from them becomes visible outside; without Sync
// they wait only for Steps before. A vote is never sent before it is on disk.
package bft
