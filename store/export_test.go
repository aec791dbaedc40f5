package store

import (
	"bytes"
	"errors"
)

// Inline makes spare segments when they are needed, so that a test can count operations.
func Inline(o Options) Options {
	o.inline = true
	return o
}

// SegmentName is a segment's file.
func SegmentName(dir string, number uint64) string { return segmentName(dir, number) }

// HeaderBytes and FrameBytes are the sizes in docs/storage.md.
const (
	HeaderBytes = headerBytes
	FrameBytes  = frameBytes
)

// ReadSegment reads a segment as opening does: how many records are good, where they end, and what stands behind.
func ReadSegment(data []byte) (records int, end int64, vouched bool, err error) {
	_, tag, err := decodeHeader(data)
	if err != nil {
		return 0, 0, false, err
	}
	r := frameReader{file: bytes.NewReader(data), tag: tag, size: int64(len(data)), off: headerBytes}
	for {
		payload, _, ok, _, err := r.next()
		if err != nil {
			return records, r.off, false, err
		}
		if !ok {
			break
		}
		if _, err := decodeRecord(payload); err != nil {
			return records, r.off, false, errors.Join(ErrDamaged, err)
		}
		records++
	}
	end = r.off
	t, err := r.tail()
	return records, end, int64(t.synced) > end, err
}
