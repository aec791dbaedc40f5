package wire

import (
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	bodyVersion = 1
	bodyFields  = 11

	// Bits of a body's layout.
	layoutKeysTurned = 1 // the keys have one length and are stored byte by byte of all keys
	layoutValsTurned = 2 // the values likewise
	layoutMax        = 3
)

// BodyEncoder encodes batch bodies and keeps its memory between them. It is for one goroutine.
type BodyEncoder struct {
	p        packer
	scratch  []byte // a column, or a transposed slab
	squeezed []byte
}

// NewBodyEncoder returns an encoder; its memory grows with the largest body.
func NewBodyEncoder() *BodyEncoder {
	e := &BodyEncoder{p: packer{enc: msgpack.NewEncoder(nil)}}
	e.p.enc.ResetWriter(&e.p)
	return e
}

// AppendBody appends the body that holds the messages of c. It does not judge c: what is beyond coord's limits
// encodes to a body that nobody decodes (see CheckColumns).
func (e *BodyEncoder) AppendBody(dst []byte, c *coord.Columns) []byte {
	raw := e.frame(c)
	if e.squeezed == nil || cap(e.squeezed) < len(raw) {
		e.squeezed = make([]byte, 0, 2*len(raw))
	}
	if out, ok := squeezed(e.squeezed, raw); ok {
		return append(append(dst, flagSnappy), out...)
	}
	return append(append(dst, flagRaw), raw...)
}

// frame encodes c into e's memory, not compressed.
func (e *BodyEncoder) frame(c *coord.Columns) []byte {
	p := &e.p
	p.b = p.b[:0]
	n := c.Len()
	keyEach, keysSame := sameLength(c.KeyEnd)
	valEach, valsSame := sameLength(c.ValEnd)
	layout := uint64(0)
	if keysSame && transposePays(c.Keys, n, int(keyEach)) {
		layout |= layoutKeysTurned
	}
	if valsSame && transposePays(c.Vals, n, int(valEach)) {
		layout |= layoutValsTurned
	}
	p.array(bodyFields)
	p.uint(bodyVersion)
	p.uint(uint64(n))
	p.uint(layout)
	e.kinds(c.Kinds)
	e.scratch = appendRuns(e.scratch[:0], c.Sessions)
	if len(e.scratch) >= 8*n {
		e.scratch = appendPlain(e.scratch[:0], c.Sessions)
	}
	p.bin(e.scratch)
	packDeltas(e, c.Seqs)
	packDeltas(e, c.Times)
	e.lengths(c.KeyEnd, keyEach, keysSame)
	e.lengths(c.ValEnd, valEach, valsSame)
	e.slab(c.Keys, n, int(keyEach), layout&layoutKeysTurned != 0)
	e.slab(c.Vals, n, int(valEach), layout&layoutValsTurned != 0)
	return p.b
}

func packDeltas[T uint64 | int64](e *BodyEncoder, v []T) {
	e.scratch = appendDeltas(e.scratch[:0], v)
	if len(e.scratch) >= 8*len(v) {
		e.scratch = appendPlain(e.scratch[:0], v)
	}
	e.p.bin(e.scratch)
}

func (e *BodyEncoder) kinds(kinds []coord.Kind) {
	same := len(kinds) > 0
	for _, k := range kinds {
		same = same && k == kinds[0]
	}
	if same {
		e.p.uint(uint64(kinds[0]))
		return
	}
	e.p.binLen(len(kinds))
	for _, k := range kinds {
		e.p.b = append(e.p.b, byte(k))
	}
}

func (e *BodyEncoder) lengths(end []uint32, each uint32, same bool) {
	if same {
		e.p.uint(uint64(each))
		return
	}
	e.scratch = appendLengths(e.scratch[:0], end)
	e.p.bin(e.scratch)
}

func (e *BodyEncoder) slab(slab []byte, rows, cols int, turned bool) {
	if !turned {
		e.p.bin(slab)
		return
	}
	e.scratch = resize(e.scratch, len(slab))
	transpose(e.scratch, slab, rows, cols)
	e.p.bin(e.scratch)
}

// BodyDecoder decodes batch bodies and keeps its memory between them. It is for one goroutine.
type BodyDecoder struct {
	u   unpacker
	raw []byte
}

// NewBodyDecoder returns a decoder; its memory grows with the largest body.
func NewBodyDecoder() *BodyDecoder {
	return &BodyDecoder{u: unpacker{dec: msgpack.NewDecoder(nil)}}
}

// frame is a body's fields as they were read; the slices are parts of the input.
type frame struct {
	n, layout                int
	kinds                    smalls
	sessions, seqs, times    []byte
	keyLengths, valueLengths smalls
	keys, vals               []byte
}

// smalls is a column of small numbers: one number for all, or bytes.
type smalls struct {
	same bool
	each uint32
	b    []byte
}

// DecodeBody replaces what c holds by the messages of body, reusing c's memory; c shares none with body. After an
// error, which says what is wrong with body, c is empty. What decodes keeps all that coord.Columns promises and
// coord's limits on a batch; it may have no messages.
func (d *BodyDecoder) DecodeBody(body []byte, c *coord.Columns) error {
	c.Reset()
	raw, err := unsqueeze(d.raw, body, coord.BatchBodyBytesMax)
	if err == nil {
		if body[0] == flagSnappy {
			d.raw = raw[:0]
		}
		err = d.columns(raw, c)
	}
	if err != nil {
		c.Reset()
		return fmt.Errorf("wire: body: %w", err)
	}
	return nil
}

func (d *BodyDecoder) columns(raw []byte, c *coord.Columns) error {
	f, err := d.read(raw)
	if err != nil {
		return err
	}
	n := f.n
	c.Kinds = resize(c.Kinds, n)
	for i := range c.Kinds {
		c.Kinds[i] = coord.Kind(f.kinds.each)
	}
	for i, k := range f.kinds.b {
		c.Kinds[i] = coord.Kind(k)
	}
	c.Sessions, c.Seqs, c.Times = resize(c.Sessions, n), resize(c.Seqs, n), resize(c.Times, n)
	if len(f.sessions) == 8*n {
		readPlain(c.Sessions, f.sessions)
	} else if err := readRuns(c.Sessions, f.sessions); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	if err := unpackDeltas(c.Seqs, f.seqs); err != nil {
		return fmt.Errorf("sequence numbers: %w", err)
	}
	if err := unpackDeltas(c.Times, f.times); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	c.KeyEnd, c.ValEnd = resize(c.KeyEnd, n), resize(c.ValEnd, n)
	if err := f.keyLengths.ends(c.KeyEnd, coord.KeyBytesMax, len(f.keys)); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := f.valueLengths.ends(c.ValEnd, coord.ValueBytesMax, len(f.vals)); err != nil {
		return fmt.Errorf("values: %w", err)
	}
	c.Keys = unslab(c.Keys, f.keys, n, f.keyLengths, f.layout&layoutKeysTurned != 0)
	c.Vals = unslab(c.Vals, f.vals, n, f.valueLengths, f.layout&layoutValsTurned != 0)
	return nil
}

// read reads the fields and judges all sizes that can be judged without looking into the columns.
func (d *BodyDecoder) read(raw []byte) (f frame, err error) {
	u := &d.u
	u.reset(raw)
	u.tuple(bodyFields)
	if v := u.uint(math.MaxUint64); u.err == nil && v != bodyVersion {
		return f, fmt.Errorf("%w: %d", ErrVersion, v)
	}
	f.n = int(u.uint(coord.BatchMessagesMax))
	f.layout = int(u.uint(layoutMax))
	f.kinds = u.smalls(math.MaxUint8, f.n)
	f.sessions = u.bin(8 * f.n)
	f.seqs = u.bin(8 * f.n)
	f.times = u.bin(8 * f.n)
	f.keyLengths = u.smalls(coord.KeyBytesMax, 2*f.n)
	f.valueLengths = u.smalls(coord.ValueBytesMax, 3*f.n)
	f.keys = u.bin(coord.BatchBytesMax)
	f.vals = u.bin(coord.BatchBytesMax - len(f.keys))
	if err := u.end(); err != nil {
		return f, err
	}
	// A delta, a kind and a length take a byte at least: fewer bytes than messages is a lie, found before memory is
	// taken for that many.
	if len(f.seqs) < f.n || len(f.times) < f.n || !f.kinds.same && len(f.kinds.b) != f.n ||
		!f.keyLengths.same && len(f.keyLengths.b) < f.n || !f.valueLengths.same && len(f.valueLengths.b) < f.n {
		return f, fmt.Errorf("%w: a column is shorter than %d messages", ErrLength, f.n)
	}
	if f.layout&layoutKeysTurned != 0 && !f.keyLengths.same || f.layout&layoutValsTurned != 0 && !f.valueLengths.same {
		return f, fmt.Errorf("%w: a transposed slab of things of different lengths", ErrFormat)
	}
	return f, nil
}

// smalls reads a column of small numbers of at most limit, in at most most bytes.
func (u *unpacker) smalls(limit uint32, most int) smalls {
	if c := u.code(); c >= msgpcode.Bin8 && c <= msgpcode.Bin32 {
		return smalls{b: u.bin(most)}
	}
	return smalls{same: true, each: uint32(u.uint(uint64(limit)))}
}

// ends makes end offsets of lengths.
func (s *smalls) ends(end []uint32, most, total int) error {
	if !s.same {
		return readLengths(end, s.b, most, total)
	}
	if uint64(s.each)*uint64(len(end)) != uint64(total) {
		return fmt.Errorf("%w: %d times %d bytes for %d", ErrLength, len(end), s.each, total)
	}
	fillLengths(end, s.each)
	return nil
}

func unpackDeltas[T uint64 | int64](v []T, b []byte) error {
	if len(b) == 8*len(v) {
		readPlain(v, b)
		return nil
	}
	return readDeltas(v, b)
}

func unslab(dst, src []byte, rows int, lengths smalls, turned bool) []byte {
	dst = resize(dst, len(src))
	if turned {
		transpose(dst, src, int(lengths.each), rows)
	} else {
		copy(dst, src)
	}
	return dst
}

// CheckColumns says what DecodeBody would refuse about messages that come from elsewhere than a body: one
// message beyond the limits makes its whole batch undecodable.
func CheckColumns(c *coord.Columns) error {
	n := c.Len()
	if n > coord.BatchMessagesMax || c.Bytes() > coord.BatchBytesMax {
		return fmt.Errorf("wire: columns: %w: %d messages of %d bytes", ErrLimit, n, c.Bytes())
	}
	if len(c.Sessions) != n || len(c.Seqs) != n || len(c.Times) != n || len(c.KeyEnd) != n || len(c.ValEnd) != n {
		return fmt.Errorf("wire: columns: %w", ErrLength)
	}
	if err := checkEnds(c.KeyEnd, coord.KeyBytesMax, len(c.Keys)); err != nil {
		return fmt.Errorf("wire: columns: keys: %w", err)
	}
	if err := checkEnds(c.ValEnd, coord.ValueBytesMax, len(c.Vals)); err != nil {
		return fmt.Errorf("wire: columns: values: %w", err)
	}
	return nil
}

func checkEnds(end []uint32, most, total int) error {
	before := uint32(0)
	for _, e := range end {
		if e < before {
			return fmt.Errorf("%w: offsets decrease", ErrLength)
		}
		if e-before > uint32(most) {
			return fmt.Errorf("%w: %d bytes where at most %d can be", ErrLimit, e-before, most)
		}
		before = e
	}
	if int(before) != total {
		return fmt.Errorf("%w: offsets end at %d of %d", ErrLength, before, total)
	}
	return nil
}
