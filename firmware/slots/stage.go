package slots

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/holdfast-edge/holdfast/store"
)

// syncBytes is after how many bytes a file that grows is made durable: FAT loses clusters that no file has on the disk yet when the power
// is cut, for good, so they must stay few.
const syncBytes = 1 << 20

// Staged is a file of a release on its way into a slot that was cleared. It grows at its end; what a power cut left of it is there to
// be judged: FAT may have kept its length and not its bytes.
type Staged struct {
	esp      *ESP
	name     string
	f        store.File
	at, sync int64
}

// Stage opens a file on its way into a slot, with what is there of it. The caller closes it. Errors: ErrSlot (also for one that was not
// cleared), and the disk's.
func (e *ESP) Stage(s Slot, name string) (*Staged, error) {
	if err := known(s, name); err != nil {
		return nil, err
	}
	if _, found, err := e.Entry(s); err != nil {
		return nil, err
	} else if found {
		return nil, fmt.Errorf("%w: %q was not cleared", ErrSlot, s)
	}
	if err := e.fs.MkdirAll(e.path(string(s))); err != nil {
		return nil, fmt.Errorf("slots: stage: %w", err)
	}
	t := &Staged{esp: e, name: e.path(string(s), name)}
	f, err := e.fs.Open(t.name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = e.fs.Create(t.name)
	}
	if err != nil {
		return nil, fmt.Errorf("slots: stage: %w", err)
	}
	t.f = f
	if t.at, err = f.Size(); err != nil {
		return nil, errors.Join(fmt.Errorf("slots: stage: %w", err), f.Close())
	}
	return t, nil
}

// Size is how many bytes are there.
func (t *Staged) Size() int64 { return t.at }

// ReadAt reads what is there.
func (t *Staged) ReadAt(b []byte, at int64) (int, error) { return t.f.ReadAt(b, at) }

// Resume goes on after the first bytes of what is there; those behind are written again.
func (t *Staged) Resume(at int64) { t.at = min(t.at, at) }

// Write adds bytes at the end.
func (t *Staged) Write(b []byte) (int, error) {
	n, err := t.f.WriteAt(b, t.at)
	t.at += int64(n)
	t.sync += int64(n)
	if err == nil && t.sync >= syncBytes {
		t.sync = 0
		err = t.f.Datasync()
	}
	if err != nil {
		return n, fmt.Errorf("slots: stage: %w", err)
	}
	return n, nil
}

// Truncate begins anew.
func (t *Staged) Truncate() error {
	if n, err := t.f.Size(); err == nil && n == 0 {
		return nil
	}
	if err := t.esp.fs.Remove(t.name); err != nil {
		return fmt.Errorf("slots: stage: %w", err)
	}
	f, err := t.esp.fs.Create(t.name)
	if err != nil {
		return fmt.Errorf("slots: stage: %w", err)
	}
	err = t.f.Close()
	t.f, t.at = f, 0
	return err
}

// Sync makes what was written durable, name and all.
func (t *Staged) Sync() error {
	if err := errors.Join(t.f.Datasync(), t.esp.fs.SyncDir(path.Dir(t.name))); err != nil {
		return fmt.Errorf("slots: stage: %w", err)
	}
	return nil
}

// Close closes the file; what is staged stays.
func (t *Staged) Close() error { return t.f.Close() }
