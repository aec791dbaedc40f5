package feed

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

const (
	// keyBytesLen is one access: a 32-bit big-endian object key.
	keyBytesLen = 4
	// accessesMax bounds a trace: 1 GiB decoded, some hours of feeding.
	accessesMax = 1 << 28
	// dictBytesMax bounds the memory that an xz file may ask for: `xz -9` asks for 64 MiB.
	dictBytesMax = 64 << 20
	// readObjects is how many objects are handed on at once.
	readObjects = 4096
)

// xzMagic and xzHeaderLen are of the stream header (xz file format 1.0.4, 2.1.1).
const (
	xzMagic     = "\xFD7zXZ\x00"
	xzHeaderLen = 12
)

// Trace is an open trace that was found whole.
type Trace struct {
	file     *os.File
	accesses uint64
}

// Open decodes the whole file once and keeps it open. The caller closes it.
//
// Errors: ErrTrace, or what the file system says.
func Open(path string) (*Trace, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("feed: open trace: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("feed: open trace: %w: %s is not a regular file", ErrTrace, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("feed: open trace: %w", err)
	}
	t := &Trace{file: f}
	err = t.Each(func(objects []uint32) error {
		t.accesses += uint64(len(objects))
		return nil
	})
	if err == nil && t.accesses == 0 {
		err = fmt.Errorf("%w: it has no accesses", ErrTrace)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("feed: %s: %w", path, err), f.Close())
	}
	return t, nil
}

// Accesses is how many accesses the trace has.
func (t *Trace) Accesses() uint64 { return t.accesses }

// Close closes the file.
func (t *Trace) Close() error { return t.file.Close() }

// Each reads the trace from its beginning and calls fn with the objects in order, some thousand
// at a time; the slice is reused.
func (t *Trace) Each(fn func(objects []uint32) error) error {
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("feed: read trace: %w", err)
	}
	return decode(t.file, strings.HasSuffix(t.file.Name(), ".xz"), fn)
}

// decode reads a trace, xz-compressed if it begins so, or must be when the name says so.
func decode(r io.Reader, mustBeXZ bool, fn func([]uint32) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(len(xzMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", ErrTrace, err)
	}
	if !bytes.Equal(head, []byte(xzMagic)) {
		if mustBeXZ {
			return fmt.Errorf("%w: the name ends in .xz and the content is not xz; copy it again", ErrTrace)
		}
		return decodeRaw(in, fn)
	}
	if err := checkDictionary(in); err != nil {
		return fmt.Errorf("%w: %w", ErrTrace, err)
	}
	x, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(in)
	if err != nil {
		return fmt.Errorf("%w: %w; copy it again", ErrTrace, err)
	}
	return decodeRaw(x, fn)
}

func decodeRaw(r io.Reader, fn func([]uint32) error) error {
	src := &source{r: r}
	buf, objects, total := make([]byte, readObjects*keyBytesLen), make([]uint32, 0, readObjects), 0
	for src.err == nil {
		n, _ := io.ReadFull(src, buf) // src.err is the error as the source said it
		objects = objects[:0]
		for b := buf[:n]; len(b) >= keyBytesLen; b = b[keyBytesLen:] {
			objects = append(objects, binary.BigEndian.Uint32(b))
		}
		if src.err != nil && !errors.Is(src.err, io.EOF) {
			return fmt.Errorf("%w: %w; copy it again", ErrTrace, src.err)
		}
		if left := n % keyBytesLen; left != 0 {
			return fmt.Errorf("%w: it ends within an access (%d bytes left over); copy it again", ErrTrace, left)
		}
		if total += len(objects); total > accessesMax {
			return fmt.Errorf("%w: it has more than %d accesses", ErrTrace, accessesMax)
		}
		if len(objects) > 0 {
			if err := fn(objects); err != nil {
				return err
			}
		}
	}
	return nil
}

// source keeps its reader's first error: io.ReadFull says io.ErrUnexpectedEOF both for a short
// rest and for a source that broke off.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.err = err
	return n, err
}

// checkDictionary refuses an xz stream whose first block asks for more memory than dictBytesMax,
// which the decoder would allocate at once (xz file format 1.0.4, 3.1 and 5.3.1). Whatever
// else is wrong with the header is left for the decoder to say.
func checkDictionary(in *bufio.Reader) error {
	b, err := in.Peek(xzHeaderLen + 1)
	if err != nil || b[xzHeaderLen] == 0 {
		return nil // cut off, or no block at all
	}
	if b, err = in.Peek(xzHeaderLen + (int(b[xzHeaderLen])+1)*4); err != nil {
		return nil
	}
	flags, b := b[xzHeaderLen+1], b[xzHeaderLen+2:]
	const hasCompressed, hasUncompressed, lzma2 = 0x40, 0x80, 0x21
	for _, bit := range []byte{hasCompressed, hasUncompressed} {
		if flags&bit != 0 {
			_, n := binary.Uvarint(b)
			b = b[max(n, 0):]
		}
	}
	if len(b) < 3 || b[0] != lzma2 || b[1] != 1 {
		return nil
	}
	bits := b[2] & 0x3f
	if bits > 40 || uint64(2|bits&1)<<(bits/2+11) > dictBytesMax {
		return fmt.Errorf("it needs more than %d MiB to decompress; compress it with `xz -9` or less", dictBytesMax>>20)
	}
	return nil
}
