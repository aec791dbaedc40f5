package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of an ext4 superblock (Documentation/filesystems/ext4/super.rst), which is superBytes from byte superAt on.
const (
	superAt    = 1024
	superBytes = 1024
	superMagic = 0xEF53

	stateValid  = 1
	stateErrors = 2

	compatJournal   = 0x4
	incompatRecover = 0x4
	incompat64Bit   = 0x80
	roMetadataCsum  = 0x400

	blockShiftMax = 6 // 64 KiB
)

var (
	// ErrDamaged says that a file system has to be looked at, or made anew, before it is used.
	ErrDamaged = errors.New("the file system is damaged")
	// ErrFormat says that there is no ext4.
	ErrFormat = errors.New("there is no ext4 file system")
)

// Ext4 is what a file system's superblock says.
type Ext4 struct {
	Label string
	// Bytes is the size of the file system.
	Bytes int64
	// Recover says that its journal has to be played back, as after a power cut. The kernel does that when it mounts.
	Recover bool
	// Errors is how many errors the kernel has met in it and written down.
	Errors uint32
	// FirstError is when the first was, in Unix seconds; 0: none.
	FirstError uint32
}

// CheckExt4 reads the superblock in r, a partition of size bytes, and says what is in it. Its checksum must be right, the file
// system must not be larger than its partition, must have a journal, and the kernel must not have marked it as having errors; what lies behind
// it is checked by the kernel, which verifies the checksum of each block of metadata that it reads. Errors: ErrFormat, ErrDamaged, with
// what was read where it could be, or r's.
func CheckExt4(r io.ReaderAt, size int64) (*Ext4, error) {
	b := make([]byte, superBytes)
	if _, err := r.ReadAt(b, superAt); err != nil {
		return nil, fmt.Errorf("disk: superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != superMagic {
		return nil, fmt.Errorf("disk: %w", ErrFormat)
	}
	damaged := func(x *Ext4, format string, args ...any) (*Ext4, error) {
		return x, fmt.Errorf("disk: %w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
	if le.Uint32(b[0x64:])&roMetadataCsum != 0 {
		want := le.Uint32(b[0x3FC:])
		if got := ^crc32.Update(0, crc32.MakeTable(crc32.Castagnoli), b[:0x3FC]); got != want {
			return damaged(nil, "the superblock's checksum is %08x where %08x is written", got, want)
		}
	}
	shift := le.Uint32(b[0x18:])
	if shift > blockShiftMax {
		return damaged(nil, "blocks of 2^%d KiB", shift)
	}
	incompat := le.Uint32(b[0x60:])
	blocks := uint64(le.Uint32(b[0x4:]))
	if incompat&incompat64Bit != 0 {
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	block := uint64(1024) << shift
	label, _, _ := bytes.Cut(b[0x78:0x88], []byte{0})
	x := &Ext4{
		Label: string(label), Recover: incompat&incompatRecover != 0,
		Errors: le.Uint32(b[0x194:]), FirstError: le.Uint32(b[0x198:]),
	}
	if blocks == 0 || blocks > uint64(size)/block {
		return damaged(x, "it has %d blocks of %d bytes on a partition of %d bytes", blocks, block, size)
	}
	x.Bytes = int64(blocks * block)
	state := le.Uint16(b[0x3A:])
	switch {
	case le.Uint32(b[0x5C:])&compatJournal == 0:
		return damaged(x, "it has no journal")
	case state&stateErrors != 0:
		return damaged(x, "the kernel has marked it: %d errors", x.Errors)
	case state&stateValid == 0 && !x.Recover:
		return damaged(x, "it was not unmounted and its journal is empty")
	}
	return x, nil
}

// Ioctls of ext4 (fs/ext4/ext4.h) and of the block layer (linux/blkpg.h).
const (
	extResize     = 0x40086610 // _IOW('f', 16, __u64)
	blkpg         = 0x1269     // _IO(0x12, 105)
	blkpgResize   = 3
	partNameBytes = 64
)

// GrowExt4 grows a mounted file system to so many bytes, while it is in use. It cannot be made smaller.
func GrowExt4(mountpoint string, size int64) error {
	f, err := os.Open(mountpoint)
	if err != nil {
		return fmt.Errorf("disk: grow: %w", err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("disk: grow: %w", err)
	}
	blocks := uint64(size) / uint64(st.Bsize)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), extResize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("disk: grow to %d blocks: %w", blocks, errno)
	}
	return nil
}

// Tell tells the kernel that a partition of the open disk f has another size, also while it is in use.
func Tell(f *os.File, number int, start, length int64) error {
	type partition struct {
		start, length int64
		number        int32
		name, volume  [partNameBytes]byte
	}
	p := partition{start: start, length: length, number: int32(number)}
	arg := struct {
		op, flags, size int32
		_               [4]byte
		data            unsafe.Pointer
	}{op: blkpgResize, size: int32(unsafe.Sizeof(p)), data: unsafe.Pointer(&p)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkpg, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("disk: partition %d: %w", number, errno)
	}
	return nil
}
