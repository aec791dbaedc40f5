package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// A conversion writes all files anew beside the old ones, makes them durable, and then says so in one file, whose appearance is the
// moment of the change. What is left are renames, which can be begun again: whoever opens the directory next ends them.
//
//	NAME.converted   the new file; without convertedName they are what a power cut left, and are removed
//	log.replaced     the old log, between two renames
//	CONVERTED        JSON: whether the new directory is encrypted
const (
	convertedSuffix = ".converted"
	convertedName   = "CONVERTED"
	replacedName    = logDir + ".replaced"
	// convertEvery is how many entries one transaction writes.
	convertEvery = 4096
)

// ErrAside says that a directory has files in clear that were set aside when they were damaged. Converting would leave them.
var ErrAside = errors.New("has files that were set aside")

// conversion is what CONVERTED has.
type conversion struct {
	Encrypted bool `json:"encrypted"`
}

// ConvertOptions of Convert.
type ConvertOptions struct {
	Site coord.SiteID
	Box  coord.BoxID
	// Keys opens the directory as it is; nil for one in clear.
	Keys Keys
	// Ring and Key are of the new directory; nil: it will be in clear.
	Ring *crypt.Ring
	Key  *crypt.Key
	// Logger gets what is going on; nil: nothing.
	Logger *slog.Logger

	// step is called between what changes the disk, so that tests can stop there.
	step func(name string) error
}

// Convert encrypts a stopped box's directory, decrypts it, or gives it another key. A power cut leaves the old one or the new one. It
// takes as much room again. What a card or an SSD keeps of removed files is not in its hands. Errors: ErrLocked, ErrIdentity,
// ErrDamaged (start the box first, it repairs), ErrAside, ErrFull, those of Keys.
func Convert(dir string, o ConvertOptions) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("store: convert: %w", err)
	}
	lk, err := lock(filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	defer lk.Close()
	if err := finishConversion(dir); err != nil {
		return err
	}
	if err := refuseAside(dir); err != nil {
		return err
	}
	c := &converter{o: o, dir: dir}
	if c.old, err = unlockExisting(dir, o.Keys); err != nil {
		return err
	}
	if err := c.write(); err != nil {
		err = fmt.Errorf("store: convert: %w", err)
		if noSpace(err) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		return errors.Join(err, removeUnfinished(dir))
	}
	if err := o.step("written"); err != nil {
		return err
	}
	note, err := json.Marshal(conversion{Encrypted: o.Key != nil})
	if err == nil {
		err = placeFile(dir, convertedName, note)
	}
	if err != nil {
		return fmt.Errorf("store: convert: %w", err)
	}
	return switchOver(dir, o.step)
}

func unlockExisting(dir string, keys Keys) (*crypt.Key, error) {
	ring, err := ReadRing(dir)
	if err != nil || ring == nil {
		return nil, err
	}
	return unlock(dir, keys)
}

// refuseAside looks for what was set aside, of the log and of the base.
func refuseAside(dir string) error {
	for _, d := range []string{dir, filepath.Join(dir, logDir)} {
		entries, err := os.ReadDir(d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store: convert: %w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), asideSuffix) || strings.HasSuffix(e.Name(), condemnedSuffix) {
				return fmt.Errorf("store: convert: %s %w, such as %s; move them to another disk or remove them", dir, ErrAside, filepath.Join(d, e.Name()))
			}
		}
	}
	return nil
}

// removeUnfinished removes what a conversion that did not come to its moment has written.
func removeUnfinished(dir string) error {
	var err error
	for _, name := range []string{logDir, baseName, auditName, ringName} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name+convertedSuffix)), os.RemoveAll(filepath.Join(dir, name+convertedSuffix+newSuffix)))
	}
	if err = errors.Join(err, os.RemoveAll(filepath.Join(dir, replacedName))); err != nil {
		return fmt.Errorf("store: convert: %w", err)
	}
	return nil
}

// finishConversion ends one that a power cut interrupted. The directory is locked.
func finishConversion(dir string) error {
	_, err := os.Stat(filepath.Join(dir, convertedName))
	if errors.Is(err, fs.ErrNotExist) {
		return removeUnfinished(dir)
	}
	if err != nil {
		return fmt.Errorf("store: convert: %w", err)
	}
	return switchOver(dir, func(string) error { return nil })
}

// switchOver puts the new files in place of the old. Each step may have been done before.
func switchOver(dir string, step func(string) error) error {
	data, err := os.ReadFile(filepath.Join(dir, convertedName))
	var c conversion
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return fmt.Errorf("store: convert: %s: %w", convertedName, err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	there := func(name string) bool {
		_, err := os.Lstat(at(name))
		return err == nil
	}
	move := func(from, to string) error {
		if !there(from) {
			return nil
		}
		return os.Rename(at(from), at(to))
	}
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"old log away", func() error {
			if !there(logDir + convertedSuffix) {
				return nil
			}
			return move(logDir, replacedName)
		}},
		{"log", func() error { return move(logDir+convertedSuffix, logDir) }},
		{"base", func() error { return move(baseName+convertedSuffix, baseName) }},
		{"audit", func() error { return move(auditName+convertedSuffix, auditName) }},
		{"ring", func() error {
			if c.Encrypted {
				return move(ringName+convertedSuffix, ringName)
			}
			if err := os.Remove(at(ringName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}},
		{"old log", func() error { return os.RemoveAll(at(replacedName)) }},
		{"note", func() error { return os.Remove(at(convertedName)) }},
	} {
		if err := s.do(); err != nil {
			return fmt.Errorf("store: convert: %s: %w", s.name, err)
		}
		if err := (OS{}).SyncDir(dir); err != nil {
			return fmt.Errorf("store: convert: %s: %w", s.name, err)
		}
		if err := step(s.name); err != nil {
			return err
		}
	}
	return nil
}

// converter writes the new files.
type converter struct {
	o   ConvertOptions
	dir string
	old *crypt.Key
}

func (c *converter) write() error {
	if err := c.log(); err != nil {
		return err
	}
	if err := c.o.step("log written"); err != nil {
		return err
	}
	for _, f := range []struct{ name, purpose string }{{baseName, "base"}, {auditName, "audit"}} {
		if _, err := os.Stat(filepath.Join(c.dir, f.name)); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := c.bolt(f.name, f.purpose); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := c.o.step(f.name + " written"); err != nil {
			return err
		}
	}
	if c.o.Ring != nil {
		if err := writeRing(c.dir, ringName+convertedSuffix, c.o.Ring); err != nil {
			return err
		}
	}
	return OS{}.SyncDir(c.dir)
}

// bolt writes a bbolt file anew, values sealed by the new key.
func (c *converter) bolt(name, purpose string) (err error) {
	from, to := sealerOf(c.old, purpose, c.o.Site, c.o.Box), sealerOf(c.o.Key, purpose, c.o.Site, c.o.Box)
	name = filepath.Join(c.dir, name)
	in, err := openBolt(name, BaseBytesMax, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guard("convert", in.Close)) }()
	out, err := openBolt(name+convertedSuffix, BaseBytesMax, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guard("convert", out.Close)) }()
	return guard("convert", func() error {
		return in.View(func(tx *bolt.Tx) error {
			if err := c.whose(name, tx, &from); err != nil {
				return err
			}
			counted := int64(0) // of the buckets that the audit log's numbers count
			err := tx.ForEach(func(bucket []byte, b *bolt.Bucket) error {
				n, err := copyBucket(bucket, b, out, &from, &to)
				if string(bucket) == recordsBucket || string(bucket) == tilesBucket {
					counted += n
				}
				return err
			})
			if err == nil && purpose == "audit" {
				err = out.Update(func(tx *bolt.Tx) error { return recount(name, tx, counted) })
			}
			if err != nil {
				return err
			}
			return out.Sync()
		})
	})
}

// recount puts the size of what is stored now into the audit log's numbers.
func recount(name string, tx *bolt.Tx, bytes int64) error {
	meta := tx.Bucket([]byte(metaBucket))
	n, ok := decodeNumbers(meta.Get([]byte(metaNumbers)))
	if !ok {
		return &DamageError{File: name, Reason: "numbers"}
	}
	n.bytes = bytes
	return meta.Put([]byte(metaNumbers), n.encode())
}

// whose checks the file's meta, as opening it does.
func (c *converter) whose(name string, tx *bolt.Tx, from *sealer) error {
	meta := tx.Bucket([]byte(metaBucket))
	if meta == nil {
		return &DamageError{File: name, Reason: "no meta bucket"}
	}
	if err := from.check(name, meta.Get([]byte(metaFormat)), meta.Get([]byte(metaKey))); err != nil {
		return err
	}
	if string(meta.Get([]byte(metaSite))) != string(c.o.Site[:]) || string(meta.Get([]byte(metaBox))) != string(c.o.Box[:]) {
		return fmt.Errorf("%s: %w", name, ErrIdentity)
	}
	return nil
}

// isSealed says whether a bucket's values are encrypted in an encrypted file, and what of a key they are bound to.
func isSealed(bucket, key []byte) (bound []byte, sealed bool) {
	switch {
	case len(bucket) == 1: // a space: the mark before its keys is bbolt's business
		return key[1:], true
	case string(bucket) == recordsBucket, string(bucket) == tilesBucket, string(bucket) == headsBucket:
		return key, true
	}
	return nil, false
}

// copyBucket gives the bytes of keys and stored values.
func copyBucket(bucket []byte, b *bolt.Bucket, out *bolt.DB, from, to *sealer) (size int64, err error) {
	cur := b.Cursor()
	k, v := cur.First()
	for begun := false; k != nil || !begun; begun = true {
		err := out.Update(func(tx *bolt.Tx) error {
			nb, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			nb.FillPercent = installFill
			if string(bucket) == metaBucket && !begun {
				if err := to.mark(nb); err != nil {
					return err
				}
			}
			for n := 0; k != nil && n < convertEvery; n++ {
				own := string(bucket) == metaBucket && (string(k) == metaFormat || string(k) == metaKey)
				if !own {
					stored, err := convertValue(bucket, k, v, from, to)
					if err == nil {
						err = nb.Put(k, stored)
					}
					if err != nil {
						return err
					}
					size += int64(len(k) + len(stored))
				}
				k, v = cur.Next()
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return size, nil
}

// convertValue is what the new file has for a value.
func convertValue(bucket, k, v []byte, from, to *sealer) ([]byte, error) {
	bound, sealed := isSealed(bucket, k)
	if !sealed {
		return v, nil
	}
	clear, err := from.open(nil, bucket, bound, v)
	if err != nil {
		return nil, fmt.Errorf("a value of bucket %x: %w: %w", bucket, ErrDamaged, err)
	}
	return to.seal(bucket, bound, clear), nil
}

// log writes the segments anew. Opening the old log cuts its tail first: what comes after is what had been durable.
func (c *converter) log() (err error) {
	o := Options{Site: c.o.Site, Box: c.o.Box, Logger: c.o.Logger, inline: true, key: c.old}.withDefaults()
	l, err := openLog(filepath.Join(c.dir, logDir), o, new(fuse))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if d := l.Damaged(); d != nil {
		return fmt.Errorf("%w; start the box first: it repairs what it can", d)
	}
	to := filepath.Join(c.dir, logDir+convertedSuffix)
	if err := os.MkdirAll(to, dirMode); err != nil {
		return err
	}
	prevEnd := l.segs[0].prevEnd
	for _, s := range l.segs {
		if prevEnd, err = c.segment(to, s, prevEnd); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return OS{}.SyncDir(to)
}

// segment writes one, and gives where it ends. Its frames say that all before them is durable: so it will be when they count.
func (c *converter) segment(dir string, s *segment, prevEnd uint64) (end uint64, err error) {
	n := &segment{header: header{number: s.number, prevEnd: prevEnd, site: s.site, box: s.box, salt: newSalt()}}
	n.encrypt(c.o.Key)
	b := make([]byte, headerBytes, s.size)
	n.headEnd = headerBytes
	r := frameReader{file: s.file, name: s.name, tag: s.tag, size: int64(s.end), off: headerBytes}
	var scratch []byte
	var frames []uint32 // where each begins
	for r.off < int64(s.end) {
		off := r.off
		payload, _, ok, reason, err := r.next()
		if err == nil && !ok {
			err = &DamageError{File: s.name, Offset: off, Reason: reason}
		}
		if err != nil {
			return 0, err
		}
		if payload, scratch, err = s.plain(payload, scratch, off); err != nil {
			return 0, &DamageError{File: s.name, Offset: off, Reason: err.Error()}
		}
		at := len(b)
		frames = append(frames, uint32(at))
		b = append(b, make([]byte, frameBytes)...)
		if n.envelope == nil {
			b = append(b, payload...)
		} else {
			b = n.envelope.Seal(b, payload, framePlace(uint32(at)))
		}
		if r.off <= int64(s.headEnd) {
			n.headEnd = uint32(len(b))
		}
		if len(b) > segmentBytesMax {
			return 0, fmt.Errorf("it would have %d bytes: %w", len(b), ErrFull)
		}
	}
	n.tag = n.encode(b)
	for i, at := range frames {
		end := len(b)
		if i+1 < len(frames) {
			end = int(frames[i+1])
		}
		sealFrame(b[at:end], n.tag, at, at)
	}
	f, err := OS{}.Create(segmentName(dir, s.number))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(b, 0); err != nil {
		return 0, err
	}
	if err := f.Zero(int64(len(b)), s.size); err != nil {
		return 0, err
	}
	return uint64(len(b)), f.Datasync()
}
