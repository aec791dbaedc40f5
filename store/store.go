package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

const (
	lockName = "LOCK"
	logDir   = "log"
)

// Store is the data directory of one box: its log and its base.
type Store struct {
	*Log
	Base *Base
	lock *os.File
	key  *crypt.Key
}

// Open takes the directory for this process, makes what is missing and reads what is there. Damage of the log
// does not fail it: Log.Replay and Log.Damaged say so, and the box decides. A damaged base gets another name
// and an empty one takes its place: the state is fetched from the others, and the log still has what the box
// signed. Errors: ErrLocked, ErrIdentity, ErrFormat, ErrSealed, ErrPlain, ErrKey, those of Options.Keys, with Options.Alone ErrDamaged, those of the file system.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("store: make %s: %w", dir, err)
	}
	lk, err := lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	if err = finishConversion(dir); err == nil {
		o.key, err = unlock(dir, o.Keys)
	}
	if err != nil {
		return nil, errors.Join(err, lk.Close())
	}
	f := new(fuse)
	l, err := openLog(filepath.Join(dir, logDir), o, f)
	if err != nil {
		return nil, errors.Join(err, lk.Close())
	}
	b, err := openBase(dir, o, f, l.syncFinal)
	if errors.Is(err, ErrDamaged) && !o.Alone {
		o.Logger.Error("the state is damaged: it is set aside, and the box begins without it", "err", err)
		if err = setBaseAside(dir); err == nil {
			b, err = openBase(dir, o, f, l.syncFinal)
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), lk.Close())
	}
	s := &Store{Log: l, Base: b, lock: lk, key: o.key}
	s.compare()
	return s, nil
}

// compare finds a log that is older than the base: an old copy that was put back, or segments that were
// deleted. The base is never ahead of the log, unless its state came from others.
func (s *Store) compare() {
	f, cp := s.Base.Committed(), s.Base.Installed()
	if f == nil || cp != nil && cp.Header.Height >= f.Header.Height {
		return
	}
	if last := s.LastFinal(); last < f.Header.Height {
		s.report(&DamageError{
			File:   s.dir,
			Reason: fmt.Sprintf("the log ends at block %d and the state has %d: records are missing", last, f.Header.Height),
		})
	}
}

// SetAside is Log.SetAside for a log with a base: the new log also says up to where the base has it.
func (s *Store) SetAside() error {
	head := forgotten()
	if f := s.Base.Committed(); f != nil {
		head = append(head, coord.Record{Final: f})
	}
	return s.setAside(head)
}

// Key is the key of the directory's data, for OpenAudit; nil: it is not encrypted.
func (s *Store) Key() *crypt.Key { return s.key }

// Failed is the first failure of a write, nil while there was none.
func (s *Store) Failed() error { return s.fuse.check("state") }

// Close ends what runs, makes the log durable and gives the directory back. It may be called again.
func (s *Store) Close() error {
	err := errors.Join(s.Log.Close(), s.Base.Close())
	if e := s.lock.Close(); !errors.Is(e, os.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}
