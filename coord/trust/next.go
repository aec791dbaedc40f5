package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// NextDir is in a box's data directory and has the key that the box is to have next, while the site decides on it.
	NextDir = "identity.next"
	// formerFile has the names that a box had before its keys were changed, the oldest first: what is in its directory may be of them.
	formerFile         = "identity.was"
	formerFileBytesMax = 64 << 10
)

// OpenNext reads the key that a box is to have next, or makes it where current is kept. It is of no use until the site has decided that it is
// the box's key. Errors: as Open.
func OpenNext(dir string, current *Identity, o KeyOptions) (*Identity, error) {
	next := filepath.Join(dir, NextDir)
	if err := os.Mkdir(next, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("trust: next key: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("trust: next key: %w", err)
	}
	if there, err := HasKey(next); err != nil || !there {
		if err != nil {
			return nil, err
		}
		o.Place = current.place
	} else {
		o.Place = KeyAuto
	}
	return Open(next, o)
}

// LoadNext is OpenNext for a key that exists; nil when there is none.
func LoadNext(dir string, o KeyOptions) (*Identity, error) {
	next := filepath.Join(dir, NextDir)
	if there, err := HasKey(next); err != nil || !there {
		return nil, err
	}
	o.Place = KeyAuto
	return Open(next, o)
}

// TakeNext makes the next key the box's key, and forgets the old one, whose name was; it is zero when the key is gone already. It may be
// repeated after a power cut, and wherever that comes, the box has one key that the site knows: the site must have decided for good.
// Errors: fs.ErrNotExist, what the file system says.
func TakeNext(dir string, was coord.BoxID) error {
	next := filepath.Join(dir, NextDir)
	if was != (coord.BoxID{}) {
		if err := addFormer(dir, was); err != nil {
			return fmt.Errorf("trust: take next key: %w", err)
		}
	}
	file, sealed, err := keysIn(next)
	if err != nil {
		return err
	}
	name, other := KeyFile, SealedKeyFile
	switch {
	case sealed:
		name, other = SealedKeyFile, KeyFile
	case !file:
		return fmt.Errorf("trust: take next key: %s: %w", next, fs.ErrNotExist)
	}
	// The old key goes first when it is kept elsewhere: two keys say nothing, the next one alone says which it is.
	if err := os.Remove(filepath.Join(dir, other)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trust: take next key: %w", err)
	}
	if err := os.Rename(filepath.Join(next, name), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("trust: take next key: %w", err)
	}
	if err := errors.Join(os.RemoveAll(next), syncDir(dir)); err != nil {
		return fmt.Errorf("trust: take next key: %w", err)
	}
	return nil
}

// DropNext forgets the next key, for a change that the site refused.
func DropNext(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, NextDir)); err != nil {
		return fmt.Errorf("trust: drop next key: %w", err)
	}
	return nil
}

// FormerNames are the names that the box had before its keys were changed, the oldest first.
func FormerNames(dir string) (names []coord.BoxID, err error) {
	data, _, err := readBounded(filepath.Join(dir, formerFile), formerFileBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &names)
	}
	if err != nil {
		return nil, fmt.Errorf("trust: former names: %w", err)
	}
	return names, nil
}

func addFormer(dir string, was coord.BoxID) error {
	names, err := FormerNames(dir)
	if err != nil || slices.Contains(names, was) {
		return err
	}
	data, err := json.Marshal(append(names, was))
	if err != nil {
		return err
	}
	return replaceFile(dir, filepath.Join(dir, formerFile), append(data, '\n'), siteFileMode)
}
