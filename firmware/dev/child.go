package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// A box that dies is started again after restartMin, twice as long each time it dies again,
	// up to restartMax; one that ran for steadyAfter begins anew.
	restartMin  = 200 * time.Millisecond
	restartMax  = 5 * time.Second
	steadyAfter = 10 * time.Second
)

// spawner starts processes from one thread that lives until close. A child asks the kernel for
// SIGTERM when the thread that started it ends (PR_SET_PDEATHSIG in prctl(2) is about the
// thread, not the process), so that thread must not be one that Go may end.
type spawner struct {
	requests chan spawnRequest
	done     sync.WaitGroup
}

type spawnRequest struct {
	cmd    *exec.Cmd
	result chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest)}
	s.done.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for r := range s.requests {
			r.result <- r.cmd.Start()
		}
	})
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	r := spawnRequest{cmd, make(chan error, 1)}
	s.requests <- r
	return <-r.result
}

// close ends the thread. All children have ended.
func (s *spawner) close() {
	close(s.requests)
	s.done.Wait()
}

// keep runs one box again and again until ctx ends, and then stops it.
func (s *supervisor) keep(ctx context.Context, b *Box) {
	delay, said := restartMin, ""
	for {
		started := time.Now()
		err := s.runBox(ctx, b)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) >= steadyAfter {
			delay = restartMin
		}
		if text := err.Error(); text != said || time.Since(started) >= restartMax { // a box that keeps failing says so once
			s.o.Logger.Warn("a box has stopped", "box", b.name, "why", err, "restart", !s.o.NoRestart)
			said = text
		}
		if s.o.NoRestart {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, restartMax)
	}
}

// runBox starts a box and returns why it ended.
func (s *supervisor) runBox(ctx context.Context, b *Box) error {
	file := filepath.Join(b.Dir, configFile)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is gone; the others serve without %s", b.Dir, b.name)
	}
	cmd := exec.Command(s.o.Program, "run", "--config", file) // its end is ours to bring about, in steps
	cmd.Stderr = s.o.Err
	if os.Getenv("GOMAXPROCS") == "" {
		// The boxes share this machine's CPUs, as appliances would not: threads that look for work in vain cost a fifth.
		cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", max(1, runtime.NumCPU()/len(s.boxes))))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // Ctrl-C is for us; we stop the boxes
		Pdeathsig: syscall.SIGTERM,
	}
	if err := s.spawn.start(cmd); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	s.setPID(b, cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		s.setPID(b, 0)
		if err == nil {
			err = errors.New("it ended by itself")
		}
		return err
	case <-ctx.Done():
		s.stopBox(b, cmd.Process, ended)
		return ctx.Err()
	}
}

// stopBox asks, waits, and then does not ask any more.
func (s *supervisor) stopBox(b *Box, p *os.Process, ended <-chan error) {
	// SIGCONT: a box that somebody has stopped cannot act on SIGTERM.
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGCONT} {
		if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			s.o.Logger.Error("a box cannot be signalled", "box", b.name, "err", err)
		}
	}
	timer := time.NewTimer(stopTimeMax)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err != nil {
			s.o.Logger.Warn("a box did not stop well", "box", b.name, "err", err)
		}
	case <-timer.C:
		s.o.Logger.Warn("a box did not stop in time and is killed", "box", b.name, "after", stopTimeMax)
		if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			s.o.Logger.Error("a box cannot be killed", "box", b.name, "err", err)
		}
		<-ended
	}
}
