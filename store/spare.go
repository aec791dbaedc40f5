package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// spare is the file for the next segment, made beside the writer when the current one is half full, so that
// Roll does not wait for 16 MiB of zeros. Guarded by Log.w.
type spare struct {
	ready  bool       // the file is there and zeroed or recycled
	making chan error // not nil: somebody is making it; gives the outcome once
}

// prepareSpare starts making the spare, unless there is one.
func (l *Log) prepareSpare() {
	if l.spare.ready || l.spare.making != nil || l.o.inline {
		return
	}
	done := make(chan error, 1)
	l.spare.making = done
	go func() { done <- l.makeSpare() }()
}

// waitSpare waits for who makes one. A failure is no more than a later start.
func (l *Log) waitSpare() {
	if l.spare.making == nil {
		return
	}
	err := <-l.spare.making
	l.spare.making = nil
	if l.spare.ready = err == nil; err != nil {
		l.log.Warn("no spare log segment", "err", err)
	}
}

// takeSpare opens the spare, making it if there is none. w is held. Errors: ErrFull, ErrFailed.
func (l *Log) takeSpare() (File, int64, error) {
	l.waitSpare()
	name := path.Join(l.dir, spareName)
	if !l.spare.ready {
		if err := l.makeSpare(); err != nil {
			if noSpace(err) {
				return nil, 0, fmt.Errorf("store: roll: %w: %w", ErrFull, err)
			}
			return nil, 0, l.fuse.blow("roll", err)
		}
		l.spare.ready = true
	}
	f, err := l.fs.Open(name)
	if err != nil {
		return nil, 0, l.fuse.blow("roll", err)
	}
	return f, l.o.SegmentBytes, nil
}

// makeSpare leaves the whole file or none.
func (l *Log) makeSpare() error {
	name := path.Join(l.dir, spareName)
	if err := l.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := l.fs.Create(name)
	if err != nil {
		return err
	}
	err = f.Zero(0, l.o.SegmentBytes)
	if err == nil {
		err = f.Datasync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = l.fs.Remove(name) // it is of no use; the first error counts
	}
	return err
}

// Prune drops the oldest segments while the log is larger than Options.RetainBytes, as long as all their final
// blocks are at most at height, which the base has and a signed checkpoint stands for. The newest segment
// stays. An error leaves what was not dropped in place.
func (l *Log) Prune(height uint64) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.usable("prune"); err != nil {
		return err
	}
	for l.stats.size.Load() > l.o.RetainBytes {
		l.mu.Lock()
		if len(l.segs) < 2 || l.segs[0].maxFinal > height {
			l.mu.Unlock()
			return nil
		}
		s := l.segs[0]
		l.segs = append(l.segs[:0], l.segs[1:]...)
		l.idx.drop(s)
		l.mu.Unlock()
		s.close()
		if err := l.discard(s); err != nil {
			return fmt.Errorf("store: prune %s: %w", s.name, err)
		}
		l.stats.size.Add(-s.size)
	}
	return nil
}

// discard removes a closed segment's file or makes it the spare. Each is durable before the next goes, so that
// the numbers on disk never have a gap.
func (l *Log) discard(s *segment) error {
	recycle := !l.spare.ready && l.spare.making == nil && s.size == l.o.SegmentBytes
	var err error
	if recycle {
		err = l.fs.Rename(s.name, path.Join(l.dir, spareName))
	} else {
		err = l.fs.Remove(s.name)
	}
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	l.spare.ready = l.spare.ready || recycle && err == nil
	return err
}
