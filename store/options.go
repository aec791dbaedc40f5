package store

import (
	"bytes"
	"log/slog"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

const (
	// SegmentBytes is the default size of a log segment: long enough that rolling (two syncs, a rename)
	// is rare, short enough that a spare one is cheap to prepare on an SD card.
	SegmentBytes = 16 << 20
	// RetainBytes is the default for how much log is kept for boxes that were away: at 20 KiB a batch
	// about 3,000 batches, minutes of full load, hours of a quiet site.
	RetainBytes = 64 << 20
	// BaseBytesMax is the default limit of holdfast.db. It is address space until it is used.
	BaseBytesMax = 2 << 30

	// segmentBytesMin keeps a segment above its header and one page.
	segmentBytesMin = 4 << 10
	// segmentBytesMax bounds a segment whose owner does not roll; offsets are 32 bits.
	segmentBytesMax = 1 << 30
	// recordBytesMax bounds one encoded record. The largest is a batch (wire: below 1.5 MiB).
	recordBytesMax = coord.FrameBytesMax
)

// Options of Open. The zero value of a number means its default.
type Options struct {
	// Site and Box are whose directory it is: a new one is marked, another's is refused.
	Site coord.SiteID
	Box  coord.BoxID
	// Was are names that the box had before its key was changed: what it wrote then is its own.
	Was []coord.BoxID
	// SegmentBytes is the size of a log segment, RetainBytes how much log Prune leaves.
	SegmentBytes int64
	RetainBytes  int64
	// BaseBytesMax bounds holdfast.db; a Commit beyond it is ErrFull.
	BaseBytesMax int64
	// Alone: nobody else has the state, so a damaged base is an error, not set aside.
	Alone bool
	// Keys finds the key of an encrypted directory, and makes that of a new one. nil: the directory is not encrypted.
	Keys Keys
	// FS is where the log lives, OS by default. The base is always on the real file system.
	FS FS
	// Logger gets what was found on opening and what was thrown away; nil: nothing.
	Logger *slog.Logger

	// inline makes a spare segment when it is needed instead of beside; tests count operations.
	inline bool
	// key is what Keys found.
	key *crypt.Key
}

// own says whether a name is, or was, this box's.
func (o *Options) own(box []byte) bool {
	return bytes.Equal(box, o.Box[:]) || slices.ContainsFunc(o.Was, func(id coord.BoxID) bool { return bytes.Equal(box, id[:]) })
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = SegmentBytes
	}
	o.SegmentBytes = min(max(o.SegmentBytes, segmentBytesMin), segmentBytesMax)
	if o.RetainBytes <= 0 {
		o.RetainBytes = RetainBytes
	}
	if o.BaseBytesMax <= 0 {
		o.BaseBytesMax = BaseBytesMax
	}
	if o.FS == nil {
		o.FS = OS{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
