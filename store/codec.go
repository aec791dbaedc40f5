package store

import (
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// appendFrame appends one record as a frame that will stand at off of the segment s.
func appendFrame(dst []byte, s *segment, off, synced uint32, r *coord.Record) ([]byte, error) {
	at := len(dst)
	var room [frameBytes + crypt.NonceRoom]byte
	if s.envelope == nil {
		dst = wire.AppendRecord(append(dst, room[:frameBytes]...), r)
	} else {
		dst = wire.AppendRecord(append(dst, room[:]...), r)
		dst = s.envelope.SealBehind(dst, at+frameBytes, framePlace(off))
	}
	if n := len(dst) - at - frameBytes; n > recordBytesMax {
		return dst[:at], fmt.Errorf("record of %d bytes: %w", n, ErrTooLarge)
	}
	sealFrame(dst[at:], s.tag, off, synced)
	return dst, nil
}

// record decodes the payload of a frame at off whose checksum is good; scratch is used for what is decrypted, and given back.
func (s *segment) record(payload, scratch []byte, off int64) (r *coord.Record, _ []byte, err error) {
	if payload, scratch, err = s.plain(payload, scratch, off); err != nil {
		return nil, scratch, err
	}
	r, err = decodeRecord(payload)
	return r, scratch, err
}

// plain is the payload in clear.
func (s *segment) plain(payload, scratch []byte, off int64) (_, _ []byte, err error) {
	if s.envelope == nil {
		return payload, scratch, nil
	}
	if payload, err = s.envelope.Open(scratch[:0], payload, framePlace(uint32(off))); err != nil {
		return nil, scratch, err
	}
	return payload, payload, nil
}

// decodeRecord decodes a payload whose checksum is good.
func decodeRecord(payload []byte) (*coord.Record, error) {
	r, err := wire.DecodeRecord(payload)
	if err != nil {
		return nil, err
	}
	if r.Final != nil && r.Final.Header == nil {
		return nil, fmt.Errorf("final without a header: %w", ErrFormat)
	}
	return r, nil
}
