package store

import (
	"fmt"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"

	"github.com/holdfast-edge/holdfast/coord"
)

// bufferBytesKept is how much of an encode buffer is kept between Appends.
const bufferBytesKept = 4 << 20

// Log is the append-only log of one box. Append, Sync, Roll and Prune are safe for concurrent use, but
// meant for one goroutine; Replay, Batch, Blocks and the small questions may come from any.
type Log struct {
	o    Options
	fs   FS
	dir  string
	fuse *fuse
	log  *slog.Logger

	// w serialises what writes. It is taken before mu.
	w        sync.Mutex
	cur      *segment
	synced   uint32 // offset in cur below which all is durable
	finalTop uint64 // highest final height appended
	buf      []byte
	ends     []uint32
	spare    spare
	closed   bool

	// mu guards segs, the index and what of a segment it uses. The disk is not touched under it.
	mu   sync.RWMutex
	segs []*segment
	idx  index

	damage      atomic.Pointer[DamageError]
	finalSynced atomic.Uint64
	stats       logStats
	bufs        sync.Pool // *[]byte, for reads
}

type logStats struct{ newest, size, appended, syncs atomic.Int64 }

// LogStats counts since opening.
type LogStats struct {
	Appended int64 // bytes of frames
	Syncs    int64 // fdatasync calls
	Size     int64 // bytes of all segments on disk
}

// Written is the bytes of frames appended since the log was opened.
func (l *Log) Written() uint64 { return uint64(l.Stats().Appended) }

// OpenLog opens the log in dir, or makes it. It reads all segments: a torn tail is cut, damage does not fail
// the opening but is what Replay and Damaged say. Errors: ErrIdentity, ErrFormat, those of the FS.
func OpenLog(dir string, o Options) (*Log, error) { return openLog(dir, o.withDefaults(), new(fuse)) }

func openLog(dir string, o Options, f *fuse) (*Log, error) {
	l := &Log{o: o, fs: o.FS, dir: dir, fuse: f, log: o.Logger, idx: newIndex(o.Site)}
	l.bufs.New = func() any { return new([]byte) }
	if err := l.fs.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("store: make %s: %w", dir, err)
	}
	if err := l.load(); err != nil {
		l.closeFiles()
		return nil, err
	}
	return l, nil
}

// usable is why the log cannot be written, if it cannot. w is held.
func (l *Log) usable(op string) error {
	if l.closed {
		return fmt.Errorf("store: %s: %w", op, ErrClosed)
	}
	if d := l.damage.Load(); d != nil {
		return fmt.Errorf("store: %s: %w", op, d)
	}
	return l.fuse.check(op)
}

// Append writes records behind what is there, in one write. They are durable after the next Sync. It takes any
// number; a segment may outgrow its size. Errors: ErrFailed (the records may or may not be there after
// a restart), ErrDamaged, ErrTooLarge and ErrFull (nothing was written).
func (l *Log) Append(recs []coord.Record) error {
	if len(recs) == 0 {
		return nil
	}
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.usable("append"); err != nil {
		return err
	}
	b, ends, err := l.encode(l.buf[:0], recs, l.cur, l.cur.end, l.synced)
	if err != nil {
		return err
	}
	if _, err := l.cur.file.WriteAt(b, int64(l.cur.end)); err != nil {
		if noSpace(err) { // what was written in part is behind the end: overwritten, or cut at the next start
			return fmt.Errorf("store: append: %w: %w", ErrFull, err)
		}
		return l.fuse.blow("append", err)
	}
	l.note(l.cur, recs, ends)
	l.stats.appended.Add(int64(len(b)))
	l.stats.newest.Store(int64(l.cur.end))
	if n := int64(l.cur.end); n > l.cur.size {
		l.stats.size.Add(n - l.cur.size)
		l.cur.size = n
	}
	l.keep(b)
	if int64(l.cur.end) > l.o.SegmentBytes/2 {
		l.prepareSpare()
	}
	return nil
}

// encode appends frames for a place in s from off on. ends tells where each ends in s; it is valid until
// the next call.
func (l *Log) encode(b []byte, recs []coord.Record, s *segment, off, synced uint32) (_ []byte, ends []uint32, err error) {
	start := len(b)
	ends = l.ends[:0]
	for i := range recs {
		at := int64(off) + int64(len(b)-start)
		if b, err = appendFrame(b, s, uint32(at), synced, &recs[i]); err != nil {
			return nil, nil, fmt.Errorf("store: append: %w", err)
		}
		if at = int64(off) + int64(len(b)-start); at > segmentBytesMax {
			return nil, nil, fmt.Errorf("store: append: segment of %d bytes: %w", at, ErrFull)
		}
		ends = append(ends, uint32(at))
	}
	l.ends = ends
	return b, ends, nil
}

// note puts records that are written into the index.
func (l *Log) note(s *segment, recs []coord.Record, ends []uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	off, epoch := s.end, l.idx.top.epoch
	for i := range recs {
		p := pos{seg: s.number, off: off, length: ends[i] - off - frameBytes}
		l.idx.add(s, &recs[i], p)
		off = ends[i]
	}
	s.end = off
	l.finalTop = l.idx.top.height
	if t := &l.idx.top; t.epoch > epoch { // void blocks were synced, the ones in their place are not
		l.finalSynced.Store(min(l.finalSynced.Load(), t.first-1))
	}
}

// keep keeps a buffer for the next Append, unless a burst made it huge.
func (l *Log) keep(b []byte) {
	if cap(b) <= bufferBytesKept {
		l.buf = b[:0]
	}
}

// Sync makes durable what was appended; it does nothing when all is. Error: ErrFailed.
func (l *Log) Sync() error {
	l.w.Lock()
	defer l.w.Unlock()
	return l.sync()
}

func (l *Log) sync() error {
	if err := l.usable("sync"); err != nil {
		return err
	}
	if l.synced == l.cur.end {
		return nil
	}
	l.stats.syncs.Add(1)
	if err := l.cur.file.Datasync(); err != nil {
		return l.fuse.blow("sync", err)
	}
	l.synced = l.cur.end
	l.finalSynced.Store(l.finalTop)
	return nil
}

// syncFinal makes sure that the log is durable up to the final block at a height.
func (l *Log) syncFinal(height uint64) error {
	if l.finalSynced.Load() >= height {
		return nil
	}
	return l.Sync()
}

// Roll starts a segment that begins with head: everything that a restart needs besides the final blocks
// and the base. When it returns, what was appended before and head are durable, and the older segments
// may be pruned. On ErrFull nothing happened and the log goes on in its old segment; otherwise as Append.
func (l *Log) Roll(head []coord.Record) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.sync(); err != nil {
		return err
	}
	return l.roll(l.cur.number+1, uint64(l.cur.end), head)
}

// roll makes the segment number. It has its name only when all of it is durable. w is held.
func (l *Log) roll(number, prevEnd uint64, head []coord.Record) error {
	file, size, err := l.takeSpare()
	if err != nil {
		return err
	}
	s := &segment{
		header: header{number: number, prevEnd: prevEnd, site: l.o.Site, box: l.o.Box, salt: newSalt()},
		name:   segmentName(l.dir, number), file: file, size: size, end: headerBytes,
	}
	s.encrypt(l.o.key)
	fail := func(err error) error {
		file.Close()
		return err
	}
	// The tag depends on where the head ends: encoded once for its length, sealed once the tag is known.
	b := append(l.buf[:0], make([]byte, headerBytes)...)
	b, ends, err := l.encode(b, head, s, headerBytes, headerBytes)
	if err != nil {
		return fail(err)
	}
	s.headEnd = uint32(len(b))
	s.tag = s.encode(b)
	for i, off := 0, uint32(headerBytes); i < len(ends); i++ {
		sealFrame(b[off:ends[i]], s.tag, off, headerBytes)
		off = ends[i]
	}
	if _, err := file.WriteAt(b, 0); err != nil {
		if noSpace(err) {
			return fail(fmt.Errorf("store: roll: %w: %w", ErrFull, err))
		}
		return fail(l.fuse.blow("roll", err))
	}
	l.stats.syncs.Add(1)
	if err := file.Datasync(); err != nil {
		return fail(l.fuse.blow("roll", err))
	}
	if err := l.fs.Rename(path.Join(l.dir, spareName), s.name); err != nil {
		return fail(l.fuse.blow("roll", err))
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return fail(l.fuse.blow("roll", err))
	}
	l.spare.ready = false
	s.size = max(size, int64(s.headEnd))
	l.mu.Lock()
	l.segs = append(l.segs, s)
	l.mu.Unlock()
	l.note(s, head, ends)
	l.keep(b)
	l.cur, l.synced = s, s.end
	l.finalSynced.Store(l.finalTop)
	l.stats.appended.Add(int64(len(b)))
	l.stats.newest.Store(int64(s.end))
	l.stats.size.Add(s.size)
	return nil
}

// LogBytes is the size of the newest segment in use: when it nears Options.SegmentBytes, Roll.
func (l *Log) LogBytes() int64 { return l.stats.newest.Load() }

// Stats counts.
func (l *Log) Stats() LogStats {
	return LogStats{Appended: l.stats.appended.Load(), Syncs: l.stats.syncs.Load(), Size: l.stats.size.Load()}
}

// LastFinal is the highest final height that the log has a record of.
func (l *Log) LastFinal() uint64 {
	l.w.Lock()
	defer l.w.Unlock()
	return l.finalTop
}

// Close waits for what runs and closes the files; it syncs unless something failed.
func (l *Log) Close() error {
	l.w.Lock()
	defer l.w.Unlock()
	if l.closed {
		return nil
	}
	var err error
	if l.usable("close") == nil {
		err = l.sync()
	}
	l.waitSpare()
	l.closed = true
	l.closeFiles()
	return err
}

func (l *Log) closeFiles() {
	l.mu.Lock()
	segs := l.segs
	l.segs = nil
	l.mu.Unlock()
	for _, s := range segs {
		s.close()
	}
}

// close waits for readers.
func (s *segment) close() {
	s.gate.Lock()
	defer s.gate.Unlock()
	if !s.gone {
		s.gone = true
		s.file.Close()
	}
}
