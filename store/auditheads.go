package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// compareRecords is how many records are compared with their hashes in one transaction: a long one keeps the file from using its free pages.
const compareRecords = 1024

// NextHead is what the box orders after its last ordered head, nil when nothing is new. All that it covers is durable: no power cut makes the
// log shorter than the head. The first call after OpenAudit reads all records, to see that they are those that were hashed. Errors:
// audit.ErrShortened and ErrRewritten (this log is not the one that last is of, or a record is not what was written), audit.ErrPruned, ErrClosed,
// ErrDamaged.
func (a *Audit) NextHead(last audit.Top) (h *audit.Head, err error) {
	if err := a.compare(); err != nil {
		return nil, err
	}
	err = a.tree("head", func(t *audit.Tree, _ *bolt.Tx) (err error) {
		h, err = t.NextHead(a.o.Box, last)
		return err
	})
	return h, err
}

// compare compares the records that it has not seen since the start with their hashes.
func (a *Audit) compare() error {
	for {
		from := a.compared.Load()
		to := from
		err := a.tree("compare", func(t *audit.Tree, tx *bolt.Tx) error {
			n, ok := decodeNumbers(tx.Bucket([]byte(metaBucket)).Get([]byte(metaNumbers)))
			if !ok {
				return &DamageError{File: a.path, Reason: "numbers"}
			}
			from = max(from, n.first)
			to = min(from+compareRecords, n.size)
			var tile []byte
			for i := from; i < to; i++ {
				v, err := a.value(tx, recordsBucket, indexKey(i))
				if err != nil {
					return err
				}
				at := i % audit.TileHashes
				if i == from || at == 0 {
					tile = t.Tile(0, i/audit.TileHashes)
				}
				if leaf := audit.LeafHash(v); v == nil || int64(len(tile)) < (at+1)*int64(len(leaf)) || !bytes.Equal(leaf[:], tile[at*int64(len(leaf)):][:len(leaf)]) {
					return fmt.Errorf("store: audit: %w: record %d is not what was written; holdfast audit verify says more", audit.ErrRewritten, i)
				}
			}
			return nil
		})
		if err != nil || to <= from {
			return err
		}
		a.compared.Store(to)
	}
}

// Proof is the proof of a record by the newest of the box's heads. Errors: ErrNotFound (no such record, or no head covers it yet),
// audit.ErrPruned, ErrClosed, ErrDamaged.
func (a *Audit) Proof(index int64) (*audit.Proof, error) {
	p := new(audit.Proof)
	return p, a.tree("prove", func(t *audit.Tree, tx *bolt.Tx) error {
		size := newestHead(tx, a.o.Box)
		if index < 0 || index >= min(size, t.Size) {
			return fmt.Errorf("store: audit: record %d; heads cover %d: %w", index, size, ErrNotFound)
		}
		v, err := a.value(tx, recordsBucket, indexKey(index))
		if err != nil {
			return err
		}
		if v == nil {
			return fmt.Errorf("store: audit: record %d is pruned: %w", index, ErrNotFound)
		}
		r, err := audit.Decode(v)
		var head []byte
		if err == nil {
			head, err = a.value(tx, headsBucket, headKey(a.o.Box, size))
		}
		if err == nil {
			err = json.Unmarshal(head, &p.Head)
		}
		if err != nil {
			return &DamageError{File: a.path, Reason: fmt.Sprintf("record %d or its head: %v", index, err)}
		}
		p.Entry = audit.Entry{Index: index, Record: *r}
		p.Head.Marks = nil // they are no part of what is shown
		p.Path, err = t.Include(size, index)
		return err
	})
}

// KeepHead makes a signed head durable; that it is signed and follows the others is checked before. The newest of each box stay, up to
// a size. Errors: ErrFull, ErrFailed, ErrClosed.
func (a *Audit) KeepHead(h *audit.SignedHead) error {
	value, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("store: audit: head: %w", err)
	}
	a.w.Lock()
	defer a.w.Unlock()
	return a.update("keep head", func(tx *bolt.Tx, _ *auditNumbers) error {
		heads := tx.Bucket([]byte(headsBucket))
		if newestHead(tx, h.Box) == 0 {
			if err := a.makePlace(heads); err != nil {
				return err
			}
		}
		k := headKey(h.Box, h.Size)
		if err := heads.Put(k, a.seal(headsBucket, k, value)); err != nil {
			return err
		}
		size := 0
		var old [][]byte
		c := heads.Cursor()
		// From the newest down; what does not fit any more goes.
		for k, v := c.Seek(headKey(h.Box, newestHead(tx, h.Box))); bytes.HasPrefix(k, h.Box[:]); k, v = c.Prev() {
			if size += len(k) + len(v); size > auditHeadBytesMax {
				old = append(old, bytes.Clone(k))
			}
		}
		return deleteAll(heads, old)
	})
}

// makePlace removes the heads of the box that was heard of longest ago when there are auditBoxesMax.
func (a *Audit) makePlace(heads *bolt.Bucket) error {
	newest := map[coord.BoxID]uint64{} // the height of each box's last head
	err := heads.ForEach(func(k, v []byte) error {
		var h struct{ Height uint64 }
		if v, err := a.open(headsBucket, k, v); err == nil {
			_ = json.Unmarshal(v, &h) // one that cannot be read is the oldest
		}
		newest[coord.BoxID(k)] = h.Height
		return nil
	})
	if err != nil || len(newest) < auditBoxesMax {
		return err
	}
	who, oldest := coord.BoxID{}, uint64(math.MaxUint64)
	for b, h := range newest {
		if h < oldest || h == oldest && bytes.Compare(b[:], who[:]) < 0 {
			who, oldest = b, h
		}
	}
	var keys [][]byte
	c := heads.Cursor()
	for k, _ := c.Seek(who[:]); bytes.HasPrefix(k, who[:]); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	return deleteAll(heads, keys)
}

// Heads are the heads of a box that are kept, by size. Errors: ErrDamaged, ErrClosed.
func (a *Audit) Heads(box coord.BoxID) (out []audit.SignedHead, err error) {
	err = a.view("heads", func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(headsBucket)).Cursor()
		for k, v := c.Seek(box[:]); bytes.HasPrefix(k, box[:]); k, v = c.Next() {
			v, err := a.open(headsBucket, k, v)
			if err != nil {
				return err
			}
			var h audit.SignedHead
			if err := json.Unmarshal(v, &h); err != nil {
				return &DamageError{File: a.path, Reason: fmt.Sprintf("head %x: %v", k, err)}
			}
			out = append(out, h)
		}
		return nil
	})
	return out, err
}

// newestHead is the size of a box's newest head, 0 for none.
func newestHead(tx *bolt.Tx, box coord.BoxID) int64 {
	c := tx.Bucket([]byte(headsBucket)).Cursor()
	k, _ := c.Seek(headKey(box, -1)) // the highest key of the box, or behind it
	if k == nil {
		k, _ = c.Last()
	} else if !bytes.HasPrefix(k, box[:]) {
		k, _ = c.Prev()
	}
	if len(k) != 16 || !bytes.HasPrefix(k, box[:]) {
		return 0
	}
	return int64(binary.BigEndian.Uint64(k[8:]))
}
