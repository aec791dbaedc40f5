package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	commandTimeMax = 30 * time.Second
	stopTimeMax    = 10 * time.Second
	linesMax       = 4096 // of a background process, not read yet; more than any row lets pile up
)

// output runs a program to its end.
func output(ctx context.Context, stdin string, argv ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeMax)
	defer cancel()
	return outputFor(ctx, stdin, argv...)
}

// outputFor is output as long as the context allows.
func outputFor(ctx context.Context, stdin string, argv ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &o, &e
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = stopTimeMax
	if err = cmd.Run(); ctx.Err() != nil {
		err = fmt.Errorf("%w after %w", err, ctx.Err())
	}
	return o.String(), e.String(), err
}

// proc is a program in the background, whose lines are read one after the other.
type proc struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string // of standard output; closed at its end
	done   chan struct{}
	err    error // valid once done is closed
	mu     sync.Mutex
	stderr bytes.Buffer
}

// Write is the standard error of the program.
func (p *proc) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *proc) errors() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// start runs a program until stop. It is a process group of its own, so that what it starts ends with it.
func start(argv ...string) (*proc, error) {
	p := &proc{cmd: exec.Command(argv[0], argv[1:]...), lines: make(chan string, linesMax), done: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stderr, p.cmd.WaitDelay = p, stopTimeMax
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout = w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer r.Close()
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	go func() {
		p.err = p.cmd.Wait()
		select {
		case <-read:
		case <-time.After(stopTimeMax):
			r.Close()
		}
		close(p.done)
	}()
	return p, nil
}

// line gives the next line.
func (p *proc) line(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeMax)
	defer cancel()
	select {
	case l, ok := <-p.lines:
		if !ok {
			return "", fmt.Errorf("%s ended: %s", p.cmd.Args, strings.TrimSpace(p.errors()))
		}
		return l, nil
	case <-ctx.Done():
		return "", fmt.Errorf("%s: no line: %w %s", p.cmd.Args, ctx.Err(), strings.TrimSpace(p.errors()))
	}
}

// expect reads as many lines as are given and compares them.
func (p *proc) expect(ctx context.Context, want ...string) error {
	for i, w := range want {
		if got, err := p.line(ctx); err != nil {
			return fmt.Errorf("line %d, want %q: %w", i, w, err)
		} else if got != w {
			return fmt.Errorf("%s: line %d is %q, want %q", p.cmd.Args, i, got, w)
		}
	}
	return nil
}

// wait waits until the program ends by itself.
func (p *proc) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeMax)
	defer cancel()
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%w: %s", p.err, strings.TrimSpace(p.errors()))
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// interrupt asks the program to end, as Ctrl-C does.
func (p *proc) interrupt() error { return p.cmd.Process.Signal(os.Interrupt) }

// kill ends the program and what it started.
func (p *proc) kill() {
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		fmt.Fprintln(os.Stderr, "etcdclients: kill:", err)
	}
	<-p.done
}
