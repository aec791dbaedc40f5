package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/holdfast-edge/holdfast/coord"
)

// A frame on a byte stream is its content's length, 4 bytes big-endian, and the content.
const frameHeadBytes = 4

const (
	// readBytes is a FrameReader's buffer: one TLS record, so that a burst of small frames is one read.
	readBytes = 16 << 10
	// keepBytes is how much memory for frames larger than that stays with a reader between frames.
	keepBytes = 256 << 10
)

// AppendFrame appends a frame around content. Content beyond coord.FrameBytesMax is ErrFrame, and dst comes
// back as it was.
func AppendFrame(dst, content []byte) ([]byte, error) {
	at := len(dst)
	return endFrame(append(append(dst, make([]byte, frameHeadBytes)...), content...), at)
}

// AppendClientFrame appends a frame around the encoding of m, in one buffer. What is too long for a frame is
// ErrFrame, and dst comes back as it was.
func AppendClientFrame(dst []byte, m *ClientMsg) ([]byte, error) {
	at := len(dst)
	return endFrame(AppendClient(append(dst, make([]byte, frameHeadBytes)...), m), at)
}

// endFrame fills in the length of the frame that begins at at.
func endFrame(dst []byte, at int) ([]byte, error) {
	n := len(dst) - at - frameHeadBytes
	if n > coord.FrameBytesMax {
		return dst[:at], fmt.Errorf("wire: write: %w: %d bytes", ErrFrame, n)
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(n))
	return dst, nil
}

// FrameReader reads frames from a stream and keeps its memory between them. It is for one goroutine.
type FrameReader struct {
	in     *bufio.Reader
	unread int // bytes at the front of in that the last frame lies in
	big    []byte
}

// NewFrameReader returns a reader of the frames in r. It reads ahead: r is its own.
func NewFrameReader(r io.Reader) *FrameReader {
	return &FrameReader{in: bufio.NewReaderSize(r, readBytes)}
}

// Next reads one frame of at most most bytes and returns its content, which is valid until the next call. The error is
// io.EOF between frames, io.ErrUnexpectedEOF within one, ErrFrame for a longer frame, or what the stream
// says; after any error the stream's place is lost. Memory grows with what arrives, not with what is announced.
func (r *FrameReader) Next(most int) ([]byte, error) {
	// Buffered bytes: discarding them cannot fail.
	_, _ = r.in.Discard(r.unread)
	r.unread = 0
	head, err := r.in.Peek(frameHeadBytes)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	length := binary.BigEndian.Uint32(head)
	if uint64(length) > uint64(min(most, coord.FrameBytesMax)) {
		return nil, fmt.Errorf("wire: read: %w: %d bytes where at most %d can be", ErrFrame, length, most)
	}
	n := int(length)
	if whole := frameHeadBytes + n; whole <= r.in.Size() {
		b, err := r.in.Peek(whole)
		if err != nil {
			return nil, within(err)
		}
		r.unread = whole
		if cap(r.big) > keepBytes {
			r.big = nil
		}
		return b[frameHeadBytes:], nil
	}
	_, _ = r.in.Discard(frameHeadBytes)
	if err := r.readBig(n); err != nil {
		return nil, within(err)
	}
	return r.big, nil
}

func (r *FrameReader) readBig(n int) error {
	r.big = r.big[:0]
	for len(r.big) < n {
		have := len(r.big)
		if have == cap(r.big) {
			grown := make([]byte, have, min(n, max(2*have, keepBytes)))
			copy(grown, r.big)
			r.big = grown
		}
		r.big = r.big[:min(n, cap(r.big))]
		if _, err := io.ReadFull(r.in, r.big[have:]); err != nil {
			return err
		}
	}
	return nil
}

func within(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
