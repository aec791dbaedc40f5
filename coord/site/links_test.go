package site_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// linkDelay is what a message takes to the next box, in the bubble's virtual time.
const linkDelay = 200 * time.Microsecond

// hub joins the boxes of a site. What arrives at a box whose links do not run is lost.
type hub struct {
	mu   sync.Mutex
	ends []*end // by member; nil: its box was never opened
	cut  map[[2]int]bool
	// starved is for how long all boxes were not run, in nanoseconds.
	starved atomic.Int64
	said    func(from int, o coord.Parcel) // sees whatever a box says, before it travels
	// lie, if not nil, makes what a box says something else.
	lie func(from int, m *coord.PeerMsg) *coord.PeerMsg
	// counted, if not nil, adds to what box self has counted of a peer; it is called with mu held.
	counted func(self, peer int, p *site.PeerState)
}

func newHub(n int, said func(int, coord.Parcel)) *hub {
	return &hub{ends: make([]*end, n), cut: map[[2]int]bool{}, said: said}
}

// end is one box's Links, with a goroutine for each way out.
type end struct {
	hub  *hub
	self int
	h    site.Handlers
	out  []*lane
	runs bool // under hub.mu
}

type lane struct {
	mu     sync.Mutex
	msgs   []*coord.PeerMsg
	signal chan struct{}
}

// boxID is the name of a member of the rigs' sites.
func boxID(i int) coord.BoxID { return coord.BoxID{byte(i + 1)} }

func (h *hub) connect(self int) func(site.Handlers) (site.Links, error) {
	return func(hs site.Handlers) (site.Links, error) {
		e := &end{hub: h, self: self, h: hs}
		for range h.ends {
			e.out = append(e.out, &lane{signal: make(chan struct{}, 1)})
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ends[self] = e
		return e, nil
	}
}

func (h *hub) upLocked(a, b int) bool {
	x, y := h.ends[a], h.ends[b]
	return x != nil && y != nil && x.runs && y.runs && !h.cut[[2]int{min(a, b), max(a, b)}]
}

// setCut separates two boxes, or joins them again.
func (h *hub) setCut(a, b int, cut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut[[2]int{min(a, b), max(a, b)}] = cut
	up := h.upLocked(a, b)
	h.ends[a].h.State(boxID(b), up)
	h.ends[b].h.State(boxID(a), up)
}

func (e *end) Use(*site.Epoch) {}

func (e *end) Send(o coord.Parcel) {
	e.hub.said(e.self, o)
	if e.hub.lie != nil {
		o.Msg = e.hub.lie(e.self, o.Msg)
	}
	for to, l := range e.out {
		if to == e.self || o.To != (coord.BoxID{}) && o.To != boxID(to) {
			continue
		}
		l.mu.Lock()
		l.msgs = append(l.msgs, o.Msg)
		l.mu.Unlock()
		select {
		case l.signal <- struct{}{}:
		default:
		}
	}
}

func (e *end) Run(ctx context.Context) error {
	e.setRuns(true)
	var lanes sync.WaitGroup
	for to := range e.out {
		if to != e.self {
			lanes.Go(func() { e.carry(ctx, to) })
		}
	}
	<-ctx.Done()
	e.setRuns(false)
	lanes.Wait()
	return ctx.Err()
}

func (e *end) setRuns(runs bool) {
	e.hub.mu.Lock()
	defer e.hub.mu.Unlock()
	for i, o := range e.hub.ends {
		e.runs = true
		if i != e.self && e.hub.upLocked(e.self, i) {
			e.h.State(boxID(i), runs)
			o.h.State(boxID(e.self), runs)
		}
	}
	e.runs = runs
}

func (e *end) carry(ctx context.Context, to int) {
	l := e.out[to]
	for {
		select {
		case <-l.signal:
		case <-ctx.Done():
			return
		}
		time.Sleep(linkDelay)
		l.mu.Lock()
		ms := l.msgs
		l.msgs = nil
		l.mu.Unlock()
		e.hub.mu.Lock()
		up, peer := e.hub.upLocked(e.self, to), e.hub.ends[to]
		e.hub.mu.Unlock()
		for _, m := range ms {
			if up {
				peer.h.Message(boxID(e.self), m)
			}
		}
	}
}

func (e *end) Starved() time.Duration { return time.Duration(e.hub.starved.Load()) }

func (e *end) Peers() []site.PeerState {
	e.hub.mu.Lock()
	defer e.hub.mu.Unlock()
	ps := make([]site.PeerState, len(e.out))
	for i := range ps {
		ps[i].ID = boxID(i)
		ps[i].Up = i != e.self && e.hub.upLocked(e.self, i)
		if e.hub.counted != nil && i != e.self {
			e.hub.counted(e.self, i, &ps[i])
		}
	}
	return ps
}

// tagKeys signs with a keyed hash: cheap, and as good as a signature among boxes that do not lie.
type tagKeys struct {
	id      int
	members *coord.Members
}

func tag(id int, what []byte) (s coord.Signature) {
	d := sha256.Sum256(binary.BigEndian.AppendUint64(what, uint64(id)))
	copy(s[:], d[:])
	return s
}

func (k tagKeys) SignVote(kind coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature {
	a := coord.VoteBytes(k.members.Site, kind, epoch, round, d)
	return tag(k.id, a[:])
}

func (k tagKeys) VerifyVote(v *coord.Vote) bool {
	a := coord.VoteBytes(k.members.Site, v.Kind, v.Epoch, v.Round, v.Digest)
	return tag(int(v.Voter), a[:]) == v.Sig
}

func (k tagKeys) SignBatch(b *coord.Batch) coord.Signature {
	d := b.Digest(k.members.Site)
	return tag(k.id, d[:])
}

func (k tagKeys) VerifyBatch(b *coord.Batch) bool {
	d := b.Digest(k.members.Site)
	return tag(k.members.Index(b.Author), d[:]) == b.Sig
}
