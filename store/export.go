package store

import (
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

// exportEvery is how many entries Export writes in one transaction.
const exportEvery = 10_000

// Export makes a bbolt file with buckets, for programs that read such files. fn puts entries, best ascending within a bucket; what
// it is given it does not keep. The file is complete and durable when Export returns nil, and is removed otherwise.
func Export(path string, buckets []string, fn func(put func(bucket string, key, value []byte) error) error) (err error) {
	db, err := bolt.Open(path, fileMode, &bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("store: export: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("store: export: %w", err), os.Remove(path))
		}
	}()
	tx, err := db.Begin(true)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	for _, b := range buckets {
		if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
			return errors.Join(err, tx.Rollback(), db.Close())
		}
	}
	n := 0
	err = fn(func(bucket string, key, value []byte) error {
		if n++; n%exportEvery == 0 {
			if err := tx.Commit(); err != nil {
				return err
			}
			next, err := db.Begin(true)
			if err != nil {
				return err
			}
			tx = next
		}
		b := tx.Bucket([]byte(bucket))
		b.FillPercent = 0.9
		return b.Put(key, value)
	})
	if err != nil {
		_ = tx.Rollback() // the file goes
		return errors.Join(err, db.Close())
	}
	return errors.Join(tx.Commit(), db.Sync(), db.Close())
}
