package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const (
	// liarIndex leads first in a new site.
	liarIndex   = 0
	liarPackage = "github.com/holdfast-edge/holdfast/tools/chaos/liarbox"
	liePause    = 4 * time.Second
	// leadTimeMax is longer than the terms of all boxes under this load.
	leadTimeMax = 60 * time.Second
)

// placeLiar makes the first box one that lies; it is honest until it is told to begin.
func (t *trial) placeLiar(ctx context.Context) error {
	program := filepath.Join(t.dir, "liarbox")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, liarPackage).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", liarPackage, err, out)
	}
	var words []string
	for _, k := range t.row.liars {
		words = append(words, string(k))
	}
	b := t.site.boxes[liarIndex]
	b.command = []string{program, "-kind", strings.Join(words, ",")}
	t.guilty = map[coord.BoxID]bool{b.id: true}
	return nil
}

// lies lets the first box lie in each way for a while, beginning when it leads, and then takes it out: what is checked
// later is what the honest ones have.
func lies(ctx context.Context, t *trial) error {
	b := t.site.boxes[liarIndex]
	var errs []error
	for _, kind := range t.row.liars {
		if _, err := until(ctx, leadTimeMax, func() error {
			leader, err := t.site.leader(ctx)
			if err == nil && leader != b {
				err = fmt.Errorf("box-%d leads, not the one that is to lie", leader.index)
			}
			return err
		}); err != nil {
			return err
		}
		since := t.load.now()
		if err := b.signal(syscall.SIGUSR1); err != nil {
			return err
		}
		sleep(ctx, liePause)
		if err := t.paused(since, backTime); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", kind, err))
		}
	}
	b.kill()
	b.cmd = nil
	return errors.Join(errs...)
}

// liesProven: an honest box has evidence, and the product's own verifier says what it proves.
func liesProven(ctx context.Context, t *trial) error {
	err := lies(ctx, t)
	holders := 0
	for _, b := range t.site.boxes {
		if !b.alive() {
			continue
		}
		var x *coord.Exhibit
		if e := b.ask(ctx, func(ctx context.Context, r *remote.Box) (e error) {
			x, e = r.Evidence(ctx)
			return e
		}); e != nil {
			return errors.Join(err, e)
		}
		if len(x.Findings) == 0 {
			continue
		}
		holders++
		for i := range x.Findings {
			if _, _, e := trust.CheckFinding(&x.Findings[i]); e != nil {
				err = errors.Join(err, fmt.Errorf("box-%d: %w", b.index, e))
			}
		}
		file := filepath.Join(t.dir, fmt.Sprintf("evidence-%d.json", b.index))
		err = errors.Join(err,
			command(t.binary, "debug", "evidence", "--addr", "http://"+b.console, "--out", file),
			command(t.binary, "debug", "evidence", "verify", "--site", filepath.Join(b.dir, trust.SiteFile), file))
	}
	t.note("%d honest boxes have evidence that is proven", holders)
	if holders == 0 {
		err = errors.Join(err, errors.New("nobody has evidence"))
	}
	return err
}

// liesCounted: an honest box counted what did not hold.
func liesCounted(ctx context.Context, t *trial) error {
	err := lies(ctx, t)
	var suspect uint64
	for _, b := range t.site.boxes {
		if !b.alive() {
			continue
		}
		v, e := b.view(ctx)
		if e != nil {
			return errors.Join(err, e)
		}
		suspect = max(suspect, v.Members[liarIndex].Suspect)
		for i := range v.Members {
			if i != liarIndex && v.Members[i].Suspect > 0 {
				err = errors.Join(err, fmt.Errorf("box-%d suspects the honest box-%d", b.index, i))
			}
		}
	}
	t.note("a box counted %d messages of the liar that did not hold", suspect)
	if suspect == 0 {
		err = errors.Join(err, errors.New("nobody counted them"))
	}
	return err
}
