package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
)

// The box's own settings: what becomes of them on this kernel.

// receivers has connections come in on each CPU in turn, and wants each at the socket of that CPU.
func (s *suite) receivers(ctx context.Context) (string, error) {
	cpus := s.root.Probe().Topology.Value.Online()
	l, err := (&linux.Sockets{CPUs: cpus}).Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	const each = 5
	for _, cpu := range cpus {
		var dialErr error
		err := linux.Pinned(hal.NewCPUs(cpu), func() {
			for range each {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					dialErr = err
					return
				}
				c.Close()
			}
		})
		if err := errors.Join(err, dialErr); err != nil {
			return "", err
		}
		for range each {
			c, err := l.Accept()
			if err != nil {
				return "", err
			}
			c.Close()
		}
	}
	r, ok := l.(*linux.Receivers)
	if !ok {
		return "", fmt.Errorf("%T", l)
	}
	var all error
	for _, t := range r.Taken() {
		all = errors.Join(all, want(t.Connections == each && t.Home == each, "%+v, want %d", t, each))
	}
	return fmt.Sprintf("%d connections on each of CPU %s, all at their sockets", each, cpus), all
}

// busyPoll wants a connection over the card to have a queue that can be polled, and one over loopback to have none.
func (s *suite) busyPoll(ctx context.Context) (string, error) {
	sockets := linux.Sockets{BusyPoll: 50 * time.Microsecond}
	if err := sockets.Try(); err != nil {
		return "", err
	}
	d := net.Dialer{Control: sockets.Control, Timeout: settle}
	polled := false
	err := s.traffic(func() error { // the other end takes connections meanwhile
		c, err := d.DialContext(ctx, "tcp", echoAddr)
		if err != nil {
			return err
		}
		defer c.Close()
		polled = linux.Polled(c) // from the answer to its SYN on
		text, err := io.ReadAll(c)
		return errors.Join(err, want(string(text) == "hello", "%q came", text))
	})
	if err != nil {
		return "", err
	}
	l, err := sockets.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	lo, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer lo.Close()
	return "the card's queue is polled, loopback has none", errors.Join(
		want(polled, "no queue behind the card"), want(!linux.Polled(lo), "a queue behind loopback"))
}

// arena wants memory on huge pages when it says so.
func (s *suite) arena(context.Context) (string, error) {
	f := s.root.Probe()
	if f.Memory.State != hal.Loaded {
		return "", errors.New(f.Memory.Why)
	}
	_, outcomes, err := linux.Arena(4<<20, hal.Sequential, &f.Memory.Value, &f.Topology.Value.CPUs[0])
	if err != nil {
		return "", err
	}
	for _, o := range outcomes {
		if o.Advice.Value == "hugepage" {
			return string(o.Result) + ": " + o.Why, want(o.Result == hal.Applied, "%s: %s", o.Result, o.Why)
		}
	}
	return "", fmt.Errorf("no huge pages: THP is %q", f.Memory.Value.THP)
}

// locked locks this init's memory, as it is touched, and unlocks it.
func (s *suite) locked(context.Context) (string, error) {
	if err := linux.LockMemory(); err != nil {
		return "", err
	}
	return "", unix.Munlockall()
}
