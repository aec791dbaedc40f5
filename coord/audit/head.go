package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-edge/holdfast/coord"
)

// What is wrong with an ordered head.
var (
	// ErrHead: it is malformed, or another box's.
	ErrHead = errors.New("audit: not a head")
	// ErrShortened: the box's log was longer before.
	ErrShortened = errors.New("audit: the log is shorter than it was")
	// ErrRewritten: the log is not proven to begin with what it was before.
	ErrRewritten = errors.New("audit: the log does not begin with what it was")
	// ErrStale: the head was made for another last one than the site has. An honest box's may be, when an earlier head of its own was
	// ordered later than it thought (a restart); it is passed over.
	ErrStale = errors.New("audit: made for another last head")
	// ErrUnproven: a quorum of the members did not sign this.
	ErrUnproven = errors.New("audit: not signed by a quorum")
)

const (
	// MarkBytes is how much of a leaf's hash the ordered heads keep, to name a record whose whole tree was made anew: nobody finds
	// another record with the same 64 bits, and a record costs the site no more.
	MarkBytes = 8
	// HeadRecordsMax bounds the records between two heads: 8 KiB of marks. A box with more orders several heads.
	HeadRecordsMax = 1024
	// pathMax bounds a proof in a tree of 2^63 records.
	pathMax     = 64
	headVersion = 1
	// HeadBytesMax bounds an encoded head.
	HeadBytesMax = headFixed + pathMax*32 + 2 + HeadRecordsMax*MarkBytes
	headFixed    = 1 + 8 + 8 + 8 + 32 + 1
)

// Head is what a box orders about its log: the value of a message of its own.
type Head struct {
	Box  coord.BoxID  `json:"box"`
	Size int64        `json:"size"` // records
	Root coord.Digest `json:"root"` // RFC 6962's
	// Marks are the first MarkBytes of the leaf hash of each record since the box's last ordered head. They only help to name a record: the
	// root is what binds.
	Marks []byte `json:"marks,omitempty"`
	// From is the size of the box's last ordered head as the box knew it; 0: none.
	From int64 `json:"-"`
	// Path proves that the log begins with its first From records as they were (RFC 6962, 2.1.2); empty for the first.
	Path []coord.Digest `json:"-"`
}

// Append encodes the head:
//
//	 0  version, 1
//	 1  box
//	 9  size, 8 bytes
//	17  from, 8 bytes
//	25  root
//	57  number of hashes of the path, 1 byte; the hashes
//	    number of marks, 2 bytes; the marks
//
// Numbers are big-endian.
func (h *Head) Append(b []byte) []byte {
	b = append(append(b, headVersion), h.Box[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(h.From))
	b = append(append(b, h.Root[:]...), byte(len(h.Path)))
	for i := range h.Path {
		b = append(b, h.Path[i][:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Marks)/MarkBytes))
	return append(b, h.Marks...)
}

// DecodeHead reads what Append wrote; the error is ErrHead. Nothing but the form is checked. b is not kept.
func DecodeHead(b []byte) (*Head, error) {
	if len(b) < headFixed+2 || len(b) > HeadBytesMax || b[0] != headVersion {
		return nil, fmt.Errorf("%w: %d bytes of another version or size", ErrHead, len(b))
	}
	h := &Head{
		Box: coord.BoxID(b[1:9]), Size: int64(binary.BigEndian.Uint64(b[9:])), From: int64(binary.BigEndian.Uint64(b[17:])),
		Root: coord.Digest(b[25:57]),
	}
	n, rest := int(b[57]), b[headFixed:]
	if n > pathMax || len(rest) < n*32+2 || h.Size < 0 || h.From < 0 {
		return nil, fmt.Errorf("%w: size %d from %d, path of %d hashes", ErrHead, h.Size, h.From, n)
	}
	for i := range n {
		h.Path = append(h.Path, coord.Digest(rest[i*32:]))
	}
	rest = rest[n*32:]
	m := int(binary.BigEndian.Uint16(rest))
	if rest = rest[2:]; m > HeadRecordsMax || len(rest) != m*MarkBytes {
		return nil, fmt.Errorf("%w: %d marks in %d bytes", ErrHead, m, len(rest))
	}
	h.Marks = bytes.Clone(rest)
	return h, nil
}

// Top is the last head of a box that the site accepted: with it, the next one is judged. The zero value is an empty log.
type Top struct {
	Size int64
	Root coord.Digest
}

// Extends says whether the head may follow the box's last one: the log grew, begins with what it was, and every new record has its mark.
// It is a pure function of both, so all boxes agree. That the box itself signed the message is the caller's to check.
// Errors: ErrShortened and ErrRewritten name h.Box, which said with its signature what no honest box says; ErrStale and ErrHead do not.
func (h *Head) Extends(last Top) error {
	switch {
	case h.Size == last.Size && h.Root != last.Root && last.Size > 0:
		return fmt.Errorf("%w: box %v says two roots for %d records", ErrRewritten, h.Box, h.Size)
	case h.From != last.Size:
		return fmt.Errorf("%w: box %v goes on from %d records, its last head has %d", ErrStale, h.Box, h.From, last.Size)
	case h.Size < last.Size:
		return fmt.Errorf("%w: box %v had %d records and says %d", ErrShortened, h.Box, last.Size, h.Size)
	case h.Size == last.Size:
		return fmt.Errorf("%w: box %v has nothing new", ErrHead, h.Box)
	case h.Size-last.Size > HeadRecordsMax || int64(len(h.Marks)) != (h.Size-last.Size)*MarkBytes:
		return fmt.Errorf("%w: box %v: %d bytes of marks for %d records", ErrHead, h.Box, len(h.Marks), h.Size-last.Size)
	case last.Size == 0 && len(h.Path) > 0:
		return fmt.Errorf("%w: box %v proves the growth of an empty log", ErrHead, h.Box)
	case last.Size == 0:
		return nil
	}
	if err := tlog.CheckTree(hashes(h.Path), h.Size, tlog.Hash(h.Root), last.Size, tlog.Hash(last.Root)); err != nil {
		return fmt.Errorf("%w: box %v from %d to %d records: %w", ErrRewritten, h.Box, last.Size, h.Size, err)
	}
	return nil
}

// NextHead is the head that the box orders after last: over the whole log, or as much of it as one head may cover; nil when nothing is
// new. Errors: ErrShortened and ErrRewritten when the log is not the one that last is of (the box was damaged or somebody wrote into it:
// it orders no head and raises an alarm), ErrPruned.
func (t *Tree) NextHead(box coord.BoxID, last Top) (*Head, error) {
	if t.Size < last.Size {
		return nil, fmt.Errorf("%w: %d records, the last head has %d", ErrShortened, t.Size, last.Size)
	}
	if was, err := t.Root(last.Size); err != nil {
		return nil, err
	} else if was != last.Root && last.Size > 0 {
		return nil, fmt.Errorf("%w: the root of its first %d records is %v, the site has %v", ErrRewritten, last.Size, was, last.Root)
	}
	size := min(t.Size, last.Size+HeadRecordsMax)
	if size == last.Size {
		return nil, nil
	}
	h := &Head{Box: box, Size: size, From: last.Size}
	var err error
	if h.Root, err = t.Root(size); err != nil {
		return nil, err
	}
	if h.Path, err = t.Grown(size, last.Size); err != nil {
		return nil, err
	}
	for i := last.Size; i < size; {
		tile := t.Tile(0, i>>tileHeight)
		for ; i < size; i++ {
			o := int(i&(TileHashes-1)) * tlog.HashSize
			if len(tile) < o+tlog.HashSize {
				return nil, fmt.Errorf("%w: leaf %d", ErrPruned, i)
			}
			h.Marks = append(h.Marks, tile[o:o+MarkBytes]...)
			if (i+1)&(TileHashes-1) == 0 {
				i++
				break
			}
		}
	}
	return h, nil
}

// SignedHead is a head that the site accepted, and the signatures of a quorum that it did.
type SignedHead struct {
	Site   coord.SiteID `json:"site"`
	Epoch  uint64       `json:"epoch"`
	Height uint64       `json:"height"` // the block that ordered it
	Head
	// MarksDigest is the SHA-256 of the marks. A copy without them has it still.
	MarksDigest coord.Digest    `json:"marks_digest"`
	Sigs        []coord.ReadSig `json:"signatures"`
}

// Accepted is what a box signs when the head in the block at height was accepted; nothing is signed yet.
func Accepted(site coord.SiteID, epoch, height uint64, h *Head) *SignedHead {
	s := &SignedHead{Site: site, Epoch: epoch, Height: height, Head: *h, MarksDigest: sha256.Sum256(h.Marks)}
	s.Path, s.From = nil, 0
	return s
}

// Digest is what is signed: SHA-256("holdfast audit 1" || site || epoch || height || box || size || root || SHA-256(marks)), numbers
// big-endian of 8 bytes.
func (s *SignedHead) Digest() coord.Digest {
	b := append(make([]byte, 0, 128), "holdfast audit 1"...)
	b = append(b, s.Site[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Epoch)
	b = binary.BigEndian.AppendUint64(b, s.Height)
	b = append(b, s.Box[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Size))
	b = append(b, s.Root[:]...)
	b = append(b, s.MarksDigest[:]...)
	return sha256.Sum256(b)
}

// Verifier judges one member's signature over a digest; trust.Verifier.VerifyReading is one.
type Verifier func(voter int, d coord.Digest, sig *coord.Signature) bool

// Check says whether a quorum of the members signed the head; verify judges by the same members. The error is ErrUnproven.
func (s *SignedHead) Check(m *coord.Members, verify Verifier) error {
	n := m.N()
	switch {
	case s.Site != m.Site || s.Epoch != m.Epoch:
		return fmt.Errorf("%w: of site %v epoch %d, not %v %d", ErrUnproven, s.Site, s.Epoch, m.Site, m.Epoch)
	case len(s.Marks) > 0 && sha256.Sum256(s.Marks) != s.MarksDigest:
		return fmt.Errorf("%w: the marks are not those that were signed", ErrUnproven)
	case len(s.Sigs) < coord.Quorum(n) || len(s.Sigs) > n:
		return fmt.Errorf("%w: %d signatures where %d to %d are needed", ErrUnproven, len(s.Sigs), coord.Quorum(n), n)
	}
	d := s.Digest()
	seen := uint64(0) // a bit a member; coord.MembersMax is 32
	for i := range s.Sigs {
		v := int(s.Sigs[i].Voter)
		if v >= n || seen&(1<<v) != 0 {
			return fmt.Errorf("%w: a signature of member %d, which is none or came before", ErrUnproven, v)
		}
		seen |= 1 << v
		if !verify(v, d, &s.Sigs[i].Sig) {
			return fmt.Errorf("%w: the signature of member %d is not over this", ErrUnproven, v)
		}
	}
	return nil
}
