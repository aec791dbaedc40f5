package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// The audit log has a file of its own: its syncs do not hold up commits, a replaced or damaged state leaves it alone, and it has
// its own limit. Buckets, numbers big-endian:
//
//	meta     "format", "site" and "box" as in holdfast.db; "numbers": size, first, exported, bytes, 8 bytes each
//	records  index (8) -> audit.Record.Append
//	tiles    level (1) || n (8) -> hashes of 32 bytes, see audit.Tree
//	heads    box (8) || size (8) -> JSON of audit.SignedHead
const (
	auditName     = "audit.db"
	recordsBucket = "records"
	tilesBucket   = "tiles"
	headsBucket   = "heads"
	metaNumbers   = "numbers"

	// AuditBytesMax is the default limit of records and hashes: a quarter of a million records of 200 bytes with their hashes, two months at
	// three a minute.
	AuditBytesMax = 64 << 20
	// auditBytesMin leaves room for some groups.
	auditBytesMin = 64 << 10
	// auditHeadBytesMax bounds the heads of one box, beside that limit: the newest thousand or so.
	auditHeadBytesMax = 2 << 20
	// auditBoxesMax bounds the boxes whose heads are kept: members, and as many that they replaced.
	auditBoxesMax = 2 * coord.MembersMax
	// AuditGroupMax bounds the records of one Append.
	AuditGroupMax = 1024
	// auditAllocBytes is the step in which the file grows: bbolt's 16 MiB is days of records.
	auditAllocBytes = 1 << 20
	// auditFill: records come in order, as in an install.
	auditFill = 0.9
	// archiveChunkBytes is about what Archive writes at once.
	archiveChunkBytes = 64 << 10
	// pruneShare is the part of the limit that is made free at once, so that not every group deletes.
	pruneShare = 16
)

// AuditOptions of OpenAudit.
type AuditOptions struct {
	Site coord.SiteID
	Box  coord.BoxID
	// BytesMax bounds records and hashes, AuditBytesMax by default. The file may be twice as large.
	BytesMax int64
	// Loop lets the oldest records go when there is no room, exported or not; their hashes stay. Otherwise Append is ErrFull then.
	Loop bool
	// Key encrypts; Store.Key gives it. nil: in clear.
	Key    *crypt.Key
	Logger *slog.Logger // nil: nothing is logged
}

// Audit is a box's audit log: records and their Merkle tree, and the signed heads of all boxes of the site. Its methods may be used by
// many goroutines.
type Audit struct {
	o    AuditOptions
	path string
	fuse fuse
	db   *bolt.DB
	// values encrypts records, hashes and heads.
	values sealer

	w sync.Mutex // serialises writes
	// mu guards n and closed; both change under w too.
	mu     sync.RWMutex
	n      auditNumbers
	closed bool

	compared atomic.Int64 // records before it were what was hashed, at this start
}

// auditNumbers are what "numbers" has.
type auditNumbers struct {
	size     int64 // records ever
	first    int64 // the first that is there
	exported int64 // those before it have a copy elsewhere
	bytes    int64 // of records and tiles, keys included
}

func (n *auditNumbers) encode() (b []byte) {
	for _, v := range []int64{n.size, n.first, n.exported, n.bytes} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func decodeNumbers(b []byte) (n auditNumbers, ok bool) {
	if len(b) != 32 {
		return n, false
	}
	for i, p := range []*int64{&n.size, &n.first, &n.exported, &n.bytes} {
		*p = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	return n, 0 <= n.first && n.first <= n.size && 0 <= n.exported && n.exported <= n.size && n.bytes >= 0
}

// OpenAudit opens the audit log in dir, or makes an empty one. The directory's LOCK is the caller's (Open has it). Errors: ErrIdentity,
// ErrFormat, ErrLocked, ErrDamaged.
func OpenAudit(dir string, o AuditOptions) (*Audit, error) {
	if o.BytesMax <= 0 {
		o.BytesMax = AuditBytesMax
	}
	o.BytesMax = max(o.BytesMax, auditBytesMin)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Audit{o: o, path: filepath.Join(dir, auditName), values: sealerOf(o.Key, "audit", o.Site, o.Box)}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("store: make %s: %w", dir, err)
	}
	if err := os.Remove(a.path + newSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("store: %w", err)
	}
	if _, err := os.Stat(a.path); errors.Is(err, os.ErrNotExist) {
		if err := a.create(); err != nil {
			return nil, fmt.Errorf("store: create %s: %w", a.path, err)
		}
	}
	db, err := openBolt(a.path, a.fileMax(), false)
	if err != nil {
		return nil, err
	}
	db.AllocSize = auditAllocBytes
	a.db = db
	if err := a.view("open", a.readMeta); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return a, nil
}

// fileMax is where bbolt refuses to grow: pages that are not full, free ones, the heads.
func (a *Audit) fileMax() int64 { return 4*a.o.BytesMax + auditBoxesMax*auditHeadBytesMax }

func (a *Audit) create() error {
	return createBolt(a.path, a.fileMax(), "create", func(tx *bolt.Tx) error {
		meta, err := createBuckets(tx, bytes.Clone(a.o.Site[:]), bytes.Clone(a.o.Box[:]), recordsBucket, tilesBucket, headsBucket)
		if err != nil {
			return err
		}
		return errors.Join(a.values.mark(meta), meta.Put([]byte(metaNumbers), new(auditNumbers).encode()))
	})
}

func (a *Audit) readMeta(tx *bolt.Tx) error {
	damaged := func(reason string) error { return &DamageError{File: a.path, Reason: reason} }
	for _, name := range []string{metaBucket, recordsBucket, tilesBucket, headsBucket} {
		if tx.Bucket([]byte(name)) == nil {
			return damaged("no bucket " + name)
		}
	}
	meta := tx.Bucket([]byte(metaBucket))
	if err := a.values.check(a.path, meta.Get([]byte(metaFormat)), meta.Get([]byte(metaKey))); err != nil {
		return err
	}
	site, box := meta.Get([]byte(metaSite)), meta.Get([]byte(metaBox))
	if !bytes.Equal(site, a.o.Site[:]) || !bytes.Equal(box, a.o.Box[:]) {
		return fmt.Errorf("store: %s is of box %x of site %x: %w", a.path, box, site, ErrIdentity)
	}
	n, ok := decodeNumbers(meta.Get([]byte(metaNumbers)))
	if !ok {
		return damaged("numbers")
	}
	// The last leaf must be there and whole, or the next Append would put the log on sand.
	if t := a.treeIn(tx, n.size); n.size > 0 {
		if _, err := t.Root(n.size); err != nil {
			return damaged(fmt.Sprintf("tree of %d records: %v", n.size, err))
		}
	}
	a.n = n
	return nil
}

// treeIn is the log's tree as a transaction sees it.
func (a *Audit) treeIn(tx *bolt.Tx, size int64) *audit.Tree {
	return &audit.Tree{Size: size, Tile: func(level int, n int64) []byte {
		v, _ := a.value(tx, tilesBucket, tileKey(level, n)) // one that does not decrypt is one that is missing
		return v
	}}
}

// value is what a bucket has for a key, in clear; nil for nothing. Error: a DamageError.
func (a *Audit) value(tx *bolt.Tx, bucket string, key []byte) ([]byte, error) {
	v := tx.Bucket([]byte(bucket)).Get(key)
	if v == nil {
		return nil, nil
	}
	return a.open(bucket, key, v)
}

func (a *Audit) open(bucket string, key, stored []byte) ([]byte, error) {
	v, err := a.values.open(nil, []byte(bucket), key, stored)
	if err != nil {
		return nil, &DamageError{File: a.path, Reason: fmt.Sprintf("%s %x: %v", bucket, key, err)}
	}
	return v, nil
}

func (a *Audit) seal(bucket string, key, value []byte) []byte {
	return a.values.seal([]byte(bucket), key, value)
}

func tileKey(level int, n int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(level)}, uint64(n))
}

func indexKey(i int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

func headKey(box coord.BoxID, size int64) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(box[:]), uint64(size))
}

// view runs a read. Errors: ErrClosed, ErrDamaged, fn's.
func (a *Audit) view(op string, fn func(tx *bolt.Tx) error) error {
	a.mu.RLock()
	closed := a.closed
	a.mu.RUnlock()
	if closed {
		return fmt.Errorf("store: audit: %s: %w", op, ErrClosed)
	}
	return guard("audit: "+op, func() error { return a.db.View(fn) })
}

// update runs a write with one sync and takes over the numbers that it leaves; w is held.
func (a *Audit) update(op string, fn func(tx *bolt.Tx, n *auditNumbers) error) error {
	if err := a.fuse.check("audit: " + op); err != nil {
		return err
	}
	if a.closed {
		return fmt.Errorf("store: audit: %s: %w", op, ErrClosed)
	}
	n := a.n
	err := guard("audit: "+op, func() error {
		return a.db.Update(func(tx *bolt.Tx) error {
			if err := fn(tx, &n); err != nil {
				return err
			}
			return tx.Bucket([]byte(metaBucket)).Put([]byte(metaNumbers), n.encode())
		})
	})
	switch {
	case err == nil:
		a.mu.Lock()
		a.n = n
		a.mu.Unlock()
		return nil
	case noSpace(err) && !errors.Is(err, ErrFull):
		return fmt.Errorf("store: audit: %s: %w: %w", op, ErrFull, err)
	case errors.Is(err, ErrFull):
		return fmt.Errorf("store: audit: %s: %w", op, err)
	}
	return a.fuse.blow("audit: "+op, err)
}

// Append makes records durable with one sync, in this order, and gives the index of the first. All are there or none is. There must be 1 to
// AuditGroupMax, each of this box and as Check wants it. Errors: ErrFull (nothing happened; there may be room after MarkExported or KeepHead), ErrFailed,
// ErrTooLarge, ErrIdentity, ErrFormat, ErrClosed.
func (a *Audit) Append(rs []audit.Record) (int64, error) {
	if len(rs) < 1 || len(rs) > AuditGroupMax {
		return 0, fmt.Errorf("store: audit: append of %d records: %w", len(rs), ErrTooLarge)
	}
	values, leaves := make([][]byte, len(rs)), make([]coord.Digest, len(rs))
	for i := range rs {
		if rs[i].Box != a.o.Box {
			return 0, fmt.Errorf("store: audit: a record of box %v: %w", rs[i].Box, ErrIdentity)
		}
		if err := rs[i].Check(); err != nil {
			return 0, fmt.Errorf("store: audit: %w: %w", ErrFormat, err)
		}
		values[i] = rs[i].Append(nil)
		leaves[i] = audit.LeafHash(values[i])
	}
	a.w.Lock()
	defer a.w.Unlock()
	first := a.n.size
	err := a.update("append", func(tx *bolt.Tx, n *auditNumbers) error {
		records, tiles := tx.Bucket([]byte(recordsBucket)), tx.Bucket([]byte(tilesBucket))
		records.FillPercent = auditFill
		for i, v := range values {
			k := indexKey(n.size + int64(i))
			v = a.seal(recordsBucket, k, v)
			n.bytes += int64(len(k) + len(v))
			if err := records.Put(k, v); err != nil {
				return err
			}
		}
		t := a.treeIn(tx, n.size)
		err := t.Add(leaves, func(level int, at int64, tile []byte) error {
			k := tileKey(level, at)
			tile = a.seal(tilesBucket, k, tile)
			old := tiles.Get(k)
			if old == nil {
				n.bytes += int64(len(k))
			}
			n.bytes += int64(len(tile) - len(old))
			return tiles.Put(k, tile)
		})
		if errors.Is(err, audit.ErrPruned) {
			return &DamageError{File: a.path, Reason: err.Error()}
		}
		if err != nil {
			return err
		}
		n.size = t.Size
		if n.bytes > a.o.BytesMax {
			if err := a.prune(tx, n, first); err != nil {
				return err
			}
		}
		if n.bytes > a.o.BytesMax {
			if left := n.size - max(n.exported, n.first); left > int64(len(rs)) && !a.o.Loop {
				return fmt.Errorf("%w: %d records were not exported", ErrFull, left)
			}
			return fmt.Errorf("%w: no head covers the hashes of %d records", ErrFull, n.size-newestHead(tx, a.o.Box))
		}
		return nil
	})
	return first, err
}

// prune makes room: first old records, whose hashes stay; then, when that is not enough, the lowest hashes of what is gone and covered by a
// head of ours. Nothing from end on goes.
func (a *Audit) prune(tx *bolt.Tx, n *auditNumbers, end int64) error {
	limit := min(n.exported, end)
	if a.o.Loop {
		limit = end
	}
	target := a.o.BytesMax - a.o.BytesMax/pruneShare
	records, tiles := tx.Bucket([]byte(recordsBucket)), tx.Bucket([]byte(tilesBucket))
	for ; n.first < limit && n.bytes > target; n.first++ {
		k := indexKey(n.first)
		n.bytes -= int64(len(k) + len(records.Get(k)))
		if err := records.Delete(k); err != nil {
			return err
		}
	}
	covered := newestHead(tx, a.o.Box)
	for n.bytes > target {
		k, v := tiles.Cursor().First()
		if len(k) != 9 || k[0] != 0 {
			return nil // only what is above the leaves is left
		}
		at := int64(binary.BigEndian.Uint64(k[1:]))
		if (at+1)*audit.TileHashes > min(n.first, covered) {
			return nil
		}
		n.bytes -= int64(len(k) + len(v))
		if err := tiles.Delete(bytes.Clone(k)); err != nil {
			return err
		}
	}
	return nil
}

// Span is which records there are: first to size-1, and the index up to which copies are elsewhere.
func (a *Audit) Span() (first, size, exported int64) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.n.first, a.n.size, a.n.exported
}

// Bytes is what records and hashes take of BytesMax.
func (a *Audit) Bytes() int64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.n.bytes
}

// Read calls fn for the records in [from, to) that f chooses, in order, until fn returns false. It sees one moment of the log; what is
// pruned is passed over. fn must not call the log. Errors: ErrDamaged, ErrClosed.
func (a *Audit) Read(from, to int64, f audit.Filter, fn func(e *audit.Entry) bool) error {
	return a.view("read", func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(recordsBucket)).Cursor()
		for k, v := c.Seek(indexKey(max(from, 0))); k != nil; k, v = c.Next() {
			i := int64(binary.BigEndian.Uint64(k))
			if i >= to {
				return nil
			}
			v, err := a.open(recordsBucket, k, v)
			if err != nil {
				return err
			}
			r, err := audit.Decode(v)
			if err != nil {
				return &DamageError{File: a.path, Reason: fmt.Sprintf("record %d: %v", i, err)}
			}
			if f.Matches(r) && !fn(&audit.Entry{Index: i, Record: *r}) {
				return nil
			}
		}
		return nil
	})
}

// Log is all records that are there, for audit.Verify: at most BytesMax, in memory. Errors: ErrDamaged, ErrClosed.
func (a *Audit) Log() (*audit.Log, error) {
	l := &audit.Log{Box: a.o.Box}
	return l, a.view("read", func(tx *bolt.Tx) error {
		n, ok := decodeNumbers(tx.Bucket([]byte(metaBucket)).Get([]byte(metaNumbers)))
		if !ok {
			return &DamageError{File: a.path, Reason: "numbers"}
		}
		l.First = n.first
		var err error
		if l.Before, err = a.treeIn(tx, n.size).Peaks(n.first); err != nil {
			return &DamageError{File: a.path, Reason: err.Error()}
		}
		return tx.Bucket([]byte(recordsBucket)).ForEach(func(k, v []byte) error {
			v, err := a.open(recordsBucket, k, v)
			if err != nil {
				return err
			}
			l.Records = append(l.Records, bytes.Clone(v))
			return nil
		})
	})
}

// Archive writes records from to to-1 as a file for audit.ReadArchive: when it is safe elsewhere, MarkExported(to). It sees one moment of
// the log, and the file cannot shrink meanwhile: w should be quick. Errors: ErrNotFound (not all of them are there), w's, ErrDamaged, ErrClosed.
func (a *Audit) Archive(w io.Writer, from, to int64) error {
	return a.tree("archive", func(t *audit.Tree, tx *bolt.Tx) error {
		c := tx.Bucket([]byte(recordsBucket)).Cursor()
		k, v := c.Seek(indexKey(from))
		if from < 0 || to > t.Size || from >= to || k == nil || !bytes.Equal(k, indexKey(from)) {
			return fmt.Errorf("store: audit: archive of records %d to %d: %w", from, to-1, ErrNotFound)
		}
		p, err := t.Peaks(from)
		if err != nil {
			return &DamageError{File: a.path, Reason: err.Error()}
		}
		line := audit.AppendArchive(nil, a.o.Box, &p)
		for ; k != nil && bytes.Compare(k, indexKey(to)) < 0; k, v = c.Next() {
			v, err := a.open(recordsBucket, k, v)
			if err != nil {
				return err
			}
			r, err := audit.Decode(v)
			if err != nil {
				return &DamageError{File: a.path, Reason: fmt.Sprintf("record %x: %v", k, err)}
			}
			if line = audit.AppendLine(line, r); len(line) > archiveChunkBytes {
				if _, err := w.Write(line); err != nil {
					return fmt.Errorf("store: audit: archive: %w", err)
				}
				line = line[:0]
			}
		}
		if _, err := w.Write(line); err != nil {
			return fmt.Errorf("store: audit: archive: %w", err)
		}
		return nil
	})
}

// tree runs fn on the tree of this moment.
func (a *Audit) tree(op string, fn func(t *audit.Tree, tx *bolt.Tx) error) error {
	return a.view(op, func(tx *bolt.Tx) error {
		n, ok := decodeNumbers(tx.Bucket([]byte(metaBucket)).Get([]byte(metaNumbers)))
		if !ok {
			return &DamageError{File: a.path, Reason: "numbers"}
		}
		return fn(a.treeIn(tx, n.size), tx)
	})
}

// Root is the tree's root when it had size records. Errors: audit.ErrPruned, ErrClosed, ErrDamaged.
func (a *Audit) Root(size int64) (d coord.Digest, err error) {
	err = a.tree("root", func(t *audit.Tree, _ *bolt.Tx) (err error) {
		d, err = t.Root(size)
		return err
	})
	return d, err
}

// Grown is the proof that the log of size records begins with the one of old. Errors: audit.ErrPruned, ErrClosed, ErrDamaged.
func (a *Audit) Grown(size, old int64) (path []coord.Digest, err error) {
	err = a.tree("prove", func(t *audit.Tree, _ *bolt.Tx) (err error) {
		path, err = t.Grown(size, old)
		return err
	})
	return path, err
}

func deleteAll(bk *bolt.Bucket, keys [][]byte) error {
	for _, k := range keys {
		if err := bk.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// MarkExported says that records before index are safe elsewhere: they may go when room is needed. It never goes back. Errors:
// ErrFailed, ErrFull, ErrClosed.
func (a *Audit) MarkExported(index int64) error {
	a.w.Lock()
	defer a.w.Unlock()
	return a.update("mark exported", func(_ *bolt.Tx, n *auditNumbers) error {
		n.exported = max(n.exported, min(index, n.size))
		return nil
	})
}

// Close ends reads and closes the file.
func (a *Audit) Close() error {
	a.w.Lock()
	defer a.w.Unlock()
	a.mu.Lock()
	was := a.closed
	a.closed = true
	a.mu.Unlock()
	if was {
		return nil
	}
	return guard("audit: close", a.db.Close)
}
