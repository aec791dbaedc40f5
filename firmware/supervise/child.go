package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// A coordinator that ended is started again after restartMin, twice as long each time it ends again, up to restartMax; one that
	// ran for steadyAfter begins anew. After troubleAfter ends in a row the emergency console says so while it waits.
	restartMin   = time.Second
	restartMax   = time.Minute
	steadyAfter  = 2 * time.Minute
	troubleAfter = 3
	// stopMax is how long it may take to stop: it drains for timeouts.drain, which is at most 30 s.
	stopMax = 35 * time.Second
	// pipeMax is how long the output of one that has ended is waited for.
	pipeMax = 2 * time.Second
	// dumpMax is how long one that hangs may take to say where.
	dumpMax = 10 * time.Second
)

// child is a coordinator that runs.
type child struct {
	cmd   *exec.Cmd
	began time.Time
	tail  *tail
	ended chan struct{} // closed when it has

	mu   sync.Mutex
	why  string // who stopped it, if we did
	err  error  // valid when ended
	hung bool
}

// startChild starts the program with args. What it prints goes to out, and its end is kept.
func startChild(program string, args, env []string, out io.Writer) (*child, error) {
	c := &child{tail: newTail(), ended: make(chan struct{}), began: time.Now()}
	c.cmd = exec.Command(program, args...)
	c.cmd.Args[0] = "holdfast"
	c.cmd.Env = append(os.Environ(), env...)
	both := io.MultiWriter(c.tail, out)
	c.cmd.Stdout, c.cmd.Stderr = both, both
	c.cmd.WaitDelay = pipeMax // a program that it started may keep its output open for ever
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		err := c.cmd.Wait()
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		close(c.ended)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop asks it to end, waits, and then does not ask any more.
func (c *child) stop(why string, most time.Duration) {
	c.mu.Lock()
	c.why = why
	c.mu.Unlock()
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGCONT} {
		if err := c.cmd.Process.Signal(s); err != nil {
			break // it has ended
		}
	}
	select {
	case <-c.ended:
	case <-time.After(most):
		_ = c.cmd.Process.Kill() // it may have ended just now
		<-c.ended
	}
}

// dump asks one that hangs to say where, which ends it.
func (c *child) dump() {
	c.mu.Lock()
	c.hung = true
	c.mu.Unlock()
	_ = c.cmd.Process.Signal(syscall.SIGABRT) // it may have ended just now
}

// how says how it ended: "" when it was asked to.
func (c *child) how() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case c.why != "":
		return ""
	case c.hung:
		return "it did not answer and was aborted"
	case c.err == nil, errors.Is(c.err, exec.ErrWaitDelay):
		return "it ended by itself with exit status 0"
	case errors.As(c.err, &exit):
		return exit.String()
	}
	return c.err.Error()
}

// backoff is how long to wait before a start: a pure function of how the last ones went.
type backoff struct{ failures int }

// ended counts an end after a run of this length, and gives the pause.
func (b *backoff) ended(ran time.Duration) time.Duration {
	if ran >= steadyAfter {
		b.failures = 0
	}
	b.failures++
	pause := restartMin
	for range b.failures - 1 {
		if pause *= 2; pause >= restartMax {
			return restartMax
		}
	}
	return pause
}

// trouble says whether it is time to tell people.
func (b *backoff) trouble() bool { return b.failures >= troubleAfter }

// pauseOr waits, and says whether ctx or a word on wake came before.
func pauseOr(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-wake:
		return true
	case <-ctx.Done():
		return true
	}
}
