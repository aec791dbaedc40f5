package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// Client is a session with a site. It is safe for concurrent use; concurrent calls are
// pipelined and may take effect in any order.
type Client struct {
	cfg   Config
	boxes []*endpoint
	// prefer is the index of the box that calls start with; turn counts calls when they are spread.
	prefer atomic.Int64
	turn   atomic.Uint64
	stats  stats
	bodies sync.Pool // of *wire.BodyEncoder
	timers sync.Pool // of *time.Timer, stopped

	// life ends when the client is closed for good.
	life context.Context
	end  context.CancelFunc

	mu      sync.Mutex
	closing bool
	current *session
	// opening is closed when a session that is being opened is, or cannot be.
	opening chan struct{}
	// calls are calls and what they left to be done, work the connections' goroutines.
	calls sync.WaitGroup
	work  sync.WaitGroup
}

// Stats counts what a client did.
type Stats struct {
	// Sent is messages numbered and sent, Acknowledged those that were answered.
	Sent, Acknowledged uint64
	// Retried is messages sent again, each time counted.
	Retried uint64
	// Dials is connections made, Sessions sessions opened.
	Dials, Sessions uint64
}

type stats struct{ sent, acknowledged, retried, dials, sessions atomic.Uint64 }

// Dial opens a session with the site. It tries the boxes again and again until one of
// them answers or ctx ends; ctx matters during the call only. Close the client when done.
// Errors: ErrConfig, ErrIdentity, ErrDenied (no box takes the token) and what a context ends with.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg}
	c.bodies.New = func() any { return wire.NewBodyEncoder() }
	c.life, c.end = context.WithCancel(context.Background())
	for i, e := range cfg.Endpoints {
		c.boxes = append(c.boxes, newEndpoint(c, i, e))
	}
	if _, err := c.session(ctx); err != nil {
		c.shut()
		return nil, fmt.Errorf("client: open a session: %w", err)
	}
	return c, nil
}

// Close waits until the calls under way have ended, or ctx has; then it ends them
// (ErrUnknown) and closes the connections. Later calls give ErrClosed.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		c.calls.Wait()
		close(idle)
	}()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = fmt.Errorf("client: close: %w", ctx.Err())
	}
	c.end()
	<-idle
	c.shut()
	return err
}

// shut ends the connections.
func (c *Client) shut() {
	c.end()
	for _, b := range c.boxes {
		b.close()
	}
	c.work.Wait()
}

// Stats gives the counters as of now.
func (c *Client) Stats() Stats {
	s := &c.stats
	return Stats{
		Sent: s.sent.Load(), Acknowledged: s.acknowledged.Load(), Retried: s.retried.Load(),
		Dials: s.dials.Load(), Sessions: s.sessions.Load(),
	}
}

// Put sets key to value and gives the revision of that; 0 when an early try took effect
// and a late answer no longer knows it. Errors: as Submit, and ErrMalformed.
func (c *Client) Put(ctx context.Context, key, value []byte) (revision uint64, err error) {
	r, err := c.single(ctx, func(m *Messages) { m.Put(key, value) })
	return r.Revision, err
}

// Get reads key at a place in the site's order after all that was acknowledged before the call.
func (c *Client) Get(ctx context.Context, key []byte) (value []byte, found bool, err error) {
	r, err := c.single(ctx, func(m *Messages) { m.Get(key) })
	return r.Value, r.Found, err
}

// Delete removes key and says whether it existed.
func (c *Client) Delete(ctx context.Context, key []byte) (found bool, err error) {
	r, err := c.single(ctx, func(m *Messages) { m.Delete(key) })
	return r.Found, err
}

// Observe adds count, at least 1, to the counter of object.
func (c *Client) Observe(ctx context.Context, object, count uint64) error {
	_, err := c.single(ctx, func(m *Messages) { m.Observe(object, count) })
	return err
}

func (c *Client) single(ctx context.Context, add func(*Messages)) (coord.Result, error) {
	var m Messages
	add(&m)
	reply, err := c.Submit(ctx, &m)
	if err != nil {
		return coord.Result{}, err
	}
	if r := reply.Results[0]; r.Code == coord.CodeOK {
		return r, nil
	}
	return coord.Result{}, ErrMalformed
}

// Submit sends messages and waits until each has taken effect, or never will
// (coord.CodeBad in its result). With an error there is no reply, and each message took
// effect once or not at all; the error says which where that is known: ErrClosed,
// ErrTooLarge, ErrDenied, ErrNotSent (none did), ErrUnknown, ErrSessionLost. A context without a
// deadline waits for as long as the site is away.
func (c *Client) Submit(ctx context.Context, m *Messages) (coord.Reply, error) {
	if c.cfg.Spread {
		return c.SubmitTo(ctx, int((c.turn.Add(1)-1)%uint64(len(c.boxes))), m)
	}
	return c.SubmitTo(ctx, int(c.prefer.Load()), m)
}

// SubmitTo is Submit that starts with the box at index box of Config.Endpoints (modulo
// their number), and goes on to others when that fails.
func (c *Client) SubmitTo(ctx context.Context, box int, m *Messages) (coord.Reply, error) {
	if err := m.check(); err != nil {
		return coord.Reply{}, err
	}
	if m.Len() == 0 {
		return coord.Reply{}, nil
	}
	if !c.enter() {
		return coord.Reply{}, ErrClosed
	}
	defer c.calls.Done()
	n := len(c.boxes)
	return c.submit(ctx, (box%n+n)%n, m)
}

// enter counts a call, unless the client is closing.
func (c *Client) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.calls.Add(1)
	return true
}

// over is why a call that began with ctx must end: its caller gave up, or the client did.
func (c *Client) over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.life.Err()
}

// session gives the current session, opening one if need be. Only one is opened at a time.
func (c *Client) session(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		if c.current != nil && !c.current.isLost() {
			s := c.current
			c.mu.Unlock()
			return s, nil
		}
		if wait := c.opening; wait != nil {
			c.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
			case <-c.life.Done():
			}
			return nil, c.over(ctx)
		}
		done := make(chan struct{})
		c.opening = done
		c.mu.Unlock()
		s, err := c.open(ctx)
		c.mu.Lock()
		c.opening = nil
		if err == nil {
			c.current = s
		}
		c.mu.Unlock()
		close(done)
		if err != nil {
			return nil, err
		}
	}
}

// open opens a session under an id that was never used.
func (c *Client) open(ctx context.Context) (*session, error) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	id := max(binary.BigEndian.Uint64(b[:]), 1)
	w := newWork(1)
	w.cols.Add(coord.KindOpen, id, 0, time.Now().UnixMilli(), []byte(c.cfg.Name), nil)
	if err := c.drive(ctx, w, int(c.prefer.Load())); err != nil {
		return nil, err
	}
	c.stats.sessions.Add(1)
	return newSession(id, c.cfg.InFlight), nil
}
