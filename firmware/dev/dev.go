// Package dev runs a whole site on one machine for developing and trying: every box is a process
// of its own (`holdfast run`) with its own directory, key and ports on 127.0.0.1.
//
// It promises: a second start on the same directory continues the same site; two at once are
// refused; a box that dies is started again; and no box outlives its site, even if the program
// that runs it is killed.
//
// A site's directory has box-0, box-1... (each a box's data directory with holdfast.toml,
// identity.key and site.json), password (0600) and dev.lock. Nothing else tells which boxes there
// are: the newest site.json is enough to continue, also when boxes came and went since.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

// Errors of this package.
var (
	// ErrUsage says that the options cannot work together.
	ErrUsage = errors.New("cannot be")
	// ErrLocked says that another process runs a site in the directory.
	ErrLocked = errors.New("another `holdfast dev` runs this site")
	// ErrPorts says that ports are in use.
	ErrPorts = errors.New("port in use")
	// ErrSite says that the directory holds another site than the one asked for, or none that is whole.
	ErrSite = errors.New("cannot continue this site")
)

const (
	// BoxesDefault is the smallest site in which one box may lie.
	BoxesDefault = 4
	// stopTimeMax is how long boxes may take to stop; after it they are killed. A box drains
	// within 2.5 s (config's timeouts.drain) and closes.
	stopTimeMax = 2900 * time.Millisecond
	// readyPoll is how often a starting box is asked whether it serves.
	readyPoll = 100 * time.Millisecond
	// probeTimeMax is how long a box may take to say whether it serves: one that hangs does not.
	probeTimeMax = time.Second
	// readyPatience is after how long a site is announced although some boxes do not serve, if
	// enough of them do.
	readyPatience = 5 * time.Second
)

// Options say which site to run and how. Dir, Program, Out, Err and Logger are required.
type Options struct {
	// Boxes is how many; 0 means those of the directory's site, or BoxesDefault.
	Boxes int
	Dir   string
	// ConsolePort, ClientPort and PeerPort are box 0's; box i has +i, +10*i (the native stream
	// one above) and +i.
	ConsolePort, ClientPort, PeerPort int
	// ReadyFile, if not empty, is written when the site serves and removed when it stops.
	ReadyFile string
	// NoRestart leaves a box that dies as it is.
	NoRestart bool
	// Program is run as `Program run --config FILE` for each box.
	Program string
	// Out gets what a person wants to know, Err is the boxes' standard error.
	Out, Err io.Writer
	Logger   *slog.Logger
	// Configure, if not nil, changes each box's configuration before it is written.
	Configure func(*config.Config)
	// Serving, if not nil, is called once the site serves, with box 0's console URL, and
	// waited for when the site stops. Its error is logged.
	Serving func(ctx context.Context, consoleURL string) error
}

// Run runs the site until ctx ends, then stops all boxes and returns nil.
//
// Errors: ErrUsage, ErrLocked, ErrPorts, ErrSite, or what the system says.
func Run(ctx context.Context, o Options) error {
	// 1. Nobody else runs this site.
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("dev: make directory: %w", err)
	}
	unlock, err := lock(o.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := removeReady(o.ReadyFile); err != nil {
		return err
	}
	// 2. The site: found, or founded.
	members, continued, err := findSite(o.Dir)
	if err != nil {
		return err
	}
	boxes, err := boxesOf(&o, members, continued)
	if err != nil {
		return err
	}
	// 3. The ports: free, or freed soon by boxes that are still stopping.
	if err := awaitPorts(ctx, boxes, continued); err != nil {
		return err
	}
	if err := prepare(&o, members, boxes); err != nil {
		return err
	}
	password, err := firstPassword(o.Dir)
	if err != nil {
		return err
	}
	if err := firstOperator(boxes, password); err != nil {
		return err
	}
	// 4. The boxes.
	s := &supervisor{o: o, boxes: boxes, password: password, spawn: newSpawner()}
	err = s.run(ctx)
	return errors.Join(err, removeReady(o.ReadyFile))
}

// founded is the epoch of a site whose boxes are those that it was made with.
const founded = 1

func boxesOf(o *Options, members *coord.Members, continued bool) ([]*Box, error) {
	switch {
	case o.Boxes < 0 || o.Boxes > coord.MembersMax:
		return nil, fmt.Errorf("dev: %w: %d boxes; a site has 1 to %d", ErrUsage, o.Boxes, coord.MembersMax)
	case !continued && o.Boxes == 0:
		return plan(o, BoxesDefault)
	case !continued:
		return plan(o, o.Boxes)
	case members.Epoch > founded:
		if o.Boxes != 0 && o.Boxes != members.N() {
			o.Logger.Info("the site's boxes have changed since it was made", "boxes", members.N(), "epoch", members.Epoch)
		}
		return lived(o, members)
	case o.Boxes != 0 && o.Boxes != members.N():
		return nil, fmt.Errorf("dev: %w: %s holds a site of %d boxes; use --boxes %d, or another --dir for a new site",
			ErrSite, o.Dir, members.N(), members.N())
	}
	return plan(o, members.N())
}

// Box is one box as the ready file shows it. Console is a URL, the other addresses are host:port.
type Box struct {
	ID      coord.BoxID `json:"id"`
	Console string      `json:"console"`
	Client  string      `json:"client"`
	Peer    string      `json:"peer"`
	Native  string      `json:"native"`
	PID     int         `json:"pid"`
	Dir     string      `json:"dir"`

	name   string
	listen listen
	absent bool // its directory was there once and is not now
	extra  bool // it is not in the site (yet)
}

// supervisor keeps the boxes running.
type supervisor struct {
	o        Options
	boxes    []*Box
	password string
	spawn    *spawner

	mu        sync.Mutex // guards what follows, and Box.PID
	announced bool
}

func (s *supervisor) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var keepers, helpers sync.WaitGroup
	for _, b := range s.boxes {
		keepers.Go(func() { s.keep(ctx, b) })
	}
	failed := make(chan error, 1)
	helpers.Go(func() {
		if err := s.announce(ctx); err != nil && ctx.Err() == nil {
			failed <- err
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	helpers.Wait()
	keepers.Wait()
	s.spawn.close() // only now: its thread's end is its children's end
	return err
}
