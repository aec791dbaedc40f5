package link_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
)

// The tests in this file run in virtual time over net.Pipe: what they say about time is exact, and synctest
// fails them when a goroutine outlives Run.

// cable is a network of pipes that can be cut: then what is written vanishes and nobody is told, as with a
// pulled plug.
type cable struct {
	cut       atomic.Bool
	rate      atomic.Int64 // bytes a second; 0: without end
	writes    atomic.Int64
	listeners []*pipeListener
}

func newCable(n int) *cable {
	c := new(cable)
	for range n {
		c.listeners = append(c.listeners, &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})})
	}
	return c
}

func (c *cable) dial(ctx context.Context, address string) (net.Conn, error) {
	i, err := strconv.Atoi(address)
	if err != nil {
		return nil, err
	}
	if c.cut.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	select {
	case c.listeners[i].conns <- &cableEnd{far, c}:
		return &cableEnd{near, c}, nil
	case <-c.listeners[i].closed:
	case <-ctx.Done():
	}
	return nil, errors.Join(errors.New("refused"), near.Close(), far.Close())
}

type cableEnd struct {
	net.Conn
	cable *cable
}

func (e *cableEnd) Write(b []byte) (int, error) {
	if e.cable.cut.Load() {
		return len(b), nil
	}
	e.cable.writes.Add(1)
	if rate := e.cable.rate.Load(); rate > 0 {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(rate))
	}
	return e.Conn.Write(b)
}

func (e *cableEnd) Close() error {
	if e.cable.cut.Load() {
		return e.SetDeadline(time.Unix(1, 0)) // ours ends; the other side hears nothing of it
	}
	return e.Conn.Close()
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// virtualPair runs two boxes on a cable with the default times, and f; then it stops them.
func virtualPair(t *testing.T, f func(c *cable, a, b *box)) {
	s := newSiteWithout(t, 2) // keys are made outside: their making is not about time
	virtualSite(t, s, func(c *cable, on func(int, ...func(*link.Config)) *box) {
		a, b := on(0), on(1)
		a.waitChange(1, true)
		b.waitChange(0, true)
		f(c, a, b)
	})
}

// virtualSite gives f what starts a box of s on a cable, and stops those that were started.
func virtualSite(t *testing.T, s *site, f func(c *cable, on func(i int, options ...func(*link.Config)) *box)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(len(s.certs))
		var started []*box
		defer func() { // also when f gives up, else synctest hides why
			for _, b := range started {
				b.stop()
			}
		}()
		f(c, func(i int, options ...func(*link.Config)) *box {
			b := &box{
				t: t, site: s, done: make(chan error, 1),
				messages: make(chan message, 1024), changes: make(chan change, 1024), twins: make(chan int, 1024),
			}
			var err error
			cfg := link.Config{
				Members: s.members, Self: i, Certificate: s.certs[i], Listener: c.listeners[i], Dial: c.dial,
				OnMessage: func(from coord.BoxID, m *coord.PeerMsg, _ int) { b.messages <- message{s.index(from), m} },
				OnState:   func(peer coord.BoxID, up bool) { b.changes <- change{s.index(peer), up} },
			}
			for _, o := range options {
				o(&cfg)
			}
			b.link, err = link.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			b.cancel = cancel
			go func() { b.done <- b.link.Run(ctx) }()
			started = append(started, b)
			return b
		})
	})
}

func TestACutCableIsNoticedWithinASecond(t *testing.T) {
	virtualPair(t, func(c *cable, a, b *box) {
		time.Sleep(time.Minute) // virtual
		cut := time.Now()
		c.cut.Store(true)
		a.waitChange(1, false)
		b.waitChange(0, false)
		if d := time.Since(cut); d < link.StallDefault || d > time.Second {
			t.Errorf("noticed after %v, want %v to 1s", d, link.StallDefault)
		}
		c.cut.Store(false)
		mended := time.Now()
		a.waitChange(1, true)
		b.waitChange(0, true)
		if d := time.Since(mended); d > link.HandshakeDefault+link.BackoffMaxDefault {
			t.Errorf("up again after %v", d)
		}
		time.Sleep(link.HandshakeDefault) // connections of before the cut end one by one
		a.send(1, vote(1))
		b.next()
	})
}

func TestNothingIsReportedWhileNothingHappens(t *testing.T) {
	virtualPair(t, func(c *cable, a, b *box) {
		time.Sleep(time.Hour)
		select {
		case s := <-a.changes:
			t.Errorf("told %+v", s)
		case s := <-b.changes:
			t.Errorf("told %+v", s)
		default:
		}
	})
}

func TestAnIdlePairSaysOnePingAndOnePongAHeartbeatAndDirection(t *testing.T) {
	virtualPair(t, func(c *cable, a, b *box) {
		time.Sleep(time.Second + 10*time.Millisecond) // until each has its phase
		before := c.writes.Load()
		time.Sleep(time.Minute)
		beats := int64(time.Minute / link.HeartbeatDefault)
		if n := c.writes.Load() - before; n > 4*beats || n < 4*beats-4 {
			t.Errorf("%d writes in a minute at idle, want %d", n, 4*beats)
		}
	})
}

func TestHeartbeatsRideWithTraffic(t *testing.T) {
	virtualPair(t, func(c *cable, a, b *box) {
		time.Sleep(10 * time.Millisecond)
		before := c.writes.Load()
		const sends = 1200
		for range sends { // a message each 50 ms for a minute
			a.send(1, vote(1))
			b.next()
			time.Sleep(50 * time.Millisecond)
		}
		// a's messages with its pings in them, b's pongs to those (one each 150 ms), b's pings, which follow
		// a's phase, and their pongs.
		const want = sends + 3*int64(time.Minute/(150*time.Millisecond))
		if n := c.writes.Load() - before; n > want+8 {
			t.Errorf("%d writes, want %d: pings travel alone", n, want)
		}
	})
}

func TestALargeMessageOverASlowCableIsNotAFailure(t *testing.T) {
	virtualPair(t, func(c *cable, a, b *box) {
		time.Sleep(time.Minute)
		c.rate.Store(300 << 10) // 1 MiB takes 3.4 s: longer than Dead, and no ping can pass it
		began := time.Now()
		for n := range uint64(5) {
			a.send(1, batch(n, 1<<20))
		}
		for n := range uint64(5) {
			if m := b.next(); m.msg.Batch.Seq != n {
				t.Fatalf("got %d where %d is due", m.msg.Batch.Seq, n)
			}
		}
		if time.Since(began) < 5*link.DeadDefault {
			t.Error("the cable is not slow: the test shows nothing")
		}
		if len(a.changes)+len(b.changes) > 0 {
			t.Errorf("told of %d and %d changes", len(a.changes), len(b.changes))
		}
	})
}

func TestASilentStrangerIsCutOffAtTheHandshakeDeadline(t *testing.T) {
	virtualPair(t, func(c *cable, a, b *box) {
		stranger, err := c.dial(context.Background(), "0")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := stranger.Read(make([]byte, 1)); err == nil {
			t.Error("it was answered")
		}
		if d := time.Since(began); d != link.HandshakeDefault {
			t.Errorf("cut off after %v, want %v", d, link.HandshakeDefault)
		}
		_ = stranger.Close()
	})
}
