// Package wholefile replaces files so that a reader, or a power cut, finds the old one or the new one.
package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts data at path, durable. What a power cut left of an earlier call, path with ".new" behind, is overwritten. One caller at a time.
func Replace(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync())
	if err == nil {
		if err = os.Rename(path+".new", path); err == nil {
			// FAT gives the new name to an empty file, and notes where its bytes are when the file is written next (vfat_rename in
			// Linux' fs/fat/namei_vfat.c): a power cut until then leaves nothing.
			err = f.Sync()
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path)) // a rename is durable when its folder is (fsync(2))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
