package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

var (
	errTooLong    = errors.New("file is too long")
	errNotRegular = errors.New("not a regular file")
)

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) (data []byte, mode fs.FileMode, err error) {
	// Looked at before it is opened: opening a FIFO would wait for its other end.
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err = f.Stat(); err != nil {
		return nil, 0, err
	}
	data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, 0, err
	}
	if int64(len(data)) > limit {
		return nil, 0, fmt.Errorf("%w: more than %d bytes", errTooLong, limit)
	}
	return data, info.Mode(), nil
}

// createFile makes path with data, whole and durable, or not at all. It never replaces: when path
// exists the error is fs.ErrExist, whoever made it and however late.
func createFile(dir, path string, data []byte, mode fs.FileMode) error {
	return placeFile(dir, path, data, mode, func(temp string) error {
		err := os.Link(temp, path)
		if err == nil {
			return os.Remove(temp)
		}
		if errors.Is(err, fs.ErrExist) {
			return err
		}
		// A file system without hard links (FAT): looking first is all there is, and leaves a moment in
		// which two first starts at once do not see each other.
		if _, statErr := os.Lstat(path); statErr == nil {
			return fs.ErrExist
		}
		return os.Rename(temp, path)
	})
}

// replaceFile puts data at path: a reader, or a power cut, finds the old file or the new.
func replaceFile(dir, path string, data []byte, mode fs.FileMode) error {
	return placeFile(dir, path, data, mode, func(temp string) error { return os.Rename(temp, path) })
}

func placeFile(dir, path string, data []byte, mode fs.FileMode, place func(temp string) error) error {
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	temp := f.Name()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := place(temp); err != nil {
		if rmErr := os.Remove(temp); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename durable (fsync(2): the directory needs a sync of its own).
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
