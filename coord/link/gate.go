package link

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// visitsPerSecondMax bounds the handshakes that one address can make us do: at 0.6 ms each
	// some 4 % of a core. A whole site of 16 boxes behind one address that starts at once stays below.
	visitsPerSecondMax = 64
	// originsMax bounds the addresses that are counted in one second; more are a flood and not counted but refused.
	originsMax = 1024
)

// gate bounds the connections that have not said who they are. When there are too many at once, the oldest of
// the address with the most makes room: refusing the newest would let whoever came first keep members out.
type gate struct {
	max, perAddress   int
	perSecond         int // of one address
	evicted, flooding atomic.Uint64

	mu      sync.Mutex
	waiting []*visitor // in order of arrival
	second  time.Time  // begin of the second that visits counts
	visits  map[netip.Prefix]int
}

// visitor is one such connection.
type visitor struct {
	conn net.Conn
	from netip.Prefix
}

// enter admits a connection, closing another if need be. It refuses, with nil, one of an address that opened
// too many within a second.
func (g *gate) enter(conn net.Conn, now time.Time) *visitor {
	v := &visitor{conn, origin(conn.RemoteAddr())}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.count(v.from, now) {
		g.flooding.Add(1)
		return nil
	}
	same := func(w *visitor) bool { return w.from == v.from }
	if count(g.waiting, same) >= g.perAddress {
		g.evict(slices.IndexFunc(g.waiting, same))
	} else if len(g.waiting) >= g.max {
		g.evict(g.crowd())
	}
	g.waiting = append(g.waiting, v)
	return v
}

// count counts a visit and says whether it is within bounds.
func (g *gate) count(from netip.Prefix, now time.Time) bool {
	if g.visits == nil || now.Sub(g.second) >= time.Second {
		g.second, g.visits = now, make(map[netip.Prefix]int)
	}
	n, known := g.visits[from]
	if n >= g.perSecond || (!known && len(g.visits) >= originsMax) {
		return false
	}
	g.visits[from] = n + 1
	return true
}

// crowd is the oldest visitor of the address that has the most.
func (g *gate) crowd() int {
	counts := make(map[netip.Prefix]int, len(g.waiting))
	for _, w := range g.waiting {
		counts[w.from]++
	}
	best := 0
	for i, w := range g.waiting {
		if counts[w.from] > counts[g.waiting[best].from] {
			best = i
		}
	}
	return best
}

func (g *gate) evict(i int) {
	_ = g.waiting[i].conn.Close() // its own goroutine reports the end
	g.waiting = slices.Delete(g.waiting, i, i+1)
	g.evicted.Add(1)
}

// leave forgets a connection that is authenticated or gone.
func (g *gate) leave(v *visitor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, v); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

// clear closes all that wait.
func (g *gate) clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range g.waiting {
		_ = v.conn.Close() // its own goroutine reports the end
	}
}

func count(list []*visitor, match func(*visitor) bool) (n int) {
	for _, v := range list {
		if match(v) {
			n++
		}
	}
	return n
}

// origin is what one sender can be told by: an IPv4 address, or an IPv6 /64, which is what one host is
// given as a whole (RFC 6177). Anything else counts as one origin.
func origin(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
