package store

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrNotFound says that the log does not hold what was asked for (any more).
	ErrNotFound = errors.New("not found")
	// ErrDamaged says that bytes that had been durable are not what was written. The box that gets it must
	// not vote on: its own votes may be among what is lost. See DamageError and Log.SetAside.
	ErrDamaged = errors.New("damaged")
	// ErrFailed says that an earlier write or fsync failed; only a restart of the process, which reads what
	// really is on disk, ends it.
	ErrFailed = errors.New("storage failed")
	// ErrFull says that the disk or the base's size limit is exhausted. What was asked for did not happen, and
	// may be tried again when there is space.
	ErrFull = errors.New("full")
	// ErrLocked says that another process has the directory open.
	ErrLocked = errors.New("in use by another process")
	// ErrIdentity says that the directory belongs to another site or box.
	ErrIdentity = errors.New("belongs to another site or box")
	// ErrFormat says that the files were written by a version that this one does not know.
	ErrFormat = errors.New("unknown format")
	// ErrSealed says that the directory is encrypted and no key was given.
	ErrSealed = errors.New("encrypted")
	// ErrPlain says that it is not, and a key was given.
	ErrPlain = errors.New("not encrypted")
	// ErrKey says that the key is not the one that a file was encrypted with.
	ErrKey = errors.New("encrypted with another key")
	// ErrTooLarge says that a record, key or value exceeds its limit: a defect of the caller.
	ErrTooLarge = errors.New("too large")
	// ErrClosed says that the store, snapshot or install was closed or replaced.
	ErrClosed = errors.New("closed")
	// ErrSnapshot says that a fetched manifest or chunk is not the one that the checkpoint stands for.
	ErrSnapshot = errors.New("not the state of the checkpoint")
)

// DamageError says where the damage is. errors.Is(err, ErrDamaged) holds.
type DamageError struct {
	File   string // as the file system knows it
	Offset int64  // bytes from its start
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("store: %s: damaged at byte %d: %s", e.File, e.Offset, e.Reason)
}

func (e *DamageError) Unwrap() error { return ErrDamaged }

// fuse blows at the first failed write, for the log and the base together.
type fuse struct{ cause atomic.Pointer[error] }

// blow records err as the cause, unless there is one, and gives what the caller returns.
func (f *fuse) blow(op string, err error) error {
	f.cause.CompareAndSwap(nil, &err)
	return fmt.Errorf("store: %s: %w: %w", op, ErrFailed, err)
}

// check is ErrFailed once the fuse has blown.
func (f *fuse) check(op string) error {
	if p := f.cause.Load(); p != nil {
		return fmt.Errorf("store: %s: %w: %w", op, ErrFailed, *p)
	}
	return nil
}

// noSpace tells "full" from "broken": both leave the old content alone, but only the first may be tried again.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, bolterrors.ErrMaxSizeReached)
}
