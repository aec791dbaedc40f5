package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

const (
	// ringName is the file with the wrapped data key; where it is, all files of the directory are encrypted.
	ringName = "encryption.json"
	// formatSealed is formatVersion of files whose values or payloads are encrypted, so that releases and programs that do not know of it
	// refuse them.
	formatSealed = 2
	// metaKey is where a bbolt file says with which key: crypt.Key.Check.
	metaKey = "key"
)

// Keys finds the key of an encrypted directory.
type Keys interface {
	// Unlock opens the wrapped key of a directory.
	Unlock(*crypt.Ring) (*crypt.Key, error)
	// Make gives a key and its wrapping for a new directory.
	Make() (*crypt.Ring, *crypt.Key, error)
}

// unlock finds the directory's key, nil for none. Nothing was opened yet, and nothing is touched when it fails. The directory is locked.
func unlock(dir string, keys Keys) (*crypt.Key, error) {
	ring, err := ReadRing(dir)
	switch {
	case err != nil:
		return nil, err
	case ring == nil && keys == nil:
		return nil, nil
	case ring == nil:
		return makeKey(dir, keys)
	case keys == nil:
		return nil, fmt.Errorf("store: %s: %w: its key is wrapped by %s; set encryption.key to that, or `holdfast encryption disable`", dir, ErrSealed, ring.Kind)
	}
	key, err := keys.Unlock(ring)
	if err != nil {
		return nil, fmt.Errorf("store: %s: %w", dir, err)
	}
	return key, nil
}

// makeKey begins an encrypted directory, which must be new: what was written in clear stays so.
func makeKey(dir string, keys Keys) (*crypt.Key, error) {
	fresh, err := isFresh(dir)
	if err != nil {
		return nil, err
	}
	if !fresh {
		return nil, fmt.Errorf("store: %s: %w; `holdfast encryption enable` encrypts it, while the box is stopped", dir, ErrPlain)
	}
	ring, key, err := keys.Make()
	if err != nil {
		return nil, fmt.Errorf("store: make a key for %s: %w", dir, err)
	}
	if err := writeRing(dir, ringName, ring); err != nil {
		return nil, err
	}
	return key, nil
}

// isFresh says whether nothing of a box is in dir yet.
func isFresh(dir string) (bool, error) {
	for _, name := range []string{baseName, auditName} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, logDir))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("store: %w", err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), segmentSuffix) {
			return false, nil
		}
	}
	return true, nil
}

// ReadRing is the wrapped key of a directory, nil for one that is not encrypted. Errors: crypt.ErrRing, those of the file system.
func ReadRing(dir string) (*crypt.Ring, error) {
	f, err := os.Open(filepath.Join(dir, ringName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, crypt.RingBytesMax+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("store: read %s: %w", ringName, err)
	}
	if len(data) > crypt.RingBytesMax {
		return nil, fmt.Errorf("store: %s: %w: more than %d bytes", ringName, crypt.ErrRing, crypt.RingBytesMax)
	}
	ring, err := crypt.DecodeRing(data)
	if err != nil {
		return nil, fmt.Errorf("store: %s: %w", filepath.Join(dir, ringName), err)
	}
	return ring, nil
}

// writeRing puts a ring at name, durable, whole or not at all.
func writeRing(dir, name string, ring *crypt.Ring) error {
	data, err := ring.Encode()
	if err != nil {
		return err
	}
	if err := placeFile(dir, name, data); err != nil {
		return fmt.Errorf("store: write %s: %w", name, err)
	}
	return nil
}

// placeFile puts data at name in place of what is there, durable.
func placeFile(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+newSuffix, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+newSuffix))
	}
	return OS{}.SyncDir(dir)
}

// Rewrap changes how the data key of a stopped box's directory is wrapped, such as the passphrase: no data is written anew. Errors: ErrLocked,
// ErrPlain, those of keys.
func Rewrap(dir string, keys Keys, wrap func(*crypt.Key) (*crypt.Ring, error)) error {
	lk, err := lock(filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	defer lk.Close()
	if err := finishConversion(dir); err != nil {
		return err
	}
	ring, err := ReadRing(dir)
	if err == nil && ring == nil {
		err = fmt.Errorf("store: %s: %w", dir, ErrPlain)
	}
	if err != nil {
		return err
	}
	key, err := keys.Unlock(ring)
	if err != nil {
		return fmt.Errorf("store: %s: %w", dir, err)
	}
	if ring, err = wrap(key); err != nil {
		return err
	}
	return writeRing(dir, ringName, ring)
}

// sealer encrypts the values of one bbolt file, or leaves them as they are. A value is bound to its bucket and key, so
// that two cannot be exchanged; that an old value of the same key was put back, only the state's digest tells.
type sealer struct {
	key      *crypt.Key // nil: in clear
	envelope *crypt.Envelope
}

func sealerOf(key *crypt.Key, purpose string, site coord.SiteID, box coord.BoxID) sealer {
	if key == nil {
		return sealer{}
	}
	return sealer{key, key.Envelope(fmt.Sprintf("%s %x %x", purpose, site, box))}
}

// format is what the file's meta has.
func (s *sealer) format() byte {
	if s.key == nil {
		return formatVersion
	}
	return formatSealed
}

// mark writes into a file's meta what check wants.
func (s *sealer) mark(meta *bolt.Bucket) error {
	err := meta.Put([]byte(metaFormat), []byte{s.format()})
	if err != nil || s.key == nil {
		return err
	}
	check := s.key.Check()
	return meta.Put([]byte(metaKey), check[:])
}

// check compares what a file says with the key at hand. Nothing is called damaged that only lacks its key.
func (s *sealer) check(file string, format, check []byte) error {
	if len(format) != 1 || format[0] != formatVersion && format[0] != formatSealed {
		return fmt.Errorf("store: %s: format %x: %w", file, format, ErrFormat)
	}
	return checkKey(file, s.key, format[0] == formatSealed, check)
}

// checkKey says whether key is the one of a file; check may be the beginning of crypt.Key.Check.
func checkKey(file string, key *crypt.Key, sealed bool, check []byte) error {
	switch {
	case !sealed && key == nil:
		return nil
	case !sealed:
		return fmt.Errorf("store: %s: %w, and others of its directory are", file, ErrPlain)
	case key == nil:
		return fmt.Errorf("store: %s: %w, and %s is missing: restore it from a backup", file, ErrSealed, ringName)
	}
	if c := key.Check(); len(check) == 0 || string(c[:min(len(check), len(c))]) != string(check) {
		return fmt.Errorf("store: %s: %w; restore the %s that belongs to it", file, ErrKey, ringName)
	}
	return nil
}

// place is what a value is bound to.
func place(bucket, key []byte) []byte {
	b := make([]byte, 0, 1+len(bucket)+len(key))
	return append(append(append(b, byte(len(bucket))), bucket...), key...)
}

// seal gives what is stored for a value.
func (s *sealer) seal(bucket, key, value []byte) []byte {
	if s.key == nil {
		return value
	}
	return s.envelope.Seal(make([]byte, 0, len(value)+crypt.Overhead), value, place(bucket, key))
}

// open appends the value of what is stored to dst; in clear it is the stored bytes themselves. Error: crypt.ErrOpen, bare.
func (s *sealer) open(dst, bucket, key, stored []byte) ([]byte, error) {
	if s.key == nil {
		return stored, nil
	}
	return s.envelope.Open(dst, stored, place(bucket, key))
}

// envelopeOf is the key of one segment: no other has its number and salt.
func (h *header) envelopeOf(key *crypt.Key) *crypt.Envelope {
	if key == nil {
		return nil
	}
	return key.Envelope(fmt.Sprintf("log %x %x %d %x", h.site, h.box, h.number, h.salt))
}

// framePlace is what a record of the log is bound to beside its segment: its offset.
func framePlace(off uint32) []byte { return binary.BigEndian.AppendUint32(nil, off) }
