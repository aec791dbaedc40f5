package wire

import (
	"encoding/binary"
	"math/bits"
)

// transpose writes the rows x cols bytes of src to dst column by column: byte c of row r goes
// from src[r*cols+c] to dst[c*rows+r]. Blocks of 8 x 8 bytes are turned in eight registers; the last block
// of a row or column overlaps the one before, so that no rest is left. dst and src do not overlap.
func transpose(dst, src []byte, rows, cols int) {
	if rows < 8 || cols < 8 {
		for r := range rows {
			for c, x := range src[r*cols : (r+1)*cols] {
				dst[c*rows+r] = x
			}
		}
		return
	}
	for r := 0; r < rows; r += 8 {
		r := min(r, rows-8)
		for c := 0; c < cols; c += 8 {
			c := min(c, cols-8)
			turn(dst[c*rows+r:], src[r*cols+c:], rows, cols)
		}
	}
}

// turn transposes one block of 8 x 8 bytes: swap bytes of pairs of rows, then pairs of
// bytes, then halves (Warren, Hacker's Delight, 7-3, with bytes for bits).
func turn(dst, src []byte, rows, cols int) {
	const (
		ones  = 0x00ff00ff00ff00ff
		twos  = 0x0000ffff0000ffff
		fours = 0x00000000ffffffff
	)
	_ = src[7*cols+7]
	_ = dst[7*rows+7]
	a := binary.LittleEndian.Uint64(src)
	b := binary.LittleEndian.Uint64(src[cols:])
	c := binary.LittleEndian.Uint64(src[2*cols:])
	d := binary.LittleEndian.Uint64(src[3*cols:])
	e := binary.LittleEndian.Uint64(src[4*cols:])
	f := binary.LittleEndian.Uint64(src[5*cols:])
	g := binary.LittleEndian.Uint64(src[6*cols:])
	h := binary.LittleEndian.Uint64(src[7*cols:])

	a, b = a&ones|b&ones<<8, a>>8&ones|b&^ones
	c, d = c&ones|d&ones<<8, c>>8&ones|d&^ones
	e, f = e&ones|f&ones<<8, e>>8&ones|f&^ones
	g, h = g&ones|h&ones<<8, g>>8&ones|h&^ones

	a, c = a&twos|c&twos<<16, a>>16&twos|c&^twos
	b, d = b&twos|d&twos<<16, b>>16&twos|d&^twos
	e, g = e&twos|g&twos<<16, e>>16&twos|g&^twos
	f, h = f&twos|h&twos<<16, f>>16&twos|h&^twos

	binary.LittleEndian.PutUint64(dst, a&fours|e<<32)
	binary.LittleEndian.PutUint64(dst[rows:], b&fours|f<<32)
	binary.LittleEndian.PutUint64(dst[2*rows:], c&fours|g<<32)
	binary.LittleEndian.PutUint64(dst[3*rows:], d&fours|h<<32)
	binary.LittleEndian.PutUint64(dst[4*rows:], a>>32|e&^fours)
	binary.LittleEndian.PutUint64(dst[5*rows:], b>>32|f&^fours)
	binary.LittleEndian.PutUint64(dst[6*rows:], c>>32|g&^fours)
	binary.LittleEndian.PutUint64(dst[7*rows:], d>>32|h&^fours)
}

const (
	// transposeRowsMin: below 16 rows a run of equal bytes is too short for snappy.
	transposeRowsMin = 16
	// sampleRows is how many pairs of neighbours are looked at, spread over the slab.
	sampleRows = 8
)

// transposePays estimates from a sample whether rows x cols bytes compress better by columns: when at least a
// quarter of the bytes equal the one above, and not nearly all: copies compress best as they are (figures in
// docs/wire.md).
func transposePays(src []byte, rows, cols int) bool {
	if rows < transposeRowsMin || cols < 2 {
		return false
	}
	equal, seen := 0, 0
	step := (rows - 1) / sampleRows
	for i := range sampleRows {
		above := src[i*step*cols:][: 2*cols : 2*cols]
		below := above[cols:]
		at := 0
		for ; at+8 <= cols; at += 8 {
			equal += equalBytes(binary.LittleEndian.Uint64(above[at:]), binary.LittleEndian.Uint64(below[at:]))
		}
		for ; at < cols; at++ {
			if above[at] == below[at] {
				equal++
			}
		}
		seen += cols
	}
	return 4*equal >= seen && 16*equal < 15*seen
}

// equalBytes counts the places where x and y have equal bytes.
func equalBytes(x, y uint64) int {
	const low7 = 0x7f7f7f7f7f7f7f7f
	d := x ^ y
	// The top bit of a byte of t is set where d's byte is not 0; no carry leaves a byte.
	t := (d&low7 + low7) | d
	return 8 - bits.OnesCount64(t&^low7)
}
