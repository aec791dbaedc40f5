// Package crowd keeps one source from taking all connections of a port: whoever opens more than its share is turned away before a byte is
// read, and others are served. It bounds numbers only; how long a connection may take to say something is for who serves it.
package crowd

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
)

// Listener accepts connections of each source up to a share. Make it with Share.
type Listener struct {
	net.Listener
	most   int
	turned atomic.Uint64

	mu sync.Mutex
	by map[string]int // open ones by source: as many entries as connections at most
}

// Share bounds the connections of one source on l.
func Share(l net.Listener, most int) *Listener {
	return &Listener{Listener: l, most: most, by: map[string]int{}}
}

// Accept gives the next connection of a source that is within its share; others are closed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		s := Source(c.RemoteAddr().String())
		l.mu.Lock()
		full := l.by[s] >= l.most
		if !full {
			l.by[s]++
		}
		l.mu.Unlock()
		if !full {
			return &conn{Conn: c, leave: sync.OnceFunc(func() { l.leave(s) })}, nil
		}
		l.turned.Add(1)
		_ = c.Close() // nothing was said on it
	}
}

// Turned counts the connections that were turned away.
func (l *Listener) Turned() uint64 { return l.turned.Load() }

func (l *Listener) leave(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[s]--; l.by[s] == 0 {
		delete(l.by, s)
	}
}

type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// Source is what addresses (host:port, or an IP address alone) are told apart by: an IPv4 address, the /64 of an IPv6 one, for who has one
// address of it has all, or the text itself.
func Source(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	a := ap.Addr()
	if err != nil {
		a, err = netip.ParseAddr(remote)
	}
	if err == nil {
		a = a.Unmap().WithZone("")
		if a.Is4() {
			return a.String()
		}
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	if i := strings.LastIndexByte(remote, ':'); i > 0 {
		return remote[:i]
	}
	return remote
}
