package etcdapi

import (
	"context"
	"time"

	"google.golang.org/grpc/peer"
)

const (
	// flights is how many streams send at a time, with a piece of events each in memory. More would not be quicker.
	flights = 32
	// stallTime is after how long a stream that cannot send gives its place to others.
	stallTime = time.Second
	// stallsMax is how many streams may be stalled, with their pieces. With one more the one that has stalled longest loses its
	// connection; its client goes on from the last revision that it was given.
	stallsMax = 128
)

// flight is a stream's part in that; it belongs to hub.mu.
type flight struct {
	up, stalled bool
	timer       *time.Timer
}

// takeOff waits for a place. false: ctx has ended.
func (h *hub) takeOff(ctx context.Context, t *stream) bool {
	select {
	case h.flights <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &t.flight
	f.up = true
	if f.timer == nil {
		f.timer = time.AfterFunc(stallTime, func() { h.stall(t) })
	} else {
		f.timer.Reset(stallTime)
	}
	return true
}

// stall takes a stream's place away when it has not landed in time.
func (h *hub) stall(t *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !t.flight.up || t.flight.stalled {
		return
	}
	t.flight.stalled = true
	<-h.flights
	h.stalls = append(h.stalls, t)
	if len(h.stalls) > stallsMax {
		oldest := h.stalls[0]
		h.stalls = h.stalls[1:]
		oldest.cut()
	}
}

// land gives the place back.
func (h *hub) land(t *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &t.flight
	f.timer.Stop()
	if f.stalled {
		for i, x := range h.stalls {
			if x == t {
				h.stalls = append(h.stalls[:i], h.stalls[i+1:]...)
				break
			}
		}
	} else {
		<-h.flights
	}
	f.up, f.stalled = false, false
}

// cut closes the connection of a stream: nothing less ends a call that cannot send.
func (t *stream) cut() {
	p, ok := peer.FromContext(t.out.Context())
	if !ok {
		return
	}
	if c, ok := t.s.conns.Load(p.Addr.String()); ok {
		t.s.cfg.Logger.Warn("a client does not read its watch and is disconnected", "client", p.Addr.String())
		go c.(interface{ Close() error }).Close()
	}
}
