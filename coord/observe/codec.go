package observe

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

// ErrFormat says that bytes are not what Encode wrote.
var ErrFormat = errors.New("observe: not a block of samples")

const (
	blockFormat = 1
	// BlockBytesMax bounds the content of a block before compression: a group of GroupSeries series with TimesMax times, ten bytes each.
	BlockBytesMax = 1 << 20
	// TimesMax bounds the times of a block.
	TimesMax = 512
	// GroupSeries is how many series are compressed together: series of one metric have neighbouring numbers and are asked for together, so
	// that a question reads little beside what it wants.
	GroupSeries = 64
)

// Ways in which a column is written.
const (
	wayInts = 0 // differences of whole numbers
	wayXOR  = 1 // each value's bits with those of the one before
	wayNano = 2 // differences of thousand-millionths: durations are whole nanoseconds
)

const nano = 1e9

// EncodeTimes writes times, which ascend, in milliseconds: differences of differences as varints.
func EncodeTimes(times []int64) []byte {
	b := binary.AppendUvarint([]byte{blockFormat}, uint64(len(times)))
	var last, step int64
	for _, t := range times {
		b = binary.AppendVarint(b, t-last-step)
		step, last = t-last, t
	}
	return b
}

// DecodeTimes reads what EncodeTimes wrote. Errors: ErrFormat.
func DecodeTimes(b []byte) ([]int64, error) {
	r := cursor{b: b}
	if r.byte() != blockFormat {
		return nil, ErrFormat
	}
	n := r.uvarint()
	if n > TimesMax || r.bad {
		return nil, ErrFormat
	}
	times := make([]int64, n)
	var last, step int64
	for i := range times {
		step += r.varint()
		if last += step; i > 0 && last <= times[i-1] {
			return nil, ErrFormat
		}
		times[i] = last
	}
	if r.bad || len(r.b) > 0 {
		return nil, ErrFormat
	}
	return times, nil
}

// Times are those of the segment; the slice is the segment's.
func (s *Segment) Times() []int64 { return s.times }

// EncodeGroup writes the columns of the series whose numbers are in a group (id / GroupSeries), compressed; nil when there are none:
//
//	format (1) || DEFLATE( uvarint n || n times (uvarint id || way (1) || values) )
//
// The values of a column are as many as there are times. Ints and nanos: a varint of each difference, where the smallest possible number
// says that there is no value. XOR: a byte with the number of leading (high half) and of kept (low half) bytes, and these.
func (s *Segment) EncodeGroup(group uint32) ([]byte, error) {
	var raw []byte
	n := uint64(0)
	for i, id := range s.ids {
		if id/GroupSeries == group {
			n++
			raw = appendColumn(binary.AppendUvarint(raw, uint64(id)), s.cols[i], len(s.times))
		}
	}
	if n == 0 {
		return nil, nil
	}
	out := bytes.NewBuffer([]byte{blockFormat})
	w, err := flate.NewWriter(out, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(append(binary.AppendUvarint(nil, n), raw...)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Groups are the groups that have series.
func (s *Segment) Groups() []uint32 {
	var gs []uint32
	seen := map[uint32]bool{}
	for _, id := range s.ids {
		if g := id / GroupSeries; !seen[g] {
			seen[g] = true
			gs = append(gs, g)
		}
	}
	return gs
}

// AddGroup puts what EncodeGroup wrote into a segment that has the times, and nothing of the group. Errors: ErrFormat.
func (s *Segment) AddGroup(b []byte) error {
	if len(b) == 0 || b[0] != blockFormat {
		return ErrFormat
	}
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b[1:])), BlockBytesMax+1))
	if err != nil || len(raw) > BlockBytesMax {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	r := cursor{b: raw}
	n := r.uvarint()
	if n > GroupSeries || r.bad {
		return ErrFormat
	}
	for range n {
		id := r.uvarint()
		if _, there := s.at[uint32(id)]; id > math.MaxUint32 || there {
			return ErrFormat
		}
		col := r.column(len(s.times))
		if r.bad {
			return ErrFormat
		}
		s.at[uint32(id)] = len(s.cols)
		s.ids, s.cols = append(s.ids, uint32(id)), append(s.cols, col)
	}
	if len(r.b) > 0 {
		return ErrFormat
	}
	return nil
}

// SegmentAt makes a segment with times and no series yet; it takes the slice.
func SegmentAt(times []int64) *Segment {
	s := NewSegment(len(times))
	s.times = times
	return s
}

// missing stands for "no value" among differences; no value is so far from the one before.
const missing = math.MinInt64

func appendColumn(b []byte, col []float64, times int) []byte {
	for _, way := range []byte{wayInts, wayNano} {
		if c, ok := appendDifferences(append(b, way), col, times, way); ok {
			return c
		}
	}
	b = append(b, wayXOR)
	last := uint64(0)
	for i := range times {
		v := Stale()
		if i < len(col) {
			v = col[i]
		}
		x := math.Float64bits(v) ^ last
		last ^= x
		lead := bits.LeadingZeros64(x) / 8
		kept := 8 - lead - min(bits.TrailingZeros64(x)/8, 8-lead)
		b = append(b, byte(lead<<4|kept))
		for k := range kept {
			b = append(b, byte(x>>(8*(7-lead-k))))
		}
	}
	return b
}

func appendDifferences(b []byte, col []float64, times int, way byte) ([]byte, bool) {
	last := int64(0)
	for i := range times {
		if i >= len(col) || IsStale(col[i]) {
			b = binary.AppendVarint(b, missing)
			continue
		}
		n, ok := whole(col[i], way)
		if !ok {
			return b, false
		}
		b = binary.AppendVarint(b, n-last)
		last = n
	}
	return b, true
}

// whole is v as a whole number of the way's unit, if reading it gives v again.
func whole(v float64, way byte) (int64, bool) {
	const exact = 1 << 53
	scaled := v
	if way == wayNano {
		scaled = math.Round(v * nano)
	}
	if !(math.Abs(scaled) < exact) || scaled != math.Trunc(scaled) {
		return 0, false
	}
	n := int64(scaled)
	return n, math.Float64bits(value(n, way)) == math.Float64bits(v)
}

func value(n int64, way byte) float64 {
	if way == wayNano {
		return float64(n) / nano
	}
	return float64(n)
}

// cursor reads bytes; bad says that they ended or made no sense.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) column(times int) []float64 {
	col := make([]float64, 0, times)
	way := c.byte()
	switch way {
	case wayInts, wayNano:
		last := int64(0)
		for range times {
			d := c.varint()
			if d == missing {
				col = append(col, Stale())
				continue
			}
			last += d
			col = append(col, value(last, way))
		}
	case wayXOR:
		last := uint64(0)
		for range times {
			h := c.byte()
			lead, kept := int(h>>4), int(h&15)
			if lead+kept > 8 {
				c.bad = true
				return nil
			}
			x := uint64(0)
			for k := range kept {
				x |= uint64(c.byte()) << (8 * (7 - lead - k))
			}
			last ^= x
			col = append(col, math.Float64frombits(last))
		}
	default:
		c.bad = true
	}
	return col
}
