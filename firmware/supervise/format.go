package supervise

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"github.com/holdfast-edge/holdfast/firmware/image/ext4"
	"github.com/holdfast-edge/holdfast/firmware/supervise/disk"
	"golang.org/x/sys/unix"
)

// makeExt4 makes an empty file system at the start of f, as large as the maker makes them; it grows when it is mounted.
func makeExt4(f *os.File, size int64) error {
	o := ext4.Options{Bytes: min(size, ext4.BytesMax), Label: disk.DataName, Seconds: time.Now().Unix()}
	if _, err := rand.Read(o.ID[:]); err != nil {
		return fmt.Errorf("format: %w", err)
	}
	if _, err := rand.Read(o.Seed[:]); err != nil {
		return fmt.Errorf("format: %w", err)
	}
	if err := ext4.Make(f, o); err != nil {
		return fmt.Errorf("format: %w", err)
	}
	return nil
}

// blkDiscard is BLKDISCARD (linux/fs.h): a start and a length in bytes.
const blkDiscard = 0x1277

// discard tells a medium that it may forget a range of itself. Errors: ENOTTY and EOPNOTSUPP where it cannot.
func discard(f *os.File, all *[2]uint64) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkDiscard, uintptr(unsafe.Pointer(all))); errno != 0 {
		return errno
	}
	return nil
}

// erase overwrites a file where it lies and removes it. A medium that levels its wear may keep what was there: what is erased
// should not be good for long.
func erase(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = overwrite(f, info.Size())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("erase %s: %w", path, err)
	}
	return os.Remove(path)
}

// overwrite writes zeros over so many bytes: the first sector is on the disk before the next is touched, so that a file whose erasing was cut
// can be told from one that was not, wherever it was.
func overwrite(f interface {
	io.WriterAt
	Sync() error
}, size int64,
) error {
	const sector, piece = 512, 1 << 20
	zeros := make([]byte, min(size, piece))
	for at := int64(0); at < size; {
		n := min(size-at, piece)
		if at == 0 {
			n = min(size, sector)
		}
		if _, err := f.WriteAt(zeros[:n], at); err != nil {
			return err
		}
		if at += n; at == min(size, sector) {
			if err := f.Sync(); err != nil {
				return err
			}
		}
	}
	return f.Sync()
}
