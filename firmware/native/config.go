package native

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// Errors. Those that end one connection are logged; ErrConfig and ErrStopped are returned.
var (
	// ErrConfig says that New was given something it cannot work with.
	ErrConfig = errors.New("native: configuration")
	// ErrStopped says that Serve was called on a server that is stopping.
	ErrStopped = errors.New("native: server stopped")

	errProtocol = errors.New("native: protocol violation")
	errSlow     = errors.New("native: the client does not read its answers")
	errIdle     = errors.New("native: the client is silent")
	errFrame    = errors.New("native: a frame took too long")
	errToken    = errors.New("native: not allowed")
	errStopping = errors.New("native: stopping")
)

// Limits of a server; a field that is zero has its default.
type Limits struct {
	// Connections, 256: ten times the programs of a busy box; each costs about 40 KiB at rest.
	Connections int
	// Requests under way on one connection, 128: the client has 64 by default.
	Requests int
	// ConnectionBytes under way on one connection, 2 MiB: two requests of the largest size.
	ConnectionBytes int
	// TotalBytes under way on all connections, 16 MiB: a third of the memory that a box has
	// for this process. Beyond it requests are answered with CodeBusy.
	TotalBytes int
	// AnswerBytes not yet read by one client, 16 MiB: as many answers of the largest size
	// (about 2.5 MiB) as a program that reads at all leaves unread.
	AnswerBytes int
	// HandshakeTime, 5 s, includes that of TLS (some 10 ms of work on the slowest board).
	HandshakeTime time.Duration
	// FrameTime is how long a frame may take from its first byte, 30 s: 1.3 MiB at 50 KB/s.
	FrameTime time.Duration
	// PingAfter of silence the client is asked for a sign of life, 15 s; IdleTime, 45 s, is
	// how long it may be silent.
	PingAfter, IdleTime time.Duration
	// WriteTime is how long the client may not read while something is written to it, 10 s.
	WriteTime time.Duration
}

const (
	// busyRetryAfter is the hint with CodeBusy: a few rounds of ordering.
	busyRetryAfter = 50 * time.Millisecond
	// writeChunkBytes is written under one deadline.
	writeChunkBytes = 256 << 10
	// messageBytes is what a message costs in memory beside its key and value.
	messageBytes = 33
)

func (l Limits) withDefaults() Limits {
	def(&l.Connections, 256)
	def(&l.Requests, 128)
	def(&l.ConnectionBytes, 2<<20)
	def(&l.TotalBytes, 16<<20)
	def(&l.AnswerBytes, 16<<20)
	def(&l.HandshakeTime, 5*time.Second)
	def(&l.FrameTime, 30*time.Second)
	def(&l.PingAfter, 15*time.Second)
	def(&l.IdleTime, 45*time.Second)
	def(&l.WriteTime, 10*time.Second)
	return l
}

func def[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Guard says who may do what. It may be called from many goroutines.
type Guard interface {
	// Admit says who shows a token (empty: none) on a connection, or why nobody does. client is what it calls itself.
	Admit(token []byte, client string, over net.Conn) (Caller, error)
}

// Caller is who has a connection.
type Caller interface {
	// May says whether the caller may have a message of this kind ordered now; the key is good during the call only.
	May(k coord.Kind, key []byte) bool
	// Good says whether the connection may go on: a token may be revoked, or expire.
	Good() error
}

// everybody is a guard that lets all.
type everybody struct{}

func (everybody) Admit([]byte, string, net.Conn) (Caller, error) { return everybody{}, nil }
func (everybody) May(coord.Kind, []byte) bool                    { return true }
func (everybody) Good() error                                    { return nil }

// Config says what is served.
type Config struct {
	// Submit takes a request over; its Done may be called from any goroutine, once. Required.
	Submit func(*site.Request)
	// Box and Site are who we are.
	Box  coord.BoxID
	Site coord.SiteID
	// Members gives the boxes that a client may go to; nil: none are told.
	Members func() []coord.Member
	// Guard judges clients; nil: everybody may do everything.
	Guard Guard
	// Now is the time that messages carry, for people; time.Now by default.
	Now    func() time.Time
	Limits Limits
	// Logger gets a line for each connection that ends badly; slog.DiscardHandler by default.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Submit == nil {
		return c, fmt.Errorf("%w: no Submit", ErrConfig)
	}
	if c.Members == nil {
		c.Members = func() []coord.Member { return nil }
	}
	if c.Guard == nil {
		c.Guard = everybody{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Limits = c.Limits.withDefaults()
	return c, nil
}
