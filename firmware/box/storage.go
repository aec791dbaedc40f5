package box

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/store"
)

// storage is the box's open data directory, as coord/site wants it.
type storage struct {
	log   boxLog
	base  *base
	close func() error
}

func openStorage(c *config.Config, who *identity, log *slog.Logger) (*storage, error) {
	s, err := store.Open(c.DataDir, store.Options{
		Site: who.members.Site, Box: who.member.ID,
		SegmentBytes: int64(c.Log.SegmentSize), RetainBytes: int64(c.Log.RetainSize), Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("box: open storage: %w", err)
	}
	return &storage{log: boxLog{s}, base: &base{s.Base}, close: s.Close}, nil
}

// boxLog is a store.Log that replays only what the durable state does not have.
type boxLog struct{ *store.Store }

func (l boxLog) Replay(fn func(r *coord.Record) error) error {
	from := uint64(0)
	if f := l.Base.Committed(); f != nil {
		from = f.Header.Height
	}
	return l.ReplayFrom(from, fn)
}

// base is a store.Base with the interfaces of coord/site as results.
type base struct{ *store.Base }

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
