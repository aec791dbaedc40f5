package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// readBytes is how much a segment reader asks the file for at a time, when no frame is larger.
const readBytes = 256 << 10

// frameReader reads the frames of one segment in order. Its memory is bounded by the largest frame.
type frameReader struct {
	file io.ReaderAt
	name string
	tag  uint32
	size int64 // of the file
	off  int64 // of the next frame
	buf  []byte
	at   int64 // file offset of buf[0]
}

// next gives the payload of the next frame, its offset and how far the writer had synced when it wrote
// it; payload is valid until the next call. ok is false where no good frame stands; reason says why.
func (r *frameReader) next() (payload []byte, head frameHead, ok bool, reason string, err error) {
	b, err := r.window(frameBytes)
	if err != nil {
		return nil, head, false, "", err
	}
	head, ok = parseHead(b, r.tag)
	if !ok {
		return nil, head, false, "no record here", nil
	}
	n := frameBytes + int(head.length)
	if b, err = r.window(n); err != nil {
		return nil, head, false, "", err
	}
	if len(b) < n {
		return nil, head, false, "record goes beyond the file", nil
	}
	if !frameGood(b[:n], r.tag, uint32(r.off)) {
		return nil, head, false, "checksum", nil
	}
	if int64(head.synced) > r.off {
		return nil, head, false, "impossible sync mark", nil
	}
	r.off += int64(n)
	return b[frameBytes:n], head, true, "", nil
}

// window gives at least n bytes from off, or fewer at the end of the file.
func (r *frameReader) window(n int) ([]byte, error) {
	if have := r.at + int64(len(r.buf)) - r.off; have >= int64(n) && r.off >= r.at {
		return r.buf[r.off-r.at:], nil
	}
	if n = int(min(int64(max(n, readBytes)), r.size-r.off)); n <= 0 {
		return nil, nil
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	r.buf, r.at = r.buf[:n], r.off
	k, err := r.file.ReadAt(r.buf, r.off)
	r.buf = r.buf[:k]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("store: %s: read at %d: %w", r.name, r.off, err)
	}
	return r.buf, nil
}

// tail is what stands in the last segment from the first place that is no good frame.
type tail struct {
	// synced is the furthest offset that a good frame beyond vouches for, 0 for none.
	synced uint32
	// ghosts says that something there has the segment's tag, and could be taken for a record later.
	ghosts bool
}

// tail looks for frames beyond the end of the good ones. A tag is 32 random bits, so that the search
// almost never tries a place that is none.
func (r *frameReader) tail() (t tail, err error) {
	var mark [4]byte
	binary.BigEndian.PutUint32(mark[:], r.tag)
	probe := frameReader{file: r.file, name: r.name, tag: r.tag, size: r.size}
	for at := r.off; at+int64(len(mark)) <= r.size; {
		r.off = at
		b, err := r.window(len(mark))
		if err != nil {
			return t, err
		}
		i := bytes.Index(b, mark[:])
		if i < 0 {
			at += int64(max(len(b)-len(mark)+1, 1))
			continue
		}
		t.ghosts = true
		probe.off = at + int64(i)
		_, head, ok, _, err := probe.next()
		if err != nil {
			return t, err
		}
		if ok {
			t.synced = max(t.synced, head.synced)
			at = probe.off
			continue
		}
		at += int64(i) + 1
	}
	return t, nil
}
