package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

const (
	warmUp       = time.Second
	afterFault   = time.Second
	convergeTime = 60 * time.Second
)

// row is one line of the fault matrix and how it is tried.
type row struct {
	number                        int
	fault, promise, how, measured string
	// short: it is part of -short, so it needs no root; root: it needs it.
	short, root bool
	// valueBytes pads what clients write; config edits every box's configuration; place prepares directories.
	valueBytes int
	config     func(*config.Config)
	place      func(t *trial, i int, dir string) error
	// liars: the first box lies as each of them in turn (liars.go).
	liars []liar.Kind
	try   func(ctx context.Context, t *trial) error
}

// trial is one run of one row.
type trial struct {
	*options
	row  *row
	dir  string
	site *site
	load *load
	// undo is what must be taken back before the directory can go, in reverse order.
	undo     []func() error
	guilty   map[coord.BoxID]bool
	recovery time.Duration
	measured bool
	calls    int
	notes    []string
}

func (t *trial) run(ctx context.Context) (err error) {
	defer func() {
		for _, fn := range slices.Backward(t.undo) {
			err = errors.Join(err, fn())
		}
	}()
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	var place func(int, string) error
	if t.row.place != nil {
		place = func(i int, dir string) error { return t.row.place(t, i, dir) }
	}
	t.site, err = newSite(t.binary, t.dir, t.boxes, t.row.config, place)
	if err != nil {
		return err
	}
	t.undo = append(t.undo, func() error { t.site.close(); return nil })
	if len(t.row.liars) > 0 {
		if err := t.placeLiar(ctx); err != nil {
			return err
		}
	}
	if err := t.site.startAll(); err != nil {
		return err
	}
	if err := t.site.awaitServing(ctx); err != nil {
		return err
	}
	t.load, err = startLoad(ctx, t.site, t.row.valueBytes)
	if err != nil {
		return err
	}
	sleep(ctx, warmUp)
	err = t.row.try(ctx, t)
	sleep(ctx, afterFault)
	t.load.stop()
	t.calls = len(t.load.history)
	return errors.Join(err, t.check(ctx))
}

// check is what holds after every row.
func (t *trial) check(ctx context.Context) error {
	if len(t.load.errs) > 0 {
		return fmt.Errorf("%d calls failed, first: %w", len(t.load.errs), t.load.errs[0])
	}
	unknown := 0
	for _, o := range t.load.history {
		if o.unknown {
			unknown++
		}
	}
	if unknown > 0 {
		t.note("%d calls with unknown outcome", unknown)
	}
	_, err := t.site.converge(ctx, convergeTime)
	return errors.Join(err, checkHistory(t.load.history), t.site.checkLogs(ctx, t.load.history),
		t.site.checkStates(ctx), t.site.checkAccused(ctx, t.guilty))
}

func (t *trial) note(format string, args ...any) {
	t.notes = append(t.notes, strings.ReplaceAll(fmt.Sprintf(format, args...), t.dir+string(filepath.Separator), ""))
}

// took notes a measured time and judges it.
func (t *trial) took(what string, d, limit time.Duration) error {
	t.recovery, t.measured = max(t.recovery, d), true
	if d > limit {
		return fmt.Errorf("%s took %v, promised %v", what, d.Round(time.Millisecond), limit)
	}
	return nil
}

// paused judges the longest pause since a moment of the load.
func (t *trial) paused(since, limit time.Duration) error {
	return t.took("the pause of writes", t.load.pause(since, t.load.now()), limit)
}

// answered judges the time from a moment until a write that was called then was acknowledged, waiting for it.
func (t *trial) answered(ctx context.Context, since, limit time.Duration) error {
	_, err := until(ctx, 3*limit, func() error {
		if _, ok := t.load.firstAfter(since); !ok {
			return errors.New("no write is acknowledged")
		}
		return nil
	})
	if err != nil {
		return err
	}
	d, _ := t.load.firstAfter(since)
	return t.took("serving writes again", d, limit)
}

// back starts a box again and waits until it serves at the height that the site had then.
func (t *trial) back(ctx context.Context, b *box, limit time.Duration) (time.Duration, error) {
	var height uint64
	for _, other := range t.site.boxes {
		if st, err := other.status(ctx); err == nil {
			height = max(height, st.Height)
		}
	}
	if err := t.site.start(b); err != nil {
		return 0, err
	}
	return until(ctx, limit, func() error {
		st, err := b.status(ctx)
		if err != nil {
			return err
		}
		if st.Height < height || !st.Serving || st.Fault != "" {
			return fmt.Errorf("box-%d: height %d of %d, %s %s", b.index, st.Height, height, st.Verdict, st.Fault)
		}
		return nil
	})
}

// leaderAndOther are the leader and a box that does not lead.
func (t *trial) leaderAndOther(ctx context.Context) (leader, other *box, err error) {
	leader, err = t.site.leader(ctx)
	if err != nil {
		return nil, nil, err
	}
	return leader, t.site.boxes[(leader.index+1)%len(t.site.boxes)], nil
}

// notReady waits until a box says that it does not serve, and gives its words.
func notReady(ctx context.Context, b *box, limit time.Duration) (time.Duration, string, error) {
	said := ""
	d, err := until(ctx, limit, func() error {
		err := b.ready(ctx)
		if err == nil {
			return fmt.Errorf("box-%d says that it serves", b.index)
		}
		said = err.Error()
		return nil
	})
	return d, said, err
}
