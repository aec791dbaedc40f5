package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// The history of metrics has a file of its own, which may be lost: a damaged one, or one of another key, gives way to an empty one. Buckets,
// numbers big-endian:
//
//	meta    "format", "site" and "box" as in holdfast.db
//	names   series (4) -> what it is, of firmware/history
//	blocks  tier (1) || number (8) -> its times, coord/observe.EncodeTimes
//	groups  tier (1) || number (8) || group (4) -> coord/observe.Segment.EncodeGroup
const (
	seriesName   = "series.db"
	namesBucket  = "names"
	blocksBucket = "blocks"
	groupsBucket = "groups"

	// SeriesBytesMax is the default size of the file: for about 600 series, see docs/metrics.md; a box has 300 and more.
	SeriesBytesMax = 96 << 20
	// SeriesBytesMin is the smallest size that is of use: a day or two.
	SeriesBytesMin = 4 << 20
	// seriesAllocBytes is the step in which the file grows.
	seriesAllocBytes = 512 << 10
)

// SeriesOptions of OpenSeries.
type SeriesOptions struct {
	Site coord.SiteID
	Box  coord.BoxID
	// BytesMax is what the file never grows beyond, SeriesBytesMax by default.
	BytesMax int64
	// Key encrypts; Store.Key gives it. nil: in clear.
	Key    *crypt.Key
	Logger *slog.Logger
}

// Series is the history of a box's metrics on the disk. Its methods may be used by many goroutines.
type Series struct {
	o      SeriesOptions
	path   string
	db     *bolt.DB
	values sealer
}

// BlockID names a block of samples: Tier is its resolution, Number counts up.
type BlockID struct {
	Tier   uint8
	Number uint64
}

func (b BlockID) key() []byte { return binary.BigEndian.AppendUint64([]byte{b.Tier}, b.Number) }

func (b BlockID) groupKey(group uint32) []byte { return binary.BigEndian.AppendUint32(b.key(), group) }

// SeriesBlock is a block to be written, in place of what there is of its ID. Groups nil: only its times change.
type SeriesBlock struct {
	BlockID
	Times  []byte
	Groups map[uint32][]byte
}

// OpenSeries opens the history in dir, or makes an empty one, also in place of one that cannot be read.
func OpenSeries(dir string, o SeriesOptions) (*Series, error) {
	if o.BytesMax <= 0 {
		o.BytesMax = SeriesBytesMax
	}
	o.BytesMax = max(o.BytesMax, SeriesBytesMin)
	s := &Series{o: o, path: filepath.Join(dir, seriesName), values: sealerOf(o.Key, "series", o.Site, o.Box)}
	err := s.open()
	if err == nil || errors.Is(err, ErrLocked) {
		return s, err
	}
	if !errors.Is(err, os.ErrNotExist) {
		o.Logger.Warn("the history of metrics cannot be read; it begins anew", "err", err)
	}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("store: create %s: %w", s.path, err)
	}
	return s, s.open()
}

func (s *Series) open() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	if info.Size() > s.o.BytesMax { // the budget was made smaller: bbolt's files do not shrink
		return fmt.Errorf("store: %s has %d bytes, the budget is %d: %w", s.path, info.Size(), s.o.BytesMax, ErrFull)
	}
	db, err := openBolt(s.path, s.o.BytesMax, false)
	if err != nil {
		return err
	}
	db.AllocSize = seriesAllocBytes
	err = guard("series: open", func() error { return db.View(s.readMeta) })
	if err != nil {
		return errors.Join(err, db.Close())
	}
	s.db = db
	return nil
}

func (s *Series) create() error {
	return createBolt(s.path, s.o.BytesMax, "series: create", func(tx *bolt.Tx) error {
		meta, err := createBuckets(tx, bytes.Clone(s.o.Site[:]), bytes.Clone(s.o.Box[:]), namesBucket, blocksBucket, groupsBucket)
		if err != nil {
			return err
		}
		return s.values.mark(meta)
	})
}

func (s *Series) readMeta(tx *bolt.Tx) error {
	for _, name := range []string{metaBucket, namesBucket, blocksBucket, groupsBucket} {
		if tx.Bucket([]byte(name)) == nil {
			return &DamageError{File: s.path, Reason: "no bucket " + name}
		}
	}
	meta := tx.Bucket([]byte(metaBucket))
	if err := s.values.check(s.path, meta.Get([]byte(metaFormat)), meta.Get([]byte(metaKey))); err != nil {
		return err
	}
	if !bytes.Equal(meta.Get([]byte(metaSite)), s.o.Site[:]) || !bytes.Equal(meta.Get([]byte(metaBox)), s.o.Box[:]) {
		return fmt.Errorf("store: %s: %w", s.path, ErrIdentity)
	}
	return nil
}

// Names calls fn with what each series is; the value is fn's. Errors: ErrDamaged, fn's.
func (s *Series) Names(fn func(id uint32, what []byte) error) error {
	return s.each(namesBucket, 4, func(k, v []byte) error { return fn(binary.BigEndian.Uint32(k), v) })
}

// Blocks calls fn for each block, by tier and number; times is fn's. Errors: ErrDamaged, fn's.
func (s *Series) Blocks(fn func(b BlockID, times []byte, size int64) error) error {
	sizes := map[BlockID]int64{}
	err := guard("series: blocks", func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(groupsBucket)).ForEach(func(k, v []byte) error {
				if len(k) == 13 {
					sizes[blockID(k)] += int64(len(k) + len(v))
				}
				return nil
			})
		})
	})
	if err != nil {
		return err
	}
	return s.each(blocksBucket, 9, func(k, v []byte) error {
		b := blockID(k)
		return fn(b, v, sizes[b]+int64(len(k)+len(v)))
	})
}

func blockID(k []byte) BlockID { return BlockID{k[0], binary.BigEndian.Uint64(k[1:])} }

func (s *Series) each(bucket string, keyBytes int, fn func(k, v []byte) error) error {
	return guard("series: read", func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			return tx.Bucket([]byte(bucket)).ForEach(func(k, stored []byte) error {
				v, err := s.values.open(nil, []byte(bucket), k, stored)
				if err != nil || len(k) != keyBytes {
					return &DamageError{File: s.path, Reason: fmt.Sprintf("%s %x: %v", bucket, k, err)}
				}
				return fn(k, bytes.Clone(v))
			})
		})
	})
}

// Group is what was written of a group of a block; the slice is the caller's, nil when there is nothing. Errors: ErrDamaged.
func (s *Series) Group(b BlockID, group uint32) (v []byte, err error) {
	k := b.groupKey(group)
	err = guard("series: read", func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			stored := tx.Bucket([]byte(groupsBucket)).Get(k)
			if stored == nil {
				return nil
			}
			clear, err := s.values.open(nil, []byte(groupsBucket), k, stored)
			if err != nil {
				return &DamageError{File: s.path, Reason: fmt.Sprintf("%s %x: %v", groupsBucket, k, err)}
			}
			v = bytes.Clone(clear)
			return nil
		})
	})
	return v, err
}

// Write makes names, blocks and the absence of others durable together. Errors: ErrFull (nothing happened), ErrFailed.
func (s *Series) Write(names map[uint32][]byte, blocks []SeriesBlock, drop []BlockID) error {
	put := func(tx *bolt.Tx, bucket string, k, v []byte) error {
		return tx.Bucket([]byte(bucket)).Put(k, s.values.seal([]byte(bucket), k, v))
	}
	err := guard("series: write", func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			for _, b := range drop {
				if err := dropBlock(tx, b); err != nil {
					return err
				}
			}
			for id, what := range names {
				if err := put(tx, namesBucket, binary.BigEndian.AppendUint32(nil, id), what); err != nil {
					return err
				}
			}
			for _, b := range blocks {
				if err := put(tx, blocksBucket, b.key(), b.Times); err != nil {
					return err
				}
				for g, v := range b.Groups {
					if err := put(tx, groupsBucket, b.groupKey(g), v); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	switch {
	case err == nil:
		return nil
	case noSpace(err):
		return fmt.Errorf("store: series: %w: %w", ErrFull, err)
	}
	return fmt.Errorf("store: series: %w: %w", ErrFailed, err)
}

func dropBlock(tx *bolt.Tx, b BlockID) error {
	groups, prefix := tx.Bucket([]byte(groupsBucket)), b.key()
	var gone [][]byte
	c := groups.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		gone = append(gone, bytes.Clone(k))
	}
	for _, k := range gone {
		if err := groups.Delete(k); err != nil {
			return err
		}
	}
	return tx.Bucket([]byte(blocksBucket)).Delete(prefix)
}

// BytesMax is what the file never grows beyond.
func (s *Series) BytesMax() int64 { return s.o.BytesMax }

// Close closes the file.
func (s *Series) Close() error { return s.db.Close() }
