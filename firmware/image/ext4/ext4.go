// Package ext4 makes an empty ext4 file system (Documentation/filesystems/ext4 of Linux), without a kernel, root or a clock: the
// same options give the same bytes. It has a journal and checksums over all metadata. It is one block group; a mounted one grows
// to its partition with the kernel's own EXT4_IOC_RESIZE_FS, which adds the rest (as meta block groups).
//
//	block 0     boot sector, superblock at byte 1024
//	block 1     group descriptors
//	block 2, 3  bitmaps of blocks and of inodes
//	block 4..   inodes, the root folder, lost+found, the journal, free blocks
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	blockBytes     = 4096
	groupBlocks    = 8 * blockBytes // a bitmap is a block
	inodeBytes     = 256
	inodesPerGroup = 2048 // 128 MiB have 2048 files: a box has a few dozen large ones
	tableBlocks    = inodesPerGroup * inodeBytes / blockBytes
	descBytes      = 64
	lostBlocks     = 4 // so that fsck need not allocate
	journalBlocks  = 4096
	firstInode     = 11 // the first that is not reserved: lost+found
	rootInode      = 2
	journalInode   = 8

	gdtBlock     = 1
	blockBitmap  = 2
	inodeBitmap  = 3
	tableBlock   = 4
	rootBlock    = tableBlock + tableBlocks
	lostBlock    = rootBlock + 1
	journalBlock = lostBlock + lostBlocks
	firstFree    = journalBlock + journalBlocks

	labelBytes = 16
)

// Features, by the kernel's names.
const (
	compat   = 0x4 | 0x8 | 0x20                      // has_journal, ext_attr, dir_index
	incompat = 0x2 | 0x40 | 0x80 | 0x200             // filetype, extents, 64bit, flex_bg
	roCompat = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400 // sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum
)

// Bounds of a new file system: the journal and as much again, and one block group.
const (
	BytesMin = 2 * journalBlocks * blockBytes
	BytesMax = groupBlocks * blockBytes
)

// ErrSize says that a file system of this size cannot be made.
var ErrSize = errors.New("ext4: bad size")

// Options say what the file system is.
type Options struct {
	Bytes   int64    // its size, from BytesMin to BytesMax: it grows when it is mounted
	Label   string   // at most 16 bytes
	ID      [16]byte // its UUID
	Seed    [16]byte // of the hash of its folders
	Seconds int64    // when it was made, since 1970
}

// Make writes a file system. Blocks that have nothing in them are written as zeros only where something is read before it is
// written, so what was on the medium does not matter. Errors: ErrSize, and w's.
func Make(w io.WriterAt, o Options) error {
	if o.Bytes < BytesMin || o.Bytes > BytesMax || len(o.Label) > labelBytes {
		return fmt.Errorf("%w: %d bytes, from %d to %d; label %q", ErrSize, o.Bytes, BytesMin, BytesMax, o.Label)
	}
	m := &maker{o: o, blocks: uint32(o.Bytes / blockBytes), seed: sum(^uint32(0), o.ID[:])}
	free := m.blocks - firstFree
	for _, part := range []struct {
		block uint32
		b     []byte
	}{
		{blockBitmap, m.blockBitmap()},
		{inodeBitmap, m.inodeBitmap()},
		{tableBlock, m.inodes()},
		{rootBlock, m.folder(rootInode, rootInode, "lost+found", firstInode)},
		{lostBlock, m.lostFound()},
		{journalBlock, m.journal()},
		{gdtBlock, m.descriptors(free)},
		{0, m.first(free)},
	} {
		if _, err := w.WriteAt(part.b, int64(part.block)*blockBytes); err != nil {
			return fmt.Errorf("ext4: write: %w", err)
		}
	}
	return nil
}

type maker struct {
	o      Options
	blocks uint32
	seed   uint32
}

// sum is the CRC32c of the file system: it goes on from crc, and is not inverted at either end.
func sum(crc uint32, b []byte) uint32 {
	return ^crc32.Update(^crc, crc32.MakeTable(crc32.Castagnoli), b)
}

func (m *maker) blockBitmap() []byte {
	b := make([]byte, blockBytes)
	for i := range uint32(groupBlocks) {
		if i < firstFree || i >= m.blocks { // there is no block behind the end
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

func (m *maker) inodeBitmap() []byte {
	b := make([]byte, blockBytes)
	for i := range groupBlocks {
		if i < firstInode || i >= inodesPerGroup {
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

func (m *maker) inodes() []byte {
	b := make([]byte, tableBlocks*blockBytes)
	m.inode(b, rootInode, 0o40755, 3, rootBlock, 1)
	m.inode(b, journalInode, 0o100600, 1, journalBlock, journalBlocks)
	m.inode(b, firstInode, 0o40700, 2, lostBlock, lostBlocks)
	return b
}

// inode fills in the inode n: one extent of so many blocks.
func (m *maker) inode(table []byte, n uint32, mode, links uint16, block, blocks uint32) {
	le := binary.LittleEndian
	b := table[(n-1)*inodeBytes : n*inodeBytes]
	le.PutUint16(b[0:], mode)
	le.PutUint32(b[4:], blocks*blockBytes)
	for _, at := range []int{8, 12, 16, 0x90} { // access, change, modification, creation
		le.PutUint32(b[at:], uint32(m.o.Seconds))
	}
	le.PutUint16(b[26:], links)
	le.PutUint32(b[28:], blocks*(blockBytes/512))
	le.PutUint32(b[32:], 0x80000) // it has extents
	copy(b[40:], extents(block, blocks))
	le.PutUint16(b[0x80:], 32) // extra fields
	m.inodeSum(b, n)
}

// extents is the root of an extent tree with one leaf.
func extents(block, blocks uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, 60)
	le.PutUint16(b[0:], 0xF30A)
	le.PutUint16(b[2:], 1) // entries
	le.PutUint16(b[4:], 4) // room
	le.PutUint16(b[16:], uint16(blocks))
	le.PutUint32(b[20:], block)
	return b
}

func (m *maker) inodeSum(b []byte, n uint32) {
	le := binary.LittleEndian
	c := sum(m.inodeSeed(n), b) // both fields of the sum are zero
	le.PutUint16(b[0x7C:], uint16(c))
	le.PutUint16(b[0x82:], uint16(c>>16))
}

// inodeSeed is where sums over what belongs to an inode begin: its number, and generation 0.
func (m *maker) inodeSeed(n uint32) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], n)
	return sum(m.seed, b[:])
}

// folder is the block of a folder, with its sum in a last entry that no reader takes for a name.
func (m *maker) folder(n, above uint32, name string, child uint32) []byte {
	b := make([]byte, blockBytes)
	put := func(at int, inode uint32, length int, name string) {
		le := binary.LittleEndian
		le.PutUint32(b[at:], inode)
		le.PutUint16(b[at+4:], uint16(length))
		b[at+6], b[at+7] = byte(len(name)), 2 // a folder
		copy(b[at+8:], name)
	}
	rest := blockBytes - 12 - 12
	put(0, n, 12, ".")
	if name == "" {
		put(12, above, rest, "..")
	} else {
		put(12, above, 12, "..")
		put(24, child, rest-12, name)
	}
	return m.folderTail(b, n)
}

func (m *maker) folderTail(b []byte, n uint32) []byte {
	le := binary.LittleEndian
	tail := b[blockBytes-12:]
	le.PutUint16(tail[4:], 12)
	tail[7] = 0xDE
	le.PutUint32(tail[8:], sum(m.inodeSeed(n), b[:blockBytes-12]))
	return b
}

func (m *maker) lostFound() []byte {
	all := m.folder(firstInode, rootInode, "", 0)
	for range lostBlocks - 1 {
		b := make([]byte, blockBytes)
		binary.LittleEndian.PutUint16(b[4:], blockBytes-12)
		all = append(all, m.folderTail(b, firstInode)...)
	}
	return all
}

// journal is the first block of an empty journal (jbd2), and zeros behind it: what was on the medium might look like one.
func (m *maker) journal() []byte {
	be := binary.BigEndian
	b := make([]byte, journalBlocks*blockBytes)
	be.PutUint32(b[0:], 0xC03B3998)
	be.PutUint32(b[4:], 4) // a superblock of version 2
	be.PutUint32(b[12:], blockBytes)
	be.PutUint32(b[16:], journalBlocks)
	be.PutUint32(b[20:], 1) // first block of the log
	be.PutUint32(b[24:], 1) // first transaction
	copy(b[48:], m.o.ID[:])
	be.PutUint32(b[64:], 1) // users
	return b
}

func (m *maker) descriptors(free uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, blockBytes)
	le.PutUint32(b[0x0:], blockBitmap)
	le.PutUint32(b[0x4:], inodeBitmap)
	le.PutUint32(b[0x8:], tableBlock)
	le.PutUint16(b[0xC:], uint16(free))
	le.PutUint16(b[0xE:], inodesPerGroup-firstInode)
	le.PutUint16(b[0x10:], 2)   // folders
	le.PutUint16(b[0x12:], 0x4) // the table of inodes is written
	bb, ib := sum(m.seed, m.blockBitmap()), sum(m.seed, m.inodeBitmap()[:inodesPerGroup/8])
	le.PutUint16(b[0x18:], uint16(bb))
	le.PutUint16(b[0x38:], uint16(bb>>16))
	le.PutUint16(b[0x1A:], uint16(ib))
	le.PutUint16(b[0x3A:], uint16(ib>>16))
	le.PutUint16(b[0x1C:], inodesPerGroup-firstInode)
	var group [4]byte
	le.PutUint16(b[0x1E:], uint16(sum(sum(m.seed, group[:]), b[:descBytes])))
	return b
}

// first is block 0 with the superblock.
func (m *maker) first(free uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, blockBytes)
	s := b[1024:2048]
	le.PutUint32(s[0x0:], inodesPerGroup)
	le.PutUint32(s[0x4:], m.blocks)
	le.PutUint32(s[0xC:], free)
	le.PutUint32(s[0x10:], inodesPerGroup-firstInode)
	le.PutUint32(s[0x18:], 2) // blocks of 1024 << 2 bytes
	le.PutUint32(s[0x1C:], 2) // clusters too
	le.PutUint32(s[0x20:], groupBlocks)
	le.PutUint32(s[0x24:], groupBlocks)
	le.PutUint32(s[0x28:], inodesPerGroup)
	le.PutUint32(s[0x30:], uint32(m.o.Seconds))
	le.PutUint16(s[0x36:], 0xFFFF) // no check after so many mounts
	le.PutUint16(s[0x38:], 0xEF53)
	le.PutUint16(s[0x3A:], 1) // clean
	le.PutUint16(s[0x3C:], 2) // on errors: read-only
	le.PutUint32(s[0x40:], uint32(m.o.Seconds))
	le.PutUint32(s[0x4C:], 1) // revision with features
	le.PutUint32(s[0x54:], firstInode)
	le.PutUint16(s[0x58:], inodeBytes)
	le.PutUint32(s[0x5C:], compat)
	le.PutUint32(s[0x60:], incompat)
	le.PutUint32(s[0x64:], roCompat)
	copy(s[0x68:], m.o.ID[:])
	copy(s[0x78:0x88], m.o.Label)
	le.PutUint32(s[0xE0:], journalInode)
	copy(s[0xEC:], m.o.Seed[:])
	s[0xFC] = 1 // half MD4
	s[0xFD] = 1 // a copy of the journal's inode is below
	le.PutUint16(s[0xFE:], descBytes)
	le.PutUint32(s[0x100:], 0xC) // user_xattr, acl
	le.PutUint32(s[0x108:], uint32(m.o.Seconds))
	copy(s[0x10C:], extents(journalBlock, journalBlocks))
	le.PutUint32(s[0x10C+16*4:], journalBlocks*blockBytes)
	le.PutUint16(s[0x15C:], 32)
	le.PutUint16(s[0x15E:], 32)
	le.PutUint32(s[0x160:], 1) // hashes of signed chars
	s[0x174] = 4               // 16 groups share their tables
	s[0x175] = 1               // CRC32c
	le.PutUint32(s[0x3FC:], sum(^uint32(0), s[:0x3FC]))
	return b
}
