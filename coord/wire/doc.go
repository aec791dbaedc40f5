// Package wire turns what boxes say and keep into bytes and back: batch bodies, messages
// between boxes, records of the log, and the native client stream with its frames. It is
// the only importer of msgpack and snappy. docs/wire.md has every format to the byte.
//
// # What it promises
//
//   - Decoding what was encoded gives the same value. What decodes, and is not compressed, encodes to the
//     same bytes again: there is one encoding of a value, so bytes that were signed or hashed can be
//     made anew. (Batch bodies are the exception: their bytes are kept.)
//   - The same bytes give the same value or an error on every box, whatever its architecture or history.
//   - Nothing is allocated for a length or a count before it was compared with coord's limits and with the
//     bytes that are there: memory grows with what was received. A compressed part may ask for
//     at most expansionMax times its size.
//   - Bytes after the end are an error, and so are unknown types and versions; nothing is skipped, nothing
//     recurses, nothing panics.
//   - A decoded value shares no memory with the input, unless its comment says so.
//
// # How msgpack is used
//
// Every format is msgpack arrays of unsigned integers, binaries, strings, nil and arrays; no
// maps, no extensions. Lists of things of one size are one binary, so that a list costs one header and one
// copy. The library encodes and decodes the headers one at a time (packer, unpacker); its own decoding of
// slices and structs is not used, since a peer can exhaust memory with it (its issue 401).
package wire
