package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// installFill is how full pages are when a state is written in order of its keys: nothing will be put
// between them soon, so that bbolt's default of a half would double the file.
const installFill = 0.9

// Install is a fetched state being written beside the base. It is for one goroutine.
type Install struct {
	base     *Base
	cp       *coord.Checkpoint
	manifest []byte
	next     int
	db       *bolt.DB // nil: over
	last     entryKey
}

// Install begins to replace the state by that of cp, whose certificate the caller has checked. manifest is
// the digests of the chunks. An install that is under way is aborted. Nothing changes for Get, Scan
// and Commit before Finish. cp and manifest are kept. Errors: ErrSnapshot, ErrFull, ErrFailed.
func (b *Base) Install(cp *coord.Checkpoint, manifest []byte) (*Install, error) {
	size := len(coord.Digest{})
	switch {
	case cp == nil || cp.Header == nil:
		return nil, fmt.Errorf("store: install without a checkpoint: %w", ErrSnapshot)
	case len(manifest)%size != 0 || len(manifest)/size > coord.SnapshotChunksMax:
		return nil, fmt.Errorf("store: install: manifest of %d bytes: %w", len(manifest), ErrSnapshot)
	case sha256.Sum256(manifest) != cp.State:
		return nil, fmt.Errorf("store: install: manifest: %w", ErrSnapshot)
	}
	b.w.Lock()
	defer b.w.Unlock()
	if _, err := b.writable("install"); err != nil {
		return nil, err
	}
	if b.install != nil {
		b.install.drop()
	}
	if err := os.Remove(b.path + newSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("store: install: %w", err)
	}
	db, err := b.openFile(b.path+newSuffix, true) // one sync at the end: until it has its name it is nothing
	if err != nil {
		return nil, err
	}
	in := &Install{base: b, cp: cp, manifest: manifest, db: db}
	if err := in.update(b.initialise); err != nil {
		in.drop()
		return nil, err
	}
	b.install = in
	return in, nil
}

// update runs one write of the new file. A failure there is no reason to stop the box.
func (in *Install) update(fn func(tx *bolt.Tx) error) error {
	err := guard("install", func() error { return in.db.Update(fn) })
	if err != nil && noSpace(err) {
		return fmt.Errorf("store: install: %w: %w", ErrFull, err)
	}
	if err != nil {
		return fmt.Errorf("store: install: %w", err)
	}
	return nil
}

// Put writes chunk i; they come in order, from 0. A chunk that is refused changes nothing, and the right one
// may follow. Errors: ErrSnapshot, ErrClosed, ErrFull.
func (in *Install) Put(i int, data []byte) error {
	in.base.w.Lock()
	defer in.base.w.Unlock()
	if in.db == nil {
		return fmt.Errorf("store: install: %w", ErrClosed)
	}
	if i != in.next || i >= in.chunks() {
		return fmt.Errorf("store: install: chunk %d of %d, when %d is next: %w", i, in.chunks(), in.next, ErrSnapshot)
	}
	if d := sha256.Sum256(data); !bytes.Equal(d[:], in.manifest[i*len(d):(i+1)*len(d)]) {
		return fmt.Errorf("store: install: digest of chunk %d: %w", i, ErrSnapshot)
	}
	last := in.last
	err := in.update(func(tx *bolt.Tx) error {
		var bk *bolt.Bucket
		var key []byte
		return coord.DecodeChunk(data, func(sp coord.Space, k, v []byte) error {
			if last.space > sp || last.space == sp && bytes.Compare(k, last.key) <= 0 {
				return fmt.Errorf("chunk %d goes back: %w", i, ErrSnapshot)
			}
			if bk == nil || last.space != sp {
				bk = tx.Bucket(spaceBucket(sp))
				bk.FillPercent = installFill
			}
			last = entryKey{sp, k}
			key = append(append(key[:0], keyMark), k...)
			return bk.Put(key, in.base.values.seal(spaceBucket(sp), k, v))
		})
	})
	if errors.Is(err, coord.ErrSnapshotChunk) || errors.Is(err, coord.ErrSnapshotOrder) {
		err = fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if err != nil {
		return err
	}
	in.last = entryKey{last.space, bytes.Clone(last.key)}
	in.next++
	return nil
}

func (in *Install) chunks() int { return len(in.manifest) / len(coord.Digest{}) }

// Finish puts the new state in place of the old one, whole or not at all. Snapshots of the old one end. What
// the log has of earlier blocks is of no use any more: the owner rolls it next. Errors: ErrSnapshot
// when chunks are missing (the install goes on), ErrFull, ErrFailed, ErrClosed.
func (in *Install) Finish() error {
	b := in.base
	b.w.Lock()
	defer b.w.Unlock()
	if in.db == nil {
		return fmt.Errorf("store: install: %w", ErrClosed)
	}
	if in.next != in.chunks() {
		return fmt.Errorf("store: install: %d of %d chunks: %w", in.next, in.chunks(), ErrSnapshot)
	}
	base, err := b.writable("install")
	if err != nil {
		return err
	}
	final := &coord.Final{Header: in.cp.Header.Header()}
	err = in.update(func(tx *bolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		return errors.Join(
			base.View(func(old *bolt.Tx) error {
				return errors.Join(carry(evidenceBucket, old, tx), carry(handoverBucket, old, tx))
			}),
			meta.Put([]byte(metaFinal), wire.AppendFinal(nil, final)),
			meta.Put([]byte(metaInstall), wire.AppendCheckpoint(nil, in.cp)),
		)
	})
	if err == nil {
		err = in.db.Sync()
	}
	if err != nil {
		return err // the old state stands; Abort
	}
	if err := in.close(); err != nil {
		return err
	}
	// From the rename on the file says something else than this process has told others: it goes
	// through or the box stops.
	if err := b.takeName(); err != nil {
		return b.fuse.blow("install", err)
	}
	db, err := b.openFile(b.path, false)
	if err != nil {
		return b.fuse.blow("install", err)
	}
	b.closeSnapshots()
	b.get.pause()
	defer b.get.resume()
	b.mu.Lock()
	old := b.file
	b.file = &baseFile{db: db}
	b.mu.Unlock()
	b.committed.Store(final)
	b.installed.Store(in.cp)
	if err := old.close(); err != nil { // waits for reads of the old state
		b.log.Warn("closing the replaced base", "err", err)
	}
	return nil
}

// Abort gives the install up. After Finish it does nothing.
func (in *Install) Abort() error {
	in.base.w.Lock()
	defer in.base.w.Unlock()
	return in.drop()
}

// drop removes the new file; w is held.
func (in *Install) drop() error {
	if in.db == nil {
		return nil
	}
	err := in.close()
	if e := os.Remove(in.base.path + newSuffix); err == nil && e != nil {
		err = fmt.Errorf("store: install: %w", e)
	}
	return err
}

// close closes the new file and ends the install.
func (in *Install) close() error {
	db := in.db
	in.db = nil
	if in.base.install == in {
		in.base.install = nil
	}
	if err := guard("install", db.Close); err != nil {
		return fmt.Errorf("store: install: %w", err)
	}
	return nil
}
