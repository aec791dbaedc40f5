package coord

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// A snapshot is the whole state as a list of chunks. Boxes whose states hold the same entries make the
// same bytes, whatever happened to them before.
//
//	chunk    = entry*                                  at least one
//	entry    = space(1) | uvarint len | key | uvarint len | value
//	manifest = SHA-256 of each chunk, 32 bytes each, in order
//	state    = SHA-256 of the manifest
//
// Entries ascend by (space, key) within and across chunks; uvarints are the shortest. A chunk ends with
// the entry that brings it to SnapshotChunkBytes or above; the last one is what remains. An empty state
// has no chunk.

const (
	// SnapshotKeyBytesMax bounds a key of the state's storage: a user's key, each byte of which may take two, and what
	// the state puts around it.
	SnapshotKeyBytesMax = 2*KeyBytesMax + 16
	// SnapshotValueBytesMax bounds a value, so that a chunk and its frame stay below FrameBytesMax: a chunk
	// is at most SnapshotChunkBytes and one entry.
	SnapshotValueBytesMax = 3 << 20
	// snapshotHeadBytesMax bounds the numbers of an entry: the space and two lengths.
	snapshotHeadBytesMax = 1 + 2*binary.MaxVarintLen32
	// SnapshotChunkBytesMax bounds one chunk.
	SnapshotChunkBytesMax = SnapshotChunkBytes + SnapshotKeyBytesMax + SnapshotValueBytesMax + snapshotHeadBytesMax
)

var (
	// ErrSnapshotChunk says that bytes are not a chunk.
	ErrSnapshotChunk = errors.New("coord: not a snapshot chunk")
	// ErrSnapshotOrder says that entries do not ascend.
	ErrSnapshotOrder = errors.New("coord: snapshot entries out of order")
	// ErrSnapshotLimit says that an entry or a state is too large for a snapshot.
	ErrSnapshotLimit = errors.New("coord: too large for a snapshot")
)

// SnapshotWriter cuts a state into chunks. It is for one goroutine.
type SnapshotWriter struct {
	emit     func(data []byte, digest Digest) error
	chunk    []byte
	manifest []byte
	last     []byte // key of the last entry
	space    Space  // space of the last entry, 0 before the first
}

// NewSnapshotWriter calls emit for every finished chunk, in order. data is valid during the call only;
// an error of emit ends the snapshot.
func NewSnapshotWriter(emit func(data []byte, digest Digest) error) *SnapshotWriter {
	return &SnapshotWriter{emit: emit}
}

// Add appends one entry, above all before it in the order of (space, key). It copies key and value.
// Errors: ErrSnapshotOrder, ErrSnapshotLimit, emit's.
func (w *SnapshotWriter) Add(sp Space, key, value []byte) error {
	if err := checkEntry(w.space, w.last, sp, key); err != nil {
		return err
	}
	if len(key) > SnapshotKeyBytesMax || len(value) > SnapshotValueBytesMax {
		return fmt.Errorf("coord: snapshot: key of %d bytes, value of %d: %w", len(key), len(value), ErrSnapshotLimit)
	}
	w.space, w.last = sp, append(w.last[:0], key...)
	w.chunk = append(w.chunk, byte(sp))
	w.chunk = append(binary.AppendUvarint(w.chunk, uint64(len(key))), key...)
	w.chunk = append(binary.AppendUvarint(w.chunk, uint64(len(value))), value...)
	if len(w.chunk) >= SnapshotChunkBytes {
		return w.cut()
	}
	return nil
}

func (w *SnapshotWriter) cut() error {
	if len(w.manifest) >= SnapshotChunksMax*len(Digest{}) {
		return fmt.Errorf("coord: snapshot: more than %d chunks: %w", SnapshotChunksMax, ErrSnapshotLimit)
	}
	d := Digest(sha256.Sum256(w.chunk))
	w.manifest = append(w.manifest, d[:]...)
	err := w.emit(w.chunk, d)
	w.chunk = w.chunk[:0]
	return err
}

// Finish ends the last chunk and gives the manifest, which belongs to the caller, and the state's digest.
func (w *SnapshotWriter) Finish() (manifest []byte, state Digest, err error) {
	if len(w.chunk) > 0 {
		if err := w.cut(); err != nil {
			return nil, Digest{}, err
		}
	}
	return w.manifest, sha256.Sum256(w.manifest), nil
}

// DecodeChunk calls fn for every entry of a chunk, in order, until fn gives an error, which it returns.
// Only what Add can write is a chunk. key and value belong to data. Errors: ErrSnapshotChunk,
// ErrSnapshotOrder, fn's; fn may have been called for the entries before the bad one.
func DecodeChunk(data []byte, fn func(sp Space, key, value []byte) error) error {
	if len(data) == 0 || len(data) > SnapshotChunkBytesMax {
		return fmt.Errorf("coord: chunk of %d bytes: %w", len(data), ErrSnapshotChunk)
	}
	var (
		space Space
		last  []byte
	)
	for rest := data; len(rest) > 0; {
		at := len(data) - len(rest)
		if at >= SnapshotChunkBytes {
			return fmt.Errorf("coord: chunk goes on at %d: %w", at, ErrSnapshotChunk)
		}
		sp := Space(rest[0])
		key, after, ok := prefixed(rest[1:], SnapshotKeyBytesMax)
		if !ok {
			return fmt.Errorf("coord: key of the entry at %d: %w", at, ErrSnapshotChunk)
		}
		value, after, ok := prefixed(after, SnapshotValueBytesMax)
		if !ok {
			return fmt.Errorf("coord: value of the entry at %d: %w", at, ErrSnapshotChunk)
		}
		if err := checkEntry(space, last, sp, key); err != nil {
			return fmt.Errorf("%w (at %d)", err, at)
		}
		if err := fn(sp, key, value); err != nil {
			return err
		}
		space, last, rest = sp, key, after
	}
	return nil
}

// checkEntry says whether an entry may follow another.
func checkEntry(before Space, last []byte, sp Space, key []byte) error {
	switch {
	case sp < 1 || sp > SpaceMax:
		return fmt.Errorf("coord: space %d: %w", sp, ErrSnapshotChunk)
	case sp < before, sp == before && bytes.Compare(key, last) <= 0:
		return fmt.Errorf("coord: space %d, key of %d bytes: %w", sp, len(key), ErrSnapshotOrder)
	}
	return nil
}

// prefixed splits off a byte string after its shortest-form length.
func prefixed(b []byte, most uint64) (s, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || w > 1 && b[w-1] == 0 || n > most || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return b[w:end:end], b[end:], true
}
