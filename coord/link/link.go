package link

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Link is a box's connections with the other members of its site. Its methods may be called by many goroutines.
type Link struct {
	cfg         Config
	incarnation uint64
	start       time.Time

	// changing is held while the set is replaced, and guards ctx and over.
	changing sync.Mutex
	roster   atomic.Pointer[roster]
	ctx      context.Context // Run's; nil before
	over     bool            // Run waits for dials
	dials    sync.WaitGroup

	// pool has frames that nobody holds.
	pool      sync.Pool
	gate      gate
	newcomers gate
	// log is for connections that are not known to be a peer's.
	log     *quietLog
	refused atomic.Uint64
	starved atomic.Int64
	ran     atomic.Bool
}

// New checks the configuration. Nothing runs before Run does. The error is ErrConfig.
func New(config Config) (*Link, error) {
	cfg, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("link: new: %w", err)
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("link: new: %w", err)
	}
	l := &Link{
		cfg: cfg, incarnation: binary.BigEndian.Uint64(random[:]), start: time.Now(),
		gate:      gate{max: cfg.StrangersMax, perAddress: cfg.StrangersPerAddress, perSecond: visitsPerSecondMax},
		newcomers: gate{max: newcomersMax, perAddress: newcomersPerAddress, perSecond: newcomersPerSecond},
		log:       newQuietLog(cfg.Logger),
	}
	l.roster.Store(l.newRoster(cfg.set(), nil))
	return l, nil
}

// Run connects and receives until ctx ends. Then it takes in nothing more, writes what waits for at most
// Config.Drain, closes everything, and returns nil when all its goroutines have ended. It returns ErrListener when
// the listener fails for good, ErrRan when it was called before.
func (l *Link) Run(ctx context.Context) error {
	if l.ran.Swap(true) {
		return fmt.Errorf("link: run: %w", ErrRan)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.changing.Lock()
	l.ctx = ctx
	for _, p := range l.roster.Load().byKey {
		l.attend(p)
	}
	l.changing.Unlock()
	var watching sync.WaitGroup
	watching.Go(func() { l.watching(ctx) })
	var err error
	if l.cfg.Listener != nil {
		stop := context.AfterFunc(ctx, func() { _ = l.cfg.Listener.Close() }) // wakes Accept
		err = l.accepting(ctx)
		if stop() {
			_ = l.cfg.Listener.Close() // it has failed already
		}
	} else {
		<-ctx.Done()
	}
	cancel()
	l.changing.Lock()
	l.over = true
	l.changing.Unlock()
	l.dials.Wait()
	watching.Wait()
	return err
}

// Send queues a message for one box or, without a name, for all other members of the set now. It never blocks: what
// cannot be queued is dropped and counted. A message to all is encoded once; the message may not be
// changed until Send returns. A former member that is here as a guest gets only what a guest may. A message to
// ourselves or to a box that is neither is ignored.
func (l *Link) Send(parcel coord.Parcel) {
	r := l.roster.Load()
	if parcel.To == (coord.BoxID{}) {
		l.send(parcel.Msg, r.peers...)
		return
	}
	p := r.byID[parcel.To]
	if leaving := r.leaving[parcel.To]; leaving != nil && leaving.sending.Load() != nil && (p == nil || p.sending.Load() == nil) {
		p = leaving
	}
	if p != nil && p.mayTell(parcel.Msg) {
		l.send(parcel.Msg, p)
	}
}

func (l *Link) send(m *coord.PeerMsg, to ...*peer) {
	var f *frame
	class := ClassOf(m)
	for _, p := range to {
		if p == nil {
			continue
		}
		c := p.sending.Load()
		if c == nil {
			p.counters.away.Add(1)
			continue
		}
		if c.version < versionTrace && (m.TraceAsk != nil || m.Trace != nil) {
			continue // it would take it for garbage
		}
		if f == nil {
			if f = newFrame(&l.pool, m); len(f.bytes) > headerBytes+coord.FrameBytesMax {
				l.log.warn("too large", "message is larger than a frame and was not sent", slog.Int("bytes", len(f.bytes)))
				break
			}
		}
		for dropped, n := range c.queue.push(f, class) {
			if n > 0 {
				p.counters.dropped[dropped].Add(n)
			}
		}
	}
	if f != nil {
		f.release()
	}
}

// Peers is the state of every other member, by index.
func (l *Link) Peers() []PeerState {
	r := l.roster.Load()
	states := make([]PeerState, 0, len(r.peers))
	for i, p := range r.peers {
		if p != nil {
			s := p.state()
			s.Index = i
			states = append(states, s)
		}
	}
	return states
}

// Starved is the time since New for which this box was not woken when it should have been: stopped, or without a
// processor. Silence in that time is held against nobody.
func (l *Link) Starved() time.Duration { return time.Duration(l.starved.Load()) }

// Strangers counts, since New, connections that did not become a peer's: Refused failed to
// authenticate in time or at all, Evicted made room for newer ones (and are refused, too), Flooding were closed
// unseen because their address opened too many in one second.
type Strangers struct{ Refused, Evicted, Flooding uint64 }

// Strangers is what came to the listener and was not a peer.
func (l *Link) Strangers() Strangers {
	return Strangers{l.refused.Load(), l.gate.evicted.Load(), l.gate.flooding.Load()}
}
