package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// hardware is what a box does with the machine below it. Nothing that goes wrong here ends the
// box: a site is worth more than a light.
type hardware struct {
	c       *config.Config
	log     *slog.Logger
	machine *work.Machine // nil: the configuration wants nothing of it
	worker  *work.Worker  // nil: the loop runs as it is
	panel   *panel        // nil: none
}

// openHardware puts back what an unfinished change of the machine's settings left, and then looks
// at the machine if the configuration wants anything of it. The error is a profile that there is not.
func openHardware(ctx context.Context, c *config.Config, name string, log *slog.Logger) (*hardware, error) {
	h := &hardware{c: c, log: log}
	h.recover(ctx)
	if c.HAL.Apply == "off" && c.HAL.Loop == "off" && !c.HAL.Panel {
		return h, nil
	}
	m, err := work.Open("/", c.HAL.Board)
	if err != nil {
		return nil, fmt.Errorf("box: hal.board: %w", err)
	}
	h.machine = m
	log.Info("hardware is known", "board", m.Board.ID, "why", m.Why)
	if c.HAL.Loop != "off" {
		h.worker = work.NewWorker(h.loopCPUs(), h.placed)
	}
	if c.HAL.Panel {
		h.panel = openPanel(m, c, name, log)
	}
	return h, nil
}

// close gives back the light and the button.
func (h *hardware) close() error {
	if h.machine == nil {
		return nil
	}
	var err error
	if h.panel != nil {
		err = h.panel.close()
	}
	return errors.Join(err, h.machine.Close())
}

// recover puts back what a crash in the middle of a change left.
func (h *hardware) recover(ctx context.Context) {
	dir := work.LedgerDir(h.c.DataDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return // nothing was ever changed from here
	}
	back, err := h.putBack(ctx, dir)
	switch {
	case errors.Is(err, work.ErrBusy): // whoever holds the journal puts back what it began
		h.log.Info("hardware settings are being changed by another program")
	case err != nil:
		h.log.Error("hardware settings of an unfinished change could not be put back; `holdfast hal rollback` tries again", "values", len(back), "err", err)
	case len(back) > 0:
		for _, e := range back {
			h.log.Info("hardware setting put back", "target", e.Target, "value", e.Old)
		}
		h.log.Warn("hardware settings of an unfinished change were put back", "values", len(back))
	}
}

func (h *hardware) putBack(ctx context.Context, dir string) ([]hal.Entry, error) {
	l, err := work.OpenLedger(dir)
	if err != nil {
		return nil, err
	}
	root, err := linux.Open("/", nil)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	back, err := hal.Recover(ctx, linux.NewPort(root), l)
	return back, errors.Join(err, root.Close(), l.Close())
}

// loopCPUs are the CPUs of the ordering's loop; none: any.
func (h *hardware) loopCPUs() hal.CPUs {
	if h.c.HAL.Loop != "plan" {
		cpus, err := hal.ParseList(h.c.HAL.Loop) // the configuration was checked
		if err != nil {
			h.log.Error("hal.loop cannot be read", "err", err)
		}
		return cpus
	}
	p := h.machine.Plan(hal.Options{})
	if slices.Equal(p.Assign.Loop, h.machine.Facts.Topology.Value.Online()) {
		h.log.Info("the ordering's loop is not pinned", "why", p.Assign.Why)
		return nil
	}
	return p.Assign.Loop
}

func (h *hardware) placed(p work.Place) {
	switch {
	case p.Pinned:
		h.log.Info("the ordering's loop is pinned", "cpus", p.CPUs.List(), "thread", p.Thread)
	case p.Running:
		h.log.Info("the ordering's loop is not pinned", "why", p.Why)
	case p.Why != "":
		h.log.Warn("the ordering's loop has ended and its thread keeps its CPUs", "why", p.Why)
	}
}

// loop runs the ordering's loop where the configuration wants it; nil: as it is.
func (h *hardware) loop() func(func()) {
	if h.worker == nil {
		return nil
	}
	return h.worker.Run
}

// run keeps the machine's settings and shows how the site is, until ctx ends.
func (h *hardware) run(ctx context.Context, view func() *site.View) error {
	var parts sync.WaitGroup
	if h.c.HAL.Apply == "plan" {
		parts.Go(func() {
			w := work.Watcher{Machine: h.machine, Port: linux.NewPort(h.machine.Root), Ledger: work.LedgerDir(h.c.DataDir)}
			if err := w.Run(ctx, h.stepped); err != nil {
				h.log.Error("hardware events are not watched", "err", err)
			}
		})
	}
	if h.panel != nil {
		parts.Go(func() { h.panel.run(ctx, view) })
	}
	<-ctx.Done()
	parts.Wait()
	return nil
}

// stepped logs what was done to the machine.
func (h *hardware) stepped(s work.Step) {
	for _, e := range s.Events {
		h.log.Debug("hardware event", "kind", e.Kind, "name", e.Name)
	}
	for _, o := range s.Report.Outcomes {
		h.log.Info("hardware setting", "target", o.Change.Target, "value", o.Change.Want, "result", o.Result, "why", o.Why)
	}
	if s.Err != nil {
		h.log.Error("hardware settings could not be applied", "err", s.Err)
	}
}
