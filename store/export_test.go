package store

import (
	"bytes"
	"errors"

	"github.com/holdfast-edge/holdfast/store/crypt"
)

// Inline makes spare segments when they are needed, so that a test can count operations.
func Inline(o Options) Options {
	o.inline = true
	return o
}

// WithKey encrypts a log or a base that is opened without a directory around it.
func WithKey(o Options, k *crypt.Key) Options {
	o.key = k
	return o
}

// Stepping calls step between what Convert does to the disk.
func Stepping(o ConvertOptions, step func(name string) error) ConvertOptions {
	o.step = step
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

// Reseal makes the checksum of a frame fit its payload, its segment and a place.
func Reseal(segment, frame []byte, off uint32) {
	h, _ := parseHead(frame, new(header).tag(segment))
	sealFrame(frame, new(header).tag(segment), off, h.synced)
}
