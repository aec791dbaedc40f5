package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/crowd"
)

// door has the places of the console's port, one a connection. Whoever comes when all are taken gets that of a guest for whom the box waits: who
// has not said a whole request yet (header and body), takes no answer, or has nothing more to ask. Of these the source with the most of them
// loses the one for which the box waits longest, so that who holds connections and says nothing, from however many of them, stands in its own
// way. Only where the box works for every guest, as for those who follow a page, the next one has to wait.
type door struct {
	places chan struct{} // has an element for each that is taken
	more   chan struct{} // has one when the box waits for one guest more than before

	mu      sync.Mutex
	waiting map[string][]*guest // for whom the box waits, by source, the longest first; as many as places at most
}

func newDoor(places int) *door {
	return &door{places: make(chan struct{}, places), more: make(chan struct{}, 1), waiting: map[string][]*guest{}}
}

// enter gives a connection a place, and waits for one if it must; false: closed was closed before there was one.
func (d *door) enter(c net.Conn, closed <-chan struct{}) (*guest, bool) {
	for {
		select {
		case d.places <- struct{}{}:
		default:
			if d.showOut() {
				continue
			}
			select {
			case d.places <- struct{}{}:
			case <-d.more:
				continue
			case <-closed:
				return nil, false
			}
		}
		g := &guest{Conn: c, door: d, source: crowd.Source(c.RemoteAddr().String())}
		g.leave = sync.OnceFunc(func() { <-d.places })
		d.awaits(g)
		return g, true
	}
}

// showOut takes the place of a guest for whom the box waits; false: there is none.
func (d *door) showOut() bool {
	d.mu.Lock()
	var g *guest
	most := 0
	for _, list := range d.waiting { // at most as many as there are places
		if len(list) > most {
			g, most = list[0], len(list)
		}
	}
	d.mu.Unlock()
	if g == nil {
		return false
	}
	g.cut()
	return true
}

// awaits says that the box waits for a guest from now on, hears that it does not.
func (d *door) awaits(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.add(g)
}

// add is awaits, of who has the lock.
func (d *door) add(g *guest) {
	if g.awaited || g.gone {
		return
	}
	g.awaited = true
	d.waiting[g.source] = append(d.waiting[g.source], g)
	select {
	case d.more <- struct{}{}:
	default: // it was not taken yet
	}
}

func (d *door) hears(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(g)
}

// forget is hears, of who has the lock.
func (d *door) forget(g *guest) {
	if !g.awaited {
		return
	}
	g.awaited = false
	list := d.waiting[g.source]
	if i := slices.Index(list, g); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if d.waiting[g.source] = list; len(list) == 0 {
		delete(d.waiting, g.source)
	}
}

// state is what http.Server tells of a connection: it is active from when a request's header is there until the answer is written.
func (d *door) state(c net.Conn, s http.ConnState) {
	g, ok := c.(*guest)
	switch {
	case !ok:
	case s == http.StateIdle:
		d.awaits(g)
	case s == http.StateActive:
		d.hears(g)
	}
}

// guest is a connection that has a place.
type guest struct {
	net.Conn
	door   *door
	source string
	leave  func()

	// These are the door's. writes counts them; one is going on while writing.
	awaited bool
	gone    bool
	unsaid  bool // the body of its request is still to come
	writing bool
	writes  uint64
}

// takesMax is how long a guest may let an answer stand before the box counts as waiting: nearly all are taken at once, and who follows a page is not
// to be shown out for a moment's delay.
const takesMax = 250 * time.Millisecond

// Write may wait for who takes the answer.
func (g *guest) Write(b []byte) (int, error) {
	d := g.door
	d.mu.Lock()
	g.writing = true
	g.writes++
	which := g.writes
	d.mu.Unlock()
	late := time.AfterFunc(takesMax, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if g.writing && g.writes == which {
			d.add(g)
		}
	})
	n, err := g.Conn.Write(b)
	late.Stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	g.writing = false
	if !g.unsaid {
		d.forget(g)
	}
	return n, err
}

// hearing says whether the body of the guest's request is still to come.
func (g *guest) hearing(unsaid bool) {
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	if g.unsaid = unsaid; unsaid {
		g.door.add(g)
	} else {
		g.door.forget(g)
	}
}

// Close gives the place back.
func (g *guest) Close() error {
	g.depart()
	defer g.leave()
	return g.Conn.Close()
}

func (g *guest) depart() {
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	g.gone = true
	g.door.forget(g)
}

// cut ends the connection and gives the place back. It waits for nobody, as the end of TLS would, which says goodbye.
func (g *guest) cut() {
	g.depart()
	c := g.Conn
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	_ = c.Close() // whoever serves it finds out
	g.leave()
}

// guestKey is the context key of the *guest whose request it is.
type guestKey struct{}

func withGuest(ctx context.Context, c net.Conn) context.Context {
	if g, ok := c.(*guest); ok {
		return context.WithValue(ctx, guestKey{}, g)
	}
	return ctx
}

// hearOut has the door know that the box waits for the body of a request.
func hearOut(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g, ok := r.Context().Value(guestKey{}).(*guest)
		if ok && r.Body != nil && r.Body != http.NoBody {
			g.hearing(true)
			defer g.hearing(false)
			r.Body = &spoken{r.Body, g}
		}
		next.ServeHTTP(w, r)
	})
}

// spoken is the body of a request.
type spoken struct {
	io.ReadCloser
	g *guest
}

func (s *spoken) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) {
		s.g.hearing(false)
	}
	return n, err
}
