package store

import (
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// appendFrame appends one record as a frame that will stand at off of the segment tag.
func appendFrame(dst []byte, tag, off, synced uint32, r *coord.Record) ([]byte, error) {
	at := len(dst)
	var room [frameBytes]byte
	dst = wire.AppendRecord(append(dst, room[:]...), r)
	if n := len(dst) - at - frameBytes; n > recordBytesMax {
		return dst[:at], fmt.Errorf("record of %d bytes: %w", n, ErrTooLarge)
	}
	sealFrame(dst[at:], tag, off, synced)
	return dst, nil
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
