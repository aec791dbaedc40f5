package joining

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
)

// talk is a connection whose proof was good, within TLS.
func (s *Server) talk(ctx context.Context, conn net.Conn, host netip.Addr) {
	hello, err := readFrame(conn, helloBytes)
	if err != nil || len(hello) != helloBytes {
		return
	}
	hash, token := coord.Digest(hello[:32]), join.TokenID(hello[32:])
	who := "join:" + token.String()
	chain, err := s.chain(hash)
	if err != nil {
		s.refuse(ctx, conn, who, "", err)
		return
	}
	if err := writeAnswer(conn, &Answer{Chain: chain, Seconds: s.c.Site.Seconds()}); err != nil {
		return
	}
	raw, err := readFrame(conn, join.RequestBytesMax)
	if err != nil {
		return
	}
	r, err := join.DecodeRequest(raw)
	if err != nil {
		s.refuse(ctx, conn, who, "", err)
		return
	}
	what := fmt.Sprintf("box:%v", r.Box.ID)
	if r.SiteHash != hash || r.Token != token {
		s.refuse(ctx, conn, who, what, fmt.Errorf("%w: not the token that it began with", join.ErrMalformed))
		return
	}
	err = s.admit(ctx, conn, host, r, raw)
	if errors.Is(err, join.ErrReplayed) && s.c.Site.Members().Index(r.Box.ID) >= 0 {
		err = nil // it has what it asks for, and its connection broke before it heard so
	}
	if err == nil {
		chain, err = s.signed(ctx, hash, r.Box.ID)
	}
	if err != nil {
		s.refuse(ctx, conn, who, what, err)
		return
	}
	s.mu.Lock()
	s.counts.Admitted++
	s.mu.Unlock()
	s.record(ctx, conn, who, what, audit.Allowed, "", r.Box.Name)
	_ = conn.SetDeadline(time.Now().Add(writeMax))
	_ = writeAnswer(conn, &Answer{Chain: chain}) // who does not get it asks again
}

// chain is how the member set of the token became today's.
func (s *Server) chain(hash coord.Digest) (*join.Chain, error) {
	past, err := s.c.Site.Past()
	if err != nil {
		return nil, err
	}
	return join.Cut(past, s.c.Site.Members(), hash)
}

// signed is the chain to a set with the box, once enough members have signed it.
func (s *Server) signed(ctx context.Context, hash coord.Digest, id coord.BoxID) (*join.Chain, error) {
	ctx, cancel := context.WithTimeout(ctx, chainMax)
	defer cancel()
	for {
		c, err := s.chain(hash)
		if err == nil && c.Last().Index(id) >= 0 {
			if err = c.Check(hash); err == nil {
				return c, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the box is in, and the others have not signed so within %v: ask again (%w)", ErrBusy, chainMax, errors.Join(err, ctx.Err()))
		case <-time.After(waitPoll):
		}
	}
}

// admit judges a request, and has the site decide it while it tells the joiner how that stands.
func (s *Server) admit(ctx context.Context, conn net.Conn, host netip.Addr, r *join.Request, raw []byte) error {
	d, err := s.judge(r)
	if err != nil {
		return err
	}
	if err := reach(ctx, &r.Box); err != nil {
		return err
	}
	// From here on the token has vouched for it: it may wait as long as a decision may, one connection a token.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.only(r.Token, host, cancel)()
	var watch sync.WaitGroup
	defer watch.Wait()
	_ = conn.SetDeadline(time.Time{})
	watch.Go(func() { // a joiner says nothing more: a byte, or its end, is the end
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	})
	defer func() { _ = conn.SetReadDeadline(time.Now()) }()

	var asked atomic.Pointer[coord.Decision]
	asked.Store(d)
	decided := make(chan error, 1)
	from := conn.RemoteAddr().String()
	watch.Go(func() { decided <- s.decide(ctx, r, raw, from, &asked) })
	var told Waits
	var at time.Time
	for {
		w := s.waits(asked.Load())
		if !alike(&w, &told) || time.Since(at) > sayAgain {
			told, at = w, time.Now()
			_ = conn.SetWriteDeadline(at.Add(writeMax))
			if err := writeAnswer(conn, &Answer{Waits: &w}); err != nil {
				cancel()
			}
		}
		select {
		case err := <-decided:
			return err
		case <-time.After(waitPoll):
		}
	}
}

// judge says whether a request may be granted by this box's state, and gives the decision that does it.
func (s *Server) judge(r *join.Request) (*coord.Decision, error) {
	a, err := r.Admit(s.c.Site)
	if errors.Is(err, join.ErrUnknown) {
		if waits := s.c.Site.Undecided(r.Token); waits != "" {
			err = fmt.Errorf("%w: %v: %s", join.ErrUndecided, r.Token, waits)
		}
	}
	if err != nil {
		return nil, err
	}
	if w := roster.Weigh(s.c.Site.Members(), a.Next, s.c.Site.Up, true); w.Verdict == roster.Never {
		return nil, fmt.Errorf("%w: %s", ErrLocked, w.String())
	}
	return a.Decision, nil
}

// overtakenMax is how often a decision is made anew because the list changed meanwhile: boxes that join at once overtake each other.
const overtakenMax = 16

// decide has a request approved and decided; asked is the decision that is open.
func (s *Server) decide(ctx context.Context, r *join.Request, raw []byte, from string, asked *atomic.Pointer[coord.Decision]) error {
	if err := s.c.Site.Approve(ctx, r, from); err != nil {
		return err
	}
	for range overtakenMax {
		d, err := s.judge(r)
		if err != nil {
			return err
		}
		asked.Store(d)
		if n := s.c.Site.Open(r.Token, d); n >= openOfTokenMax {
			return fmt.Errorf("%w: %d other requests with this token wait to be decided", ErrBusy, n)
		}
		if err = s.c.Site.Admit(ctx, d, raw); !errors.Is(err, ErrOvertaken) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrBusy, ErrOvertaken)
}

// only makes this the one connection that waits with a token, until release: a joiner whose connection broke comes with a new one, and
// the old one's end may be seen late.
func (s *Server) only(token join.TokenID, host netip.Addr, end func()) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.waiting[token]; old != nil {
		old.end()
	}
	me := &waiter{end}
	s.waiting[token] = me
	s.place(host, -1) // it waits for people; who talks must not wait for it
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.place(host, 1)
		if s.waiting[token] == me {
			delete(s.waiting, token)
		}
	}
}

// waits is where a decision stands, in names.
func (s *Server) waits(d *coord.Decision) Waits {
	words, m := s.c.Site.Words(d), s.c.Site.Members()
	w := Waits{Need: coord.Quorum(m.N())}
	for i := range m.List {
		b := &m.List[i]
		switch {
		case slices.Contains(words.Yes, b.ID):
			w.Yes = append(w.Yes, b.Name)
		case slices.Contains(words.No, b.ID):
			w.No = append(w.No, b.Name)
		default:
			w.Missing = append(w.Missing, b.Name)
		}
	}
	return w
}

func alike(a, b *Waits) bool {
	return a.Need == b.Need && slices.Equal(a.Yes, b.Yes) && slices.Equal(a.Missing, b.Missing) && slices.Equal(a.No, b.No)
}

// reach says whether the new box answers at the address that it gives for other boxes, with the key that it gives. A mistake there would
// be found out when the site already waits for it: a site of one box that lets in a second one stops until it comes.
// Errors: ErrReach.
func reach(ctx context.Context, b *coord.Member) error {
	ctx, cancel := context.WithTimeout(ctx, reachMax)
	defer cancel()
	var id coord.BoxID
	d := tls.Dialer{NetDialer: new(net.Dialer), Config: &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // there is no authority to ask: the key is what is compared
		VerifyConnection: func(c tls.ConnectionState) error {
			id = coord.BoxIDOf(c.PeerCertificates[0].RawSubjectPublicKeyInfo)
			return nil
		},
	}}
	conn, err := d.DialContext(ctx, "tcp", b.Peer)
	if err == nil {
		_ = conn.Close() // nothing was said
	}
	switch {
	// The certificate alone proves nothing: whoever saw it can show it. The handshake ends well only for who has its key. What it then makes of
	// our certificate, or the lack of one, comes later in TLS 1.3 (RFC 8446, 4.4.2.4) and does not matter.
	case err == nil && id == b.ID:
		return nil
	case err == nil || id != b.ID && id != (coord.BoxID{}):
		return fmt.Errorf("%w: %s answers with another key, that of %v: the address is another box's", ErrReach, b.Peer, id)
	}
	return fmt.Errorf("%w: %s: %w: it must be open, and right, before the site waits for it", ErrReach, b.Peer, err)
}

func (s *Server) refuse(ctx context.Context, conn net.Conn, who, what string, err error) {
	s.mu.Lock()
	s.counts.Refused++
	s.mu.Unlock()
	code := codeOf(err)
	outcome := audit.Denied
	if code == "" {
		code, outcome = "failed", audit.Failed
	}
	s.record(ctx, conn, who, what, outcome, code, err.Error())
	_ = conn.SetDeadline(time.Now().Add(writeMax))
	_ = writeAnswer(conn, &Answer{Code: code, Why: err.Error()}) // it is the end in any case
}

func (s *Server) record(ctx context.Context, conn net.Conn, who, what string, outcome audit.Outcome, code, why string) {
	s.c.Logger.Info("a box asked to join", "who", who, "box", what, "outcome", outcome, "why", why, "from", conn.RemoteAddr())
	if s.c.Record == nil {
		return
	}
	err := s.c.Record(context.WithoutCancel(ctx), audit.Record{
		Principal: who, Action: "join.ask", Resource: what, Outcome: outcome, Policy: code, Reason: why, Source: conn.RemoteAddr().String(),
	})
	if err != nil {
		s.c.Logger.Error("a request to join was not recorded", "err", err)
	}
}
