package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// load reads the directory, or makes the first segment.
func (l *Log) load() error {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return fmt.Errorf("store: list %s: %w", l.dir, err)
	}
	var numbers []uint64
	aside := uint64(0)
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			numbers = append(numbers, n)
		} else if n, ok := segmentNumber(strings.TrimSuffix(name, asideSuffix)); ok {
			aside = max(aside, n)
		}
	}
	slices.Sort(numbers)
	if err := l.checkSpare(); err != nil {
		return err
	}
	if len(numbers) == 0 {
		var head []coord.Record
		if aside > 0 { // a power cut in the middle of SetAside
			head = forgotten()
		}
		return l.roll(aside+1, 0, head)
	}
	for _, n := range numbers {
		if err := l.openSegment(n); err != nil {
			return err
		}
	}
	l.cur = l.segs[len(l.segs)-1]
	for i := range l.segs {
		d, err := l.scan(i)
		if err != nil {
			return err
		}
		if d != nil {
			l.damage.CompareAndSwap(nil, d)
		}
		if d != nil || l.segs[i].tag == 0 {
			break // what comes behind damage has no place in the order
		}
	}
	if d := l.damage.Load(); d != nil {
		l.log.Error("the log is damaged", "file", d.File, "offset", d.Offset, "reason", d.Reason)
		return nil
	}
	l.finalSynced.Store(l.finalTop)
	l.stats.newest.Store(int64(l.cur.end))
	return nil
}

// checkSpare keeps a spare of the right size. What is in it does not matter.
func (l *Log) checkSpare() error {
	name := path.Join(l.dir, spareName)
	f, err := l.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store: open %s: %w", name, err)
	}
	size, err := f.Size()
	f.Close()
	if err == nil && size != l.o.SegmentBytes {
		err = l.fs.Remove(name)
	} else if err == nil {
		l.spare.ready = true
	}
	if err != nil {
		return fmt.Errorf("store: spare %s: %w", name, err)
	}
	return nil
}

func (l *Log) openSegment(number uint64) error {
	s := &segment{name: segmentName(l.dir, number)}
	f, err := l.fs.Open(s.name)
	if err != nil {
		return fmt.Errorf("store: open %s: %w", s.name, err)
	}
	s.file = f
	l.segs = append(l.segs, s)
	if s.size, err = f.Size(); err != nil {
		return fmt.Errorf("store: %s: %w", s.name, err)
	}
	l.stats.size.Add(s.size)
	b := make([]byte, headerBytes)
	if n, err := f.ReadAt(b, 0); n < headerBytes {
		// A segment has its name only when it is whole: a short one was cut later.
		l.damage.CompareAndSwap(nil, &DamageError{File: s.name, Reason: fmt.Sprintf("header: %v", err)})
		s.number = number
		return nil
	}
	s.header, s.tag, err = decodeHeader(b)
	switch {
	case errors.Is(err, ErrDamaged):
		l.damage.CompareAndSwap(nil, &DamageError{File: s.name, Reason: err.Error()})
		s.number = number
	case err != nil:
		return fmt.Errorf("store: %s: %w", s.name, err)
	case s.site != l.o.Site || !l.o.own(s.box[:]):
		return fmt.Errorf("store: %s is of box %v of site %v: %w", s.name, s.box, s.site, ErrIdentity)
	case checkKey(s.name, l.o.key, s.sealed, s.keyID[:]) != nil:
		return checkKey(s.name, l.o.key, s.sealed, s.keyID[:])
	case s.number != number:
		l.damage.CompareAndSwap(nil, &DamageError{File: s.name, Offset: 16, Reason: fmt.Sprintf("it is number %d", s.number)})
		s.number = number
	}
	if s.sealed {
		s.envelope = s.envelopeOf(l.o.key)
	}
	return nil
}

// scan checks and indexes segment i, cuts the tail of the last one, and says what is damaged.
func (l *Log) scan(i int) (*DamageError, error) {
	s := l.segs[i]
	hurt := func(at int64, reason string) (*DamageError, error) {
		return &DamageError{File: s.name, Offset: at, Reason: reason}, nil
	}
	s.end = headerBytes
	if s.tag == 0 {
		return nil, nil // openSegment said so
	}
	if i > 0 && l.segs[i-1].number+1 != s.number {
		return hurt(0, fmt.Sprintf("it follows number %d: segments between are missing", l.segs[i-1].number))
	}
	if i > 0 && l.segs[i-1].tag != 0 && s.prevEnd != uint64(l.segs[i-1].end) {
		prev := l.segs[i-1]
		return &DamageError{File: prev.name, Offset: int64(prev.end), Reason: fmt.Sprintf("no record here; they went on to %d", s.prevEnd)}, nil
	}
	r := frameReader{file: s.file, name: s.name, tag: s.tag, size: min(s.size, segmentBytesMax), off: headerBytes}
	reason := ""
	var scratch []byte
	for {
		off := r.off
		payload, _, ok, why, err := r.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			reason = why
			break
		}
		var rec *coord.Record
		if rec, scratch, err = s.record(payload, scratch, off); err != nil {
			return hurt(off, err.Error())
		}
		l.mu.Lock()
		l.idx.add(s, rec, pos{seg: s.number, off: uint32(off), length: uint32(len(payload))})
		s.end = uint32(r.off)
		l.finalTop = l.idx.top.height
		l.mu.Unlock()
	}
	if s.end < s.headEnd {
		return hurt(int64(s.end), reason+", in the head")
	}
	if s != l.cur {
		return nil, nil // the next one says where this one ends
	}
	t, err := r.tail()
	if err != nil {
		return nil, err
	}
	if t.synced > s.end {
		return hurt(int64(s.end), fmt.Sprintf("%s; it had been durable up to %d", reason, t.synced))
	}
	return nil, l.cut(s, t, reason)
}

// cut makes the end of the last segment certain: nothing behind it can be taken for a record later, and what
// was read from the page cache of a process that was killed is on the disk before anything builds on it.
func (l *Log) cut(s *segment, t tail, reason string) error {
	if t.ghosts {
		l.log.Warn("cutting what was not synced", "file", s.name, "offset", s.end, "reason", reason)
		if err := s.file.Zero(int64(s.end), s.size); err != nil {
			return fmt.Errorf("store: cut %s: %w", s.name, err)
		}
	}
	if err := s.file.Datasync(); err != nil {
		return fmt.Errorf("store: cut %s: %w", s.name, err)
	}
	l.synced = s.end
	return nil
}

// Damaged is what Replay ends with when opening found damage, nil when the log is whole.
func (l *Log) Damaged() *DamageError { return l.damage.Load() }

// report makes the log unusable because of what somebody knows who sees more than the log.
func (l *Log) report(d *DamageError) { l.damage.CompareAndSwap(nil, d) }

// forgotten is the head of a log that begins anew behind one that was lost: the box does not know what it signed.
func forgotten() []coord.Record {
	return []coord.Record{{Silent: &coord.Silence{From: coord.SilentUnknown}}}
}

// SetAside gives a damaged log up: its segments get another name, for people to look at (those of an earlier
// time are removed), and a log begins that says first that the box does not know what it signed, so that it will not
// vote until it cannot contradict itself (coord.Record.Silent). The state in the base stays.
func (l *Log) SetAside() error { return l.setAside(forgotten()) }

func (l *Log) setAside(head []coord.Record) error {
	l.w.Lock()
	defer l.w.Unlock()
	if l.closed {
		return fmt.Errorf("store: set aside: %w", ErrClosed)
	}
	if err := l.fuse.check("set aside"); err != nil {
		return err
	}
	last := l.segs[len(l.segs)-1].number
	l.mu.Lock()
	segs := l.segs
	l.segs, l.idx = nil, newIndex(l.o.Site)
	l.mu.Unlock()
	if err := l.removeAside(); err != nil {
		return l.fuse.blow("set aside", err)
	}
	for _, s := range segs {
		s.close()
		if err := l.fs.Rename(s.name, s.name+asideSuffix); err != nil {
			return l.fuse.blow("set aside", err)
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return l.fuse.blow("set aside", err)
	}
	l.stats.size.Store(0)
	l.finalTop = 0
	l.finalSynced.Store(0)
	l.damage.Store(nil)
	return l.roll(last+1, 0, head)
}

// removeAside removes what was set aside earlier.
func (l *Log) removeAside() error {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, asideSuffix) {
			if err := l.fs.Remove(path.Join(l.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
