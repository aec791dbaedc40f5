package tpm

import (
	"encoding/binary"
	"fmt"
)

// What Seal gives. Numbers are big-endian.
//
//	0   magic "HFTPM" and version 1, 6 bytes
//	6   PCRs as bits, bit i is PCR i, u32; 0: bound to the chip only
//	10  u16, the name of the chip's storage root key
//	    u16, TPMT_PUBLIC of the sealed object (TPM 2.0 part 2, 12.2.4)
//	    u16, its TPM2B_PRIVATE, encrypted and authenticated by the chip
const (
	blobMagic = "HFTPM\x01"
	// partBytesMax bounds each part: a storage key's name is 34 bytes, the others of a sealed secret below 300.
	partBytesMax = 1024
)

type blob struct {
	pcrs                  []uint
	root, public, private []byte
}

func (b *blob) encode() []byte {
	out := append(make([]byte, 0, 512), blobMagic...)
	bits := uint32(0)
	for _, p := range b.pcrs {
		bits |= 1 << p
	}
	out = binary.BigEndian.AppendUint32(out, bits)
	for _, part := range [][]byte{b.root, b.public, b.private} {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(part))), part...)
	}
	return out
}

// decode reads what encode wrote and nothing else. The parts are those of data.
func decode(data []byte) (b blob, err error) {
	rest, ok := cut(data, len(blobMagic)+4)
	if !ok || string(data[:len(blobMagic)]) != blobMagic {
		return b, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	bits := binary.BigEndian.Uint32(data[len(blobMagic):])
	if bits >= 1<<(PCRMax+1) {
		return b, fmt.Errorf("%w: PCRs %x", ErrDamaged, bits)
	}
	for p := range uint(PCRMax + 1) {
		if bits&(1<<p) != 0 {
			b.pcrs = append(b.pcrs, p)
		}
	}
	for _, to := range []*[]byte{&b.root, &b.public, &b.private} {
		size, ok := cut(rest, 2)
		if !ok {
			return b, fmt.Errorf("%w: it ends too soon", ErrDamaged)
		}
		n := int(binary.BigEndian.Uint16(rest))
		after, ok := cut(size, n)
		if !ok || n == 0 || n > partBytesMax {
			return b, fmt.Errorf("%w: a part of %d bytes", ErrDamaged, n)
		}
		*to, rest = size[:n:n], after
	}
	if len(rest) > 0 {
		return b, fmt.Errorf("%w: %d bytes behind it", ErrDamaged, len(rest))
	}
	return b, nil
}

func cut(b []byte, n int) (rest []byte, ok bool) {
	if len(b) < n {
		return nil, false
	}
	return b[n:], true
}
