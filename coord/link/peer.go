package link

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// inboundMax bounds a peer's accepted connections that are being set up or torn down: one serves, one
// replaces it, and the rest is room for a peer that restarts quickly.
const inboundMax = 4

// peer is another box: its two connections and what is counted of it. It is one key's.
type peer struct {
	id   coord.BoxID
	kind standing
	// member is what the set now says of it; its key is always the same.
	member atomic.Pointer[coord.Member]
	link   *Link
	log    *quietLog
	// stop ends dialling, which closes done; nil when nothing dials. Link.changing guards it.
	stop context.CancelFunc
	done chan struct{}

	// sending is the connection that we dialled, when it is ready; Send reads it.
	sending atomic.Pointer[outbound]
	// kick has a token when the peer has dialled us, so that we dial back at once.
	kick chan struct{}
	// renew has a token when what we dialled may have to be dialled anew.
	renew chan struct{}
	// inbounds counts accepted connections of this peer that have not ended.
	inbounds atomic.Int32

	// telling is held while OnState runs, so that its calls are in order. It comes before mu.
	telling sync.Mutex
	mu      sync.Mutex
	// receiving is the accepted connection that serves.
	receiving *inbound
	// broken says that receiving was replaced and that this was not told yet.
	broken  bool
	gone    bool // from the set: it comes no more
	quiet   bool // the detector's verdict
	up      bool
	since   time.Time // of the last change of up
	version uint16
	lineage lineage
	penalty penalty
	// visits counts a former member's connections since visited.
	visited time.Time
	visits  int

	// The watcher's own: the detector, and what it saw last.
	detector     detector
	watchedIn    *inbound
	watchedOut   *outbound
	watchedHeard time.Duration
	// handling says that OnMessage runs.
	handling atomic.Bool

	counters counters
}

// counters are a peer's numbers since the Link was made. Times are nanoseconds since then.
type counters struct {
	heard, rtt              atomic.Int64
	pinged, timeout         atomic.Int64
	bytesIn, bytesOut       atomic.Uint64
	messagesIn, messagesOut atomic.Uint64
	dropped                 [classes]atomic.Uint64
	away                    atomic.Uint64
	bad, twins, ups         atomic.Uint64
	silences, stalls        atomic.Uint64
	control, bulk           atomic.Uint64
	clock                   atomic.Pointer[Clock]
}

// setSending makes c the connection to send on.
func (p *peer) setSending(c *outbound) {
	p.sending.Store(c)
	p.tell()
}

// endSending ends that, if it still is c.
func (p *peer) endSending(c *outbound) {
	p.sending.CompareAndSwap(c, nil)
	p.tell()
}

// takeOver makes c the connection to receive on and closes the one that was. It refuses, with ErrHeldOff, when
// the peer is held off, with ErrGuest when it has been here often enough, with ErrStranger when it is gone from the set.
func (p *peer) takeOver(c *inbound) (previous *inbound, err error) {
	now := time.Now()
	p.mu.Lock()
	twin := false
	switch {
	case p.gone:
		err = fmt.Errorf("%w: box %s has just left", ErrStranger, p.id)
	case p.penalty.holds(now):
		err = ErrHeldOff
	case p.kind == former:
		err = p.visit(now)
	}
	if err == nil {
		var ok bool
		if ok, twin = p.lineage.admit(c.hello.incarnation, now); !ok {
			err = ErrHeldOff
		}
	}
	if err == nil {
		previous, p.receiving = p.receiving, c
		p.version = c.version
		p.broken = previous != nil
	}
	p.mu.Unlock()
	if twin {
		p.counters.twins.Add(1)
		p.log.warn("twin", "the identity of this box is used by two machines: stop one of them")
		if p.link.cfg.OnTwin != nil {
			p.link.cfg.OnTwin(p.id)
		}
	}
	if err != nil {
		return nil, err
	}
	if previous != nil {
		previous.replace()
	}
	if out := p.sending.Load(); out != nil && out.incarnation != c.hello.incarnation {
		out.fail(ErrReplaced) // it leads to a process that is gone, whether TCP knows it or not
	}
	p.tell()
	return previous, nil
}

// silent ends the connection that we send on, too: what was not heard for Dead includes its pongs.
func (p *peer) silent() {
	if out := p.sending.Load(); out != nil {
		out.fail(ErrSilent)
	}
}

// endReceiving ends c's service, if it still is c that serves.
func (p *peer) endReceiving(c *inbound) {
	p.mu.Lock()
	if p.receiving == c {
		p.receiving = nil
	}
	p.mu.Unlock()
	p.tell()
}

// misbehaved counts a bad frame and keeps the peer out for a while.
func (p *peer) misbehaved() time.Duration {
	p.counters.bad.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.penalty.add(time.Now())
}

// tell reports the peer up or down if that has changed, or down and up if a connection was replaced meanwhile.
func (p *peer) tell() {
	p.telling.Lock()
	defer p.telling.Unlock()
	if p.kind != member {
		return
	}
	p.mu.Lock()
	was, broken := p.up, p.broken
	up := p.receiving != nil && p.sending.Load() != nil && !p.quiet
	if up != was || broken {
		p.up, p.since, p.broken = up, time.Now(), false
	}
	p.mu.Unlock()
	if was && (!up || broken) {
		p.report(false)
	}
	if up && (!was || broken) {
		p.counters.ups.Add(1)
		p.report(true)
	}
}

func (p *peer) report(up bool) {
	p.log.logger.Info("peer", slog.Bool(keyUp, up))
	if p.link.cfg.OnState != nil {
		p.link.cfg.OnState(p.id, up)
	}
}

// heardNow notes that something came from the peer.
func (p *peer) heardNow(now time.Time) { p.counters.heard.Store(int64(now.Sub(p.link.start))) }

// PeerState is one peer as this box sees it at one moment. Counters are since New.
type PeerState struct {
	Index int
	ID    coord.BoxID
	Name  string
	// Up: both directions work and the peer is not silent. Sending is the connection that we dialled, Receiving the one
	// that it did.
	Up, Sending, Receiving bool
	// Since is when Up last changed; Heard is when anything last came. Zero: never.
	Since, Heard time.Time
	// RTT is the smoothed round trip of heartbeats, of both programs and the network; 0: not known yet.
	RTT time.Duration
	// Version is the protocol version last agreed on with it; 0: none yet.
	Version uint16
	// Bytes are of frames, without TLS and TCP; messages are without heartbeats.
	BytesIn, BytesOut, MessagesIn, MessagesOut uint64
	// Waiting is what its queue holds now.
	WaitingFrames, WaitingBytes int
	// Dropped counts messages that a full queue lost, by Class; Away those that were sent while
	// it was not connected.
	Dropped [classes]uint64
	Away    uint64
	// BadFrames counts connections closed for what came on them, Twins how often a second machine
	// with its identity was seen, Ups how often it came up.
	BadFrames, Twins, Ups uint64
	// Silences counts verdicts of the detector, Stalls those of them that it took back because the peer was heard
	// before Config.Dead. Timeout is the silence that now makes a verdict; 0: not connected yet.
	Silences, Stalls uint64
	Timeout          time.Duration
	// ControlIn counts what it sent and is not bulk (ClassBulk): messages, a large one as one for each controlBytes. BulkIn is the
	// bytes of the rest.
	ControlIn, BulkIn uint64
	// Clock is its clock beside ours, as the newest heartbeat has it; nil: not known, or one of the two is not set.
	Clock *Clock
}

func (p *peer) state() PeerState {
	c := &p.counters
	s := PeerState{
		ID: p.id, Name: p.member.Load().Name,
		RTT:     time.Duration(c.rtt.Load()),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		MessagesIn: c.messagesIn.Load(), MessagesOut: c.messagesOut.Load(),
		Away: c.away.Load(), BadFrames: c.bad.Load(), Twins: c.twins.Load(), Ups: c.ups.Load(),
		Silences: c.silences.Load(), Stalls: c.stalls.Load(), Timeout: time.Duration(c.timeout.Load()),
		ControlIn: c.control.Load(), BulkIn: c.bulk.Load(), Clock: c.clock.Load(),
	}
	for i := range c.dropped {
		s.Dropped[i] = c.dropped[i].Load()
	}
	if heard := c.heard.Load(); heard != 0 {
		s.Heard = p.link.start.Add(time.Duration(heard))
	}
	if out := p.sending.Load(); out != nil {
		s.Sending = true
		s.WaitingFrames, s.WaitingBytes = out.queue.waiting()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Up, s.Since, s.Receiving, s.Version = p.up, p.since, p.receiving != nil, p.version
	return s
}
