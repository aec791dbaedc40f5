// Package audit says what was done and refused on a box, so that it can be proved afterwards. It is pure: records,
// the Merkle tree over them, signed heads, the checks and the export formats. package store keeps them on disk; docs/audit.md
// has the whole path.
//
// Each box has a log of its own. A record's place in it is not part of the record: the tree binds it (RFC 6962, 2.1). At intervals
// the box orders a Head, its log's size and root, with a proof that the log only grew, and a mark of each new record; every box
// judges it by Head.Extends, and a quorum signs it. What a head covers cannot be changed by anybody afterwards, the box itself
// included: Verify tells which record was edited, dropped, inserted or moved, and a Proof shows one record to whoever
// has the members' keys. Nothing here stops a box that lies from the start: it may record what did not happen, or nothing.
package audit
