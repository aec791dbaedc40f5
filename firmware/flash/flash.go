// Package flash writes a disk image to a medium: a block device, or a file that stands for one. It refuses a disk that this machine uses, says
// how far it is, and reads back from the medium what it wrote. Images come as they are, or compressed with zstd.
package flash

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
)

const (
	chunkBytes     = 4 << 20 // what cards like to get at a time
	zstdMagic      = "\x28\xB5\x2F\xFD"
	zstdMemoryMax  = 256 << 20
	imageBytesMax  = 64 << 30
	tableBytes     = 64 << 10 // what an image is recognised by: its partition table
	sectorsPerKiB  = 2
	newFilePerm    = 0o644
	exclusiveHint  = "something on this machine has it open"
	readBackFailed = "the medium does not give back what was written to it: it is worn out or not what it says it is"
)

// Errors.
var (
	// ErrInUse says that this machine uses the disk.
	ErrInUse = errors.New("flash: the disk is in use")
	// ErrMedium says that the device is none that an image can be on.
	ErrMedium = errors.New("flash: not a medium for an image")
	// ErrImage says that a file is no image.
	ErrImage = errors.New("flash: not a disk image")
	// ErrVerify says that a medium does not have what was written.
	ErrVerify = errors.New("flash: " + readBackFailed)
)

// Options say what is written where.
type Options struct {
	Image, Device string
	// Shown, if not nil, is the device as somebody was asked about it: another disk that has got its name since is refused.
	Shown *Medium
	// Progress is told how much of the work is done, in bytes of the image, for each part of it ("write", "verify"). total is 0
	// while it is not known. Nil: nobody.
	Progress func(part string, done, total int64)
	// Tree is where this machine's /proc and /sys are; empty: /.
	Tree string
}

// Result is what was done.
type Result struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the image
}

// Check says what the device is, and what is known before anything is written: an image that is none, a device that is in use, too small
// or the image itself. It writes nothing. Errors: ErrInUse, ErrMedium, ErrImage, and the disks'.
func Check(o Options) (Medium, error) {
	in, total, err := openImage(o.Image)
	if err != nil {
		return Medium{}, err
	}
	defer in.Close()
	return check(o, in, total)
}

func check(o Options, in image, total int64) (Medium, error) {
	m, err := Look(o.Device, o.Tree)
	if err != nil {
		return Medium{}, err
	}
	if o.Shown != nil && !m.same(*o.Shown) {
		return Medium{}, fmt.Errorf("%w: %s is not the disk that it was a moment ago: look at it again", ErrMedium, o.Device)
	}
	if len(m.Uses) > 0 {
		return Medium{}, fmt.Errorf("%w: %s %s", ErrInUse, o.Device, m.Uses[0])
	}
	if m.Device && m.Bytes < total {
		return Medium{}, fmt.Errorf("%w: %s has %d bytes, the image %d", ErrMedium, o.Device, m.Bytes, total)
	}
	from, err := in.f.Stat()
	if err != nil {
		return Medium{}, fmt.Errorf("flash: %w", err)
	}
	if to, err := os.Stat(o.Device); err == nil && os.SameFile(from, to) {
		return Medium{}, fmt.Errorf("%w: %s is the image itself", ErrMedium, o.Device)
	}
	return m, nil
}

// Write writes an image and verifies it. A packed one is unpacked twice: what is damaged is known before the medium has lost what is on
// it. Errors: ErrInUse, ErrMedium, ErrImage, ErrVerify, ctx's, and the disks'.
func Write(ctx context.Context, o Options) (Result, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	in, total, err := openImage(o.Image)
	if err != nil {
		return Result{}, err
	}
	defer in.Close()
	m, err := check(o, in, total)
	if err != nil {
		return Result{}, err
	}
	if in.z != nil {
		if err := unpack(ctx, o.Image, o.Progress); err != nil {
			return Result{}, fmt.Errorf("%w; nothing was written", err)
		}
	}
	flags := os.O_RDWR | os.O_CREATE
	if m.Device {
		flags = os.O_RDWR | unix.O_EXCL // the kernel refuses it while anything holds the disk
	}
	out, err := os.OpenFile(o.Device, flags, newFilePerm)
	if errors.Is(err, unix.EBUSY) {
		return Result{}, fmt.Errorf("%w: %s: %s", ErrInUse, o.Device, exclusiveHint)
	}
	if err != nil {
		return Result{}, fmt.Errorf("flash: %w", err)
	}
	if err := m.is(out); err != nil {
		return Result{}, errors.Join(err, out.Close())
	}
	begun := false
	r, err := copyAndVerify(ctx, in, out, m, total, func(part string, done, total int64) {
		begun = true
		o.Progress(part, done, total)
	})
	if err != nil && begun {
		err = fmt.Errorf("%w; %s has lost what was on it and has no whole image: write one before it is used", err, o.Device)
	}
	return r, errors.Join(err, out.Close())
}

// unpack reads a packed image to its end. Errors: ErrImage, and ctx's.
func unpack(ctx context.Context, name string, progress func(string, int64, int64)) error {
	in, total, err := openImage(name)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = chunks(ctx, in, total, func(b []byte, at int64) error {
		progress("check", at+int64(len(b)), total)
		return nil
	})
	return err
}

// chunks reads an image to its end, chunkBytes at a time, and gives how long it is. total is 0 while that is not known. each must not keep
// its bytes. Errors: ErrImage, ctx's, and each's.
func chunks(ctx context.Context, in io.Reader, total int64, each func(b []byte, at int64) error) (done int64, err error) {
	buf := make([]byte, chunkBytes)
	for {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		n, err := fill(in, buf)
		if n > 0 {
			if err := each(buf[:n], done); err != nil {
				return done, err
			}
			done += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) && done < total:
			return done, fmt.Errorf("%w: it ends after %d of %d bytes", ErrImage, done, total)
		case errors.Is(err, io.EOF):
			return done, nil
		case err != nil:
			return done, fmt.Errorf("%w: it breaks off at byte %d: %w", ErrImage, done, err)
		case done > imageBytesMax:
			return done, fmt.Errorf("%w: more than %d bytes", ErrImage, int64(imageBytesMax))
		}
	}
}

// fill reads until buf is full. Only the end of what there is, io.EOF, ends it early without being a fault: a compressed image that
// was cut off says io.ErrUnexpectedEOF, which io.ReadFull's callers take for its own.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}

func copyAndVerify(ctx context.Context, in io.Reader, out *os.File, m Medium, total int64, progress func(string, int64, int64)) (Result, error) {
	h := sha256.New()
	done, err := chunks(ctx, in, total, func(b []byte, at int64) error {
		end := at + int64(len(b))
		if m.Device && end > m.Bytes {
			return fmt.Errorf("%w: the image has more than the %d bytes of the device", ErrMedium, m.Bytes)
		}
		h.Write(b)
		if _, err := out.WriteAt(b, at); err != nil {
			return fmt.Errorf("flash: write at byte %d: %w", at, err)
		}
		progress("write", end, total)
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	if err := out.Sync(); err != nil {
		return Result{}, fmt.Errorf("flash: %w", err)
	}
	want := h.Sum(nil)
	if err := forget(out, m.Device, done); err != nil {
		return Result{}, err
	}
	h.Reset()
	buf := make([]byte, chunkBytes)
	for at := int64(0); at < done; {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		n, err := out.ReadAt(buf[:min(chunkBytes, done-at)], at)
		if err != nil && !errors.Is(err, io.EOF) || n == 0 {
			return Result{}, fmt.Errorf("%w: byte %d: %w", ErrVerify, at, err)
		}
		h.Write(buf[:n])
		at += int64(n)
		progress("verify", at, done)
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return Result{}, ErrVerify
	}
	if m.Device {
		// The kernel looks at the new table when it can; otherwise when the medium is put in again.
		_ = unix.IoctlSetInt(int(out.Fd()), unix.BLKRRPART, 0)
	}
	return Result{Bytes: done, SHA256: hex.EncodeToString(want)}, nil
}

// forget drops what the kernel keeps in memory of the medium, so that it is read and not remembered.
func forget(f *os.File, device bool, size int64) error {
	err := unix.Fadvise(int(f.Fd()), 0, size, unix.FADV_DONTNEED)
	if device {
		err = unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0)
	}
	if err != nil {
		return fmt.Errorf("flash: forget what was written: %w", err)
	}
	return nil
}

// image is an open image.
type image struct {
	io.Reader
	f *os.File
	z *zstd.Decoder
}

func (i image) Close() error {
	if i.z != nil {
		i.z.Close()
	}
	return i.f.Close()
}

// openImage opens an image; size is 0 for a compressed one whose table does not say it. Errors: ErrImage, and the disk's.
func openImage(name string) (in image, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return image{}, 0, fmt.Errorf("flash: %w", err)
	}
	in = image{f: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	if st, err := f.Stat(); err == nil && !st.Mode().IsRegular() {
		return in, 0, fmt.Errorf("%w: %s is no file; the image comes first, and then the device", ErrImage, name)
	}
	r := bufio.NewReaderSize(f, tableBytes)
	head, err := r.Peek(len(zstdMagic))
	if err != nil {
		return in, 0, fmt.Errorf("%w: %s: %w", ErrImage, name, err)
	}
	if string(head) == zstdMagic {
		if in.z, err = zstd.NewReader(r, zstd.WithDecoderMaxMemory(zstdMemoryMax), zstd.WithDecoderConcurrency(1)); err != nil {
			return in, 0, fmt.Errorf("flash: %w", err)
		}
		r = bufio.NewReaderSize(in.z, tableBytes)
	} else {
		st, err := f.Stat()
		if err != nil {
			return in, 0, fmt.Errorf("flash: %w", err)
		}
		size = st.Size()
	}
	// What has no partition table would not boot: it is a mistake.
	head, err = r.Peek(tableBytes)
	if err != nil {
		return in, 0, fmt.Errorf("%w: %s: %w", ErrImage, name, err)
	}
	least, err := recognise(head, size)
	switch {
	case err != nil:
		return in, 0, fmt.Errorf("%w: %s: %w", ErrImage, name, err)
	case size == 0:
		size = least
	case size < least:
		return in, 0, fmt.Errorf("%w: %s has %d bytes, and its table is of a disk of %d: it was cut off", ErrImage, name, size, least)
	}
	in.Reader = r
	return in, size, nil
}

// recognise says whether a disk begins with a partition table: a GPT, or an MBR as Raspberry Pi has it. least is where the disk ends by
// its GPT, whose copy is in the last sector.
func recognise(head []byte, size int64) (least int64, err error) {
	if head[510] == 0x55 && head[511] == 0xAA && head[450] != 0xEE && head[450] != 0 {
		return 0, nil
	}
	if size == 0 {
		size = imageBytesMax
	}
	if _, err := gpt.Read(bytes.NewReader(head), size); err != nil {
		return 0, err
	}
	const copyAt = gpt.SectorBytes + 32 // UEFI 2.10, 5.3.2: AlternateLBA of the header in sector 1
	last := binary.LittleEndian.Uint64(head[copyAt:])
	if last >= imageBytesMax/gpt.SectorBytes {
		return 0, fmt.Errorf("its table is of a disk of %d sectors", last)
	}
	return int64(last+1) * gpt.SectorBytes, nil
}
