package store

import "io"

// FS is what the log needs of a file system, so that tests can cut the power and break the disk (package
// faultfs). Names are paths with slashes. Operations on names are durable after SyncDir only.
type FS interface {
	// MkdirAll makes a directory and its parents.
	MkdirAll(dir string) error
	// Create makes a new, empty file; it fails when there is one.
	Create(name string) (File, error)
	// Open opens a file for reading and writing; the error is fs.ErrNotExist when there is none.
	Open(name string) (File, error)
	// List gives the names of the files in a directory, in any order.
	List(dir string) ([]string, error)
	// Rename replaces what has the new name.
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes what happened to the names in a directory durable.
	SyncDir(dir string) error
}

// File is one open file. Reads may come from several goroutines.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size in bytes.
	Size() (int64, error)
	// Zero makes [from, to) zero bytes that are allocated and written, and the file at least that long: a later
	// write inside changes no metadata, so that Datasync is one write to the device.
	Zero(from, to int64) error
	// Datasync makes what was written durable (fdatasync). After an error nothing is known about it.
	Datasync() error
}
