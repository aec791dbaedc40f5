package box

import (
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
func openSite(o *Options, who *identity, disk *storage, peer net.Listener, changes func(*site.Changes), signed func(*audit.SignedHead), hw *hardware, log *slog.Logger) (*site.Site, error) {
	verifier, err := trust.NewVerifier(who.members)
	if err != nil {
		return nil, fmt.Errorf("box: open ordering: %w", err)
	}
	c := o.Config
	signer := &keys{identity: who.key, Verifier: verifier, site: who.members.Site}
	connect := func(h site.Handlers) (site.Links, error) {
		l, err := link.New(link.Config{
			Members: who.members, Self: who.self, Certificate: who.key.Certificate(), Listener: peer,
			OnMessage: func(from int, m *coord.PeerMsg, _ int) { h.Message(from, m) },
			OnState:   h.State,
			Logger:    log,
			Dial:      hw.dialer(),
			Heartbeat: time.Duration(c.Timeouts.Heartbeat), Stall: time.Duration(c.Timeouts.PeerStall), Dead: time.Duration(c.Timeouts.PeerDead),
		})
		if err != nil {
			return nil, err
		}
		return &links{Link: l, members: who.members.N()}, nil
	}
	if o.Wrap != nil {
		connect = o.Wrap(Wrapped{Members: who.members, Self: who.self, Keys: signer}, connect)
	}
	ordering := site.BoxConfig{
		Members: who.members, Self: who.self, Keys: signer,
		Arena: hw.arena, LineBytes: hw.lineBytes(),
		Tuning: site.Tuning{
			Timeout: time.Duration(c.Timeouts.Round), LeaderDown: time.Duration(c.Timeouts.LeaderDown),
			SegmentBytes: int(c.Log.SegmentSize),
		},
	}
	if o.Edit != nil {
		o.Edit(&ordering)
	}
	s, err := site.Open(site.Options{
		Box: ordering,
		Log: disk.log, Base: disk.base, Logger: log, Version: o.Version, Connect: connect, Changes: changes, Audit: signed, Loop: hw.loop(),
	})
	if err != nil {
		return nil, fmt.Errorf("box: open ordering: %w", err)
	}
	return s, nil
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

// links shows the links by member, with a gap at our own place.
type links struct {
	*link.Link
	members int
}

func (l *links) Peers() []site.PeerState {
	states := make([]site.PeerState, l.members)
	for _, p := range l.Link.Peers() {
		s := &states[p.Index]
		*s = site.PeerState{
			Up: p.Up, Heard: p.Heard, RTT: p.RTT, SentBytes: p.BytesOut, ReceivedBytes: p.BytesIn,
			SentMessages: p.MessagesOut, Dropped: p.Away, BadFrames: p.BadFrames, Twins: p.Twins,
			Since: p.Since, Silences: p.Silences, Stalls: p.Stalls, Timeout: p.Timeout,
		}
		for _, n := range p.Dropped {
			s.Dropped += n
		}
	}
	return states
}
