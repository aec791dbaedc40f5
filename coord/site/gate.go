package site

import (
	"context"
	"sync"
	"sync/atomic"
)

// gate is a number that only grows, and who waits for it.
type gate struct {
	at      atomic.Uint64
	waiting atomic.Int64
	mu      sync.Mutex
	waits   []gateWait
}

type gateWait struct {
	at   uint64
	done chan struct{}
}

// reach moves the gate. One goroutine at a time does.
func (g *gate) reach(at uint64) {
	g.at.Store(at)
	if g.waiting.Load() > 0 {
		g.open(at)
	}
}

// open lets those go who wait for no more than at.
func (g *gate) open(at uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	keep := g.waits[:0]
	for _, w := range g.waits {
		if w.at <= at {
			close(w.done)
			g.waiting.Add(-1)
		} else {
			keep = append(keep, w)
		}
	}
	clear(g.waits[len(keep):])
	g.waits = keep
}

// wait until the gate has reached at. Errors: ErrStopped, ctx's.
func (g *gate) wait(ctx context.Context, at uint64, stopped <-chan struct{}) error {
	if g.at.Load() >= at {
		return nil
	}
	w := gateWait{at, make(chan struct{})}
	g.mu.Lock()
	g.waits = append(g.waits, w)
	g.waiting.Add(1)
	g.mu.Unlock()
	if now := g.at.Load(); now >= at { // before it could be seen that somebody waits
		g.open(now)
	}
	select {
	case <-w.done:
		return nil
	case <-stopped:
		return ErrStopped
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.waits {
		if g.waits[i].done == w.done {
			g.waits[i] = g.waits[len(g.waits)-1]
			g.waits = g.waits[:len(g.waits)-1]
			g.waiting.Add(-1)
			break
		}
	}
	return ctx.Err()
}
