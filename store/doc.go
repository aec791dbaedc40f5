// Package store keeps everything durable of one box. It is the only importer of bbolt and the only place
// that writes files of the coordination. A directory holds
//
//	LOCK                 held while a process has the directory open
//	log/NNNNNNNN.seg     the Log: votes, certificates, batches and blocks, before they count
//	holdfast.db          the Base: the state behind the log, in bbolt
//	encryption.json      the wrapped key of an encrypted directory; without it all is in clear
//
// docs/storage.md draws both to the byte. coord/site owns the order of things: it appends to the log what
// the ordering wants kept, syncs before anything is said, and commits applied blocks to the base later.
//
// Promises:
//
//   - What Sync returned for is there after a power cut; what was only appended is there as a prefix or
//     not at all, and never harms what came before it.
//   - The base is never ahead of the log: Commit waits for the log.
//   - A commit, an installed state and a new segment are there whole or not at all.
//   - Damage is told from a torn tail wherever later bytes prove that the damaged ones had been synced,
//     and is reported with file and offset. It is never repaired silently.
//   - After a write or fsync that failed nothing is acknowledged any more (ErrFailed): the kernel
//     may have dropped the pages, and a second fsync would lie.
//   - In an encrypted directory no value, record or audit record is written in clear, and one that stands in another place than it was
//     written to is ErrDamaged. A wrong or missing key is never taken for damage and changes nothing.
//   - Nothing in a segment or in a chunk can make a call panic. bbolt's pages have no checksums: what its own
//     checks or a fault tell is ErrDamaged; what they do not shows as a state digest that no quorum signs.
//
// Ownership: byte slices and records handed in are not kept past the call, except where a comment says
// so; those handed out belong to the caller.
package store
