package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/holdfast-edge/holdfast/coord"
)

// cancelEvery is how many entries Build reads between two looks at whether it should stop.
const cancelEvery = 1024

// Snapshot is the state of one commit, kept while later ones are made. It costs the pages that
// these commits replace: the file grows by what changes while it is open. Its methods may be called by
// any goroutine; State, Manifest and Chunk after Build.
type Snapshot struct {
	base   *Base
	header *coord.Block
	stop   atomic.Bool

	mu       sync.Mutex // guards tx, which one goroutine at a time may use
	tx       reading    // no Tx: closed
	starts   []entryKey // the first entry of each chunk
	manifest []byte
	state    coord.Digest
}

// entryKey names an entry of the state.
type entryKey struct {
	space coord.Space
	key   []byte
}

// Snapshot keeps the state of the last Commit. The caller calls it after the Commit that asks for a
// Checkpoint and before the next one; it returns at once. Close it. Errors: ErrNotFound for an empty
// base, ErrClosed.
func (b *Base) Snapshot(ctx context.Context) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("store: snapshot: %w", err)
	}
	b.w.Lock()
	defer b.w.Unlock()
	f := b.committed.Load()
	if f == nil {
		return nil, fmt.Errorf("store: snapshot of an empty base: %w", ErrNotFound)
	}
	tx, err := b.begin("snapshot")
	if err != nil {
		return nil, err
	}
	s := &Snapshot{base: b, header: f.Header, tx: tx}
	b.snapshots[s] = struct{}{}
	return s, nil
}

// Build reads the whole state and computes its digests. It may run beside Commits. Errors: ctx's, ErrClosed
// when the snapshot is closed meanwhile, ErrDamaged, coord.ErrSnapshotLimit.
func (s *Snapshot) Build(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx.Tx == nil {
		return fmt.Errorf("store: build: %w", ErrClosed)
	}
	s.starts = s.starts[:0]
	first := true
	w := coord.NewSnapshotWriter(func([]byte, coord.Digest) error {
		first = true
		return nil
	})
	seen := 0
	err := s.walk(entryKey{space: 1}, func(e entryKey, v []byte) error {
		if seen++; seen%cancelEvery == 0 {
			if s.stop.Load() {
				return fmt.Errorf("store: build: %w", ErrClosed)
			}
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("store: build: %w", err)
			}
		}
		if first {
			s.starts = append(s.starts, entryKey{e.space, append([]byte{}, e.key...)})
			first = false
		}
		return w.Add(e.space, e.key, v)
	})
	if err != nil {
		return err
	}
	s.manifest, s.state, err = w.Finish()
	return err
}

// walk calls fn for every entry from one on, until it gives an error, which it returns.
func (s *Snapshot) walk(from entryKey, fn func(e entryKey, v []byte) error) error {
	for sp := from.space; sp <= coord.SpaceMax; sp++ {
		key := from.key
		if sp != from.space {
			key = nil
		}
		var stop error
		err := s.base.scan(s.tx.Tx, sp, key, func(k, v []byte) bool {
			stop = fn(entryKey{sp, k}, v)
			return stop == nil
		})
		if err = cmp.Or(stop, err); err != nil {
			return err
		}
	}
	return nil
}

// Header is the block after which this is the state.
func (s *Snapshot) Header() *coord.Block { return s.header }

// State is the state's digest.
func (s *Snapshot) State() coord.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Manifest is the digests of the chunks, 32 bytes each. It is not to be changed.
func (s *Snapshot) Manifest() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.manifest
}

// Chunk reads chunk i again from the file and checks its digest. It belongs to the caller. Errors:
// ErrNotFound, ErrClosed, ErrDamaged.
func (s *Snapshot) Chunk(i int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx.Tx == nil {
		return nil, fmt.Errorf("store: chunk: %w", ErrClosed)
	}
	if i < 0 || i >= len(s.manifest)/len(coord.Digest{}) {
		return nil, fmt.Errorf("store: chunk %d: %w", i, ErrNotFound)
	}
	var (
		data   []byte
		digest coord.Digest
		done   = errors.New("the chunk is complete") // ends the walk
	)
	w := coord.NewSnapshotWriter(func(b []byte, d coord.Digest) error {
		data, digest = append([]byte{}, b...), d
		return done
	})
	err := s.walk(s.starts[i], func(e entryKey, v []byte) error { return w.Add(e.space, e.key, v) })
	if err == nil {
		_, _, err = w.Finish()
	}
	if !errors.Is(err, done) {
		return nil, fmt.Errorf("store: chunk %d: %w", i, err)
	}
	if at := i * len(digest); string(digest[:]) != string(s.manifest[at:at+len(digest)]) {
		return nil, &DamageError{File: s.base.path, Reason: fmt.Sprintf("chunk %d changed since the snapshot", i)}
	}
	return data, nil
}

// Close lets go of the state; a Build that runs ends soon. It may be called again.
func (s *Snapshot) Close() error {
	s.base.w.Lock()
	defer s.base.w.Unlock()
	s.close()
	return nil
}

// close is Close with the base's w held.
func (s *Snapshot) close() {
	delete(s.base.snapshots, s)
	s.stop.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx.Tx == nil {
		return
	}
	s.tx.end()
	s.tx = reading{}
}

// closeSnapshots ends all; w is held.
func (b *Base) closeSnapshots() {
	for s := range b.snapshots {
		s.close()
	}
}
