package native

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// lingerTime is how long a client may take to close after it was told that the
// connection ends. Closing at once could destroy answers that are on their way.
const lingerTime = time.Second

// finish is called when reading has ended because of reason. A server that stops first
// answers what is under way; whoever broke a rule is told which; a client that is gone,
// or silent, is forgotten.
func (c *conn) finish(reason error) {
	last := &wire.Error{Code: coord.CodeBad}
	switch {
	case errors.Is(reason, errStopping):
		last.Code = coord.CodeStopping
		if !c.awaitAnswers() {
			return
		}
	case errors.Is(reason, errToken):
		last.Code = coord.CodeDenied
	case errors.Is(reason, errProtocol), errors.Is(reason, wire.ErrFrame):
	default:
		c.fail(reason)
		return
	}
	last.Text = reason.Error()
	last.Text = last.Text[:min(len(last.Text), wire.ErrorTextBytesMax)]
	if err := c.send(&wire.ClientMsg{Error: last}); err != nil {
		c.fail(err)
		return
	}
	c.mu.Lock()
	c.finishing = reason
	c.mu.Unlock()
	wake(c.more)
}

// awaitAnswers waits until nothing is under way, and says whether the connection still is.
func (c *conn) awaitAnswers() bool {
	for {
		c.mu.Lock()
		idle := c.requests == 0
		c.mu.Unlock()
		if idle {
			return true
		}
		select {
		case <-c.room:
		case <-c.closed:
			return false
		}
	}
}

// writeAll sends what is queued, until the connection ends, or finish has queued the last.
func (c *conn) writeAll() error {
	var buf []byte
	for {
		select {
		case <-c.more:
		case <-c.closed:
			return c.err
		}
		c.mu.Lock()
		buf, c.out = c.out, buf[:0]
		finishing := c.finishing
		c.mu.Unlock()
		if err := c.write(buf); err != nil {
			return err
		}
		if finishing != nil {
			c.linger()
			return finishing
		}
		if cap(buf) > writeChunkBytes {
			buf = nil // a rare large answer does not stay
		}
	}
}

// write sends b under a deadline for each part of it.
func (c *conn) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeChunkBytes)
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.s.cfg.Limits.WriteTime))
		if _, err := c.nc.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// linger ends our side and waits for the client to end its own.
func (c *conn) linger() {
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, c.nc)
	}
}

// fail ends the connection because of err; the first reason stays. It does not block.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.closed)
	}
}

// stopReading makes the reader notice that the server stops. Once it has, it sets no more deadlines.
func (c *conn) stopReading() { _ = c.nc.SetReadDeadline(time.Now()) }

// closeNow closes a connection without a word, which cannot block.
func closeNow(nc net.Conn) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS would send an alert
		nc = t.NetConn()
	}
	nc.Close()
}
