package link

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/holdfast-edge/holdfast/coord"
)

// The types of frames; the numbers are part of the wire.
const (
	frameHello   = 1
	framePing    = 2
	framePong    = 3
	frameMessage = 4
	frameRefusal = 5
)

const (
	lengthBytes = 4
	headerBytes = lengthBytes + 1
	stampBytes  = 8
	wallBytes   = 8
	helloBytes  = 8 + 8 + 8 + 8 + 2 + 2

	// helloBytesMax bounds the only frame that is read from a peer not yet known to be of this
	// site: this version's 36 bytes, and room for what later ones add.
	helloBytesMax = 256
	// refusalBytesMax bounds the reason for which an acceptor ends a connection.
	refusalBytesMax = 200
	// controlBytesMax bounds frames from acceptor to dialler: pongs and a refusal.
	controlBytesMax = refusalBytesMax
	// readBytes is a reader's buffer: four full TLS records, so that a burst of votes is one system call.
	// Frames up to this size are decoded where they lie.
	readBytes = 64 << 10
	// keepBytes is how much of a buffer for larger frames stays with its reader.
	keepBytes = 256 << 10
)

// Versions of the peer protocol that this build speaks.
const (
	VersionMin = 1
	VersionMax = 3
	// versionWall is the first whose pongs carry the sender's clock.
	versionWall = 2
	// versionTrace is the first in which a box asks, and is asked, for its part of a trace.
	versionTrace = 3
)

// appendHeader appends the header of a frame with a body of n bytes.
func appendHeader(dst []byte, typ byte, n int) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(n+1)), typ)
}

// appendStamp appends a ping or a pong.
func appendStamp(dst []byte, typ byte, stamp uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(dst, typ, stampBytes), stamp)
}

// hello is what each side says of itself first.
type hello struct {
	site        coord.SiteID
	epoch       uint64
	box         coord.BoxID
	incarnation uint64
	min, max    uint16
}

func appendHello(dst []byte, h *hello) []byte {
	dst = appendHeader(dst, frameHello, helloBytes)
	dst = append(dst, h.site[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.epoch)
	dst = append(dst, h.box[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.incarnation)
	dst = binary.BigEndian.AppendUint16(dst, h.min)
	return binary.BigEndian.AppendUint16(dst, h.max)
}

func decodeHello(b []byte) (h hello, err error) {
	if len(b) < helloBytes {
		return h, fmt.Errorf("%w: a hello of %d bytes", ErrFrame, len(b))
	}
	copy(h.site[:], b[0:])
	h.epoch = binary.BigEndian.Uint64(b[8:])
	copy(h.box[:], b[16:])
	h.incarnation = binary.BigEndian.Uint64(b[24:])
	h.min = binary.BigEndian.Uint16(b[32:])
	h.max = binary.BigEndian.Uint16(b[34:])
	return h, nil
}

// appendRefusal appends a reason for people; what is too long of it is left out.
func appendRefusal(dst []byte, why string) []byte {
	why = why[:min(len(why), refusalBytesMax)]
	return append(appendHeader(dst, frameRefusal, len(why)), why...)
}

// refusal is the error that the other side's reason makes here. What it says is for people; it is quoted, because it may be anything.
func refusal(body []byte) error {
	return fmt.Errorf("%w: %q", ErrRefused, body[:min(len(body), refusalBytesMax)])
}

// agree says which version two sides speak, or why they do not. Boxes of different epochs speak: the one that is behind is told.
func agree(ours, theirs *hello, theirBox coord.BoxID) (version uint16, err error) {
	switch {
	case theirs.site != ours.site:
		return 0, fmt.Errorf("%w: it is of site %s, this is %s", ErrHello, theirs.site, ours.site)
	case theirs.box != theirBox:
		return 0, fmt.Errorf("%w: it says it is box %s with the key of %s", ErrHello, theirs.box, theirBox)
	case theirs.min > theirs.max || theirs.max < ours.min || ours.max < theirs.min:
		return 0, fmt.Errorf("%w: it speaks versions %d to %d, this box %d to %d", ErrHello, theirs.min, theirs.max, ours.min, ours.max)
	}
	return min(ours.max, theirs.max), nil
}

// frameReader reads frames of one connection.
type frameReader struct {
	in     *bufio.Reader
	unread int    // bytes at the front of in that the last frame lies in
	big    []byte // for frames that do not fit in
}

func newFrameReader(r io.Reader, bufferBytes int) *frameReader {
	return &frameReader{in: bufio.NewReaderSize(r, bufferBytes)}
}

// next reads one frame with a body of at most limit bytes. The body is valid until the next call. The
// error is io.EOF between frames, io.ErrUnexpectedEOF within one, ErrFrame for a length that cannot be,
// or what the connection says.
func (r *frameReader) next(limit int) (typ byte, body []byte, err error) {
	// Buffered bytes: discarding them cannot fail.
	_, _ = r.in.Discard(r.unread)
	r.unread = 0
	head, err := r.in.Peek(headerBytes)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head)
	typ = head[lengthBytes]
	if length < 1 || uint64(length)-1 > uint64(limit) {
		return 0, nil, fmt.Errorf("%w: type %d of %d bytes where 1 to %d can be", ErrFrame, typ, length, limit+1)
	}
	n := int(length) - 1
	if whole := headerBytes + n; whole <= r.in.Size() {
		b, err := r.in.Peek(whole)
		if err != nil {
			return 0, nil, inFrame(err)
		}
		r.unread = whole
		if cap(r.big) > keepBytes {
			r.big = nil
		}
		return typ, b[headerBytes:], nil
	}
	_, _ = r.in.Discard(headerBytes)
	if err := r.readBig(n); err != nil {
		return 0, nil, inFrame(err)
	}
	return typ, r.big, nil
}

// readBig reads n bytes into r.big. Memory grows with what has arrived, not with what was announced.
func (r *frameReader) readBig(n int) error {
	r.big = r.big[:0]
	for len(r.big) < n {
		have := len(r.big)
		if have == cap(r.big) {
			grown := make([]byte, have, min(n, max(2*have, keepBytes)))
			copy(grown, r.big)
			r.big = grown
		}
		r.big = r.big[:min(n, cap(r.big))]
		got, err := io.ReadFull(r.in, r.big[have:])
		if err != nil {
			r.big = r.big[:have+got]
			return err
		}
	}
	return nil
}

func inFrame(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
