package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	// holdPoll is how often a held direction looks whether it flows again.
	holdPoll = 2 * time.Millisecond
	// A lost segment comes after TCP's retransmission timeout, 200 ms at least in Linux.
	retransmitMin = 200 * time.Millisecond
	chunkBytes    = 16 << 10
	// chunksQueued bounds what a slow direction holds: 1 MiB.
	chunksQueued = 64
)

// way is what happens to one direction of a wire.
type way struct {
	// hold stops the flow silently, as if packets were dropped: connections stay open and nothing arrives.
	hold bool
	// Every chunk takes jitter at random, and with probability loss a retransmission more.
	jitter time.Duration
	loss   float64
}

// wire carries the connections that one box makes to another.
type wire struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu    sync.Mutex
	ways  [2]way // forth, back
	conns map[net.Conn]bool
	// deaf connections are half open: both ends believe in them and nothing comes through for ever.
	deaf   map[net.Conn]bool
	closed bool
}

func newWire(listen, target string) (*wire, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, target: target, conns: map[net.Conn]bool{}, deaf: map[net.Conn]bool{}}
	w.running.Go(w.accept)
	return w, nil
}

func (w *wire) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		w.running.Go(func() { w.carry(c) })
	}
}

// carry joins c with the target until either ends.
func (w *wire) carry(c net.Conn) {
	if !w.keep(c) {
		return
	}
	defer w.drop(c)
	if !w.flows(0, c) || !w.flows(1, c) {
		return
	}
	to, err := net.Dial("tcp", w.target)
	if err != nil {
		return // nobody there: the dialler sees its connection close
	}
	if !w.keep(to) {
		return
	}
	defer w.drop(to)
	var both sync.WaitGroup
	both.Go(func() { w.pump(0, c, c, to) })
	both.Go(func() { w.pump(1, c, to, c) })
	both.Wait()
}

type chunk struct {
	bytes []byte
	due   time.Time
}

// pump moves bytes in one direction; a chunk never overtakes another, as in TCP.
func (w *wire) pump(dir int, id, from, to net.Conn) {
	queue := make(chan chunk, chunksQueued)
	var writing sync.WaitGroup
	writing.Go(func() {
		for c := range queue {
			time.Sleep(time.Until(c.due))
			if !w.flows(dir, id) {
				break
			}
			if _, err := to.Write(c.bytes); err != nil {
				break
			}
		}
		_, _ = from.Close(), to.Close() // both ways end together
		for range queue {               // wakes the reader
		}
	})
	due := time.Now()
	for {
		buf := make([]byte, chunkBytes)
		n, err := from.Read(buf)
		if n > 0 {
			if at := time.Now().Add(w.delay(dir)); at.After(due) {
				due = at
			}
			queue <- chunk{buf[:n], due}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				_ = to.Close() // reset: the other side hears of it as of an end
			}
			break
		}
	}
	close(queue)
	writing.Wait()
}

func (w *wire) delay(dir int) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.ways[dir]
	var d time.Duration
	if s.jitter > 0 {
		d = rand.N(s.jitter)
	}
	for range 4 { // a retransmission may be lost, too
		if rand.Float64() >= s.loss {
			break
		}
		d += retransmitMin
	}
	return d
}

// flows waits until the direction is not held; false when the wire or the connection has ended.
func (w *wire) flows(dir int, id net.Conn) bool {
	for {
		w.mu.Lock()
		held, gone := w.ways[dir].hold || w.deaf[id], w.closed || !w.conns[id]
		w.mu.Unlock()
		if gone {
			return false
		}
		if !held {
			return true
		}
		time.Sleep(holdPoll)
	}
}

func (w *wire) set(dir int, s way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ways[dir] = s
}

// deafen makes the connections of now half open; later ones work.
func (w *wire) deafen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		w.deaf[c] = true
	}
}

// cut closes all connections, as a link does whose interface goes down and comes up.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
}

func (w *wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		_ = c.Close()
		return false
	}
	w.conns[c] = true
	return true
}

func (w *wire) drop(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = c.Close()
	delete(w.conns, c)
	delete(w.deaf, c)
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.mu.Lock()
	w.closed = true
	for c := range w.conns {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.running.Wait()
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
