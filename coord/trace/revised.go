package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrRevised says that bytes are not a list of Revised.
var ErrRevised = errors.New("trace: not a list of revisions")

// Revised says that the batch of index Batch in the block of a height took the state from revision From to revision To, To > From.
type Revised struct {
	From, To uint64
	Height   uint64
	Batch    uint32
}

// RevisedMax bounds the entries of one list, so that a search reads little.
const RevisedMax = 512

// AppendRevised appends a list: From of the first, then of each To and Height as the difference to the one before, and Batch, all as
// unsigned varints. Each must begin at the revision where the one before ends (see Follows), with a height that is not lower. Of a busy
// site an entry takes three bytes.
func AppendRevised(dst []byte, list []Revised) []byte {
	if len(list) == 0 {
		return dst
	}
	rev, height := list[0].From, uint64(0)
	dst = binary.AppendUvarint(dst, rev)
	for i := range list {
		e := &list[i]
		dst = binary.AppendUvarint(dst, e.To-rev)
		dst = binary.AppendUvarint(dst, e.Height-height)
		dst = binary.AppendUvarint(dst, uint64(e.Batch))
		rev, height = e.To, e.Height
	}
	return dst
}

// Follows says whether e can stand after before in one list.
func (e *Revised) Follows(before *Revised) bool {
	return e.From == before.To && e.Height >= before.Height
}

// DecodeRevised reads what AppendRevised wrote of one to RevisedMax entries. Errors: ErrRevised.
func DecodeRevised(b []byte) (list []Revised, err error) {
	bad := false
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	rev, height := next(), uint64(0)
	for !bad && len(b) > 0 && len(list) < RevisedMax {
		to, h, batch := next(), next(), next()
		if bad || to == 0 || rev+to < rev || height+h < height || batch > 1<<32-1 {
			bad = true
			break
		}
		height += h
		list = append(list, Revised{From: rev, To: rev + to, Height: height, Batch: uint32(batch)})
		rev += to
	}
	if bad || len(b) > 0 || len(list) == 0 {
		return nil, fmt.Errorf("%w: %d entries are whole", ErrRevised, len(list))
	}
	return list, nil
}

// Locate is the entry of a list, in order, that has a revision.
func Locate(list []Revised, revision uint64) (Revised, bool) {
	i, _ := slices.BinarySearchFunc(list, revision, func(e Revised, r uint64) int {
		if e.To < r {
			return -1
		}
		return 1
	})
	if i == len(list) || list[i].From >= revision {
		return Revised{}, false
	}
	return list[i], true
}
