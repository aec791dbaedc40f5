package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	// portsPatience is how long boxes of a site whose `dev` was killed may hold their ports:
	// their drain of 2.5 s and a margin.
	portsPatience = 4 * time.Second
	portsPoll     = 100 * time.Millisecond
)

// awaitPorts says whether every port is free, and which is not. With patience, ports may become
// free meanwhile.
func awaitPorts(ctx context.Context, boxes []*Box, patience bool) error {
	deadline := time.Now().Add(portsPatience)
	for {
		err := checkPorts(ctx, boxes)
		if err == nil || !patience || !errors.Is(err, ErrPorts) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(portsPoll):
		}
	}
}

func checkPorts(ctx context.Context, boxes []*Box) error {
	var lc net.ListenConfig
	for _, b := range boxes {
		for _, p := range []struct{ flag, address string }{
			{"--console-port", b.listen.console},
			{"--client-port", b.listen.client},
			{"--client-port", b.listen.native},
			{"--peer-port", b.listen.peer},
		} {
			l, err := lc.Listen(ctx, "tcp", p.address)
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("dev: %w: %s, which %s needs; stop what uses it, or choose other ports with %s", ErrPorts, p.address, b.name, p.flag)
			}
			if err != nil {
				return fmt.Errorf("dev: listen on %s for %s: %w; choose other ports with %s", p.address, b.name, err, p.flag)
			}
			if err := l.Close(); err != nil {
				return fmt.Errorf("dev: %w", err)
			}
		}
	}
	return nil
}
