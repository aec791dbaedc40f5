package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Defaults of Config.
const (
	// HeartbeatDefault: at idle each peer costs two small packets a heartbeat and direction, and is heard twice a
	// heartbeat. 200 ms makes that 100 ms, the least that is needed to tell a stall of 700 ms from a silence
	// within a second.
	HeartbeatDefault = 200 * time.Millisecond
	// StallDefault: 700 ms, as a slow card's worst fsync or a suspended virtual machine takes, and 50 ms for
	// the peer to run again.
	StallDefault = 750 * time.Millisecond
	// DeadDefault: see the formula in the package comment.
	DeadDefault = 2 * time.Second
	// HandshakeDefault bounds a connection's time before authentication: 1.2 ms of work here, some 50 ms
	// on the slowest boards, behind a queue of others after a power cut.
	HandshakeDefault = 5 * time.Second
	// DrainDefault bounds how long Run waits for queues to empty.
	DrainDefault = 500 * time.Millisecond
	// BackoffMinDefault and BackoffMaxDefault bound the time between two tries to reach a peer:
	// it doubles, and half of it is random so that a site's boxes do not dial in step.
	BackoffMinDefault = 50 * time.Millisecond
	BackoffMaxDefault = 2 * time.Second
	// QueueBytesDefault and QueueFramesDefault bound what waits for one peer. Bytes: two of the largest
	// frames (a queue must take one while another is being written). Frames: 2 s (DeadDefault)
	// of 2,000 messages a second; after that the peer is dead and its queue gone.
	QueueBytesDefault  = 2 * coord.FrameBytesMax
	QueueFramesDefault = 4096
	// StrangersMaxDefault and StrangersPerAddressDefault bound connections that have not said who they are.
	// Above, the oldest makes room: a member needs one for milliseconds, so it gets through
	// unless a flood opens that many in that time. An address has room for a site of 16
	// boxes on one machine.
	StrangersMaxDefault        = 128
	StrangersPerAddressDefault = 32
)

// Config is what a Link needs. Zero durations and sizes mean their defaults.
type Config struct {
	// Members, Self (an index in it), Certificate and Former are the set to begin with, as in Set.
	Members     *coord.Members
	Self        int
	Certificate tls.Certificate
	Former      []coord.Member
	// Listener takes the peers' connections; the Link closes it. It may be nil in a site that is of one box and stays so.
	Listener net.Listener

	// OnMessage gets each message of each peer, from that peer's reader: one at a time per
	// peer, many peers at once. bytes is the size of its frame. m belongs to the receiver. from is the owner of the key
	// with which the connection was made: a member, or a guest, of whom only what a guest may say comes.
	// While it blocks, nothing more is read from that peer, which is how to push back; a peer held for longer
	// than Dead takes us for dead. It must return soon after Run's context has ended.
	OnMessage func(from coord.BoxID, m *coord.PeerMsg, bytes int)
	// OnState, if set, tells of each change of a member, one at a time per peer and in order. A
	// connection that replaces another gives down, then up: what was under way is lost. It must not block.
	OnState func(peer coord.BoxID, up bool)
	// OnTwin, if set, is told when a second machine was seen running with a peer's identity. It must not block.
	OnTwin func(peer coord.BoxID)
	// OnBehind, if set, is told when what is sent to a box reaches it from now on, and it was in an epoch below ours when it connected: a
	// member that is behind, or a former one that does not know that it is. It must not block.
	OnBehind func(peer coord.BoxID, epoch uint64)
	// Logger gets what an operator should know; nil: nothing.
	Logger *slog.Logger

	// Clock, if set, is the time of day and whether this box's clock is set, which peers are told; nil: it is not.
	Clock func() (now time.Time, set bool)

	// Dial replaces a plain TCP dialler, in tests. It must honour ctx.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	// Stall is a silence that every peer is allowed on top of its rhythm; Dead ends the connection.
	Heartbeat, Stall, Dead, Handshake, Drain time.Duration
	BackoffMin, BackoffMax                   time.Duration
	QueueBytes, QueueFrames                  int
	StrangersMax                             int
	StrangersPerAddress                      int

	// versionMax, in tests, is the highest version spoken; 0: VersionMax.
	versionMax uint16
}

// withDefaults fills in what is zero and checks the rest.
func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.Heartbeat, HeartbeatDefault},
		{&c.Stall, StallDefault},
		{&c.Dead, DeadDefault},
		{&c.Handshake, HandshakeDefault},
		{&c.Drain, DrainDefault},
		{&c.BackoffMin, BackoffMinDefault},
		{&c.BackoffMax, BackoffMaxDefault},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
		if *d.value < 0 {
			return c, fmt.Errorf("%w: a duration of %v", ErrConfig, *d.value)
		}
	}
	for _, n := range []struct {
		value    *int
		fallback int
	}{
		{&c.QueueBytes, QueueBytesDefault},
		{&c.QueueFrames, QueueFramesDefault},
		{&c.StrangersMax, StrangersMaxDefault},
		{&c.StrangersPerAddress, StrangersPerAddressDefault},
	} {
		if *n.value == 0 {
			*n.value = n.fallback
		}
		if *n.value < 0 {
			return c, fmt.Errorf("%w: a size of %d", ErrConfig, *n.value)
		}
	}
	if c.versionMax == 0 {
		c.versionMax = VersionMax
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		dialer := &net.Dialer{Timeout: c.Handshake}
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	return c, c.check()
}

func (c *Config) check() error {
	switch {
	case c.Self < 0:
		return fmt.Errorf("%w: not a member of the site", ErrConfig)
	case c.OnMessage == nil:
		return fmt.Errorf("%w: nobody takes messages", ErrConfig)
	case c.BackoffMax < c.BackoffMin:
		return fmt.Errorf("%w: back-off from %v to %v", ErrConfig, c.BackoffMin, c.BackoffMax)
	case c.Dead < 2*c.Heartbeat:
		return fmt.Errorf("%w: dead after %v with a heartbeat of %v; one loss must be bearable", ErrConfig, c.Dead, c.Heartbeat)
	}
	s := c.set()
	return s.check(c.Listener != nil)
}

func (c *Config) set() Set {
	return Set{Members: c.Members, Self: c.Self, Certificate: c.Certificate, Former: c.Former}
}
