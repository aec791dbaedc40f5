package box

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// storage is the box's open data directory, as coord/site wants it.
type storage struct {
	log   boxLog
	base  *base
	key   *crypt.Key // of the directory's data; nil: in clear
	close func() error
}

func openStorage(c *config.Config, ask func(string) ([]byte, error), who *identity, log *slog.Logger) (*storage, error) {
	s, err := store.Open(c.DataDir, store.Options{
		Site: who.members.Site, Box: who.key.ID(), Was: who.was,
		SegmentBytes: int64(c.Log.SegmentSize), RetainBytes: int64(c.Log.RetainSize), Logger: log, Alone: who.members.N() == 1,
		Keys: DataKeys(c, ask),
	})
	if errors.Is(err, store.ErrDamaged) {
		return nil, fmt.Errorf("box: %w; %s", err, onlyBox)
	}
	if err != nil {
		return nil, fmt.Errorf("box: open storage: %w", err)
	}
	if d := s.Damaged(); d != nil {
		if who.members.N() == 1 {
			return nil, errors.Join(fmt.Errorf("box: %w; %s", d, onlyBox), s.Close())
		}
		log.Error("the log is damaged: it is set aside, and this box does not vote until the others have told it where they are",
			"file", d.File, "offset", d.Offset, "reason", d.Reason)
		if err := s.SetAside(); err != nil {
			return nil, errors.Join(fmt.Errorf("box: %w", err), s.Close())
		}
	}
	return &storage{log: boxLog{s}, base: &base{s.Base}, key: s.Key(), close: s.Close}, nil
}

const onlyBox = "this is the only box of its site, so nobody has another copy: restore the data directory from a backup"

// boxLog is a store.Log that replays only what the durable state does not have.
type boxLog struct{ *store.Store }

// full says in coord/site's words that the disk is full.
func full(err error) error {
	if errors.Is(err, store.ErrFull) {
		return fmt.Errorf("%w: %w", site.ErrFull, err)
	}
	return err
}

func (l boxLog) Append(recs []coord.Record) error { return full(l.Store.Append(recs)) }

func (l boxLog) Roll(head []coord.Record) error { return full(l.Store.Roll(head)) }

func (l boxLog) Replay(fn func(r *coord.Record) error) error {
	from := uint64(0)
	if f := l.Base.Committed(); f != nil {
		from = f.Header.Height
	}
	return l.ReplayFrom(from, fn)
}

// base is a store.Base with the interfaces of coord/site as results.
type base struct{ *store.Base }

func (b *base) Commit(c *coord.Commit) error { return full(b.Base.Commit(c)) }

func (b *base) Backend() state.Backend { return b.Base }

func (b *base) Snapshot(ctx context.Context) (site.Snapshot, error) {
	s, err := b.Base.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (b *base) Install(cp *coord.Checkpoint, manifest []byte) (site.Install, error) {
	in, err := b.Base.Install(cp, manifest)
	if err != nil {
		return nil, err
	}
	return in, nil
}
