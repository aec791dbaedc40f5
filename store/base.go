package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

const (
	baseName = "holdfast.db"
	// newSuffix is behind the name of a file that is being made; it means nothing until it is renamed.
	newSuffix = ".new"
	// condemnedSuffix is that of an empty file which says that the base was found damaged while it was used.
	condemnedSuffix = ".condemned"
	// baseLockTimeout bounds the wait for bbolt's own file lock. The directory's LOCK is held already, so only
	// a foreign program (the bbolt tool) can have it.
	baseLockTimeout = 500 * time.Millisecond
	// keyMark stands before every key of a space: bbolt has no empty keys, and a user's key may be empty.
	keyMark = 0
)

// The keys of the bucket "meta".
const (
	metaBucket  = "meta"
	metaFormat  = "format"  // one byte, formatVersion
	metaSite    = "site"    // 8 bytes
	metaBox     = "box"     // 8 bytes
	metaFinal   = "final"   // wire.AppendFinal of the last commit; absent in an empty base
	metaInstall = "install" // wire.AppendCheckpoint of the last installed state
)

// spaceBucket is the name of a space's bucket: its number.
func spaceBucket(sp coord.Space) []byte { return []byte{byte(sp)} }

// Base is the durable state behind the log, in bbolt. Commit, Install and Snapshot are meant for one
// goroutine; Get, Scan and what they give may be used by any beside it. It implements coord/state's Backend.
type Base struct {
	o    Options
	path string
	fuse *fuse
	log  *slog.Logger
	// behind makes the log durable up to a final height; a base alone has none.
	behind func(height uint64) error

	// w serialises Commit, Install's end, Snapshot and Close.
	w sync.Mutex
	// mu guards file, which an installed state replaces; nil: closed.
	mu        sync.RWMutex
	file      *baseFile
	snapshots map[*Snapshot]struct{} // guarded by w
	install   *Install               // guarded by w

	get getter

	// values encrypts what the spaces have.
	values sealer

	committed atomic.Pointer[coord.Final]
	installed atomic.Pointer[coord.Checkpoint]
}

// baseFile is an open file and who reads it. bbolt's own Close would wait for readers under a lock that
// one of them may need to end (a Get inside a Scan), so that they are waited for before.
type baseFile struct {
	db      *bolt.DB
	readers sync.WaitGroup
}

// close waits for who reads. Nobody can begin any more.
func (f *baseFile) close() error {
	f.readers.Wait()
	return guard("close", f.db.Close)
}

// reading is one read transaction.
type reading struct {
	*bolt.Tx
	file *baseFile
}

func (r reading) end() {
	_ = r.Rollback() // of a read: nothing can be lost
	r.file.readers.Done()
}

// OpenBase opens the base in dir, or makes an empty one. Errors: ErrIdentity, ErrFormat, ErrLocked (another
// program has the file), ErrDamaged.
func OpenBase(dir string, o Options) (*Base, error) {
	return openBase(dir, o.withDefaults(), new(fuse), func(uint64) error { return nil })
}

func openBase(dir string, o Options, f *fuse, behind func(uint64) error) (*Base, error) {
	b := &Base{
		o: o, path: filepath.Join(dir, baseName), fuse: f, log: o.Logger, behind: behind,
		snapshots: map[*Snapshot]struct{}{}, values: sealerOf(o.key, "base", o.Site, o.Box),
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("store: make %s: %w", dir, err)
	}
	// A file that never got its name is what a power cut left of a first start or of an Install.
	if err := os.Remove(b.path + newSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("store: %w", err)
	}
	if _, err := os.Stat(b.path + condemnedSuffix); err == nil {
		return nil, fmt.Errorf("store: %w", &DamageError{File: b.path, Reason: "damage was found when it was last used"})
	}
	if _, err := os.Stat(b.path); errors.Is(err, os.ErrNotExist) {
		if err := b.create(); err != nil {
			return nil, err
		}
	}
	db, err := b.openFile(b.path, false)
	if err != nil {
		return nil, err
	}
	b.file = &baseFile{db: db}
	err = b.readMeta(db)
	if err == nil {
		err = addSpaces(db)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return b, nil
}

// setBaseAside gives a damaged base another name, in place of one that was set aside earlier.
func setBaseAside(dir string) error {
	name := filepath.Join(dir, baseName)
	if err := os.Rename(name, name+asideSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("store: set aside: %w", err)
	}
	if err := os.Remove(name + condemnedSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("store: set aside: %w", err)
	}
	if err := (OS{}).SyncDir(dir); err != nil {
		return fmt.Errorf("store: set aside: %w", err)
	}
	return nil
}

// condemn notes that the base is damaged, for the next Open, and gives err.
func (b *Base) condemn(err error) error {
	if errors.Is(err, ErrDamaged) {
		f, e := os.Create(b.path + condemnedSuffix)
		if e == nil {
			e = errors.Join(f.Sync(), f.Close(), OS{}.SyncDir(filepath.Dir(b.path)))
		}
		if e != nil {
			b.log.Error("the damage of the state could not be noted", "err", e)
		}
	}
	return err
}

// openFile opens or makes a file of the base.
func (b *Base) openFile(name string, noSync bool) (*bolt.DB, error) {
	return openBolt(name, b.o.BaseBytesMax, noSync)
}

// openBolt opens or makes a bbolt file.
//
// The whole of its limit is mapped at once: it is address space only, and without it a commit that makes the
// file grow would wait for every open snapshot (bbolt remaps under a lock that readers hold). The
// freelist is kept on disk: finding it anew would read the whole file on every start.
func openBolt(name string, bytesMax int64, noSync bool) (db *bolt.DB, err error) {
	limit := int(min(bytesMax, math.MaxInt))
	err = guard("open", func() (err error) {
		db, err = bolt.Open(name, fileMode, &bolt.Options{
			Timeout: baseLockTimeout, FreelistType: bolt.FreelistMapType, NoStatistics: true,
			MaxSize: limit, InitialMmapSize: limit, NoSync: noSync, NoGrowSync: noSync,
		})
		return err
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("store: %s: %w", name, ErrLocked)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("store: %w: %w", &DamageError{File: name, Reason: "meta pages"}, err)
	}
	return nil, fmt.Errorf("store: open %s: %w", name, err)
}

// create makes an empty base under another name and renames it: bbolt's own initialisation is not safe from
// a power cut (etcd #16596).
func (b *Base) create() error {
	db, err := b.openFile(b.path+newSuffix, true)
	if err != nil {
		return err
	}
	err = guard("create", func() error {
		return db.Update(func(tx *bolt.Tx) error { return b.initialise(tx) })
	})
	if err == nil {
		err = db.Sync()
	}
	if e := db.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = b.takeName()
	}
	if err != nil {
		return fmt.Errorf("store: create %s: %w", b.path, err)
	}
	return nil
}

// takeName puts the new file, which is durable, in place of the base.
func (b *Base) takeName() error {
	if err := os.Rename(b.path+newSuffix, b.path); err != nil {
		return err
	}
	return OS{}.SyncDir(filepath.Dir(b.path))
}

// initialise makes the buckets and says whose base it is.
func (b *Base) initialise(tx *bolt.Tx) error {
	for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
		if _, err := tx.CreateBucket(spaceBucket(sp)); err != nil {
			return err
		}
	}
	meta, err := tx.CreateBucket([]byte(metaBucket))
	if err != nil {
		return err
	}
	return errors.Join(
		b.values.mark(meta),
		meta.Put([]byte(metaSite), bytes.Clone(b.o.Site[:])),
		meta.Put([]byte(metaBox), bytes.Clone(b.o.Box[:])),
	)
}

// firstSpaces is how many spaces the first format had. A base may be of a release that had no more.
const firstSpaces = coord.SpaceLeaseKeys

// addSpaces makes the buckets that an earlier release did not have.
func addSpaces(db *bolt.DB) error {
	missing := false
	err := guard("open", func() error {
		return db.View(func(tx *bolt.Tx) error {
			for sp := firstSpaces + 1; sp <= coord.SpaceMax; sp++ {
				missing = missing || tx.Bucket(spaceBucket(sp)) == nil
			}
			return nil
		})
	})
	if err != nil || !missing {
		return err
	}
	return guard("open", func() error {
		return db.Update(func(tx *bolt.Tx) error {
			for sp := firstSpaces + 1; sp <= coord.SpaceMax; sp++ {
				if _, err := tx.CreateBucketIfNotExists(spaceBucket(sp)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// readMeta checks whose base it is and what it stands for.
func (b *Base) readMeta(db *bolt.DB) error {
	damaged := func(reason string) error { return &DamageError{File: b.path, Reason: reason} }
	return guard("open", func() error {
		return db.View(func(tx *bolt.Tx) error {
			meta := tx.Bucket([]byte(metaBucket))
			if meta == nil {
				return damaged("no meta bucket")
			}
			if err := b.values.check(b.path, meta.Get([]byte(metaFormat)), meta.Get([]byte(metaKey))); err != nil {
				return err
			}
			site, box := meta.Get([]byte(metaSite)), meta.Get([]byte(metaBox))
			if !bytes.Equal(site, b.o.Site[:]) || !b.o.own(box) {
				return fmt.Errorf("store: %s is of box %x of site %x: %w", b.path, box, site, ErrIdentity)
			}
			for sp := coord.Space(1); sp <= firstSpaces; sp++ {
				if tx.Bucket(spaceBucket(sp)) == nil {
					return damaged(fmt.Sprintf("no bucket of space %d", sp))
				}
			}
			var (
				f   *coord.Final
				cp  *coord.Checkpoint
				err error
			)
			if v := meta.Get([]byte(metaFinal)); v != nil {
				if f, err = wire.DecodeFinal(v); err != nil || f.Header == nil {
					return damaged(fmt.Sprintf("final: %v", err))
				}
			}
			if v := meta.Get([]byte(metaInstall)); v != nil {
				if cp, err = wire.DecodeCheckpoint(v); err != nil || cp.Header == nil {
					return damaged(fmt.Sprintf("install: %v", err))
				}
			}
			b.committed.Store(f)
			b.installed.Store(cp)
			return nil
		})
	})
}

// Committed is the last block whose changes are durable and the certificate that came with the commit, nil
// for an empty base. After Install the certificate is nil: see Installed. It is not to be changed.
func (b *Base) Committed() *coord.Final { return b.committed.Load() }

// Installed is the checkpoint of the newest state that came from others, nil for none.
func (b *Base) Installed() *coord.Checkpoint { return b.installed.Load() }

// Commit makes the changes of c and its header durable together, after the log is durable up to the header's
// height. Later changes of a key in c win. Errors: ErrFull (nothing happened; what Get gives is
// as before, and Commit may be tried again), ErrFailed, ErrTooLarge, ErrDamaged.
func (b *Base) Commit(c *coord.Commit) error {
	if err := checkChanges(c); err != nil {
		return err
	}
	if err := b.behind(c.Header.Height); err != nil {
		return err
	}
	b.w.Lock()
	defer b.w.Unlock()
	db, err := b.writable("commit")
	if err != nil {
		return err
	}
	final := &coord.Final{Header: c.Header.Header(), Cert: c.Cert}
	b.get.pause()
	defer b.get.resume()
	err = guard("commit", func() error {
		return db.Update(func(tx *bolt.Tx) error {
			if err := b.apply(tx, c.Changes); err != nil {
				return err
			}
			if c.Handover != nil {
				if err := putHandover(tx, c.Handover); err != nil {
					return err
				}
			}
			return tx.Bucket([]byte(metaBucket)).Put([]byte(metaFinal), wire.AppendFinal(nil, final))
		})
	})
	switch {
	case err == nil:
		b.committed.Store(final)
		return nil
	case noSpace(err):
		return fmt.Errorf("store: commit: %w: %w", ErrFull, err)
	}
	return b.fuse.blow("commit", b.condemn(err))
}

func checkChanges(c *coord.Commit) error {
	if c.Header == nil {
		return fmt.Errorf("store: commit without a header: %w", ErrFormat)
	}
	for i := range c.Changes {
		ch := &c.Changes[i]
		if ch.Space < 1 || ch.Space > coord.SpaceMax {
			return fmt.Errorf("store: commit: space %d: %w", ch.Space, ErrFormat)
		}
		if len(ch.Key) > coord.SnapshotKeyBytesMax || len(ch.Value) > coord.SnapshotValueBytesMax {
			return fmt.Errorf("store: commit: key of %d bytes, value of %d: %w", len(ch.Key), len(ch.Value), ErrTooLarge)
		}
	}
	return nil
}

// yieldEvery is after how many changes a commit lets others run: about 50 us. On a box with one CPU to itself the ordering
// would wait for 10 ms each time otherwise, until the runtime takes the CPU away.
const yieldEvery = 16

// fillPercent is how full bbolt leaves the pages that it splits. Its default of a half makes each commit write more pages: the same
// keys are written again and again, and those of pages (coord.SpaceRevisions) only ascend.
const fillPercent = 0.9

func (b *Base) apply(tx *bolt.Tx, changes []coord.Change) error {
	var (
		buckets [coord.SpaceMax + 1]*bolt.Bucket
		key     []byte // bbolt copies keys, and keeps values until the transaction ends
	)
	for i := range changes {
		if i%yieldEvery == 0 {
			runtime.Gosched()
		}
		ch := &changes[i]
		bk := buckets[ch.Space]
		if bk == nil {
			bk = tx.Bucket(spaceBucket(ch.Space))
			bk.FillPercent = fillPercent
			buckets[ch.Space] = bk
		}
		key = append(append(key[:0], keyMark), ch.Key...)
		var err error
		if ch.Value == nil {
			err = bk.Delete(key)
		} else {
			err = bk.Put(key, b.values.seal(spaceBucket(ch.Space), ch.Key, ch.Value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writable is the file for a write; w is held.
func (b *Base) writable(op string) (*bolt.DB, error) {
	if err := b.fuse.check(op); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.file == nil {
		return nil, fmt.Errorf("store: %s: %w", op, ErrClosed)
	}
	return b.file.db, nil
}

// begin starts a read of the state as it is now; end it.
func (b *Base) begin(op string) (r reading, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.file == nil {
		return r, fmt.Errorf("store: %s: %w", op, ErrClosed)
	}
	tx, err := b.file.db.Begin(false)
	if err != nil {
		return r, fmt.Errorf("store: %s: %w", op, err)
	}
	b.file.readers.Add(1)
	return reading{tx, b.file}, nil
}

// Scan calls fn for every entry of a space with a key of at least from, ascending, until fn returns false. It
// sees one commit whole, also while others are made. k and v are valid during the call only, and
// must not be changed. Errors: ErrDamaged, ErrClosed.
func (b *Base) Scan(sp coord.Space, from []byte, fn func(k, v []byte) bool) error {
	if sp < 1 || sp > coord.SpaceMax {
		return fmt.Errorf("store: scan: space %d: %w", sp, ErrFormat)
	}
	tx, err := b.begin("scan")
	if err != nil {
		return err
	}
	defer tx.end()
	return b.condemn(b.scan(tx.Tx, sp, from, fn))
}

// scan guards what bbolt does and leaves a panic of fn alone.
func (b *Base) scan(tx *bolt.Tx, sp coord.Space, from []byte, fn func(k, v []byte) bool) error {
	calling := false
	clear := make([]byte, 0, 64) // the last value, when they are encrypted; never nil, as an empty value is none
	return guardBut("scan", &calling, func() error {
		c := tx.Bucket(spaceBucket(sp)).Cursor()
		for k, v := c.Seek(append([]byte{keyMark}, from...)); k != nil; k, v = c.Next() {
			v, err := b.values.open(clear[:0], spaceBucket(sp), k[1:], v)
			if err != nil {
				return b.sealBroken(sp, err)
			}
			if b.values.key != nil {
				clear = v
			}
			calling = true
			more := fn(k[1:], v)
			calling = false
			if !more {
				return nil
			}
		}
		return nil
	})
}

// sealBroken is damage: a value that does not decrypt where it stands. The message names no key of a user.
func (b *Base) sealBroken(sp coord.Space, err error) error {
	return &DamageError{File: b.path, Reason: fmt.Sprintf("a value of space %d: %v", sp, err)}
}

// Bytes is the size of the file, which grows in steps and never shrinks but by Install.
func (b *Base) Bytes() int64 {
	i, err := os.Stat(b.path)
	if err != nil {
		return 0
	}
	return i.Size()
}

// Close ends snapshots and an install, waits for reads, and closes the file.
func (b *Base) Close() error {
	b.w.Lock()
	defer b.w.Unlock()
	if b.install != nil {
		b.install.drop()
	}
	b.closeSnapshots()
	b.get.pause()
	defer b.get.resume()
	b.mu.Lock()
	f := b.file
	b.file = nil
	b.mu.Unlock()
	if f == nil {
		return nil
	}
	return f.close()
}
