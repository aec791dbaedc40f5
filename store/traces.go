package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
)

// Traces have a file of their own, which the box can do without: what is damaged, or another box's, is thrown away. It has no keys and no
// values of the site, so it is not encrypted. Buckets, numbers big-endian:
//
//	meta       "format", "site" and "box"; "bytes": of traces and of revisions, 8 each, keys included
//	traces     begin (8, Unix nanoseconds) || id (16) -> the caller's
//	ids        id (16) -> begin (8)
//	revisions  revision (8) -> the caller's: which batches made the revisions after it
const (
	tracesName      = "traces.db"
	tracesBucket    = "traces"
	idsBucket       = "ids"
	revisionsBucket = "revisions"
	metaBytes       = "bytes"
	tracesFormat    = "traces1"

	// TracesBytesMax is the default limit of traces: 20,000 of a site of four.
	TracesBytesMax = 32 << 20
	tracesBytesMin = 256 << 10
	// revisionsBytesMax bounds what says which batch made a revision: two million batches, more than the log keeps.
	revisionsBytesMax = 8 << 20
	// traceValueMax bounds one value: the records of a site of sixteen take 8 KiB.
	traceValueMax = 64 << 10
	// traceOverhead is about what a trace takes beside its value: two keys, and its place in ids.
	traceOverhead = 24 + 24
)

// TracesOptions of OpenTraces.
type TracesOptions struct {
	Site coord.SiteID
	Box  coord.BoxID
	// BytesMax bounds the traces, TracesBytesMax by default. The file may be twice as large.
	BytesMax int64
	Logger   *slog.Logger // nil: nothing is logged
}

// Traces is what a box keeps of traces, and of which batch made which revision. When there is no room the oldest go. Its methods may be
// used by many goroutines.
type Traces struct {
	o    TracesOptions
	path string
	mu   sync.RWMutex // for closed
	db   *bolt.DB
	gone bool
}

// KeptTrace is a trace as it is kept. Begin is Unix nanoseconds, 0 or more.
type KeptTrace struct {
	ID    [16]byte
	Begin int64
	Value []byte
}

// KeptRevisions says which batches made the revisions after From.
type KeptRevisions struct {
	From  uint64
	Value []byte
}

// OpenTraces opens the file in dir, or makes an empty one, also in place of one that cannot be used. The directory's LOCK is the caller's.
func OpenTraces(dir string, o TracesOptions) (*Traces, error) {
	if o.BytesMax <= 0 {
		o.BytesMax = TracesBytesMax
	}
	o.BytesMax = max(o.BytesMax, tracesBytesMin)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Traces{o: o, path: filepath.Join(dir, tracesName)}
	err := t.open()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		o.Logger.Warn("the traces on the disk cannot be used: the box begins anew with none", "err", err)
	}
	if err != nil {
		if err = t.create(); err == nil {
			err = t.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("store: traces: %w", err)
	}
	return t, nil
}

// fileMax is where bbolt refuses to grow: pages that are not full, and free ones.
func (t *Traces) fileMax() int64 { return 4*(t.o.BytesMax+revisionsBytesMax) + 1<<20 }

func (t *Traces) open() error {
	if _, err := os.Stat(t.path); err != nil {
		return err
	}
	db, err := openBolt(t.path, t.fileMax(), false)
	if err != nil {
		return err
	}
	db.AllocSize = auditAllocBytes
	err = guard("open traces", func() error {
		return db.View(func(tx *bolt.Tx) error {
			meta := tx.Bucket([]byte(metaBucket))
			if meta == nil || tx.Bucket([]byte(tracesBucket)) == nil || tx.Bucket([]byte(idsBucket)) == nil || tx.Bucket([]byte(revisionsBucket)) == nil ||
				len(meta.Get([]byte(metaBytes))) != 16 || string(meta.Get([]byte(metaFormat))) != tracesFormat {
				return &DamageError{File: t.path, Reason: "buckets"}
			}
			if !bytes.Equal(meta.Get([]byte(metaSite)), t.o.Site[:]) || !bytes.Equal(meta.Get([]byte(metaBox)), t.o.Box[:]) {
				return fmt.Errorf("store: %s: %w", t.path, ErrIdentity)
			}
			return nil
		})
	})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	t.db = db
	return nil
}

func (t *Traces) create() error {
	return createBolt(t.path, t.fileMax(), "create traces", func(tx *bolt.Tx) error {
		meta, err := createBuckets(tx, bytes.Clone(t.o.Site[:]), bytes.Clone(t.o.Box[:]), tracesBucket, idsBucket, revisionsBucket)
		if err != nil {
			return err
		}
		return errors.Join(meta.Put([]byte(metaFormat), []byte(tracesFormat)), meta.Put([]byte(metaBytes), make([]byte, 16)))
	})
}

// with runs fn unless the file is closed.
func (t *Traces) with(op string, fn func() error) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.gone {
		return fmt.Errorf("store: traces: %s: %w", op, ErrClosed)
	}
	if err := guard(op, fn); err != nil {
		return fmt.Errorf("store: traces: %s: %w", op, err)
	}
	return nil
}

// Keep makes traces and revisions durable, in one transaction, and lets the oldest go. One that is there already is replaced. Errors:
// ErrClosed, ErrDamaged, what the disk says.
func (t *Traces) Keep(traces []KeptTrace, revisions []KeptRevisions) error {
	if len(traces) == 0 && len(revisions) == 0 {
		return nil
	}
	return t.with("keep", func() error {
		return t.db.Update(func(tx *bolt.Tx) error {
			meta := tx.Bucket([]byte(metaBucket))
			size := meta.Get([]byte(metaBytes))
			used := [2]int64{int64(binary.BigEndian.Uint64(size)), int64(binary.BigEndian.Uint64(size[8:]))}
			ts, ids, revs := tx.Bucket([]byte(tracesBucket)), tx.Bucket([]byte(idsBucket)), tx.Bucket([]byte(revisionsBucket))
			for i := range traces {
				k := &traces[i]
				if len(k.Value) > traceValueMax || k.Begin < 0 {
					continue
				}
				if old := ids.Get(k.ID[:]); old != nil {
					used[0] -= drop(ts, append(bytes.Clone(old), k.ID[:]...), traceOverhead)
				}
				begin := binary.BigEndian.AppendUint64(nil, uint64(k.Begin))
				if err := errors.Join(ts.Put(append(bytes.Clone(begin), k.ID[:]...), k.Value), ids.Put(bytes.Clone(k.ID[:]), begin)); err != nil {
					return err
				}
				used[0] += int64(len(k.Value)) + traceOverhead
			}
			for i := range revisions {
				key := binary.BigEndian.AppendUint64(nil, revisions[i].From)
				used[1] -= drop(revs, key, 8)
				if err := revs.Put(key, revisions[i].Value); err != nil {
					return err
				}
				used[1] += int64(len(revisions[i].Value)) + 8
			}
			c := ts.Cursor()
			for k, v := c.First(); k != nil && used[0] > t.o.BytesMax; k, v = c.First() {
				used[0] -= int64(len(v)) + traceOverhead
				if err := errors.Join(ids.Delete(k[8:]), c.Delete()); err != nil {
					return err
				}
			}
			c = revs.Cursor()
			for k, v := c.First(); k != nil && used[1] > revisionsBytesMax; k, v = c.First() {
				used[1] -= int64(len(v)) + 8
				if err := c.Delete(); err != nil {
					return err
				}
			}
			return meta.Put([]byte(metaBytes), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(used[0])), uint64(used[1])))
		})
	})
}

// drop removes a key and says how many bytes that gave. bbolt's error, of a transaction that cannot write, shows at the next Put.
func drop(b *bolt.Bucket, key []byte, overhead int64) int64 {
	v := b.Get(key)
	if v == nil {
		return 0
	}
	n := int64(len(v)) + overhead
	_ = b.Delete(key)
	return n
}

// Get is the value of a trace, the caller's. Errors: ErrNotFound, ErrClosed, ErrDamaged.
func (t *Traces) Get(id [16]byte) (value []byte, err error) {
	err = t.with("get", func() error {
		return t.db.View(func(tx *bolt.Tx) error {
			begin := tx.Bucket([]byte(idsBucket)).Get(id[:])
			if begin == nil {
				return ErrNotFound
			}
			value = bytes.Clone(tx.Bucket([]byte(tracesBucket)).Get(append(bytes.Clone(begin), id[:]...)))
			return nil
		})
	})
	return value, err
}

// Each calls fn for the traces that began at since or later (Unix nanoseconds), the newest first, until it returns false. The value is
// valid during the call. Errors: ErrClosed, ErrDamaged.
func (t *Traces) Each(since int64, fn func(value []byte) bool) error {
	return t.with("read", func() error {
		return t.db.View(func(tx *bolt.Tx) error {
			c := tx.Bucket([]byte(tracesBucket)).Cursor()
			for k, v := c.Last(); k != nil && int64(binary.BigEndian.Uint64(k)) >= since; k, v = c.Prev() {
				if !fn(v) {
					return nil
				}
			}
			return nil
		})
	})
}

// Revisions is what was kept of the revisions of which one is revision, as far as the store can tell: the caller looks. The value is the
// caller's. Errors: ErrNotFound, ErrClosed, ErrDamaged.
func (t *Traces) Revisions(revision uint64) (value []byte, err error) {
	err = t.with("revisions", func() error {
		return t.db.View(func(tx *bolt.Tx) error {
			c := tx.Bucket([]byte(revisionsBucket)).Cursor()
			k, v := c.Seek(binary.BigEndian.AppendUint64(nil, revision))
			if k == nil {
				k, v = c.Last()
			}
			for k != nil && binary.BigEndian.Uint64(k) >= revision {
				k, v = c.Prev()
			}
			if k == nil {
				return ErrNotFound
			}
			value = bytes.Clone(v)
			return nil
		})
	})
	return value, err
}

// Size is what the traces take, and the begin of the oldest (Unix nanoseconds; math.MaxInt64: there is none).
func (t *Traces) Size() (used, limit, oldest int64, err error) {
	oldest = math.MaxInt64
	err = t.with("size", func() error {
		return t.db.View(func(tx *bolt.Tx) error {
			used = int64(binary.BigEndian.Uint64(tx.Bucket([]byte(metaBucket)).Get([]byte(metaBytes))))
			if k, _ := tx.Bucket([]byte(tracesBucket)).Cursor().First(); k != nil {
				oldest = int64(binary.BigEndian.Uint64(k))
			}
			return nil
		})
	})
	return used, t.o.BytesMax, oldest, err
}

// Close closes the file.
func (t *Traces) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return nil
	}
	t.gone = true
	return guard("traces: close", t.db.Close)
}
