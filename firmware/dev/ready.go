package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// readyMode: the ready file has the first password.
const readyMode = 0o600

// announce waits until the site serves, tells everybody, and runs what was to run then.
func (s *supervisor) announce(ctx context.Context) error {
	if err := s.awaitServing(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.announced = true
	err := s.writeReady()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.greet(); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	if s.o.Serving == nil {
		return nil
	}
	if err := s.o.Serving(ctx, s.boxes[0].Console); err != nil && ctx.Err() == nil {
		s.o.Logger.Error("what was to run on the site has failed", "err", err)
	}
	return nil
}

// awaitServing returns when every box that has a directory serves, or after some patience when
// a quorum does.
func (s *supervisor) awaitServing(ctx context.Context) error {
	consoles := map[*Box]*remote.Box{}
	for _, b := range s.boxes {
		if b.absent || b.extra {
			continue
		}
		c, err := remote.New(b.Console)
		if err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		defer c.Close()
		consoles[b] = c
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for started := time.Now(); ; {
		late := time.Since(started) >= readyPatience
		serving := 0
		for b, c := range consoles {
			err := probe(ctx, c)
			if err == nil {
				serving++
			} else if late && ctx.Err() == nil {
				s.o.Logger.Warn("a box does not serve yet", "box", b.name, "why", err)
			}
		}
		if serving == len(consoles) && serving > 0 || late && serving >= coord.Quorum(s.members()) {
			return nil
		}
		if late {
			started = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// members is how many boxes are in the site.
func (s *supervisor) members() (n int) {
	for _, b := range s.boxes {
		if !b.extra {
			n++
		}
	}
	return n
}

func probe(ctx context.Context, c *remote.Box) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeMax)
	defer cancel()
	return c.Ready(ctx)
}

func (s *supervisor) greet() error {
	n := s.members()
	if _, err := fmt.Fprintf(s.o.Out, "The site serves: %d boxes, %d of them may fail.\n", n, coord.MaxFaulty(n)); err != nil {
		return err
	}
	for _, b := range s.boxes {
		if _, err := fmt.Fprintf(s.o.Out, "  %-7s console %s/  client %s  native %s  peer %s\n", b.name, b.Console, b.Client, b.Native, b.Peer); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.o.Out, "First password: %s (operator %s)\nStop with Ctrl-C; the same command continues the site.\n", s.password, operatorName)
	return err
}

// setPID notes a box's process, and tells the readers of the ready file.
func (s *supervisor) setPID(b *Box, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.PID = pid
	if !s.announced || pid == 0 {
		return
	}
	if err := s.writeReady(); err != nil {
		s.o.Logger.Error("ready file is out of date", "err", err)
	}
}

// writeReady writes the ready file; the caller holds mu.
func (s *supervisor) writeReady() error {
	if s.o.ReadyFile == "" {
		return nil
	}
	text, err := json.MarshalIndent(struct {
		Boxes    []*Box `json:"boxes"`
		Password string `json:"password"`
	}{s.boxes, s.password}, "", "  ")
	if err != nil {
		return fmt.Errorf("dev: write ready file: %w", err)
	}
	return writeFile(s.o.ReadyFile, append(text, '\n'), readyMode)
}

func removeReady(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dev: remove ready file: %w", err)
	}
	return nil
}
