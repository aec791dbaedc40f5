// Package gpt writes, reads and grows GUID partition tables (UEFI Specification 2.10, chapter 5) of disks with sectors of 512
// bytes. It works on files and block devices alike, and never looks at what is in a partition.
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"
)

// Sizes in bytes.
const (
	SectorBytes = 512
	entryBytes  = 128
	headerBytes = 92
)

const (
	entries      = 128                                  // the least that the specification allows
	entrySectors = entries * entryBytes / SectorBytes   // 32
	firstUsable  = 2 + entrySectors                     // behind the protective MBR, the header and the entries
	nameUnits    = 36                                   // UTF-16 units of a partition's name
	signature    = "EFI PART"                           //
	revision     = 0x00010000                           //
	minSectors   = firstUsable + 1 + (entrySectors + 1) // room for both tables and one sector
)

// Errors.
var (
	// ErrNone says that there is no valid table.
	ErrNone = errors.New("gpt: no partition table")
	// ErrLayout says that partitions do not fit the disk or each other.
	ErrLayout = errors.New("gpt: partitions do not fit")
)

// GUID is a GUID in the order in which it is printed.
type GUID [16]byte

// Types of partitions.
var (
	typeESP   = GUID{0xC1, 0x2A, 0x73, 0x28, 0xF8, 0x1F, 0x11, 0xD2, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B}
	typeBasic = GUID{0xEB, 0xD0, 0xA0, 0xA2, 0xB9, 0xE5, 0x44, 0x33, 0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99, 0xC7}
	typeLinux = GUID{0x0F, 0xC6, 0x3D, 0xAF, 0x84, 0x83, 0x47, 0x72, 0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4}
)

// ESP is the type of an EFI system partition.
func ESP() GUID { return typeESP }

// Basic is the type of a partition with FAT that is no EFI system partition.
func Basic() GUID { return typeBasic }

// Linux is the type of a Linux file system.
func Linux() GUID { return typeLinux }

// String is the usual form, in capitals.
func (g GUID) String() string {
	return fmt.Sprintf("%X-%X-%X-%X-%X", g[0:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

// put writes g as the table has it: the first three fields in little-endian order.
func (g GUID) put(b []byte) {
	b[0], b[1], b[2], b[3] = g[3], g[2], g[1], g[0]
	b[4], b[5], b[6], b[7] = g[5], g[4], g[7], g[6]
	copy(b[8:16], g[8:])
}

func getGUID(b []byte) (g GUID) {
	g[0], g[1], g[2], g[3] = b[3], b[2], b[1], b[0]
	g[4], g[5], g[6], g[7] = b[5], b[4], b[7], b[6]
	copy(g[8:], b[8:16])
	return g
}

// Partition is one partition, from sector First to sector Last.
type Partition struct {
	Type, ID    GUID
	First, Last uint64
	Attributes  uint64
	Name        string // at most 36 UTF-16 units
}

// Offset is where the partition begins, in bytes.
func (p Partition) Offset() int64 { return int64(p.First) * SectorBytes }

// Bytes is the partition's size.
func (p Partition) Bytes() int64 { return int64(p.Last-p.First+1) * SectorBytes }

// Table is the table of a disk.
type Table struct {
	ID         GUID
	Partitions []Partition // in the order of their numbers; one of type zero is a free number
}

// Find is the partition with a name.
func (t *Table) Find(name string) (Partition, bool) {
	for _, p := range t.Partitions {
		if p.Name == name && p.Type != (GUID{}) {
			return p, true
		}
	}
	return Partition{}, false
}

// check says whether the partitions fit a disk of so many sectors.
func (t *Table) check(sectors uint64) error {
	if sectors < minSectors {
		return fmt.Errorf("%w: the disk has %d sectors", ErrLayout, sectors)
	}
	if len(t.Partitions) > entries {
		return fmt.Errorf("%w: more than %d", ErrLayout, entries)
	}
	for i, p := range t.Partitions {
		if p.Type == (GUID{}) {
			continue
		}
		if p.First < firstUsable || p.Last < p.First || p.Last > lastUsable(sectors) {
			return fmt.Errorf("%w: partition %d is from sector %d to %d of %d", ErrLayout, i+1, p.First, p.Last, sectors)
		}
		if len(utf16.Encode([]rune(p.Name))) > nameUnits {
			return fmt.Errorf("%w: the name %q is too long", ErrLayout, p.Name)
		}
		for j, q := range t.Partitions[:i] {
			if q.Type != (GUID{}) && p.First <= q.Last && q.First <= p.Last {
				return fmt.Errorf("%w: partitions %d and %d overlap", ErrLayout, j+1, i+1)
			}
		}
	}
	return nil
}

func lastUsable(sectors uint64) uint64 { return sectors - 2 - entrySectors }

// Write writes the table to a disk of size bytes: a protective MBR, and the table at both ends. The copy at the end is written
// first: a power cut leaves one of them whole. Errors: ErrLayout, and the disk's.
func Write(w io.WriterAt, size int64, t *Table) error {
	sectors := uint64(max(size, 0) / SectorBytes)
	if err := t.check(sectors); err != nil {
		return err
	}
	list := t.encodeEntries()
	last := sectors - 1
	for _, part := range []struct {
		sector uint64
		b      []byte
	}{
		{last - entrySectors, list},
		{last, t.header(list, sectors, last, 1, last-entrySectors)},
		{2, list},
		{1, t.header(list, sectors, 1, last, 2)},
		{0, protective(sectors)},
	} {
		if _, err := w.WriteAt(part.b, int64(part.sector)*SectorBytes); err != nil {
			return fmt.Errorf("gpt: write: %w", err)
		}
	}
	return nil
}

func (t *Table) encodeEntries() []byte {
	b := make([]byte, entries*entryBytes)
	for i, p := range t.Partitions {
		e := b[i*entryBytes:]
		p.Type.put(e)
		p.ID.put(e[16:])
		binary.LittleEndian.PutUint64(e[32:], p.First)
		binary.LittleEndian.PutUint64(e[40:], p.Last)
		binary.LittleEndian.PutUint64(e[48:], p.Attributes)
		for j, u := range utf16.Encode([]rune(p.Name)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
	return b
}

func (t *Table) header(list []byte, sectors, at, other, listAt uint64) []byte {
	b := make([]byte, SectorBytes)
	le := binary.LittleEndian
	copy(b, signature)
	le.PutUint32(b[8:], revision)
	le.PutUint32(b[12:], headerBytes)
	le.PutUint64(b[24:], at)
	le.PutUint64(b[32:], other)
	le.PutUint64(b[40:], firstUsable)
	le.PutUint64(b[48:], lastUsable(sectors))
	t.ID.put(b[56:])
	le.PutUint64(b[72:], listAt)
	le.PutUint32(b[80:], entries)
	le.PutUint32(b[84:], entryBytes)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(list))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerBytes]))
	return b
}

// protective is an MBR that tells programs which know no GPT that the disk is full.
func protective(sectors uint64) []byte {
	b := make([]byte, SectorBytes)
	e := b[446:]
	e[1], e[2], e[3] = 0, 2, 0 // CHS of sector 1
	e[4] = 0xEE
	e[5], e[6], e[7] = 0xFF, 0xFF, 0xFF
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(sectors-1, 0xFFFFFFFF)))
	b[510], b[511] = 0x55, 0xAA
	return b
}

// Read reads the table of a disk of size bytes: the first one if it is whole, else the copy at the end. Errors: ErrNone, and the
// disk's.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	last := size/SectorBytes - 1
	if last < minSectors-1 {
		return nil, fmt.Errorf("%w: the disk has %d bytes", ErrNone, size)
	}
	t, err := readAt(r, 1, last)
	if errors.Is(err, ErrNone) {
		if second, err2 := readAt(r, uint64(last), last); err2 == nil {
			return second, nil
		}
	}
	return t, err
}

func readAt(r io.ReaderAt, at uint64, last int64) (*Table, error) {
	b := make([]byte, SectorBytes)
	if _, err := r.ReadAt(b, int64(at)*SectorBytes); err != nil {
		return nil, fmt.Errorf("gpt: read: %w", err)
	}
	le := binary.LittleEndian
	sum := le.Uint32(b[16:])
	clear(b[16:20])
	if !bytes.HasPrefix(b, []byte(signature)) || le.Uint32(b[12:]) != headerBytes || le.Uint64(b[24:]) != at || crc32.ChecksumIEEE(b[:headerBytes]) != sum {
		return nil, fmt.Errorf("%w: sector %d has no valid header", ErrNone, at)
	}
	listAt, n, each := le.Uint64(b[72:]), le.Uint32(b[80:]), le.Uint32(b[84:])
	if each != entryBytes || n > entries || listAt < 2 || listAt > uint64(last) {
		return nil, fmt.Errorf("%w: %d entries of %d bytes at sector %d", ErrNone, n, each, listAt)
	}
	list := make([]byte, n*each)
	if _, err := r.ReadAt(list, int64(listAt)*SectorBytes); err != nil {
		return nil, fmt.Errorf("gpt: read: %w", err)
	}
	if crc32.ChecksumIEEE(list) != le.Uint32(b[88:]) {
		return nil, fmt.Errorf("%w: the entries at sector %d are damaged", ErrNone, listAt)
	}
	t := &Table{ID: getGUID(b[56:])}
	used := 0
	for i := range int(n) {
		e := list[i*entryBytes:]
		p := Partition{Type: getGUID(e), ID: getGUID(e[16:]), First: le.Uint64(e[32:]), Last: le.Uint64(e[40:]), Attributes: le.Uint64(e[48:])}
		units := make([]uint16, 0, nameUnits)
		for j := range nameUnits {
			u := le.Uint16(e[56+2*j:])
			if u == 0 {
				break
			}
			units = append(units, u)
		}
		p.Name = string(utf16.Decode(units))
		if p.Type != (GUID{}) {
			used = i + 1
			if p.Last < p.First || p.First < 1 || p.Last > uint64(last) {
				return nil, fmt.Errorf("%w: partition %d is from sector %d to %d", ErrNone, used, p.First, p.Last)
			}
		}
		t.Partitions = append(t.Partitions, p)
	}
	t.Partitions = t.Partitions[:used]
	return t, nil
}

// Grow gives the partition with a name all the room behind it on a disk of size bytes, and moves the table's copy to the disk's
// end; grown is false when it has it. Where one of the two copies is damaged, as a power cut leaves it, or not where the disk ends, both are
// written. The partition must be the last one on the disk. The kernel has to be told afterwards. Errors: ErrNone, ErrLayout, and the disk's.
func Grow(f interface {
	io.ReaderAt
	io.WriterAt
}, size int64, name string,
) (p Partition, grown bool, err error) {
	t, err := Read(f, size)
	if err != nil {
		return Partition{}, false, err
	}
	last := lastUsable(uint64(size / SectorBytes))
	last = (last+1)/2048*2048 - 1 // to a whole MiB
	for i := range t.Partitions {
		q := &t.Partitions[i]
		if q.Name != name {
			continue
		}
		if grown = q.Last < last; grown {
			q.Last = last
		} else if whole(f, size) {
			return *q, false, nil
		}
		if err := Write(f, size, t); err != nil {
			return Partition{}, false, err
		}
		return *q, grown, nil
	}
	return Partition{}, false, fmt.Errorf("%w: there is no partition %q", ErrLayout, name)
}

// whole says whether both copies of a table are there, and one.
func whole(r io.ReaderAt, size int64) bool {
	last := size/SectorBytes - 1
	first, err1 := readAt(r, 1, last)
	second, err2 := readAt(r, uint64(last), last)
	return err1 == nil && err2 == nil && first.ID == second.ID && slices.Equal(first.Partitions, second.Partitions)
}
