// Package trust holds who a box is and how it proves it: its key, the certificate made
// from it, the signatures on votes and batches, and the member set that those are judged
// by. It signs and verifies what coord defines and decides nothing: which votes to cast is
// coord/bft's matter, who is a member is ordered by the site.
//
// Files, in a box's data directory:
//
//   - identity.key: the private key, PEM PKCS#8, P-256, mode 0600. Made once, on the first start.
//     Whoever has it is the box; nothing else in the directory is secret in that way.
//   - site.json: coord.Members as JSON, mode 0644: the member set the box starts with.
//
// Both are written to another name, synced and moved into place, so that a power cut leaves the
// old file or the new one. A file that is not as it should be is refused with
// an error that says what to do; it is never repaired or replaced here.
//
// Signatures are ECDSA over P-256 with SHA-256, r || s. They are deterministic (RFC 6979): a box
// that boots without entropy signs as safely as any other. ECDSA is malleable: with (r, s) also
// (r, n-s) verifies. So a signature is never hashed, compared or used as a name; whatever needs a name
// has a digest. There is no certificate authority: a member is its public key.
package trust
