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

// Link is a box's connections with the other members of its site. It serves one member set: a new epoch
// is a new Link. Its methods may be called by many goroutines.
type Link struct {
	cfg   Config
	hello hello
	start time.Time
	// peers by index; nil at our own.
	peers []*peer
	// pool has frames that nobody holds.
	pool sync.Pool
	gate gate
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
	self := &cfg.Members.List[cfg.Self]
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("link: new: %w", err)
	}
	l := &Link{
		cfg: cfg,
		hello: hello{
			site: cfg.Members.Site, epoch: cfg.Members.Epoch, box: self.ID,
			incarnation: binary.BigEndian.Uint64(random[:]), min: VersionMin, max: cfg.versionMax,
		},
		start: time.Now(),
		peers: make([]*peer, cfg.Members.N()),
		gate:  gate{max: cfg.StrangersMax, perAddress: cfg.StrangersPerAddress},
		log:   newQuietLog(cfg.Logger),
	}
	for i := range cfg.Members.List {
		m := &cfg.Members.List[i]
		if i == cfg.Self {
			continue
		}
		l.peers[i] = &peer{
			index: i, member: m, link: l, kick: make(chan struct{}, 1),
			detector: newDetector(cfg.Heartbeat, cfg.Stall, cfg.Dead),
			log:      newQuietLog(cfg.Logger.With(slog.Int(keyPeer, i), slog.String(keyName, m.Name))),
		}
	}
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
	var dialling sync.WaitGroup
	for _, p := range l.peers {
		if p != nil {
			dialling.Go(func() { l.dialling(ctx, p) })
		}
	}
	dialling.Go(func() { l.watching(ctx) })
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
	dialling.Wait()
	return err
}

// Send queues a message for one member or, with coord.ToAll, for all others. It never blocks: what cannot be
// queued is dropped and counted. A message to all is encoded once; the message may not be
// changed until Send returns. A message to ourselves or to nobody is ignored.
func (l *Link) Send(out coord.Out) {
	var f *frame
	class := ClassOf(out.Msg)
	for i, p := range l.peers {
		if p == nil || (out.To != i && out.To != coord.ToAll) {
			continue
		}
		c := p.sending.Load()
		if c == nil {
			p.counters.away.Add(1)
			continue
		}
		if f == nil {
			if f = newFrame(&l.pool, out.Msg); len(f.bytes) > headerBytes+coord.FrameBytesMax {
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
	states := make([]PeerState, 0, len(l.peers))
	for _, p := range l.peers {
		if p != nil {
			states = append(states, p.state())
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
