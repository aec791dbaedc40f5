package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Columns of a body. A column of n small numbers is one msgpack number when all are equal and n > 0, else a binary
// of varints. A column of n 64-bit numbers is a binary: of exactly 8n bytes, the numbers as they are,
// big-endian; shorter, a form that depends on the column. So it never takes more than 8 bytes a number.

// appendDeltas appends each number's difference to the one before (the first: to 0) as a zigzag
// varint.
func appendDeltas[T uint64 | int64](dst []byte, v []T) []byte {
	dst = slices.Grow(dst, len(v)*binary.MaxVarintLen64)
	before := T(0)
	for _, x := range v {
		d := int64(x - before)
		before = x
		z := uint64(d<<1) ^ uint64(d>>63)
		if z < 0x80 {
			dst = append(dst, byte(z))
			continue
		}
		dst = binary.AppendUvarint(dst, z)
	}
	return dst
}

// readDeltas reads what appendDeltas wrote for len(v) numbers.
func readDeltas[T uint64 | int64](v []T, b []byte) error {
	before, at := T(0), 0
	for i := range v {
		if at == len(b) {
			return fmt.Errorf("%w: %d deltas of %d", ErrLength, i, len(v))
		}
		z := uint64(b[at])
		if z < 0x80 {
			at++
		} else {
			var n int
			if z, n = binary.Uvarint(b[at:]); n <= 0 {
				return fmt.Errorf("%w: varint", ErrFormat)
			}
			at += n
		}
		before += T(z>>1) ^ -T(z&1)
		v[i] = before
	}
	if at != len(b) {
		return fmt.Errorf("%w: %d bytes after %d deltas", ErrLength, len(b)-at, len(v))
	}
	return nil
}

// appendRuns appends, for each run of equal numbers, how many (varint) and the number (8 bytes).
func appendRuns(dst []byte, v []uint64) []byte {
	for i := 0; i < len(v); {
		j := i + 1
		for j < len(v) && v[j] == v[i] {
			j++
		}
		dst = binary.AppendUvarint(dst, uint64(j-i))
		dst = binary.BigEndian.AppendUint64(dst, v[i])
		i = j
	}
	return dst
}

// readRuns reads what appendRuns wrote for len(v) numbers.
func readRuns(v []uint64, b []byte) error {
	for len(b) > 0 {
		run, n := binary.Uvarint(b)
		if n <= 0 || len(b) < n+8 {
			return fmt.Errorf("%w: run", ErrFormat)
		}
		if run == 0 || run > uint64(len(v)) {
			return fmt.Errorf("%w: a run of %d where %d numbers are left", ErrLength, run, len(v))
		}
		x := binary.BigEndian.Uint64(b[n:])
		for i := range v[:run] {
			v[i] = x
		}
		v, b = v[run:], b[n+8:]
	}
	if len(v) != 0 {
		return fmt.Errorf("%w: runs end %d numbers early", ErrLength, len(v))
	}
	return nil
}

// appendPlain appends the numbers as they are.
func appendPlain[T uint64 | int64](dst []byte, v []T) []byte {
	for _, x := range v {
		dst = binary.BigEndian.AppendUint64(dst, uint64(x))
	}
	return dst
}

func readPlain[T uint64 | int64](v []T, b []byte) {
	for i := range v {
		v[i] = T(binary.BigEndian.Uint64(b[8*i:]))
	}
}

// sameLength says whether all things of a slab have one length.
func sameLength(end []uint32) (each uint32, same bool) {
	if len(end) == 0 {
		return 0, false
	}
	each = end[0]
	for i, e := range end {
		if e != each*uint32(i+1) {
			return 0, false
		}
	}
	return each, true
}

// appendLengths appends the lengths as varints.
func appendLengths(dst []byte, end []uint32) []byte {
	before := uint32(0)
	for _, e := range end {
		dst = binary.AppendUvarint(dst, uint64(e-before))
		before = e
	}
	return dst
}

// readLengths reads what appendLengths wrote into end offsets: none above most, together total.
func readLengths(end []uint32, b []byte, most, total int) error {
	sum, at := uint64(0), 0
	for i := range end {
		if at == len(b) {
			return fmt.Errorf("%w: %d lengths of %d", ErrLength, i, len(end))
		}
		l := uint64(b[at])
		if l < 0x80 {
			at++
		} else {
			var n int
			if l, n = binary.Uvarint(b[at:]); n <= 0 {
				return fmt.Errorf("%w: varint", ErrFormat)
			}
			at += n
		}
		if l > uint64(most) {
			return fmt.Errorf("%w: %d bytes where at most %d can be", ErrLimit, l, most)
		}
		sum += l
		end[i] = uint32(sum)
	}
	if at != len(b) || sum != uint64(total) {
		return fmt.Errorf("%w: lengths of %d bytes for %d", ErrLength, sum, total)
	}
	return nil
}

// fillLengths makes the end offsets of things of one length.
func fillLengths(end []uint32, each uint32) {
	sum := uint32(0)
	for i := range end {
		sum += each
		end[i] = sum
	}
}

// resize gives s length n and keeps its memory; what it holds is not defined.
func resize[S ~[]E, E any](s S, n int) S {
	return slices.Grow(s[:0], n)[:n]
}
