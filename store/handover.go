package store

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// The bucket of handovers is made with the first. It is no part of the state, for each box has other signatures in them: Install carries it
// over. A key is the epoch that ended (big-endian of 8 bytes), a value wire.AppendHandover.
const (
	handoverBucket = "handovers"
	// handoversMax is how many are kept, the newest: as many as coord/site uses.
	handoversMax = 128
)

// putHandover keeps a handover in place of one of the same epoch.
func putHandover(tx *bolt.Tx, h *coord.Handover) error {
	bk, err := tx.CreateBucketIfNotExists([]byte(handoverBucket))
	if err != nil {
		return err
	}
	epoch := h.Members.Epoch
	if err := bk.Put(binary.BigEndian.AppendUint64(nil, epoch), wire.AppendHandover(nil, h)); err != nil {
		return err
	}
	for c := bk.Cursor(); ; {
		k, _ := c.First()
		if len(k) != 8 || binary.BigEndian.Uint64(k)+handoversMax > epoch {
			return nil
		}
		if err := bk.Delete(bytes.Clone(k)); err != nil {
			return err
		}
	}
}

// KeepHandover makes durable how an epoch ended, in place of what was kept of that epoch. Errors: ErrFull, ErrFailed.
func (b *Base) KeepHandover(h *coord.Handover) error {
	b.w.Lock()
	defer b.w.Unlock()
	db, err := b.writable("handover")
	if err != nil {
		return err
	}
	err = guard("handover", func() error { return db.Update(func(tx *bolt.Tx) error { return putHandover(tx, h) }) })
	switch {
	case err == nil:
		return nil
	case noSpace(err):
		return fmt.Errorf("store: handover: %w: %w", ErrFull, err)
	}
	return b.fuse.blow("handover", err)
}

// Handovers is those that are kept, ascending by epoch. Errors: ErrDamaged, ErrClosed.
func (b *Base) Handovers() (hs []*coord.Handover, err error) {
	tx, err := b.begin("handovers")
	if err != nil {
		return nil, err
	}
	defer tx.end()
	return hs, guard("handovers", func() error {
		bk := tx.Bucket([]byte(handoverBucket))
		if bk == nil {
			return nil
		}
		return bk.ForEach(func(_, v []byte) error {
			h, err := wire.DecodeHandover(v)
			if err != nil || !h.Fits() {
				return &DamageError{File: b.path, Reason: fmt.Sprintf("handover: %v", err)}
			}
			hs = append(hs, h)
			return nil
		})
	})
}

// carry copies a bucket that is no part of the state into the base that replaces another.
func carry(bucket string, from, to *bolt.Tx) error {
	old := from.Bucket([]byte(bucket))
	if old == nil {
		return nil
	}
	bk, err := to.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	return old.ForEach(func(k, v []byte) error { return bk.Put(k, bytes.Clone(v)) })
}
