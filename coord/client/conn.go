package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// conn is one connection to a box. Requests are appended to out and written by one
// goroutine; another reads answers and hands each to whoever waits for its id.
type conn struct {
	nc net.Conn
	r  *wire.FrameReader
	// traces says that the box understands what trace a request is a part of.
	traces bool

	mu      sync.Mutex
	out     []byte
	nextID  uint64
	waiting map[uint64]chan coord.Reply
	// asked is when the first request was queued since anything was heard; zero if none was.
	asked time.Time
	err   error
	more  chan struct{} // has a token when out is not empty

	closed chan struct{} // closed with err set
}

var errOutFull = errors.New("client: the box does not read")

func newConn(nc net.Conn) *conn {
	return &conn{
		nc: nc, r: wire.NewFrameReader(nc),
		waiting: map[uint64]chan coord.Reply{}, more: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

// hello is the handshake; the caller closes nc to end it early.
func (n *conn) hello(name string, token []byte) (*wire.Welcome, error) {
	hello, err := wire.AppendClientFrame(nil, &wire.ClientMsg{Hello: &wire.Hello{
		MinVersion: wire.NativeVersionMin, MaxVersion: wire.NativeVersionMax, Token: token, Client: name,
	}})
	if err != nil {
		return nil, err
	}
	if _, err := n.nc.Write(hello); err != nil {
		return nil, err
	}
	m, err := n.next()
	if err != nil {
		return nil, err
	}
	w := m.Welcome
	if w == nil || w.Version < wire.NativeVersionMin || w.Version > wire.NativeVersionMax {
		return nil, fmt.Errorf("%w: no welcome in a version that is known", ErrProtocol)
	}
	n.traces = w.Version >= wire.NativeVersionTraces
	return w, nil
}

// next reads one frame. What a box says before it closes is an error.
func (n *conn) next() (*wire.ClientMsg, error) {
	b, err := n.r.Next(coord.FrameBytesMax)
	if err != nil {
		return nil, err
	}
	m, err := wire.DecodeClient(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if m.Error != nil {
		return nil, m.Error
	}
	return m, nil
}

// start runs the connection's goroutines, counted in wg, until it is closed.
func (n *conn) start(wg *sync.WaitGroup) {
	wg.Go(func() { n.close(n.readAll()) })
	wg.Go(func() { n.close(n.writeAll()) })
}

// send queues a request and gives its id and where its answer will come, at most once. A box that knows no traces is not told its trace.
func (n *conn) send(body []byte, trace *wire.TraceContext) (uint64, <-chan coord.Reply, error) {
	answer := make(chan coord.Reply, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.err != nil:
		return 0, nil, n.err
	case len(n.out) > 0 && len(n.out)+len(body) > outBytesMax:
		return 0, nil, errOutFull
	}
	submit := &wire.Submit{ID: n.nextID + 1, Body: body}
	if n.traces {
		submit.Trace = trace
	}
	out, err := wire.AppendClientFrame(n.out, &wire.ClientMsg{Submit: submit})
	if err != nil {
		return 0, nil, fmt.Errorf("client: %w: %w", ErrTooLarge, err)
	}
	n.out = out
	n.nextID++
	n.waiting[n.nextID] = answer
	if n.asked.IsZero() {
		n.asked = time.Now()
	}
	n.signal()
	return n.nextID, answer, nil
}

// signal wakes the writer. The caller holds mu.
func (n *conn) signal() {
	select {
	case n.more <- struct{}{}:
	default:
	}
}

// forget says that nobody waits for an answer any more.
func (n *conn) forget(id uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.waiting, id)
}

// checkSilence closes the connection when nothing was heard for longer than most since
// something was asked.
func (n *conn) checkSilence(most time.Duration) {
	n.mu.Lock()
	silent := !n.asked.IsZero() && time.Since(n.asked) > most
	n.mu.Unlock()
	if silent {
		n.close(fmt.Errorf("nothing heard for %s", most))
	}
}

func (n *conn) readAll() error {
	for {
		m, err := n.next()
		if err != nil {
			return err
		}
		if err := n.heard(m); err != nil {
			return err
		}
	}
}

func (n *conn) heard(m *wire.ClientMsg) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = time.Time{}
	switch {
	case m.Answer != nil:
		a := m.Answer
		answer := n.waiting[a.ID]
		if answer == nil {
			return nil // late: its try was given up
		}
		delete(n.waiting, a.ID)
		answer <- coord.Reply{Code: a.Code, Height: a.Height, RetryAfter: a.RetryAfter, Results: a.Results}
	case m.Ping != nil:
		if len(n.out) > outBytesMax { // it pings, and does not read
			return errOutFull
		}
		out, err := wire.AppendClientFrame(n.out, &wire.ClientMsg{Pong: m.Ping})
		if err != nil {
			return err
		}
		n.out = out
		n.signal()
	case m.Pong != nil:
	default:
		return fmt.Errorf("%w: a message that only a client sends", ErrProtocol)
	}
	return nil
}

func (n *conn) writeAll() error {
	var buf []byte
	for {
		select {
		case <-n.more:
		case <-n.closed:
			return n.cause()
		}
		n.mu.Lock()
		buf, n.out = n.out, buf[:0]
		n.mu.Unlock()
		if _, err := n.nc.Write(buf); err != nil {
			return err
		}
	}
}

// close ends the connection because of err; the first reason stays.
func (n *conn) close(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	n.err = fmt.Errorf("client: connection lost: %w", err)
	close(n.closed)
	raw := n.nc
	if t, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = t.NetConn() // TLS would send an alert, and might wait; every frame ends by itself
	}
	raw.Close()
}

func (n *conn) isClosed() bool {
	select {
	case <-n.closed:
		return true
	default:
		return false
	}
}

// cause is why it is closed.
func (n *conn) cause() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}
