package calibrate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/dev"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// place is where rounds are run.
type place interface {
	what() string
	// cannot says why a setting of a box's links or loop has no effect here, "" if it can have one.
	cannot(key string) string
	// run starts the box or the boxes with these settings, calls do when they serve, and stops them.
	run(ctx context.Context, settings map[string]string, do func(ctx context.Context, at *at) error) error
	close()
}

// at is a site that serves.
type at struct {
	native client.Endpoint // the box to talk to
	data   string          // its data directory
	pids   []int           // whose CPU time counts
}

func (o *Options) place() (place, error) {
	if o.Config != "" {
		return newMember(o)
	}
	return newSite(o)
}

func set(h *config.HAL, settings map[string]string) {
	for key, v := range h.Settings() {
		*v = settings[key]
	}
}

// site is a site of its own on this machine.
type site struct {
	o    *Options
	dir  string
	port int
	log  bytes.Buffer // of the round under way
}

const (
	portFirst, portLast, portStep = 21000, 29000, 400
	// Offsets of the ports from the first; boxes take up to 10 times as many client ports.
	consoleAt, peerAt, clientAt = 0, 40, 80
)

func newSite(o *Options) (*site, error) {
	dir, err := os.MkdirTemp("", "holdfast-calibrate-")
	if err != nil {
		return nil, fmt.Errorf("calibrate: %w", err)
	}
	return &site{o: o, dir: dir, port: portFirst}, nil
}

func (s *site) close() { _ = os.RemoveAll(s.dir) }

func (s *site) what() string {
	return fmt.Sprintf("a site of %d boxes on this machine, all measured", s.o.Boxes)
}

func (s *site) cannot(key string) string {
	if key == "hal.loop" {
		return fmt.Sprintf("%d boxes on one machine would share the CPU; --config measures a box in its own site", s.o.Boxes)
	}
	return "the boxes of this site talk over loopback, which has no interrupts and no queues; --config measures a box in its own site"
}

func (s *site) run(ctx context.Context, settings map[string]string, do func(context.Context, *at) error) error {
	for {
		err := s.once(ctx, settings, do)
		if !errors.Is(err, dev.ErrPorts) || s.port+portStep > portLast {
			return err
		}
		s.port += portStep
	}
}

func (s *site) once(ctx context.Context, settings map[string]string, do func(context.Context, *at) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() { cancel(nil) }
	defer stop()
	patience := time.AfterFunc(serveWait, func() { cancel(fmt.Errorf("calibrate: the site does not serve within %v", serveWait)) })
	defer patience.Stop()
	s.log.Reset()
	ready := filepath.Join(s.dir, "ready.json")
	var err error
	called := false
	runErr := dev.Run(ctx, dev.Options{
		Boxes: s.o.Boxes, Dir: s.dir, ReadyFile: ready, NoRestart: true, Program: s.o.Program,
		ConsolePort: s.port + consoleAt, PeerPort: s.port + peerAt, ClientPort: s.port + clientAt,
		Out: io.Discard, Err: &s.log, Logger: slog.New(slog.DiscardHandler),
		Configure: func(c *config.Config) { set(&c.HAL, settings) },
		Serving: func(ctx context.Context, _ string) error {
			defer stop()
			patience.Stop()
			called = true
			var where *at
			if where, err = s.where(ready); err == nil {
				err = do(ctx, where)
			}
			return nil
		},
	})
	if runErr == nil && !called && err == nil {
		err = context.Cause(ctx)
	}
	if err = errors.Join(runErr, err); err != nil && s.log.Len() > 0 {
		err = fmt.Errorf("%w; the boxes said:\n%s", err, tail(&s.log))
	}
	return err
}

func (s *site) where(ready string) (*at, error) {
	text, err := os.ReadFile(ready)
	if err != nil {
		return nil, err
	}
	var r struct{ Boxes []dev.Box }
	if err := json.Unmarshal(text, &r); err != nil || len(r.Boxes) == 0 {
		return nil, fmt.Errorf("calibrate: the ready file: %w", err)
	}
	b := &r.Boxes[0]
	a := &at{native: client.Endpoint{Network: "tcp", Address: b.Native, Box: b.ID}, data: b.Dir}
	for _, b := range r.Boxes {
		a.pids = append(a.pids, b.PID)
	}
	return a, nil
}

// member is a box in its own site: it is run by us, in place of its service.
type member struct {
	o      *Options
	c      *config.Config
	native client.Endpoint
	file   string // its configuration, as changed for the round
}

func newMember(o *Options) (*member, error) {
	c, err := config.Load(o.Config)
	if err != nil {
		return nil, err
	}
	address, err := c.NativeListen()
	if err != nil {
		return nil, err
	}
	if address == "" || c.Console.Socket == "" {
		return nil, fmt.Errorf("calibrate: %w: %s has no native.listen or no console.socket, over which the box is measured", ErrUsage, o.Config)
	}
	// The key is there: a box without one is in no site.
	if _, err := os.Stat(filepath.Join(c.DataDir, trust.KeyFile)); err != nil {
		return nil, fmt.Errorf("calibrate: the box of %s has never run: %w", o.Config, err)
	}
	id, err := trust.LoadOrCreate(c.DataDir)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-calibrate-")
	if err != nil {
		return nil, fmt.Errorf("calibrate: %w", err)
	}
	return &member{o: o, c: c, native: client.Endpoint{Network: "tcp", Address: reachable(address), Box: id.ID()}, file: filepath.Join(dir, "holdfast.toml")}, nil
}

// reachable is a listening address as a program on this machine dials it.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

func (m *member) close() { _ = os.RemoveAll(filepath.Dir(m.file)) }

func (m *member) what() string { return "this box in its own site; its own CPU time" }

// cannot: hal.apply is put back as a whole after each round, so nothing may be applied before.
func (m *member) cannot(key string) string {
	if key != "hal.apply" {
		return ""
	}
	l, err := work.OpenLedger(work.LedgerDir(m.c.DataDir))
	if err != nil {
		return err.Error()
	}
	all, err := l.InForce()
	if err = errors.Join(err, l.Close()); err != nil {
		return err.Error()
	}
	if len(all) > 0 {
		return "a plan is applied already; `holdfast hal rollback` first"
	}
	return ""
}

const (
	// serveWait is how long a box may take to serve: it may have to fetch the site's state first.
	serveWait = time.Minute
	servePoll = 50 * time.Millisecond
	// stopWait is longer than the longest drain that can be configured.
	stopWait = 35 * time.Second
)

func (m *member) run(ctx context.Context, settings map[string]string, do func(context.Context, *at) error) error {
	set(&m.c.HAL, settings)
	m.c.HAL.Panel = false
	f, err := os.Create(m.file)
	if err != nil {
		return fmt.Errorf("calibrate: %w", err)
	}
	if err := errors.Join(m.c.Encode(f), f.Close()); err != nil {
		return err
	}
	err = m.box(ctx, do)
	if settings["hal.apply"] != "off" { // the box leaves it applied, however it ended
		err = errors.Join(err, m.putBack(ctx))
	}
	return err
}

// box runs the box once. Its thread is kept until the box has ended: the kernel ends a child with the thread that
// started it (PR_SET_PDEATHSIG, prctl(2)).
func (m *member) box(ctx context.Context, do func(context.Context, *at) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var log bytes.Buffer
	cmd := exec.Command(m.o.Program, "run", "--config", m.file) // its end is ours to bring about, in steps
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("calibrate: start the box: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		cancel(fmt.Errorf("the box has ended: %v", err))
		ended <- err
	}()
	err := m.serving(ctx)
	if err == nil {
		err = do(ctx, &at{native: m.native, data: m.c.DataDir, pids: []int{cmd.Process.Pid}})
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.AfterFunc(stopWait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if e := <-ended; e != nil && err == nil {
		err = fmt.Errorf("calibrate: the box did not stop well: %w", e)
	}
	if err != nil && log.Len() > 0 {
		err = fmt.Errorf("%w; the box said:\n%s", err, tail(&log))
	}
	return err
}

func (m *member) serving(ctx context.Context) error {
	b, err := remote.New("unix://" + m.c.Console.Socket)
	if err != nil {
		return err
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(ctx, serveWait)
	defer cancel()
	for {
		err := b.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("calibrate: %w: the box does not serve: %w", context.Cause(ctx), err)
		case <-time.After(servePoll):
		}
	}
}

// putBack undoes what the box has applied to the machine.
func (m *member) putBack(ctx context.Context) error {
	l, err := work.OpenLedger(work.LedgerDir(m.c.DataDir))
	if err != nil {
		return fmt.Errorf("calibrate: put back: %w", err)
	}
	_, err = l.PutBack(context.WithoutCancel(ctx), linux.NewPort(m.o.Machine.Root))
	if err = errors.Join(err, l.Close()); err != nil {
		return fmt.Errorf("calibrate: %w; `holdfast hal rollback` puts it back", err)
	}
	return nil
}

// tailBytes is what is shown of a box's log when it fails.
const tailBytes = 2 << 10

func tail(b *bytes.Buffer) string {
	text := b.String()
	if len(text) > tailBytes {
		text = text[len(text)-tailBytes:]
		_, text, _ = strings.Cut(text, "\n")
	}
	return strings.TrimSpace(text)
}
