package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord/wire"
)

// Server serves the native stream on any number of listeners. It is safe for concurrent use.
type Server struct {
	cfg    Config
	bodies sync.Pool // of *wire.BodyDecoder
	// bytes is what is under way on all connections.
	bytes atomic.Int64
	stats stats

	// stopping is closed when the server begins to stop.
	stopping chan struct{}
	work     sync.WaitGroup

	mu        sync.Mutex
	stopped   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
}

// Stats counts what a server did since it was made.
type Stats struct {
	// Connections is those open now; Accepted and Refused count those there were, and those
	// turned away because there were too many.
	Connections       int
	Accepted, Refused uint64
	// Requests counts those given to the site, Busy those answered with CodeBusy for want
	// of memory, Bad those that were malformed or not allowed.
	Requests, Busy, Bad uint64
	// Broken counts connections that ended because of what the client did or did not do.
	Broken uint64
}

type stats struct{ accepted, refused, requests, busy, bad, broken atomic.Uint64 }

// New makes a server. Errors: ErrConfig.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg:       cfg,
		bodies:    sync.Pool{New: func() any { return wire.NewBodyDecoder() }},
		stopping:  make(chan struct{}),
		listeners: map[net.Listener]struct{}{},
		conns:     map[*conn]struct{}{},
	}, nil
}

// Stats gives the counters as of now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.conns)
	s.mu.Unlock()
	c := &s.stats
	return Stats{
		Connections: open, Accepted: c.accepted.Load(), Refused: c.refused.Load(),
		Requests: c.requests.Load(), Busy: c.busy.Load(), Bad: c.bad.Load(), Broken: c.broken.Load(),
	}
}

// Serve accepts connections from l until Shutdown, and then returns nil; or until l fails
// for another reason, which it returns. It closes l. For TLS, l is a tls.NewListener.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return ErrStopped
	}
	s.listeners[l] = struct{}{}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for wait := acceptRetryMin; ; {
		nc, err := l.Accept()
		if err == nil {
			s.take(nc)
			wait = acceptRetryMin
			continue
		}
		select {
		case <-s.stopping:
			return nil
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("native: accept: %w", err)
		}
		// Out of file descriptors, mostly: others may be closed.
		s.cfg.Logger.Warn("accept failed", "err", err, "again_in", wait)
		select {
		case <-time.After(wait):
		case <-s.stopping:
			return nil
		}
		wait = min(2*wait, acceptRetryMax)
	}
}

const (
	acceptRetryMin = 5 * time.Millisecond
	acceptRetryMax = time.Second
)

// take serves a connection, or turns it away.
func (s *Server) take(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || len(s.conns) >= s.cfg.Limits.Connections {
		s.stats.refused.Add(1)
		closeNow(nc)
		return
	}
	s.stats.accepted.Add(1)
	c := newConn(s, nc)
	s.conns[c] = struct{}{}
	s.work.Go(func() {
		err := c.serve()
		broken := !errors.Is(err, io.EOF) && !errors.Is(err, errStopping)
		if broken {
			s.stats.broken.Add(1)
		}
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		if broken {
			s.cfg.Logger.Info("client connection ended", "client", c.name, "remote", nc.RemoteAddr().String(), "err", err)
		}
	})
}

// Shutdown stops accepting and reading, waits until the requests under way are answered
// and their answers sent, and closes all connections; when ctx ends first, it closes
// them at once and says so. No goroutine of the server is left when it returns.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.stopping)
	}
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.stopReading()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.fail(errStopping)
	}
	s.mu.Unlock()
	<-done
	return fmt.Errorf("native: stop: %w", ctx.Err())
}
