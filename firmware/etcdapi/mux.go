package etcdapi

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// preface is how a client begins to speak HTTP/2, which here is gRPC (RFC 9113, 3.4).
var preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

// sniffTime is how long a new connection may take to say what it speaks, and to do its TLS handshake.
const sniffTime = 5 * time.Second

// mux gives the connections of one port to gRPC or to HTTP/1.
type mux struct {
	l          net.Listener
	log        *slog.Logger
	grpc, http *sublistener
	slots      chan struct{}
	conns      *sync.Map // those that are open, by the client's address
}

// sublistener is a listener of the connections that speak one protocol.
type sublistener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMux(l net.Listener, connections int, log *slog.Logger, conns *sync.Map) *mux {
	sub := func() *sublistener {
		return &sublistener{addr: l.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	}
	return &mux{l: l, log: log, grpc: sub(), http: sub(), slots: make(chan struct{}, connections), conns: conns}
}

func (s *sublistener) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; the port stays the mux's.
func (s *sublistener) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *sublistener) Addr() net.Addr { return s.addr }

func (m *mux) close() {
	_ = m.l.Close() // who made it may have closed it
	_ = m.grpc.Close()
	_ = m.http.Close()
}

// run accepts until the listener is closed. Connections beyond the limit are closed at once.
func (m *mux) run() error {
	go func() { // gRPC's graceful stop closes its listener: then the port is closed, too
		<-m.grpc.done
		_ = m.l.Close()
	}()
	var pause time.Duration
	for {
		c, err := m.l.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool }
			if !errors.As(err, &temporary) || !temporary.Temporary() { // e.g. too many open files
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			m.log.Warn("etcd API: accept", "err", err)
			time.Sleep(pause)
			continue
		}
		pause = 0
		select {
		case m.slots <- struct{}{}:
			at := c.RemoteAddr().String()
			n := &counted{Conn: c, free: func() {
				m.conns.Delete(at)
				<-m.slots
			}}
			m.conns.Store(at, n)
			go m.sort(n)
		default:
			_ = c.Close()
		}
	}
}

// sort finds out what a connection speaks.
func (m *mux) sort(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(sniffTime))
	to := m.http
	if t, ok := c.(*counted).Conn.(*tls.Conn); ok {
		if err := t.Handshake(); err != nil {
			_ = c.Close()
			return
		}
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			to = m.grpc
		}
	} else {
		first := make([]byte, len(preface))
		n, err := io.ReadAtLeast(c, first, 4)
		if err != nil {
			_ = c.Close()
			return
		}
		if bytes.HasPrefix(first, preface[:4]) {
			to = m.grpc
		}
		c = &pushedBack{Conn: c, first: first[:n]}
	}
	_ = c.SetDeadline(time.Time{})
	select {
	case to.conns <- c:
	case <-to.done:
		_ = c.Close()
	}
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	once sync.Once
	free func()
}

func (c *counted) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}

// pushedBack reads again what was read to find out.
type pushedBack struct {
	net.Conn
	first []byte
}

func (p *pushedBack) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// TLSConfig completes a configuration for Serve's listeners: gRPC clients offer HTTP/2 alone, all others speak HTTP/1.1.
func TLSConfig(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = []string{"http/1.1"}
	grpc := c.Clone()
	grpc.NextProtos = []string{"h2"}
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(h.SupportedProtos, "h2") && !slices.Contains(h.SupportedProtos, "http/1.1") {
			return grpc, nil
		}
		return nil, nil
	}
	return c
}
