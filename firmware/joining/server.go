package joining

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/limit"
)

// Limits of the port.
const (
	// strangersMax bounds connections that have not shown a proof of work: each is a goroutine and a socket for prefaceMax at most.
	strangersMax = 128
	// provenMax bounds those that have and whose request is not granted yet, each with a TLS state of some 40 KiB.
	provenMax = 16
	// provenOfHostMax are those of one address: somebody who solves puzzles keeps no more than a quarter of the places from others.
	provenOfHostMax = 4
	// openOfTokenMax bounds the decisions of one token that are open at once: a box has places for 8 (coord/state), and a joiner that
	// starts anew makes another request.
	openOfTokenMax = 2
	// prefaceMax is how long a stranger may take for its 8 or 50 bytes, talkMax how long all up to the request may take. Both are for the
	// whole, however often a byte comes.
	prefaceMax = 5 * time.Second
	talkMax    = 20 * time.Second
	// writeMax is how long one answer may take to be taken.
	writeMax = 5 * time.Second
	// reachMax is how long the new box may take to answer at its peer address.
	reachMax = 5 * time.Second
	// waitPoll is how often words are looked at, sayAgain how often they are told though nothing has changed: the joiner sees that the
	// box is alive.
	waitPoll = 200 * time.Millisecond
	sayAgain = 5 * time.Second
	// chainMax is how long the members may take to sign the new set once it was decided.
	chainMax = 60 * time.Second
)

// hostRate is what one address may connect: a joiner needs two connections, with retries some more.
var hostRate = limit.Rate{Every: 250 * time.Millisecond, Burst: 20}

const (
	hostsMax = 4096
	hostKeep = 10 * time.Minute
)

// Words is where a decision stands.
type Words struct{ Yes, No []coord.BoxID }

// Site is what the port needs of its box.
type Site interface {
	join.State
	// Past is the ends of the epochs that the box has kept, ascending.
	Past() ([]join.Past, error)
	// Approve waits until this box's operator has let a request in, where the site wants an operator to. from is where it came from.
	// Errors: ErrNotGranted, of ctx.
	Approve(ctx context.Context, r *join.Request, from string) error
	// Admit proposes d, which lets the box in whose encoded request is given, with this box's word, and waits until it took effect (nil), or
	// will not. Errors: ErrOvertaken, ErrNotGranted, ErrBusy, of ctx.
	Admit(ctx context.Context, d *coord.Decision, request []byte) error
	// Words is who has given its word on d so far.
	Words(d *coord.Decision) Words
	// Undecided says how the decision stands that would make the site know a token, "" if none is open.
	Undecided(t join.TokenID) string
	// Open is how many decisions this box has proposed that are open and would use up a token; d is not counted.
	Open(token join.TokenID, d *coord.Decision) int
	// Up says whether a box is reached; this one is.
	Up(id coord.BoxID) bool
}

// Config of New; all are required but Record.
type Config struct {
	Certificate tls.Certificate // the box's identity
	Site        Site
	Bits        int // of proof of work, 0 to join.WorkBitsMax
	Random      io.Reader
	// Record, if not nil, writes down who was let in and who was not.
	Record func(ctx context.Context, r audit.Record) error
	Logger *slog.Logger
}

// Server is the joining port.
type Server struct {
	c     Config
	tls   *tls.Config
	began time.Time

	mu        sync.Mutex // guards what follows
	gate      *join.Gate
	hosts     *limit.Buckets[netip.Addr]
	strangers []*stranger // oldest first
	proven    int         // connections
	provenOf  map[netip.Addr]int
	waiting   map[join.TokenID]*waiter // by the token whose request is being decided
	counts    Counts
}

// Counts are what happened at the port since it began.
type Counts struct {
	Connections uint64 `json:"connections"`
	// TooMany were of addresses beyond their rate, PushedOut had shown no proof when newer ones came, Busy came when too many proven ones
	// were there, of all or of their address.
	TooMany   uint64 `json:"too_many"`
	PushedOut uint64 `json:"pushed_out"`
	Busy      uint64 `json:"busy"`
	Puzzles   uint64 `json:"puzzles"`
	NoWork    uint64 `json:"no_work"`
	Refused   uint64 `json:"refused"`
	Admitted  uint64 `json:"admitted"`
}

type stranger struct{ conn net.Conn }

// waiter is a connection that waits for a decision.
type waiter struct{ end func() }

// New makes the port's server. Errors: of Random.
func New(c Config) (*Server, error) {
	var key [32]byte
	if _, err := io.ReadFull(c.Random, key[:]); err != nil {
		return nil, fmt.Errorf("joining: new: %w", err)
	}
	return &Server{
		c: c, began: time.Now(), gate: join.NewGate(key, c.Bits), hosts: limit.New[netip.Addr](hostRate, hostsMax, hostKeep),
		provenOf: map[netip.Addr]int{}, waiting: map[join.TokenID]*waiter{},
		tls: &tls.Config{
			Certificates: []tls.Certificate{c.Certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
			SessionTicketsDisabled: true,
		},
	}, nil
}

// Counts is what happened so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Serve serves l until ctx ends, and waits for every connection to end; it closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept says so
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("joining: accept: %w", err)
			}
			s.c.Logger.Warn("joining port: accept", "err", err)
			select { // out of file descriptors, most likely: they come back
			case <-ctx.Done():
			case <-time.After(waitPoll):
			}
			continue
		}
		all.Go(func() { s.serve(ctx, conn) })
	}
}

func (s *Server) now() time.Duration { return time.Since(s.began) }

// serve is one connection, from its first byte to its end.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }() // what matters was written before
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(prefaceMax)) // a connection that cannot have one ends with the next read
	host := hostOf(conn)
	me := &stranger{conn}
	if !s.enter(me, host) {
		return
	}
	ok := s.preface(conn, host)
	if !s.leave(me, host, ok) {
		if ok {
			_, _ = conn.Write([]byte{busy})
		}
		return
	}
	defer s.done(host)
	_ = conn.SetDeadline(time.Now().Add(talkMax))
	if _, err := conn.Write([]byte{goOn}); err != nil {
		return
	}
	t := tls.Server(conn, s.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		return
	}
	s.talk(ctx, t, host)
}

func hostOf(conn net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{} // all that have no address are one
	}
	return limit.Host(a.Addr())
}

// enter makes room for a connection that has shown nothing yet, by ending the oldest of its kind if need be.
func (s *Server) enter(me *stranger, host netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Connections++
	if ok, _ := s.hosts.Take(s.now(), host, 1); !ok {
		s.counts.TooMany++
		return false
	}
	if len(s.strangers) >= strangersMax {
		s.counts.PushedOut++
		_ = s.strangers[0].conn.Close()
		s.strangers = slices.Delete(s.strangers, 0, 1)
	}
	s.strangers = append(s.strangers, me)
	return true
}

// leave takes a connection from those that have shown nothing, and counts it with the others if it is proven and there is room.
func (s *Server) leave(me *stranger, host netip.Addr, proven bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.strangers, me); i >= 0 {
		s.strangers = slices.Delete(s.strangers, i, i+1)
	}
	if !proven {
		return false
	}
	if s.proven >= provenMax || s.provenOf[host] >= provenOfHostMax {
		s.counts.Busy++
		return false
	}
	s.place(host, 1)
	return true
}

func (s *Server) done(host netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.place(host, -1)
}

// place counts n more proven connections of a host; mu is held.
func (s *Server) place(host netip.Addr, n int) {
	s.proven += n
	if s.provenOf[host] += n; s.provenOf[host] == 0 {
		delete(s.provenOf, host)
	}
}

// preface reads what the stranger wants, and says whether it brought a solution.
func (s *Server) preface(conn net.Conn, host netip.Addr) bool {
	var want [len(askFor)]byte
	if _, err := io.ReadFull(conn, want[:]); err != nil {
		return false
	}
	address := host.AsSlice()
	switch string(want[:]) {
	case askFor:
		s.mu.Lock()
		c := s.gate.Challenge(uint64(s.now().Milliseconds()), address)
		s.counts.Puzzles++
		s.mu.Unlock()
		_, _ = conn.Write(c[:]) // who does not get it asks again
		return false
	case solved:
		var b [join.SolutionBytes]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return false
		}
		s.mu.Lock()
		err := s.gate.Take(uint64(s.now().Milliseconds()), address, b[:])
		if err != nil {
			s.counts.NoWork++
		}
		s.mu.Unlock()
		if err == nil {
			return true
		}
		why := byte(noWork)
		if errors.Is(err, join.ErrLate) {
			why = late
		}
		_, _ = conn.Write([]byte{why})
	}
	return false
}
