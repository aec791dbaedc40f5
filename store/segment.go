package store

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// A segment is a header, then frames without gaps; after the last one anything may follow that is not a
// frame of this segment: zeros, or what is left in a file that was used before. Numbers are big-endian.
//
//	header  0  magic "HOLDFLOG"
//	        8  version u32        1; 2: payloads are encrypted
//	       12  head end u32       frames below it are the head, durable before the file got its name
//	       16  number u64         also the file's name
//	       24  previous end u64   where the frames of segment number-1 end; 0: there is none
//	       32  site, 40 box       8 bytes each
//	       48  salt               8 random bytes
//	       56  key u32            the beginning of crypt.Key.Check; 0 in clear
//	       60  crc u32            CRC32C of bytes 0 to 59: the segment's tag
//	       64  frames
//
//	frame   0  tag u32            of the segment: other frames, or older ones in the same place, have another
//	        4  length u32         of the payload
//	        8  synced u32         the offset below which all was durable when this frame was written
//	       12  crc u32            CRC32C, continued from tag, of offset u64, bytes 4 to 11 and the payload
//	       16  payload            wire.AppendRecord, or crypt.Envelope.Seal of it, bound to segment and offset
//
// The synced offsets tell damage from a torn tail, as in pebble's WAL sync offsets: a bad frame that a
// later good one says was durable is damage; a bad one that nobody vouches for was never synced.
const (
	headerBytes   = 64
	frameBytes    = 16
	segmentMagic  = "HOLDFLOG"
	formatVersion = 1

	segmentSuffix = ".seg"
	// spareName is a file that becomes the next segment: zeros, or a segment that was pruned. Writing
	// over blocks that exist spares the flash a second write and each sync a metadata update.
	spareName = "spare.next"
	// asideSuffix is put behind the name of a segment that SetAside moved away.
	asideSuffix = ".bad"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is a segment's header as it is used.
type header struct {
	number  uint64
	prevEnd uint64
	headEnd uint32
	site    coord.SiteID
	box     coord.BoxID
	salt    [8]byte
	// sealed says that payloads are encrypted, keyID with which key.
	sealed bool
	keyID  [4]byte
}

func newSalt() (s [8]byte) {
	_, _ = rand.Read(s[:]) // never fails (crypto/rand)
	return s
}

// encrypt makes a new segment one of an encrypted log; key may be nil.
func (s *segment) encrypt(key *crypt.Key) {
	if key != nil {
		check := key.Check()
		s.sealed, s.keyID = true, [4]byte(check[:])
		s.envelope = s.envelopeOf(key)
	}
}

// encode writes the header into b and gives the segment's tag.
func (h *header) encode(b []byte) (tag uint32) {
	clear(b[:headerBytes])
	copy(b, segmentMagic)
	binary.BigEndian.PutUint32(b[8:], formatVersion)
	if h.sealed {
		binary.BigEndian.PutUint32(b[8:], formatSealed)
		copy(b[56:], h.keyID[:])
	}
	binary.BigEndian.PutUint32(b[12:], h.headEnd)
	binary.BigEndian.PutUint64(b[16:], h.number)
	binary.BigEndian.PutUint64(b[24:], h.prevEnd)
	copy(b[32:], h.site[:])
	copy(b[40:], h.box[:])
	copy(b[48:], h.salt[:])
	tag = h.tag(b)
	binary.BigEndian.PutUint32(b[60:], tag)
	return tag
}

func (h *header) tag(b []byte) uint32 {
	t := crc32.Checksum(b[:60], castagnoli)
	if t == 0 {
		t = 1 // zeros are no frame
	}
	return t
}

// decodeHeader checks what does not depend on the place. The error is ErrFormat or ErrDamaged, bare.
func decodeHeader(b []byte) (h header, tag uint32, err error) {
	if len(b) < headerBytes || string(b[:8]) != segmentMagic {
		return h, 0, fmt.Errorf("no segment header: %w", ErrDamaged)
	}
	tag = h.tag(b)
	if binary.BigEndian.Uint32(b[60:]) != tag {
		return h, 0, fmt.Errorf("header checksum: %w", ErrDamaged)
	}
	v := binary.BigEndian.Uint32(b[8:])
	if v != formatVersion && v != formatSealed {
		return h, 0, fmt.Errorf("version %d: %w", v, ErrFormat)
	}
	h.headEnd = binary.BigEndian.Uint32(b[12:])
	h.number = binary.BigEndian.Uint64(b[16:])
	h.prevEnd = binary.BigEndian.Uint64(b[24:])
	copy(h.site[:], b[32:])
	copy(h.box[:], b[40:])
	copy(h.salt[:], b[48:])
	if h.sealed = v == formatSealed; h.sealed {
		copy(h.keyID[:], b[56:])
	}
	if h.headEnd < headerBytes {
		return h, 0, fmt.Errorf("head ends at %d: %w", h.headEnd, ErrDamaged)
	}
	return h, tag, nil
}

// sealFrame fills the header of the frame b[at:] whose payload is there already and that will stand at
// offset off of its segment.
func sealFrame(b []byte, tag, off, synced uint32) {
	binary.BigEndian.PutUint32(b, tag)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-frameBytes))
	binary.BigEndian.PutUint32(b[8:], synced)
	binary.BigEndian.PutUint32(b[12:], frameSum(b, tag, off))
}

func frameSum(b []byte, tag, off uint32) uint32 {
	var a [8]byte
	binary.BigEndian.PutUint64(a[:], uint64(off))
	s := crc32.Update(tag, castagnoli, a[:])
	s = crc32.Update(s, castagnoli, b[4:12])
	return crc32.Update(s, castagnoli, b[frameBytes:])
}

// frameHead is the part of a frame before its payload.
type frameHead struct {
	length uint32 // of the payload
	synced uint32
}

// parseHead reads a frame's header. false: no frame of the segment tag stands here.
func parseHead(b []byte, tag uint32) (h frameHead, ok bool) {
	if len(b) < frameBytes || binary.BigEndian.Uint32(b) != tag {
		return h, false
	}
	h.length = binary.BigEndian.Uint32(b[4:])
	h.synced = binary.BigEndian.Uint32(b[8:])
	return h, h.length > 0 && h.length <= recordBytesMax
}

// frameGood checks a whole frame, header and payload.
func frameGood(b []byte, tag, off uint32) bool {
	return len(b) > frameBytes && binary.BigEndian.Uint32(b[12:]) == frameSum(b, tag, off)
}

// segment is one file of the log. What is not fixed belongs to the log's writer.
type segment struct {
	header
	tag      uint32
	envelope *crypt.Envelope // nil: payloads are in clear
	name     string
	file     File
	// gate is held for reading while somebody reads the file outside the log's lock, and for writing
	// by who takes the file away.
	gate sync.RWMutex
	gone bool   // the file was taken away; guarded by gate
	size int64  // preallocated
	end  uint32 // where the next frame goes
	// maxFinal is the highest final height among the frames, 0 for none; headFinal that of the head.
	maxFinal, headFinal uint64
	keys                []uint64 // of the batches whose newest copy was here when it was written
}

func segmentName(dir string, number uint64) string {
	return path.Join(dir, fmt.Sprintf("%08d%s", number, segmentSuffix))
}

// segmentNumber is the number in a file's name; false: it is not a segment's.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) < 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0 && name == path.Base(segmentName("", n))
}
