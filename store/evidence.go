package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
)

// The bucket of evidence is made with the first finding. It is no part of the state: Install carries it over. A key is
// box (8 bytes) || epoch || rule || round or term (numbers big-endian of 8 bytes), a value the JSON of a
// coord.Finding. The key evidenceMore, which is shorter, counts what found no room.
const (
	evidenceBucket = "evidence"
	evidenceMore   = "more"
)

// KeepEvidence makes a finding durable, once for each box, epoch, rule and place; the oldest coord.EvidenceMax of a box
// stay, the rest is counted. kept is false when nothing was new. Errors: ErrFull, ErrFailed, ErrTooLarge, ErrFormat.
func (b *Base) KeepEvidence(f *coord.Finding) (kept bool, err error) {
	rule, at := coord.Conflict(&f.A, &f.B, f.TermRounds)
	if rule == 0 {
		return false, fmt.Errorf("store: evidence of nothing: %w", ErrFormat)
	}
	value, err := json.Marshal(f)
	if err != nil {
		return false, fmt.Errorf("store: evidence: %w", err)
	}
	if len(value) > coord.FindingBytesMax {
		return false, fmt.Errorf("store: evidence of %d bytes: %w", len(value), ErrTooLarge)
	}
	key := append([]byte{}, f.Box[:]...)
	for _, n := range []uint64{f.A.Epoch, uint64(rule), at} {
		key = binary.BigEndian.AppendUint64(key, n)
	}
	b.w.Lock()
	defer b.w.Unlock()
	db, err := b.writable("evidence")
	if err != nil {
		return false, err
	}
	err = guard("evidence", func() error {
		return db.Update(func(tx *bolt.Tx) error {
			bk, err := tx.CreateBucketIfNotExists([]byte(evidenceBucket))
			if err != nil || bk.Get(key) != nil {
				return err
			}
			n := 0
			c := bk.Cursor()
			for k, _ := c.Seek(f.Box[:]); len(k) > len(f.Box) && coord.BoxID(k[:len(f.Box)]) == f.Box; k, _ = c.Next() {
				n++
			}
			if n >= coord.EvidenceMax {
				return bk.Put([]byte(evidenceMore), binary.BigEndian.AppendUint64(nil, more(bk)+1))
			}
			kept = true
			return bk.Put(key, value)
		})
	})
	switch {
	case err == nil:
		return kept, nil
	case noSpace(err):
		return false, fmt.Errorf("store: evidence: %w: %w", ErrFull, err)
	}
	return false, b.fuse.blow("evidence", err)
}

func more(bk *bolt.Bucket) uint64 {
	if v := bk.Get([]byte(evidenceMore)); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// Evidence is all that KeepEvidence kept. Errors: ErrDamaged, ErrClosed.
func (b *Base) Evidence() (*coord.Exhibit, error) {
	x := &coord.Exhibit{Site: b.o.Site, Findings: []coord.Finding{}}
	tx, err := b.begin("evidence")
	if err != nil {
		return nil, err
	}
	defer tx.end()
	return x, guard("evidence", func() error {
		bk := tx.Bucket([]byte(evidenceBucket))
		if bk == nil {
			return nil
		}
		x.More = more(bk)
		return bk.ForEach(func(k, v []byte) error {
			if string(k) == evidenceMore || len(x.Findings) >= coord.MembersMax*coord.EvidenceMax {
				return nil
			}
			var f coord.Finding
			if err := json.Unmarshal(v, &f); err != nil {
				return &DamageError{File: b.path, Reason: fmt.Sprintf("evidence: %v", err)}
			}
			x.Findings = append(x.Findings, f)
			return nil
		})
	})
}
