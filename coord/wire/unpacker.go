package wire

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// unpacker reads what a packer wrote, and only that: the shortest form of every number and
// length. The first error sticks and everything after it reads as zero.
type unpacker struct {
	b   []byte
	at  int
	err error
	dec *msgpack.Decoder
}

// unpack runs read on an unpacker of b, with a decoder of the library's pool. All of b must be read.
func unpack(b []byte, read func(u *unpacker)) error {
	u := &unpacker{dec: msgpack.GetDecoder()}
	u.reset(b)
	read(u)
	err := u.end()
	msgpack.PutDecoder(u.dec)
	return err
}

func (u *unpacker) reset(b []byte) {
	u.b, u.at, u.err = b, 0, nil
	u.dec.ResetReader(u)
}

// end is the first error, or that bytes are left.
func (u *unpacker) end() error {
	if u.err == nil && u.at != len(u.b) {
		u.fail(fmt.Errorf("%w: %d", ErrTrailing, len(u.b)-u.at))
	}
	return u.err
}

func (u *unpacker) fail(err error) {
	if u.err != nil {
		return
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		err = ErrTruncated
	case !ours(err):
		err = fmt.Errorf("%w: %w", ErrFormat, err)
	}
	u.err = fmt.Errorf("at byte %d: %w", u.at, err)
}

func ours(err error) bool {
	for _, e := range [...]error{
		ErrTruncated, ErrTrailing, ErrFormat, ErrLimit, ErrLength, ErrVersion, ErrType, ErrCompression,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Read, ReadByte and UnreadByte are the library's way to the bytes. It reads headers only: what they
// announce is taken with take.
func (u *unpacker) Read(p []byte) (int, error) {
	if u.at == len(u.b) && len(p) > 0 {
		return 0, io.EOF
	}
	n := copy(p, u.b[u.at:])
	u.at += n
	return n, nil
}

// ReadByte reads one byte.
func (u *unpacker) ReadByte() (byte, error) {
	if u.at == len(u.b) {
		return 0, io.EOF
	}
	u.at++
	return u.b[u.at-1], nil
}

// UnreadByte steps back by one.
func (u *unpacker) UnreadByte() error {
	u.at--
	return nil
}

// code is the next byte, which tells the type of the next value; 0xc1, which msgpack never uses, at the end.
func (u *unpacker) code() byte {
	if u.err != nil || u.at == len(u.b) {
		return 0xc1
	}
	return u.b[u.at]
}

// uint reads a number of at most limit.
func (u *unpacker) uint(limit uint64) uint64 {
	if u.err != nil {
		return 0
	}
	from, c := u.at, u.code()
	v, err := u.dec.DecodeUint64()
	switch {
	case err != nil:
		u.fail(err)
	case c > msgpcode.PosFixedNumHigh && (c < msgpcode.Uint8 || c > msgpcode.Uint64) || u.at-from != uintBytes(v):
		u.fail(fmt.Errorf("%w: a number in an unknown form", ErrFormat))
	case v > limit:
		u.fail(fmt.Errorf("%w: %d where at most %d can be", ErrLimit, v, limit))
	default:
		return v
	}
	return 0
}

// uintBytes is the size of msgpack's shortest form of v.
func uintBytes(v uint64) int {
	switch {
	case v <= math.MaxInt8:
		return 1
	case v <= math.MaxUint8:
		return 2
	case v <= math.MaxUint16:
		return 3
	case v <= math.MaxUint32:
		return 5
	}
	return 9
}

// array reads the header of an array of most elements at most.
func (u *unpacker) array(most int) int {
	if u.err != nil {
		return 0
	}
	from := u.at
	n, err := u.dec.DecodeArrayLen()
	size := 5
	switch {
	case n < 16:
		size = 1
	case n <= math.MaxUint16:
		size = 3
	}
	return u.length(n, most, u.at-from == size, err)
}

// tuple reads the header of an array of n elements.
func (u *unpacker) tuple(n int) {
	if got := u.array(n); u.err == nil && got != n {
		u.fail(fmt.Errorf("%w: %d fields where %d belong", ErrFormat, got, n))
	}
}

// bin reads a binary of at most most bytes; it is part of u.b.
func (u *unpacker) bin(most int) []byte {
	if u.err != nil {
		return nil
	}
	from, c := u.at, u.code()
	n, err := u.dec.DecodeBytesLen()
	size := 5
	switch {
	case n <= math.MaxUint8:
		size = 2
	case n <= math.MaxUint16:
		size = 3
	}
	good := c >= msgpcode.Bin8 && c <= msgpcode.Bin32 && u.at-from == size
	return u.take(u.length(n, most, good, err))
}

// text reads a string of at most most bytes.
func (u *unpacker) text(most int) string {
	if u.err != nil {
		return ""
	}
	from, c := u.at, u.code()
	n, err := u.dec.DecodeBytesLen()
	size := 5
	switch {
	case n < 32:
		size = 1
	case n <= math.MaxUint8:
		size = 2
	case n <= math.MaxUint16:
		size = 3
	}
	str := msgpcode.IsFixedString(c) || c >= msgpcode.Str8 && c <= msgpcode.Str32
	return string(u.take(u.length(n, most, str && u.at-from == size, err)))
}

// length judges a length that was read.
func (u *unpacker) length(n, most int, good bool, err error) int {
	switch {
	case err != nil:
		u.fail(err)
	case n < 0 || !good:
		u.fail(fmt.Errorf("%w: a length in an unknown form", ErrFormat))
	case n > most:
		u.fail(fmt.Errorf("%w: %d elements or bytes where at most %d can be", ErrLimit, n, most))
	default:
		return n
	}
	return 0
}

// take is the next n bytes, a part of u.b.
func (u *unpacker) take(n int) []byte {
	if u.err != nil {
		return nil
	}
	if n > len(u.b)-u.at {
		u.fail(fmt.Errorf("%w: %d bytes announced, %d there", ErrTruncated, n, len(u.b)-u.at))
		return nil
	}
	u.at += n
	return u.b[u.at-n : u.at : u.at]
}

// fixed reads a binary of exactly len(dst) bytes into dst.
func (u *unpacker) fixed(dst []byte) {
	v := u.bin(len(dst))
	if u.err == nil && len(v) != len(dst) {
		u.fail(fmt.Errorf("%w: %d bytes where %d belong", ErrLength, len(v), len(dst)))
	}
	copy(dst, v)
}

// list reads a binary of things of size bytes each, most things at most.
func (u *unpacker) list(size, most int) (v []byte, n int) {
	v = u.bin(size * most)
	if len(v)%size != 0 {
		u.fail(fmt.Errorf("%w: %d bytes are no list of things of %d", ErrLength, len(v), size))
		return nil, 0
	}
	return v, len(v) / size
}

// absent reads a nil if there is one.
func (u *unpacker) absent() bool {
	if u.err != nil || u.code() != msgpcode.Nil {
		return u.err != nil
	}
	u.at++
	return true
}
