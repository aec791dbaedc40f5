package store

import (
	"os"
)

const (
	fileMode = 0o600 // the log shows what clients wrote
	dirMode  = 0o700
	// zeroBytes is how much Zero writes at a time.
	zeroBytes = 256 << 10
)

// OS is the operating system's file system.
type OS struct{}

type osFile struct{ *os.File }

// MkdirAll implements FS.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, dirMode) }

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (OS) Open(name string) (File, error) { return open(name, os.O_RDWR) }

func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(es))
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names, nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

// Size implements File.
func (f osFile) Size() (int64, error) {
	i, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

// Zero implements File. Allocating first keeps the extents together; writing the zeros turns
// unwritten extents into written ones, whose conversion would cost each later Datasync a journal commit.
func (f osFile) Zero(from, to int64) error {
	if to <= from {
		return nil
	}
	if err := allocate(f.File, from, to-from); err != nil {
		return err
	}
	zeros := make([]byte, min(zeroBytes, to-from))
	for at := from; at < to; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// Datasync implements File.
func (f osFile) Datasync() error { return datasync(f.File) }
