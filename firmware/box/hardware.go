package box

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
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
	machine *work.Machine     // nil: the configuration wants nothing of it
	values  map[string]string // of the settings that a calibration can measure: what they stand for here
	worker  *work.Worker      // nil: the loop runs as it is
	panel   *panel            // nil: none
	arena   []byte            // for the batches; nil: the heap
	clients linux.Sockets     // how the ports for clients are opened
	peers   linux.Sockets     // and the links between boxes

	receivers []receivers

	mu    sync.Mutex
	inUse []work.InUse
}

// receivers are the receive sockets of one port.
type receivers struct {
	port string
	*linux.Receivers
}

// arenaBytes hold two of the largest batches: the open one, and the one that is encoded or applied.
const arenaBytes = 2 * coord.ArenaBytes

// openHardware puts back what an unfinished change of the machine's settings left, and then looks
// at the machine if the configuration wants anything of it. The error is a profile that there is not.
func openHardware(ctx context.Context, c *config.Config, name string, log *slog.Logger) (*hardware, error) {
	h := &hardware{c: c, log: log, values: map[string]string{}}
	h.recover(ctx)
	calibration, err := work.LoadCalibration(c.DataDir)
	if err != nil {
		log.Error("what was measured on this machine cannot be read: settings that are measured are off", "err", err)
	}
	wanted := calibration != nil || c.HAL.Panel
	for key, v := range c.HAL.Settings() {
		h.values[key] = *v
		wanted = wanted || *v != "off" && *v != work.Measured
	}
	if wanted {
		if h.machine, err = work.Open("/", c.HAL.Board); err != nil {
			return nil, fmt.Errorf("box: hal.board: %w", err)
		}
		log.Info("hardware is known", "board", h.machine.Board.ID, "why", h.machine.Why)
	}
	for _, s := range work.Settings() {
		if h.values[s.Key] == work.Measured {
			why := ""
			if h.values[s.Key], why = h.measured(calibration, s.Key); calibration != nil {
				log.Info("hardware setting as measured", "setting", s.Key, "value", h.values[s.Key], "why", why)
			}
		}
	}
	h.use()
	if c.HAL.Panel {
		h.panel = openPanel(h.machine, c, name, log)
	}
	return h, nil
}

func (h *hardware) measured(c *work.Calibration, key string) (value, why string) {
	if c == nil {
		return c.Value(key, work.Mark{})
	}
	return c.Value(key, h.machine.Mark())
}

// use puts the settings to use, and says what became of each.
func (h *hardware) use() {
	if h.values["hal.loop"] != "off" {
		h.worker = work.NewWorker(h.cpus("hal.loop", func(a *hal.Assignment) hal.CPUs { return a.Loop }), h.placed)
	}
	if v := h.values["hal.receive_sockets"]; v != "off" {
		h.clients.CPUs = h.cpus("hal.receive_sockets", func(a *hal.Assignment) hal.CPUs { return a.Receive })
		if len(h.clients.CPUs) > 1 {
			h.note("hal.receive_sockets", h.clients.CPUs.List(), hal.AcceptedUnverified, "no connection has come yet; when the box stops its log says which came to which")
		} else {
			h.note("hal.receive_sockets", v, hal.Unsupported, "one CPU receives: one socket does")
		}
	}
	if v := h.values["hal.busy_poll"]; v != "off" {
		h.peers.BusyPoll, _ = time.ParseDuration(v) // the configuration was checked; a calibration's value that is none is 0
		if err := h.peers.Try(); err != nil {
			h.peers.BusyPoll = 0
			h.note("hal.busy_poll", v, hal.FailedTo, err.Error())
		} else {
			h.note("hal.busy_poll", v, hal.AcceptedUnverified, "no link goes over a device whose queue can be polled, so far")
		}
	}
	if v := h.values["hal.huge_pages"]; v != "off" {
		h.openArena(v)
	}
	if v := h.values["hal.lock_memory"]; v != "off" {
		if err := linux.LockMemory(); err != nil {
			h.note("hal.lock_memory", v, hal.FailedTo, err.Error())
		} else {
			h.note("hal.lock_memory", v, hal.Applied, "")
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.save()
}

// openArena gives the batches memory of their own, which they walk front to back.
func (h *hardware) openArena(value string) {
	var cpu hal.CPU
	if t := &h.machine.Facts.Topology; t.State == hal.Loaded && len(t.Value.CPUs) > 0 {
		cpu = t.Value.CPUs[0]
	}
	mem := h.machine.Facts.Memory
	if mem.State != hal.Loaded {
		h.note("hal.huge_pages", value, hal.Unsupported, mem.Why)
		return
	}
	arena, outcomes, err := linux.Arena(arenaBytes, hal.Sequential, &mem.Value, &cpu)
	if err != nil {
		h.note("hal.huge_pages", value, hal.FailedTo, err.Error())
		return
	}
	h.arena = arena
	for _, o := range outcomes {
		if o.Advice.Value == "hugepage" {
			h.note("hal.huge_pages", value, o.Result, o.Why)
			return
		}
	}
	h.note("hal.huge_pages", value, hal.Unsupported, "the kernel has no transparent huge pages")
}

// lineBytes is the CPUs' cache line: what the machine says, else its profile, else the usual one.
func (h *hardware) lineBytes() int {
	const usual = 64
	if h.machine == nil {
		return usual
	}
	return cmp.Or(h.machine.Facts.Topology.Value.LineBytes, h.machine.Board.CacheLineBytes, usual)
}

// dialer connects to other boxes; nil: as usual.
func (h *hardware) dialer() func(ctx context.Context, address string) (net.Conn, error) {
	if h.peers.BusyPoll <= 0 {
		return nil
	}
	d := net.Dialer{Timeout: link.HandshakeDefault, Control: h.peers.Control}
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil && linux.Polled(conn) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.set("hal.busy_poll", h.peers.BusyPoll.String(), hal.Applied, "a link goes over a device whose queue is polled") {
				h.save()
			}
		}
		return conn, err
	}
}

// received remembers the receive sockets of a port.
func (h *hardware) received(port string, l net.Listener) {
	if r, ok := l.(*linux.Receivers); ok {
		h.receivers = append(h.receivers, receivers{port, r})
	}
}

// note keeps what became of a setting and logs it.
func (h *hardware) note(key, value string, r hal.Result, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(key, value, r, why)
	level := slog.LevelInfo
	if r == hal.FailedTo || r == hal.Unsupported {
		level = slog.LevelWarn
	}
	h.log.Log(context.Background(), level, "hardware setting", "setting", key, "value", value, "result", r, "why", why)
}

// set says whether that was news. The caller holds mu.
func (h *hardware) set(key, value string, r hal.Result, why string) bool {
	u := work.InUse{Setting: key, Value: value, Result: r, Why: why}
	at := slices.IndexFunc(h.inUse, func(o work.InUse) bool { return o.Setting == key })
	if at < 0 {
		h.inUse = append(h.inUse, u)
		return true
	}
	news := h.inUse[at] != u
	h.inUse[at] = u
	return news
}

// save tells others (`holdfast hal verify`). The caller holds mu. A box that has never used anything leaves no file.
func (h *hardware) save() {
	if old, err := work.LoadInUse(h.c.DataDir); err == nil && slices.Equal(old, h.inUse) {
		return
	}
	if err := work.SaveInUse(h.c.DataDir, h.inUse); err != nil {
		h.log.Warn("which hardware settings are in use could not be written", "err", err)
	}
}

// close gives back the light and the button.
func (h *hardware) close() error {
	for _, r := range h.receivers {
		for _, t := range r.Taken() {
			h.log.Info("receive socket", "port", r.port, "cpu", t.CPU, "connections", t.Connections, "of_that_cpu", t.Home)
		}
	}
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

// cpus are those that a setting names, or that the plan has for it; none: any.
func (h *hardware) cpus(key string, of func(*hal.Assignment) hal.CPUs) hal.CPUs {
	if v := h.values[key]; v != "plan" {
		cpus, err := hal.ParseList(v) // the configuration was checked, a calibration not
		if err != nil {
			h.log.Error("hardware setting cannot be read", "setting", key, "err", err)
		}
		return cpus
	}
	p := h.machine.Plan(hal.Options{})
	if key == "hal.loop" && slices.Equal(p.Assign.Loop, h.machine.Facts.Topology.Value.Online()) {
		h.note(key, "plan", hal.Unsupported, p.Assign.Why)
		return nil
	}
	return of(&p.Assign)
}

func (h *hardware) placed(p work.Place) {
	switch {
	case p.Pinned:
		h.log.Info("the ordering's loop is pinned", "cpus", p.CPUs.List(), "thread", p.Thread)
		h.note("hal.loop", p.CPUs.List(), hal.Applied, "")
	case p.Running:
		h.log.Info("the ordering's loop is not pinned", "why", p.Why)
	case p.Why != "":
		h.log.Warn("the ordering's loop has ended and its thread keeps its CPUs", "why", p.Why)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.save()
}

// loop runs the ordering's loop where the configuration wants it; nil: as it is.
func (h *hardware) loop() func(func()) {
	if h.worker == nil {
		return nil
	}
	return h.worker.Run
}

// run keeps the machine's settings and shows how the site is, until ctx ends.
func (h *hardware) run(ctx context.Context, view func() *site.View, worst func() string) error {
	var parts sync.WaitGroup
	if h.values["hal.apply"] == "plan" {
		parts.Go(func() {
			w := work.Watcher{Machine: h.machine, Port: linux.NewPort(h.machine.Root), Ledger: work.LedgerDir(h.c.DataDir)}
			if err := w.Run(ctx, h.stepped); err != nil {
				h.log.Error("hardware events are not watched", "err", err)
			}
		})
	}
	if h.panel != nil {
		parts.Go(func() { h.panel.run(ctx, view, worst) })
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
