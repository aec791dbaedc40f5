package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// endpoint is one box as the client sees it: its connection, and whether it failed lately.
type endpoint struct {
	Endpoint
	c     *Client
	index int
	name  string

	// dialing holds one token: who has it may make a connection.
	dialing chan struct{}

	mu       sync.Mutex
	conn     *conn
	failures int // in a row
	coolEnd  time.Time
	shut     bool
}

func newEndpoint(c *Client, index int, e Endpoint) *endpoint {
	name := e.Address
	if e.Box != (coord.BoxID{}) {
		name = e.Box.String()
	}
	return &endpoint{Endpoint: e, c: c, index: index, name: name, dialing: make(chan struct{}, 1)}
}

// pick gives the first box from index on that did not fail lately, or that at index when all did.
func (c *Client) pick(index int) *endpoint {
	now := time.Now()
	for i := range c.boxes {
		if b := c.boxes[(index+i)%len(c.boxes)]; b.cool(now) {
			return b
		}
	}
	return c.boxes[index]
}

func (b *endpoint) cool(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures == 0 || now.After(b.coolEnd)
}

// failed notes that a try failed.
func (b *endpoint) failed(err error) {
	if errors.Is(err, context.Canceled) {
		return // it was the caller who gave up
	}
	b.mu.Lock()
	now := time.Now()
	first := b.failures == 0
	if first || now.After(b.coolEnd) { // tries in flight together count once
		b.coolEnd = now.Add(min(coolMin<<min(b.failures, 10), coolMax))
		b.failures++
	}
	b.mu.Unlock()
	if first {
		b.c.cfg.Logger.Warn("box failed", "box", b.name, "err", err)
	}
}

// good notes that it answered.
func (b *endpoint) good() {
	b.mu.Lock()
	was := b.failures
	b.failures = 0
	b.mu.Unlock()
	if was > 0 {
		b.c.cfg.Logger.Info("box answers again", "box", b.name)
	}
}

// connect gives the connection to the box, making one within limit if there is none.
func (b *endpoint) connect(ctx context.Context, limit time.Duration) (*conn, error) {
	if n := b.live(); n != nil {
		return n, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(b.c.life, cancel)()
	select {
	case b.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("client: box %s: dial: %w", b.name, ctx.Err())
	}
	defer func() { <-b.dialing }()
	if n := b.live(); n != nil {
		return n, nil
	}
	n, err := b.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: box %s: dial: %w", b.name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		n.nc.Close()
		return nil, ErrClosed
	}
	b.c.stats.dials.Add(1)
	n.start(&b.c.work)
	b.conn = n
	return n, nil
}

func (b *endpoint) live() *conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil && b.conn.isClosed() {
		b.conn = nil
	}
	return b.conn
}

// dial connects, checks who is there and says hello.
func (b *endpoint) dial(ctx context.Context) (*conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, b.Network, b.Address)
	if err != nil {
		return nil, err
	}
	unhook := context.AfterFunc(ctx, func() { nc.Close() })
	n, err := b.greet(ctx, nc)
	if !unhook() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return n, nil
}

func (b *endpoint) greet(ctx context.Context, nc net.Conn) (*conn, error) {
	if b.Network == "tcp" {
		secure := tls.Client(nc, b.tlsConfig())
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		nc = secure
	}
	n := newConn(nc)
	token, err := b.c.cfg.TokenFor(b.Box)
	if err != nil {
		return nil, err
	}
	w, err := n.hello(b.c.cfg.Name, token)
	var said *wire.Error
	if errors.As(err, &said) && said.Code == coord.CodeDenied {
		return nil, fmt.Errorf("%w: %w", errDoor, err)
	}
	if err != nil {
		return nil, err
	}
	if b.Box != (coord.BoxID{}) && w.Box != b.Box {
		return nil, fmt.Errorf("%w: it says it is %s", ErrIdentity, w.Box)
	}
	return n, nil
}

// tlsConfig accepts the certificate whose key names the box, and no other: a box signs
// its own certificate, so there is no chain, name or time to check.
func (b *endpoint) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return fmt.Errorf("%w: no certificate", ErrIdentity)
			}
			return checkKey(s.PeerCertificates[0], b.Box)
		},
	}
}

func checkKey(cert *x509.Certificate, want coord.BoxID) error {
	if got := coord.BoxIDOf(cert.RawSubjectPublicKeyInfo); got != want {
		return fmt.Errorf("%w: its key is that of %s", ErrIdentity, got)
	}
	return nil
}

// close ends the connection and makes no more.
func (b *endpoint) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
	if b.conn != nil {
		b.conn.close(ErrClosed)
	}
}
