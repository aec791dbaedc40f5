package box

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/link"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// openSite makes the ordering from the parts that it declares as ports.
func openSite(o *Options, who *identity, boxes *membership, disk *storage, peer net.Listener, changes func(*site.Changes), signed func(*audit.SignedHead), alarm func(*site.Alarm), clerk *clerk, power *authority, hw *hardware, traces *tracing, known *measures, log *slog.Logger) (*site.Site, error) {
	c := o.Config
	keysOf := keysOf(who)
	signer, _, err := keysOf(who.members)
	if err != nil {
		return nil, fmt.Errorf("box: open ordering: %w", err)
	}
	connect := func(h site.Handlers) (site.Links, error) {
		if who.self < 0 {
			return noLinks{}, nil
		}
		set := boxes.set(boxes.now.Load())
		l, err := link.New(link.Config{
			Members: set.Members, Self: set.Self, Certificate: set.Certificate, Former: set.Former, Listener: peer,
			OnMessage: func(from coord.BoxID, m *coord.PeerMsg, _ int) { h.Message(from, m) },
			OnState:   h.State,
			OnBehind: func(peer coord.BoxID, epoch uint64) {
				h.Message(peer, &coord.PeerMsg{Epoch: epoch, Status: &coord.Status{}})
			},
			Clock:     kernelClock,
			Logger:    log,
			Dial:      hw.dialer(),
			Heartbeat: time.Duration(c.Timeouts.Heartbeat), Stall: time.Duration(c.Timeouts.PeerStall), Dead: time.Duration(c.Timeouts.PeerDead),
		})
		if err != nil {
			return nil, err
		}
		return &links{Link: l, boxes: boxes, log: log}, nil
	}
	if o.Wrap != nil {
		connect = o.Wrap(Wrapped{Members: who.members, Self: who.self, Keys: signer}, connect)
	}
	ordering := site.BoxConfig{
		Members: who.members, KeysOf: keysOf,
		Arena: hw.arena, LineBytes: hw.lineBytes(), Ring: traces.ring,
		Tuning: site.Tuning{
			Timeout: time.Duration(c.Timeouts.Round), LeaderDown: time.Duration(c.Timeouts.LeaderDown),
			SegmentBytes: int(c.Log.SegmentSize),
		},
	}
	if o.Edit != nil {
		o.Edit(&ordering)
	}
	if power.termRounds = ordering.Tuning.TermRounds; power.termRounds == 0 {
		power.termRounds = site.TermRounds
	}
	ordered := site.Options{
		Box: ordering, Judge: clerk.judged(power.judge, who.members.Site),
		Self: who.member, Log: disk.log, Base: &traced{disk.base, traces.keeper}, Logger: log, Version: o.Version, Connect: connect, Changes: changes, Audit: signed, Alarm: alarm, Decided: clerk.take, Finished: known.metrics.Decided, Loop: hw.loop(),
	}
	if ordering.Ring != nil {
		ordered.Traces, ordered.Revised = traces.keeper, traces.keeper.Revised
	}
	s, err := site.Open(ordered)
	if err != nil {
		return nil, fmt.Errorf("box: open ordering: %w", err)
	}
	return s, nil
}

// keysOf gives the keys of a box by the member set: it signs as the one of its identities that is a member.
func keysOf(who *identity) site.KeysOf {
	return func(m *coord.Members) (site.Keys, int, error) {
		verifier, err := trust.NewVerifier(m)
		if err != nil {
			return nil, 0, err
		}
		self, identity := who.place(m), who.key
		if self >= 0 {
			identity = who.keyOf(m.List[self].ID)
		}
		return &keys{identity: identity, Verifier: verifier, site: m.Site}, self, nil
	}
}

// keys signs and verifies in one site.
type keys struct {
	*trust.Verifier
	identity *trust.Identity
	site     coord.SiteID
}

func (k *keys) SignVote(kind coord.VoteKind, epoch, round uint64, d coord.Digest) coord.Signature {
	return k.identity.SignVote(k.site, kind, epoch, round, d)
}

func (k *keys) SignBatch(b *coord.Batch) coord.Signature {
	signed := *b
	k.identity.SignBatch(k.site, &signed)
	return signed.Sig
}

func (k *keys) SignReading(d coord.Digest) coord.Signature { return k.identity.SignReading(d) }

// links are the links in coord/site's words.
type links struct {
	*link.Link
	boxes *membership
	log   *slog.Logger
}

func (l *links) Use(e *site.Epoch) {
	if err := l.SetMembers(l.boxes.set(e)); err != nil {
		l.log.Error("the links stay with the members of before", "epoch", e.Members.Epoch, "err", err)
	}
}

// noLinks are those of a box that is not a member.
type noLinks struct{}

func (noLinks) Send(coord.Parcel)       {}
func (noLinks) Use(*site.Epoch)         {}
func (noLinks) Peers() []site.PeerState { return nil }
func (noLinks) Starved() time.Duration  { return 0 }

func (noLinks) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (l *links) Peers() []site.PeerState {
	peers := l.Link.Peers()
	states := make([]site.PeerState, len(peers))
	for i, p := range peers {
		s := &states[i]
		*s = site.PeerState{
			ID: p.ID, Up: p.Up, Heard: p.Heard, RTT: p.RTT, SentBytes: p.BytesOut, ReceivedBytes: p.BytesIn,
			SentMessages: p.MessagesOut, Dropped: p.Away, BadFrames: p.BadFrames, Twins: p.Twins,
			Since: p.Since, Silences: p.Silences, Stalls: p.Stalls, Timeout: p.Timeout,
		}
		s.Control, s.Bulk = p.ControlIn, p.BulkIn
		if p.Clock != nil {
			s.Ahead, s.RoundTrip, s.Compared = p.Clock.Ahead, p.Clock.RoundTrip, p.Clock.Taken
		}
		for _, n := range p.Dropped {
			s.Dropped += n
		}
	}
	return states
}
