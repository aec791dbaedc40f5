package wire

import (
	"fmt"

	"github.com/golang/snappy"
)

// The first byte of a body and of a message between boxes says how the rest travels.
const (
	flagRaw    = 0
	flagSnappy = 1
)

const (
	// squeezeBytesMin: less than this is not worth a try; a snappy block costs a table and 2-5 bytes.
	squeezeBytesMin = 64
	// squeezeGain: compression must save 1/16, else the reader's work is for nothing.
	squeezeGain = 16
	// expansionMax is how many bytes one byte of snappy can become: its densest element is 3
	// bytes that copy 64 (format description, 2.2.2), so a block that claims more is a lie.
	expansionMax = 22
)

// squeezed compresses raw into scratch's memory; ok says that it gained.
func squeezed(scratch, raw []byte) (out []byte, ok bool) {
	if len(raw) < squeezeBytesMin {
		return nil, false
	}
	out = snappy.Encode(scratch[:cap(scratch)], raw)
	return out, len(out) <= len(raw)-len(raw)/squeezeGain
}

// unsqueeze reads flag and content of b into scratch's memory if it was compressed: at most most
// bytes. The result is part of b or of scratch.
func unsqueeze(scratch, b []byte, most int) ([]byte, error) {
	if len(b) == 0 {
		return nil, ErrTruncated
	}
	flag, b := b[0], b[1:]
	switch {
	case flag == flagRaw && len(b) <= most:
		return b, nil
	case flag == flagRaw:
		return nil, fmt.Errorf("%w: %d bytes where at most %d can be", ErrLimit, len(b), most)
	case flag != flagSnappy:
		return nil, fmt.Errorf("%w: flag %d", ErrFormat, flag)
	}
	n, err := snappy.DecodedLen(b)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrCompression, err)
	case n > most:
		return nil, fmt.Errorf("%w: %d bytes in a compressed part where at most %d can be", ErrLimit, n, most)
	case n > expansionMax*len(b):
		return nil, fmt.Errorf("%w: %d bytes claim to hold %d", ErrCompression, len(b), n)
	}
	out, err := snappy.Decode(scratch[:cap(scratch)], b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCompression, err)
	}
	return out, nil
}
