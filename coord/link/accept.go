package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// acceptWaitMin and acceptWaitMax bound the pause after accept(2) failed, mostly for want of file descriptors.
	acceptWaitMin = 5 * time.Millisecond
	acceptWaitMax = time.Second
)

// inbound is a connection that a peer dialled: it sends messages and pings on it and gets pongs.
type inbound struct {
	link    *Link
	peer    *peer
	raw     net.Conn
	tls     *tls.Conn
	in      *frameReader
	hello   hello
	version uint16

	// ended is closed when nothing more of this connection reaches OnMessage.
	ended    chan struct{}
	replaced chan struct{}
	once     sync.Once

	greeted                   bool      // its hello was read
	serving                   bool      // the hellos are over
	until                     time.Time // a guest's time; zero: a member's has no end
	guestBytes, guestMessages int
	deadlineSet               time.Time
	pong                      [headerBytes + stampBytes + wallBytes]byte
}

// accepting takes connections until ctx ends; it returns when all of them have ended.
func (l *Link) accepting(ctx context.Context) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	config := l.serverTLS()
	pause := backoff{min: acceptWaitMin, max: acceptWaitMax, random: func(n int64) int64 { return n - 1 }}
	for {
		raw, err := l.cfg.Listener.Accept()
		switch {
		case err == nil:
			pause.reset()
			if v := l.gate.enter(raw, time.Now()); v != nil {
				serving.Go(func() { l.serve(ctx, v, config) })
			} else {
				_ = raw.Close() // nothing was said on it
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("link: accept: %w: %w", ErrListener, err)
		default:
			l.log.warn("accept", "cannot accept connections", slog.Any(keyError, err))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause.next()):
			}
		}
	}
}

// serve authenticates one connection and receives on it until it ends.
func (l *Link) serve(ctx context.Context, v *visitor, config *tls.Config) {
	stop := context.AfterFunc(ctx, func() { _ = v.conn.Close() })
	defer stop()
	defer func() { _ = v.conn.Close() }() // nothing is written that matters after an error
	c, err := l.identify(ctx, v, config)
	l.gate.leave(v)
	if err == nil && c.peer.kind == newcomer {
		seat := l.newcomers.enter(v.conn, time.Now())
		if seat == nil {
			err = fmt.Errorf("%w: too many that are not known", ErrStranger)
		} else {
			defer l.newcomers.leave(seat)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			l.refused.Add(1)
			l.log.warn(kindOf(err), "refused a connection",
				slog.String(keyFrom, v.conn.RemoteAddr().String()), slog.Any(keyError, err))
		}
		return
	}
	p := c.peer
	defer p.inbounds.Add(-1)
	if err = c.admit(); err == nil {
		err = c.receive()
		if errors.Is(err, ErrSilent) {
			p.silent()
		}
		p.endReceiving(c)
	}
	close(c.ended)
	if ctx.Err() != nil {
		return
	}
	attrs := []any{slog.Any(keyError, err)}
	if errors.Is(err, ErrFrame) {
		attrs = append(attrs, slog.Duration("held_off", p.misbehaved()))
	}
	p.log.warn("receive: "+kindOf(err), "connection of peer ended", attrs...)
}

// identify finds out whose connection it is.
func (l *Link) identify(ctx context.Context, v *visitor, config *tls.Config) (*inbound, error) {
	tuneSocket(v.conn, l.cfg.Dead)
	// One deadline for all that comes before the connection serves: a byte now and then gains no time.
	if err := v.conn.SetDeadline(time.Now().Add(l.cfg.Handshake)); err != nil {
		return nil, err
	}
	conn := tls.Server(v.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	s := conn.ConnectionState()
	key, err := publicKey(&s)
	if err != nil {
		return nil, err
	}
	c := &inbound{
		link: l, peer: l.roster.Load().find(key), raw: v.conn, tls: conn,
		ended: make(chan struct{}), replaced: make(chan struct{}),
	}
	if c.peer == nil {
		c.in = newFrameReader(readerFunc(c.read), newcomerReadBytes)
		if err := l.greetNewcomer(c, coord.BoxIDOf(key)); err != nil {
			return nil, err
		}
	} else {
		c.in = newFrameReader(readerFunc(c.read), readBytes)
	}
	p := c.peer
	if p.inbounds.Add(1) > inboundMax {
		p.inbounds.Add(-1)
		return nil, fmt.Errorf("%w: %d connections of box %s already", ErrHeldOff, inboundMax, p.id)
	}
	return c, nil
}

// admit exchanges hellos and makes c the connection that serves.
func (c *inbound) admit() (err error) {
	p, ours := c.peer, c.link.roster.Load().hello
	if !c.greeted {
		if c.hello, err = readHello(c.in); err != nil {
			return fmt.Errorf("link: hello: %w", err)
		}
	}
	version, disagreed := agree(&ours, &c.hello, p.id)
	c.version = version
	var previous *inbound
	if disagreed == nil {
		// Before our hello: when that arrives, the peer knows that it is heard.
		if previous, err = p.takeOver(c); err != nil {
			if errors.Is(err, ErrGuest) {
				c.dismiss(err.Error())
			}
			return fmt.Errorf("link: hello: %w", err)
		}
	}
	// Also when we disagree, so that the other side can tell its operator why.
	if _, err := c.tls.Write(appendHello(nil, &ours)); err != nil && disagreed == nil {
		p.endReceiving(c)
		return fmt.Errorf("link: hello: %w", err)
	}
	if disagreed != nil {
		return fmt.Errorf("link: hello: %w", disagreed)
	}
	if previous != nil {
		select {
		case <-previous.ended: // one at a time in OnMessage
		case <-c.replaced:
			p.endReceiving(c)
			return ErrReplaced
		}
	}
	if out := p.sending.Load(); out == nil || c.link.outdated(p, out) {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
	return nil
}

// replace ends c in favour of a newer connection.
func (c *inbound) replace() {
	c.once.Do(func() { close(c.replaced) })
	_ = c.raw.Close()
}

// receive hands messages to OnMessage until the connection ends, and says why it did.
func (c *inbound) receive() error {
	p, cfg := c.peer, &c.link.cfg
	limit := coord.FrameBytesMax
	if p.kind != member {
		c.until = time.Now().Add(guestTime)
	}
	if p.kind == newcomer {
		limit = newcomerFrameBytesMax
	}
	c.serving = true
	for {
		typ, body, err := c.in.next(limit)
		if err != nil {
			return fmt.Errorf("link: receive: %w", c.because(err))
		}
		size := headerBytes + len(body)
		p.counters.bytesIn.Add(uint64(size))
		if p.kind != member && typ == frameMessage {
			look, err := c.guestMessage(size)
			if err != nil {
				c.dismiss(err.Error())
				return fmt.Errorf("link: receive: %w", err)
			}
			if !look {
				continue
			}
		}
		switch {
		case typ == frameMessage:
			m, err := decodeMessage(body)
			if err != nil {
				return fmt.Errorf("link: receive: %w: %w", ErrFrame, err)
			}
			if !p.maySay(m) {
				continue
			}
			p.counters.messagesIn.Add(1)
			p.counters.load(m, size)
			p.handling.Store(true)
			cfg.OnMessage(p.id, m, size)
			p.handling.Store(false)
		case typ == framePing && len(body) == stampBytes:
			p.counters.pinged.Store(p.counters.heard.Load())
			if err := c.answer(body); err != nil {
				return fmt.Errorf("link: pong: %w", c.because(err))
			}
		default:
			return fmt.Errorf("link: receive: %w: type %d of %d bytes", ErrFrame, typ, len(body))
		}
	}
}

// answer echoes a ping. A peer that does not read its pongs stalls its own reader only, and for Dead at most.
func (c *inbound) answer(stamp []byte) error {
	pong := append(appendHeader(c.pong[:0], framePong, pongBytes(c.version)), stamp...)
	if c.version >= versionWall {
		pong = c.link.appendWall(pong)
	}
	if err := c.raw.SetWriteDeadline(time.Now().Add(c.link.cfg.Dead)); err != nil {
		return err
	}
	_, err := c.tls.Write(pong)
	return err
}

// read reads from the connection. When c serves, it moves the deadline first: whatever arrives is life, also in the
// middle of a large frame, and the time in OnMessage does not count. Moving it on each read would cost
// as much as the read, so a peer is dead after 7/8 Dead at the earliest.
func (c *inbound) read(b []byte) (int, error) {
	if !c.serving {
		return c.tls.Read(b)
	}
	dead := c.link.cfg.Dead
	if now := time.Now(); now.Sub(c.deadlineSet) > dead/8 {
		c.deadlineSet = now
		end := now.Add(dead)
		if !c.until.IsZero() && end.After(c.until) {
			end = c.until
		}
		if err := c.raw.SetReadDeadline(end); err != nil {
			return 0, err
		}
	}
	n, err := c.tls.Read(b)
	if n > 0 {
		c.peer.heardNow(time.Now())
	}
	return n, err
}

// because gives the reason that a peer's operator understands.
func (c *inbound) because(err error) error {
	select {
	case <-c.replaced:
		return ErrReplaced
	default:
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if !c.until.IsZero() && !time.Now().Before(c.until) {
			err = fmt.Errorf("%w: box %s, and it has been told", ErrGuest, c.peer.id)
			c.dismiss(err.Error())
			return err
		}
		return ErrSilent
	}
	return err
}

// readerFunc makes a function an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
