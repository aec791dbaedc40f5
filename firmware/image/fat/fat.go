// Package fat writes a FAT32 file system with files in it (Microsoft's FAT specification 1.03), from its first byte to its last
// without a kernel, root or a clock: the same files give the same bytes. It only makes new ones; to change one, mount it.
//
//	sector 0      boot sector, its copy in sector 6; sector 1 and 7: FSInfo
//	sector 32     the allocation table, twice
//	behind them   clusters from number 2 on: the root folder first, then each file and folder in one piece
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

const (
	sectorBytes     = 512
	reserved        = 32
	copies          = 2
	clusterSectors  = 8         // unless Options say otherwise
	clustersMin     = 65525     // fewer would be FAT16 to everyone
	clustersMax     = 0x0FFFFF5 // more than any disk that we write
	rootCluster     = 2
	endOfChain      = 0x0FFFFFFF
	entryBytes      = 32
	folderEntries   = 65536 // what FAT allows in a folder
	nameUnitsMax    = 255
	unitsPerEntry   = 13
	attrDir         = 0x10
	attrLabel       = 0x08
	attrLong        = 0x0F
	attrArchive     = 0x20
	lastLong        = 0x40
	labelBytes      = 11
	fileBytesMax    = 1<<32 - 1
	mediaFixed      = 0xF8
	bootSignature   = 0x29
	tableEntryBytes = 4
)

// BytesMin is the smallest file system that this package makes: FAT32 needs 65,525 clusters, and these have 4 KiB.
const BytesMin = (reserved + clustersMin*clusterSectors + 2*((clustersMin+2)*tableEntryBytes/sectorBytes+1)) * sectorBytes

// Errors.
var (
	// ErrFull says that the files do not fit.
	ErrFull = errors.New("fat: no room")
	// ErrName says that a name cannot stand in this file system.
	ErrName = errors.New("fat: bad name")
)

// File is a file, or a folder if Folder says so. Folders above a file need not be named.
type File struct {
	Name   string // slash-separated, without a leading slash
	Folder bool
	Body   []byte
}

// Options say what the file system is.
type Options struct {
	Bytes int64 // its size
	// ClusterBytes is the unit that files are kept in: a power of two from 512 on; 0: 4,096. Smaller ones make smaller file systems
	// possible: FAT32 needs 65,525 of them.
	ClusterBytes int
	Offset       int64     // where it begins on its disk: the boot sector says it
	Label        string    // at most 11 bytes
	ID           uint32    // the volume's serial number
	Time         time.Time // of every file, in UTC; FAT has none before 1980
}

// node is a file or folder on its way to the disk.
type node struct {
	name    string
	short   [11]byte
	folder  bool
	body    []byte
	entries []*node
	cluster uint32
}

// Make writes a file system with files. Where no file is it writes nothing: w must read as zeros there. Errors: ErrFull, ErrName,
// and w's.
func Make(w io.WriterAt, o Options, files []File) error {
	root, err := tree(files)
	if err != nil {
		return err
	}
	m, err := newMaker(w, o)
	if err != nil {
		return err
	}
	if err := m.place(root); err != nil {
		return err
	}
	if err := m.write(root, root); err != nil {
		return err
	}
	return m.finish()
}

// tree makes nodes of files, with the folders above them, in the order of their names.
func tree(files []File) (*node, error) {
	root := &node{folder: true}
	for _, f := range files {
		if len(f.Body) > fileBytesMax {
			return nil, fmt.Errorf("%w: %s is larger than 4 GiB", ErrFull, f.Name)
		}
		at := root
		parts := strings.Split(path.Clean(f.Name), "/")
		for i, name := range parts {
			next, err := at.child(name)
			if err != nil {
				return nil, err
			}
			last := i == len(parts)-1
			switch {
			case next == nil:
				next = &node{name: name, folder: !last || f.Folder, body: f.Body}
				if !last {
					next.body = nil
				}
				at.entries = append(at.entries, next)
			case !next.folder || last && !f.Folder:
				return nil, fmt.Errorf("%w: %s is there twice", ErrName, f.Name)
			}
			at = next
		}
	}
	return root, root.sort()
}

// child finds a name, as FAT does: without a difference between capitals and small letters.
func (n *node) child(name string) (*node, error) {
	units := len(utf16.Encode([]rune(name)))
	if name == "" || name == "." || name == ".." || units > nameUnitsMax || strings.ContainsAny(name, "\"*/:<>?\\|\x7f") || strings.HasSuffix(name, ".") ||
		strings.HasSuffix(name, " ") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '\uFFFD' }) {
		return nil, fmt.Errorf("%w: %q", ErrName, name)
	}
	for _, c := range n.entries {
		if strings.EqualFold(c.name, name) {
			return c, nil
		}
	}
	return nil, nil
}

func (n *node) sort() error {
	slices.SortFunc(n.entries, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	taken := map[[11]byte]bool{}
	slots := 2 // . and .., or the label
	for _, c := range n.entries {
		var err error
		if c.short, err = shortName(c.name, taken); err != nil {
			return err
		}
		taken[c.short] = true
		slots += 1 + longEntries(c.name, c.short)
		if err := c.sort(); err != nil {
			return err
		}
	}
	if slots > folderEntries {
		return fmt.Errorf("%w: the folder %q has too many files", ErrFull, n.name)
	}
	return nil
}

// maker writes one file system.
type maker struct {
	w            io.WriterAt
	o            Options
	per          int64 // sectors of a cluster
	clusters     uint32
	tableSectors uint32
	next         uint32 // the first free cluster
	table        []byte
}

func newMaker(w io.WriterAt, o Options) (*maker, error) {
	if len(o.Label) > labelBytes {
		return nil, fmt.Errorf("%w: the label %q has more than %d bytes", ErrName, o.Label, labelBytes)
	}
	sectors, per := o.Bytes/sectorBytes, int64(clusterSectors)
	if o.ClusterBytes != 0 {
		per = int64(o.ClusterBytes) / sectorBytes
	}
	if per < 1 || per > 128 || per&(per-1) != 0 {
		return nil, fmt.Errorf("%w: clusters of %d bytes", ErrFull, o.ClusterBytes)
	}
	// A table of t sectors leaves (sectors - reserved - 2t) / per clusters and has room for 128t: the least t that is enough.
	t := (sectors - reserved + 2*per + per*sectorBytes/tableEntryBytes + copies - 1) / (per*sectorBytes/tableEntryBytes + copies)
	clusters := (sectors - reserved - copies*t) / per
	if clusters < clustersMin || clusters > clustersMax || sectors > 1<<32-1 {
		return nil, fmt.Errorf("%w: a file system of %d bytes would have %d clusters", ErrFull, o.Bytes, clusters)
	}
	return &maker{w: w, o: o, per: per, clusters: uint32(clusters), tableSectors: uint32(t), next: rootCluster}, nil
}

// place gives a node, and what is in it, its clusters.
func (m *maker) place(n *node) error {
	bytes := len(n.body)
	if n.folder {
		bytes = m.folderBytes(n)
	}
	if bytes > 0 {
		each := int(m.per) * sectorBytes
		count := uint32((bytes + each - 1) / each)
		if uint64(m.next)+uint64(count) > uint64(m.clusters)+2 {
			return fmt.Errorf("%w: %s does not fit", ErrFull, n.name)
		}
		n.cluster = m.next
		for i := range count {
			v := n.cluster + i + 1
			if i == count-1 {
				v = endOfChain
			}
			m.link(n.cluster+i, v)
		}
		m.next += count
	}
	for _, c := range n.entries {
		if err := m.place(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) link(cluster, v uint32) {
	if need := int(cluster+1) * tableEntryBytes; need > len(m.table) {
		m.table = append(m.table, make([]byte, need-len(m.table))...)
	}
	binary.LittleEndian.PutUint32(m.table[cluster*tableEntryBytes:], v)
}

// folderBytes is the size of a folder with an entry of zeros behind its last one.
func (m *maker) folderBytes(n *node) int {
	slots := 3
	for _, c := range n.entries {
		slots += 1 + longEntries(c.name, c.short)
	}
	return slots * entryBytes
}

func (m *maker) offset(cluster uint32) int64 {
	return (reserved + copies*int64(m.tableSectors) + int64(cluster-rootCluster)*m.per) * sectorBytes
}

func (m *maker) write(n, above *node) error {
	body := n.body
	if n.folder {
		body = m.folder(n, above)
	}
	if len(body) > 0 {
		if _, err := m.w.WriteAt(body, m.offset(n.cluster)); err != nil {
			return fmt.Errorf("fat: write %s: %w", n.name, err)
		}
	}
	for _, c := range n.entries {
		if err := m.write(c, n); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) folder(n, above *node) []byte {
	var b []byte
	if n.name == "" {
		b = append(b, m.entry(padded(m.o.Label), attrLabel, 0, 0)...)
	} else {
		up := above.cluster
		if above.name == "" {
			up = 0 // by the specification, for the root
		}
		b = append(b, m.entry(padded("."), attrDir, n.cluster, 0)...)
		b = append(b, m.entry(padded(".."), attrDir, up, 0)...)
	}
	for _, c := range n.entries {
		b = append(b, longName(c.name, c.short)...)
		attr := byte(attrArchive)
		if c.folder {
			attr = attrDir
		}
		b = append(b, m.entry(c.short, attr, c.cluster, len(c.body))...)
	}
	return append(b, make([]byte, entryBytes)...)
}

func padded(s string) (b [11]byte) {
	copy(b[:], s+"           ")
	return b
}

func (m *maker) entry(short [11]byte, attr byte, cluster uint32, size int) []byte {
	b := make([]byte, entryBytes)
	le := binary.LittleEndian
	copy(b, short[:])
	b[11] = attr
	day, clock := fatTime(m.o.Time)
	le.PutUint16(b[14:], clock)
	le.PutUint16(b[16:], day)
	le.PutUint16(b[18:], day)
	le.PutUint16(b[20:], uint16(cluster>>16))
	le.PutUint16(b[22:], clock)
	le.PutUint16(b[24:], day)
	le.PutUint16(b[26:], uint16(cluster))
	le.PutUint32(b[28:], uint32(size))
	return b
}

func fatTime(t time.Time) (day, clock uint16) {
	t = t.UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		return 1<<5 | 1, 0
	}
	return uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()), uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
}

// finish writes the tables and the sectors in front of them.
func (m *maker) finish() error {
	m.link(0, 0x0FFFFF00|mediaFixed)
	m.link(1, endOfChain) // shut down cleanly
	le := binary.LittleEndian
	boot := make([]byte, sectorBytes)
	copy(boot, "\xEB\x58\x90HOLDFAST")
	le.PutUint16(boot[11:], sectorBytes)
	boot[13] = byte(m.per)
	le.PutUint16(boot[14:], reserved)
	boot[16] = copies
	boot[21] = mediaFixed
	le.PutUint16(boot[24:], 63) // sectors a track and heads, for programs that think of them
	le.PutUint16(boot[26:], 255)
	le.PutUint32(boot[28:], uint32(m.o.Offset/sectorBytes))
	le.PutUint32(boot[32:], uint32(m.o.Bytes/sectorBytes))
	le.PutUint32(boot[36:], m.tableSectors)
	le.PutUint32(boot[44:], rootCluster)
	le.PutUint16(boot[48:], 1) // FSInfo
	le.PutUint16(boot[50:], 6) // copy of the boot sector
	boot[64] = 0x80
	boot[66] = bootSignature
	le.PutUint32(boot[67:], m.o.ID)
	label := padded(m.o.Label)
	copy(boot[71:], label[:])
	copy(boot[82:], "FAT32   ")
	copy(boot[90:], "\xF4\xEB\xFD") // halt: this partition is started by UEFI only
	info := make([]byte, sectorBytes)
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], m.clusters-(m.next-rootCluster))
	le.PutUint32(info[492:], m.next)
	third := make([]byte, sectorBytes) // the third sector of the boot code has nothing but its end
	for _, b := range [][]byte{boot, info, third} {
		b[510], b[511] = 0x55, 0xAA
	}
	first := slices.Concat(boot, info, third)
	for _, part := range []struct {
		sector uint32
		b      []byte
	}{{0, first}, {6, first}, {reserved, m.table}, {reserved + m.tableSectors, m.table}} {
		if _, err := m.w.WriteAt(part.b, int64(part.sector)*sectorBytes); err != nil {
			return fmt.Errorf("fat: write: %w", err)
		}
	}
	return nil
}
