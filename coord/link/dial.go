package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// writeBytes is the most that goes into one TLS write: four records. Larger writes gain nothing
	// (measured 1.34 GB/s at 64 KiB), and a ping would wait longer behind them.
	writeBytes = 64 << 10
	// busyFactor times Dead is how long writes that progress stand in for a pong: at 10 Mbit/s that is room for two
	// of the largest frames.
	busyFactor = 4
	// stampsMax bounds the echo of a ping that we believe: older than this, the peer made it up.
	stampsMax = time.Hour
)

// outbound is the connection that we dialled: we send messages and pings on it and get pongs.
type outbound struct {
	peer  *peer
	raw   net.Conn
	tls   *tls.Conn
	in    *frameReader
	queue *queue
	// incarnation is of the process that this connection leads to, epoch where it was when we connected.
	incarnation, epoch uint64
	version            uint16
	// as is who we were then, and address where it was.
	as      coord.BoxID
	address string

	buffer []byte // what is written next
	taken  []*frame
	pong   atomic.Int64 // when the last pong came, nanoseconds since Link.start
	pushed time.Time    // when progress last moved the read deadline

	failed sync.Once
	cause  error // why the connection ended: the first error, the others follow from it
}

// fail notes why the connection ends and ends it, which wakes whoever reads or writes. From now on nothing is
// sent on it; run, or who calls, tells.
func (c *outbound) fail(err error) {
	c.failed.Do(func() { c.cause = err })
	c.peer.sending.CompareAndSwap(c, nil)
	_ = c.raw.Close() // what was to be said is said
}

func (l *Link) newBackoff() backoff {
	return backoff{min: l.cfg.BackoffMin, max: l.cfg.BackoffMax, random: rand.Int64N}
}

// dialling keeps a connection to one peer until ctx ends. A former member is only dialled when it is here.
func (l *Link) dialling(ctx context.Context, p *peer) {
	wait := l.newBackoff()
	timer := time.NewTimer(0)
	defer timer.Stop()
	if p.kind != member {
		timer.Stop()
	}
	var began time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
			// It is there; but a peer cannot make us dial without end.
			wait.reset()
			if rest := wait.min - time.Since(began); rest > 0 {
				timer.Reset(rest)
				continue
			}
		case <-timer.C:
		}
		began = time.Now()
		c, err := l.connect(ctx, p)
		for c != nil {
			if c, err = l.hold(ctx, p, c); time.Since(began) > l.cfg.BackoffMax {
				wait.reset()
			}
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrRefused) {
			wait.current = wait.max // it has said what it has to say
		}
		p.log.warn(kindOf(err), "cannot send to peer", slog.Any(keyError, err))
		if p.kind == member {
			timer.Reset(wait.next())
		}
	}
}

// kindOf groups errors for the log.
func kindOf(err error) string {
	for _, known := range []error{ErrStranger, ErrHello, ErrFrame, ErrSilent, ErrHeldOff, ErrGuest, ErrRefused, io.EOF} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "connection"
}

// connect dials, authenticates and says hello.
func (l *Link) connect(ctx context.Context, p *peer) (*outbound, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Handshake)
	defer cancel()
	ours, address := l.roster.Load(), p.member.Load().Peer
	raw, err := l.cfg.Dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("link: dial: %w", err)
	}
	tuneSocket(raw, l.cfg.Dead)
	conn := tls.Client(raw, clientTLS(&ours.Certificate, p))
	in := newFrameReader(conn, headerBytes+helloBytesMax)
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	theirs, version, err := greet(ctx, &ours.hello, p, conn, in)
	if !stop() && err == nil {
		err = ctx.Err() // raw is closed, or about to be
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("link: connect: %w", err), ignoreClosed(raw.Close()))
	}
	return &outbound{
		peer: p, raw: raw, tls: conn, in: in,
		queue: newQueue(l.cfg.QueueFrames, l.cfg.QueueBytes), incarnation: theirs.incarnation, version: version,
		epoch: theirs.epoch, as: ours.hello.box, address: address,
	}, nil
}

func greet(ctx context.Context, ours *hello, p *peer, conn *tls.Conn, in *frameReader) (theirs hello, version uint16, err error) {
	if err = conn.HandshakeContext(ctx); err != nil {
		return theirs, 0, err
	}
	if _, err = conn.Write(appendHello(nil, ours)); err != nil {
		return theirs, 0, err
	}
	if theirs, err = readHello(in); err != nil {
		return theirs, 0, err
	}
	version, err = agree(ours, &theirs, p.id)
	return theirs, version, err
}

func readHello(in *frameReader) (hello, error) {
	typ, body, err := in.next(helloBytesMax)
	if err != nil {
		return hello{}, err
	}
	if typ == frameRefusal {
		return hello{}, refusal(body)
	}
	if typ != frameHello {
		return hello{}, fmt.Errorf("%w: type %d where a hello is due", ErrFrame, typ)
	}
	return decodeHello(body)
}

// run sends until the connection fails or ctx ends, and says why it failed. On a graceful end what waits is
// written first, for at most Config.Drain.
func (c *outbound) run(ctx context.Context) error {
	c.heardPong(time.Now())
	c.peer.setSending(c)
	if l := c.peer.link; c.epoch < l.roster.Load().hello.epoch && l.cfg.OnBehind != nil {
		l.cfg.OnBehind(c.peer.id, c.epoch)
	}
	readerDone := make(chan struct{})
	go func() {
		defer close(readerDone)
		c.fail(c.readPongs())
	}()
	err := c.write(ctx, readerDone)
	c.peer.endSending(c)
	c.queue.close()
	if err == nil && ctx.Err() != nil {
		c.drain(readerDone)
	}
	c.fail(err)
	<-readerDone
	c.discard()
	return c.cause
}

// write is the writer: it sleeps until there is something to write or a ping is due.
func (c *outbound) write(ctx context.Context, readerDone <-chan struct{}) error {
	heartbeat := c.peer.link.cfg.Heartbeat
	var pinged, due time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-readerDone:
			return nil
		case <-c.queue.wake:
		case <-timer.C:
			if rest := time.Until(due); rest > 0 {
				timer.Reset(rest) // a ping rode with traffic meanwhile
				continue
			}
			pinged, due = c.ping()
			timer.Reset(time.Until(due))
		}
		for {
			c.taken = c.queue.take(c.taken[:0], writeBytes)
			if len(c.taken) > 0 && time.Since(pinged) >= heartbeat*3/4 {
				pinged, due = c.ping() // early, so that the timer finds nothing to do
			}
			busy, err := c.flush()
			if err != nil {
				return fmt.Errorf("link: write: %w", err)
			}
			if !busy || ctx.Err() != nil {
				break
			}
		}
	}
}

// ping appends a ping to what is written next, and says when the next one is due. Of two boxes the one of the higher
// name follows the other's phase.
func (c *outbound) ping() (now, due time.Time) {
	now = time.Now()
	p, l := c.peer, c.peer.link
	at, theirs := now.Sub(l.start), time.Duration(0)
	c.buffer = appendStamp(c.buffer, framePing, uint64(at))
	if bytes.Compare(p.id[:], c.as[:]) < 0 {
		theirs = time.Duration(p.counters.pinged.Load())
	}
	return now, l.start.Add(phase(at, theirs, l.cfg.Heartbeat))
}

// flush writes the buffer and the taken frames in pieces of writeBytes, and says whether there was a frame.
func (c *outbound) flush() (busy bool, err error) {
	busy = len(c.taken) > 0
	for i, f := range c.taken {
		for rest := f.bytes; err == nil && len(rest) > 0; {
			n := min(len(rest), writeBytes-len(c.buffer))
			c.buffer = append(c.buffer, rest[:n]...)
			rest = rest[n:]
			if len(c.buffer) == writeBytes {
				err = c.writeBuffer()
			}
		}
		if err == nil {
			c.peer.counters.messagesOut.Add(1)
		}
		f.release()
		c.taken[i] = nil
	}
	if err == nil && len(c.buffer) > 0 {
		err = c.writeBuffer()
	}
	return busy, err
}

func (c *outbound) writeBuffer() error {
	n, err := c.tls.Write(c.buffer)
	c.peer.counters.bytesOut.Add(uint64(n))
	full := len(c.buffer) == writeBytes
	c.buffer = c.buffer[:0]
	if full && err == nil {
		c.progress()
	}
	return err
}

// progress lets a full write count as life, while a backlog delays the pongs.
func (c *outbound) progress() {
	cfg := &c.peer.link.cfg
	now := time.Now()
	if now.Sub(c.pushed) < cfg.Dead/8 {
		return
	}
	c.pushed = now
	lastPong := c.peer.link.start.Add(time.Duration(c.pong.Load()))
	if now.Sub(lastPong) < busyFactor*cfg.Dead {
		_ = c.raw.SetReadDeadline(now.Add(cfg.Dead)) // fails only when closed
	}
}

func (c *outbound) heardPong(now time.Time) {
	c.pong.Store(int64(now.Sub(c.peer.link.start)))
	_ = c.raw.SetReadDeadline(now.Add(c.peer.link.cfg.Dead)) // fails only when closed
}

// readPongs reads what the acceptor says until it is silent for Dead or the connection ends, and says why.
func (c *outbound) readPongs() error {
	for {
		typ, body, err := c.in.next(controlBytesMax)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = ErrSilent
		}
		if err != nil {
			return fmt.Errorf("link: read: %w", err)
		}
		if typ == frameRefusal {
			return fmt.Errorf("link: read: %w", refusal(body))
		}
		now := time.Now()
		rtt, ok := c.roundTrip(typ, body, now)
		if !ok {
			c.peer.counters.bad.Add(1)
			return fmt.Errorf("link: read: %w: type %d of %d bytes where a pong is due", ErrFrame, typ, len(body))
		}
		c.heardPong(now)
		c.peer.heardNow(now)
		c.peer.measured(rtt)
		c.peer.compared(body[stampBytes:], rtt, now)
	}
}

// roundTrip is how long ago the echoed ping left; not ok when it is no echo of ours.
func (c *outbound) roundTrip(typ byte, body []byte, now time.Time) (time.Duration, bool) {
	if typ != framePong || len(body) != pongBytes(c.version) {
		return 0, false
	}
	sent := time.Duration(binary.BigEndian.Uint64(body))
	rtt := now.Sub(c.peer.link.start) - sent
	return rtt, sent >= 0 && rtt >= 0 && rtt <= stampsMax
}

// measured smooths the round trip (RFC 6298, 2.3: alpha = 1/8). One reader a peer: no lost update.
func (p *peer) measured(rtt time.Duration) {
	rtt = max(rtt, 1)
	if old := time.Duration(p.counters.rtt.Load()); old != 0 {
		rtt = old + (rtt-old)/8
	}
	p.counters.rtt.Store(int64(max(rtt, 1)))
}

// drain writes what waits, says that no more comes, and waits for the other side to have read it: closing
// before would make the kernel discard what is on the way (RFC 9293, 3.10.4; Linux answers unread input by a reset).
func (c *outbound) drain(readerDone <-chan struct{}) {
	end := time.Now().Add(c.peer.link.cfg.Drain)
	_ = c.raw.SetWriteDeadline(end) // fails only when closed, which the next write tells
	for {
		c.taken = c.queue.take(c.taken[:0], writeBytes)
		if busy, err := c.flush(); err != nil || !busy {
			break
		}
	}
	if c.tls.CloseWrite() != nil {
		return
	}
	select {
	case <-readerDone:
	case <-time.After(time.Until(end)):
	}
}

// discard gives back the frames that were not sent; they count as dropped by absence.
func (c *outbound) discard() {
	for {
		c.taken = c.queue.take(c.taken[:0], writeBytes)
		if len(c.taken) == 0 {
			return
		}
		for _, f := range c.taken {
			f.release()
		}
		c.peer.counters.away.Add(uint64(len(c.taken)))
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
