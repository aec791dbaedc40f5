package store

import (
	"errors"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// createBolt makes the file path with what fill writes into it, durable before it has its name: bbolt's own initialisation is not safe
// from a power cut (etcd #16596). What an earlier try left is overwritten. op names it in errors.
func createBolt(path string, bytesMax int64, op string, fill func(tx *bolt.Tx) error) error {
	if err := os.Remove(path + newSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := openBolt(path+newSuffix, bytesMax, true)
	if err != nil {
		return err
	}
	err = guard(op, func() error { return db.Update(fill) })
	if err == nil {
		err = db.Sync()
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return err
	}
	return OS{}.SyncDir(filepath.Dir(path))
}

// createBuckets makes the buckets, and the one that says whose file it is, which it gives.
func createBuckets(tx *bolt.Tx, site, box []byte, names ...string) (meta *bolt.Bucket, err error) {
	for _, name := range append(names, metaBucket) {
		if meta, err = tx.CreateBucket([]byte(name)); err != nil {
			return nil, err
		}
	}
	return meta, errors.Join(meta.Put([]byte(metaSite), site), meta.Put([]byte(metaBox), box))
}
