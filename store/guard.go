package store

import (
	"fmt"
	"runtime/debug"
)

// guard runs what touches bbolt's pages. bbolt asserts and indexes without checks on what it finds in the
// file, and a file that is shorter than its pages say faults when the mapping is read: both become
// ErrDamaged.
func guard(op string, fn func() error) error {
	never := false
	return guardBut(op, &never, fn)
}

// guardBut lets a panic pass while *calling is set: then it is that of a function of the caller.
func guardBut(op string, calling *bool, fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if *calling {
			return
		}
		if p := recover(); p != nil {
			err = fmt.Errorf("store: %s: %w: %v", op, ErrDamaged, p)
		}
	}()
	return fn()
}
