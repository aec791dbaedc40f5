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
	c := o.Config
	signer, _, err := keysOf(who.key)(who.members)
	if err != nil {
		return nil, fmt.Errorf("box: open ordering: %w", err)
	}
	name := func(member int) coord.BoxID { return who.members.List[member].ID }
	connect := func(h site.Handlers) (site.Links, error) {
		l, err := link.New(link.Config{
			Members: who.members, Self: who.self, Certificate: who.key.Certificate(), Listener: peer,
			OnMessage: func(from int, m *coord.PeerMsg, _ int) { h.Message(name(from), m) },
			OnState:   func(peer int, up bool) { h.State(name(peer), up) },
			Logger:    log,
			Dial:      hw.dialer(),
			Heartbeat: time.Duration(c.Timeouts.Heartbeat), Stall: time.Duration(c.Timeouts.PeerStall), Dead: time.Duration(c.Timeouts.PeerDead),
		})
		if err != nil {
			return nil, err
		}
		return &links{Link: l, members: who.members}, nil
	}
	if o.Wrap != nil {
		connect = o.Wrap(Wrapped{Members: who.members, Self: who.self, Keys: signer}, connect)
	}
	ordering := site.BoxConfig{
		Members: who.members, KeysOf: keysOf(who.key),
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

// keysOf gives the keys of a box with one identity.
func keysOf(identity *trust.Identity) site.KeysOf {
	return func(m *coord.Members) (site.Keys, int, error) {
		verifier, err := trust.NewVerifier(m)
		if err != nil {
			return nil, 0, err
		}
		return &keys{identity: identity, Verifier: verifier, site: m.Site}, m.Index(identity.ID()), nil
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

// links are those to the members that the box started with, by name.
type links struct {
	*link.Link
	members *coord.Members
}

func (l *links) Send(p coord.Parcel) {
	o := coord.Out{To: coord.ToAll, Msg: p.Msg}
	if p.To != (coord.BoxID{}) {
		if o.To = l.members.Index(p.To); o.To < 0 {
			return
		}
	}
	l.Link.Send(o)
}

func (l *links) Use(*site.Epoch) {}

func (l *links) Peers() []site.PeerState {
	peers := l.Link.Peers()
	states := make([]site.PeerState, len(peers))
	for i, p := range peers {
		s := &states[i]
		*s = site.PeerState{
			ID: l.members.List[p.Index].ID, Up: p.Up, Heard: p.Heard, RTT: p.RTT, SentBytes: p.BytesOut, ReceivedBytes: p.BytesIn,
			SentMessages: p.MessagesOut, Dropped: p.Away, BadFrames: p.BadFrames, Twins: p.Twins,
			Since: p.Since, Silences: p.Silences, Stalls: p.Stalls, Timeout: p.Timeout,
		}
		for _, n := range p.Dropped {
			s.Dropped += n
		}
	}
	return states
}
