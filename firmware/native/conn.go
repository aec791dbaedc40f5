package native

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// conn is one client's connection. Its reader and its writer are a goroutine each; the
// site's goroutines append answers to out.
type conn struct {
	s    *Server
	nc   net.Conn
	in   *patient
	r    *wire.FrameReader
	name string
	// caller is who has the connection, and version what both speak, once it was greeted.
	caller  Caller
	version uint16

	mu  sync.Mutex
	out []byte
	// requests and bytes are under way: given to the site and not yet answered.
	requests, bytes int
	// finishing, when not nil, is why the writer ends the connection after what is in out.
	finishing error
	err       error

	more   chan struct{} // has a token when there may be something for the writer
	room   chan struct{} // has a token when something was answered
	closed chan struct{} // closed with err set
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, more: make(chan struct{}, 1), room: make(chan struct{}, 1), closed: make(chan struct{})}
	c.in = &patient{nc: nc, limits: &s.cfg.Limits, stopping: s.stopping, ping: c.sendPing}
	c.r = wire.NewFrameReader(c.in)
	return c
}

// serve runs the connection until it ends, and says why.
func (c *conn) serve() error {
	var both sync.WaitGroup
	both.Go(func() { c.finish(c.readAll()) })
	both.Go(func() { c.fail(c.writeAll()) })
	<-c.closed
	closeNow(c.nc)
	both.Wait()
	return c.err
}

// readAll reads until the client ends, breaks the rules, or the server stops.
func (c *conn) readAll() error {
	if err := c.greet(); err != nil {
		return err
	}
	for {
		if err := c.awaitRoom(); err != nil {
			return err
		}
		m, err := c.next(coord.FrameBytesMax)
		if err != nil {
			return err
		}
		switch {
		case m.Submit != nil:
			err = c.submit(m.Submit)
		case m.Ping != nil:
			err = c.send(&wire.ClientMsg{Pong: m.Ping})
		case m.Pong != nil:
		case m.Error != nil:
			return m.Error
		default:
			err = fmt.Errorf("%w: a message that has no place here", errProtocol)
		}
		if err != nil {
			return err
		}
	}
}

// next reads one frame.
func (c *conn) next(most int) (*wire.ClientMsg, error) {
	b, err := c.r.Next(most)
	if err != nil {
		return nil, err
	}
	c.in.between()
	m, err := wire.DecodeClient(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return m, nil
}

// greet is the handshake.
func (c *conn) greet() error {
	c.in.until = time.Now().Add(c.s.cfg.Limits.HandshakeTime)
	m, err := c.next(wire.HelloBytesMax)
	if err != nil {
		return err
	}
	h := m.Hello
	if h == nil {
		return fmt.Errorf("%w: no hello", errProtocol)
	}
	c.name = h.Client
	c.version = min(h.MaxVersion, wire.NativeVersionMax)
	if c.version < max(h.MinVersion, wire.NativeVersionMin) {
		return fmt.Errorf("%w: the client speaks versions %d to %d, we %d to %d",
			errProtocol, h.MinVersion, h.MaxVersion, wire.NativeVersionMin, wire.NativeVersionMax)
	}
	if c.caller, err = c.s.cfg.Guard.Admit(h.Token, h.Client, c.nc); err != nil {
		return fmt.Errorf("%w: %w", errToken, err)
	}
	return c.send(&wire.ClientMsg{Welcome: &wire.Welcome{
		Version: c.version, Box: c.s.cfg.Box, Site: c.s.cfg.Site, Members: c.s.cfg.Members(),
		MessagesMax: coord.BatchMessagesMax, BytesMax: coord.BatchBytesMax,
	}})
}

// awaitRoom waits until the client may have one more request under way.
func (c *conn) awaitRoom() error {
	l := &c.s.cfg.Limits
	for {
		c.mu.Lock()
		ok := c.requests < l.Requests && c.bytes < l.ConnectionBytes
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-c.room:
		case <-c.s.stopping:
			return errStopping
		case <-c.closed:
			return c.err
		}
	}
}

// submit gives a request to the site, or answers why not.
func (c *conn) submit(m *wire.Submit) error {
	var brought trace.Context
	if m.Trace != nil {
		if c.version < wire.NativeVersionTraces {
			return fmt.Errorf("%w: a trace in version %d", errProtocol, c.version)
		}
		brought = trace.ContextOf(*m.Trace)
	}
	cols := new(coord.Columns)
	d := c.s.bodies.Get().(*wire.BodyDecoder)
	err := d.DecodeBody(m.Body, cols)
	c.s.bodies.Put(d)
	if err != nil {
		c.s.stats.bad.Add(1)
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	if !allowed(cols) {
		c.s.stats.bad.Add(1)
		return c.send(&wire.ClientMsg{Answer: &wire.Answer{ID: m.ID, Code: coord.CodeBad}})
	}
	if err := c.caller.Good(); err != nil {
		return fmt.Errorf("%w: %w", errToken, err)
	}
	if !c.may(cols) {
		c.s.stats.bad.Add(1)
		return c.send(&wire.ClientMsg{Answer: &wire.Answer{ID: m.ID, Code: coord.CodeDenied}})
	}
	size := cols.Bytes() + messageBytes*cols.Len()
	if c.s.bytes.Add(int64(size)) > int64(c.s.cfg.Limits.TotalBytes) {
		c.s.bytes.Add(int64(-size))
		c.s.stats.busy.Add(1)
		return c.send(&wire.ClientMsg{Answer: &wire.Answer{ID: m.ID, Code: coord.CodeBusy, RetryAfter: busyRetryAfter}})
	}
	now := c.s.cfg.Now().UnixMilli()
	for i := range cols.Times {
		cols.Times[i] = now
	}
	c.mu.Lock()
	c.requests++
	c.bytes += size
	c.mu.Unlock()
	c.s.stats.requests.Add(1)
	id := m.ID
	c.s.cfg.Submit(&site.Request{Cols: cols, Trace: brought, Done: func(r coord.Reply) { c.answer(id, size, r) }})
	return nil
}

// allowed says whether a client may send these messages: some, and only of a client's kinds.
func allowed(cols *coord.Columns) bool {
	for _, k := range cols.Kinds {
		switch k {
		case coord.KindOpen, coord.KindPut, coord.KindDelete, coord.KindGet, coord.KindObserve:
		default:
			return false
		}
	}
	return cols.Len() > 0
}

// may says whether the client may have all of these ordered. A read of the empty key is one of nothing, by which clients use up the numbers of
// what was refused.
func (c *conn) may(cols *coord.Columns) bool {
	for i, k := range cols.Kinds {
		key := cols.Key(i)
		if k == coord.KindOpen || k == coord.KindGet && len(key) == 0 {
			continue
		}
		if !c.caller.May(k, key) {
			return false
		}
	}
	return true
}

// answer is called by the site, once for each request; it does not block.
func (c *conn) answer(id uint64, size int, r coord.Reply) {
	c.s.bytes.Add(int64(-size))
	err := c.send(&wire.ClientMsg{Answer: &wire.Answer{
		ID: id, Code: r.Code, Height: r.Height, RetryAfter: r.RetryAfter, Results: r.Results,
	}})
	if err != nil {
		c.fail(err)
	}
	c.mu.Lock()
	c.requests--
	c.bytes -= size
	c.mu.Unlock()
	wake(c.room)
}

func (c *conn) sendPing() error {
	var number uint64
	return c.send(&wire.ClientMsg{Ping: &number})
}

// send queues a message. An answer that is too long for a frame becomes CodeTooLarge.
// After the connection has ended it does nothing.
func (c *conn) send(m *wire.ClientMsg) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil
	}
	out, err := wire.AppendClientFrame(c.out, m)
	if err != nil && m.Answer != nil {
		out, err = wire.AppendClientFrame(out, &wire.ClientMsg{Answer: &wire.Answer{
			ID: m.Answer.ID, Code: coord.CodeTooLarge, Height: m.Answer.Height,
		}})
	}
	c.out = out
	if err != nil {
		return err
	}
	if len(c.out) > c.s.cfg.Limits.AnswerBytes {
		return errSlow
	}
	wake(c.more)
	return nil
}

// wake leaves a token in ch unless there is one.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
