package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// FormerMax is how many former members may still come and be told; older ones are strangers.
const FormerMax = 16

// Set is whom a Link serves at one time.
type Set struct {
	Members *coord.Members
	// Self is our index in it; -1 when this box is not a member any more: then all others are left.
	Self int
	// Certificate is ours; its key must be Members.List[Self].Key.
	Certificate tls.Certificate
	// Former are boxes that were members in earlier epochs and may not know that they are not any more, those removed last first.
	// Beyond FormerMax they are not listened to.
	Former []coord.Member
}

func (s *Set) check(listens bool) error {
	switch {
	case s.Members == nil || s.Members.N() < 1 || s.Members.N() > coord.MembersMax:
		return fmt.Errorf("%w: a site has 1 to %d members", ErrConfig, coord.MembersMax)
	case s.Self >= s.Members.N():
		return fmt.Errorf("%w: member %d of %d", ErrConfig, s.Self, s.Members.N())
	case s.Self < 0:
		return nil
	case !listens && s.Members.N() > 1:
		return fmt.Errorf("%w: no listener", ErrConfig)
	case len(s.Certificate.Certificate) == 0:
		return fmt.Errorf("%w: no certificate", ErrConfig)
	}
	leaf, err := x509.ParseCertificate(s.Certificate.Certificate[0])
	if err != nil {
		return fmt.Errorf("%w: certificate: %w", ErrConfig, err)
	}
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, s.Members.List[s.Self].Key) {
		return fmt.Errorf("%w: the certificate's key is not member %d's", ErrConfig, s.Self)
	}
	return nil
}

// roster is a Set at work. It is immutable.
type roster struct {
	Set
	hello hello
	// peers by index; nil at our own.
	peers []*peer
	// byKey and byID have peers and former members.
	byKey map[string]*peer
	byID  map[coord.BoxID]*peer
	// leaving are members of the set before, whose connections end; what is sent to them by name now is still written.
	leaving map[coord.BoxID]*peer
}

// newRoster makes what serves a set, of the peers that were there before as far as they are the same.
func (l *Link) newRoster(s Set, old *roster) *roster {
	r := &roster{
		Set: s, hello: hello{site: s.Members.Site, epoch: s.Members.Epoch, incarnation: l.incarnation, min: VersionMin, max: l.cfg.versionMax},
		peers: make([]*peer, s.Members.N()), byKey: make(map[string]*peer), byID: make(map[coord.BoxID]*peer),
	}
	if s.Self < 0 {
		return r
	}
	r.hello.box = s.Members.List[s.Self].ID
	place := func(m *coord.Member, kind standing) *peer {
		p := old.find(m.Key)
		if p == nil || p.kind != kind {
			p = l.newPeer(m, kind)
		}
		p.member.Store(m)
		r.byKey[string(m.Key)], r.byID[m.ID] = p, p
		return p
	}
	for i := range s.Members.List {
		if i != s.Self {
			r.peers[i] = place(&s.Members.List[i], member)
		}
	}
	for i := range s.Former {
		m := &s.Former[i]
		if len(r.byKey) >= s.Members.N()-1+FormerMax {
			break
		}
		if r.byKey[string(m.Key)] == nil && !bytes.Equal(m.Key, s.Members.List[s.Self].Key) {
			place(m, former)
		}
	}
	return r
}

func (r *roster) find(key []byte) *peer {
	if r == nil {
		return nil
	}
	return r.byKey[string(key)]
}

func (l *Link) newPeer(m *coord.Member, kind standing) *peer {
	p := &peer{
		id: m.ID, kind: kind, link: l, kick: make(chan struct{}, 1), renew: make(chan struct{}, 1), done: make(chan struct{}),
		detector: newDetector(l.cfg.Heartbeat, l.cfg.Stall, l.cfg.Dead),
		log:      newQuietLog(l.cfg.Logger.With(slog.String(keyPeer, m.ID.String()), slog.String(keyName, m.Name))),
	}
	p.member.Store(m)
	return p
}

// SetMembers replaces the member set while the Link runs. Connections with members that stay, by key and peer address, stay as they are,
// whatever their index is now. Members that are new are dialled. Those that are gone get what waits for them, for at most
// Config.Drain, and are left; if they are in Former they may come back as guests. When our own key changes, what we dialled is dialled anew
// with it, and each old connection goes on until the new one is there. The set belongs to the Link from now on.
//
// The error is ErrConfig, also for an epoch below the one now, and nothing has changed then.
func (l *Link) SetMembers(s Set) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	old := l.roster.Load()
	err := s.check(l.cfg.Listener != nil)
	if err == nil && (s.Members.Site != old.Members.Site || s.Members.Epoch < old.Members.Epoch) {
		err = fmt.Errorf("%w: from epoch %d of site %s to epoch %d of site %s",
			ErrConfig, old.Members.Epoch, old.Members.Site, s.Members.Epoch, s.Members.Site)
	}
	if err != nil {
		return fmt.Errorf("link: set members: %w", err)
	}
	r := l.newRoster(s, old)
	r.leaving = make(map[coord.BoxID]*peer)
	for key, p := range old.byKey {
		if r.byKey[key] != p && p.kind == member {
			r.leaving[p.id] = p
		}
	}
	l.roster.Store(r)
	for key, p := range old.byKey {
		if r.byKey[key] != p {
			l.retire(p)
		}
	}
	for key, p := range r.byKey {
		if old.byKey[key] != p {
			l.attend(p)
			continue
		}
		select {
		case p.renew <- struct{}{}: // our key or its address may be another
		default:
		}
	}
	l.newcomers.clear() // whoever is a member now comes again as one
	return nil
}

// attend begins to dial a peer, if Run is under way; changing is held.
func (l *Link) attend(p *peer) {
	if l.ctx == nil || l.over {
		return
	}
	ctx, stop := context.WithCancel(l.ctx)
	p.stop = stop
	l.dials.Go(func() {
		defer close(p.done)
		defer stop()
		l.dialling(ctx, p)
	})
}

// retire leaves a peer: what waits for it, and what is sent to it within Config.Drain, is written first; changing is held.
func (l *Link) retire(p *peer) {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	if p.stop == nil || l.over {
		return
	}
	epoch := l.roster.Load().Members.Epoch
	l.dials.Go(func() {
		if p.kind == member && p.sending.Load() != nil {
			last := time.NewTimer(l.cfg.Drain)
			defer last.Stop()
			select {
			case <-last.C:
			case <-p.done:
			case <-l.ctx.Done():
			}
		}
		p.stop()
		<-p.done
		p.mu.Lock()
		in := p.receiving
		p.mu.Unlock()
		if in == nil {
			return
		}
		drained := time.NewTimer(l.cfg.Drain)
		defer drained.Stop()
		select {
		case <-in.ended: // it has gone by itself, having written what waited for us
		case <-drained.C:
			in.dismiss(fmt.Sprintf("box %s is not a member of epoch %d", p.id, epoch))
		}
	})
}
