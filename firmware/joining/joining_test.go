package joining_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/firmware/joining"
)

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestASiteGrowsFromOneToFourByTokens(t *testing.T) {
	s := newSite(t, 1)
	_, at := port(t, s, 8)
	first := s.token(t) // of epoch 1: its box comes last, through every epoch since
	for i, name := range []string{"box-1", "box-2", "box-3"} {
		tok := s.token(t)
		if name == "box-3" {
			tok = first
		}
		a := ask(t, tok, name, at)
		m, err := joining.Join(within(t), a)
		if err != nil {
			t.Fatal(err)
		}
		if m.Epoch != uint64(i+2) || m.N() != i+2 || m.List[i+1].Name != name {
			t.Fatalf("%+v", m)
		}
	}
	if !s.recorded(audit.Allowed, "") {
		t.Error("who was let in is not in the audit log")
	}
}

func TestWhoIsTurnedAwayHearsWhy(t *testing.T) {
	for _, tc := range []struct {
		name string
		want error
		code string
		do   func(t *testing.T, s *fakeSite, a *joining.Ask)
	}{
		{"a token of another site", join.ErrSite, "wrong-site", func(t *testing.T, _ *fakeSite, a *joining.Ask) { a.Token = newSite(t, 1).token(t) }},
		{"an expired token", join.ErrExpired, "expired-token", func(_ *testing.T, s *fakeSite, _ *joining.Ask) { s.now += 2 * join.TTLSecondsDefault }},
		{"a used token", join.ErrUsed, "used-token", func(t *testing.T, s *fakeSite, a *joining.Ask) {
			if _, err := joining.Join(within(t), ask(t, a.Token, "other", a.Servers...)); err != nil {
				t.Fatal(err)
			}
		}},
		{"a name that is taken", join.ErrName, "bad-name", func(_ *testing.T, _ *fakeSite, a *joining.Ask) { a.Box.Name = "box-0" }},
		{"an address where nobody is", joining.ErrReach, "not-reached", func(t *testing.T, _ *fakeSite, a *joining.Ask) { a.Box.Peer = nobody(t) }},
		{"an address where another box is", joining.ErrReach, "not-reached", func(t *testing.T, _ *fakeSite, a *joining.Ask) {
			l := listen(t)
			t.Cleanup(func() { _ = l.Close() })
			cert := newBox(t).Certificate()
			var all sync.WaitGroup
			t.Cleanup(all.Wait)
			all.Go(func() {
				if conn, err := l.Accept(); err == nil {
					_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
					_ = conn.Close()
				}
			})
			a.Box.Peer = l.Addr().String()
		}},
		{"an address where somebody shows its certificate without its key", joining.ErrReach, "not-reached", func(t *testing.T, _ *fakeSite, a *joining.Ask) {
			l := listen(t)
			t.Cleanup(func() { _ = l.Close() })
			cert := a.Key.Certificate()
			cert.PrivateKey = newBox(t).Certificate().PrivateKey
			var all sync.WaitGroup
			t.Cleanup(all.Wait)
			all.Go(func() {
				if conn, err := l.Accept(); err == nil {
					_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
					_ = conn.Close()
				}
			})
			a.Box.Peer = l.Addr().String()
		}},
		{"a site that would lock itself", joining.ErrLocked, "locked", func(_ *testing.T, s *fakeSite, _ *joining.Ask) {
			s.down = []coord.BoxID{s.members.List[1].ID, s.members.List[2].ID}
		}},
		{"an operator who says no", joining.ErrNotGranted, "not-granted", func(_ *testing.T, s *fakeSite, _ *joining.Ask) { s.refusal = joining.ErrNotGranted }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t, 4)
			_, at := port(t, s, 4)
			a := ask(t, s.token(t), "new", at)
			tc.do(t, s, &a)
			_, err := joining.Join(within(t), a)
			if !errors.Is(err, tc.want) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			if !s.recorded(audit.Denied, tc.code) {
				t.Errorf("no audit record of %q: %+v", tc.code, s.records)
			}
		})
	}
}

// nobody is an address where nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

func TestAJoinerWaitsUntilItsTokenIsDecided(t *testing.T) {
	s := newSite(t, 1)
	s.undecided = "1 of 3 words are given"
	_, at := port(t, s, 0)
	tok, err := join.NewToken(join.SiteHash(s.Members()), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := ask(t, tok, "new", at)
	heard := ""
	a.Tell = func(p joining.Progress) {
		if errors.Is(p.Again, join.ErrUndecided) {
			heard = p.String()
			s.decide(s.offer(t, tok))
		}
	}
	if _, err := joining.Join(within(t), a); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(heard, "not decided yet") || !strings.Contains(heard, "1 of 3 words") {
		t.Errorf("it heard %q", heard)
	}
}

func TestAJoinerHearsThatItAsksAtAWrongPort(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	for address, says := range map[string]string{nobody(t): "nothing listens", web.Listener.Addr().String(): "no joining port"} {
		a := ask(t, newSite(t, 1).token(t), "new", address)
		ctx, cancel := context.WithCancel(within(t))
		a.Tell = func(p joining.Progress) {
			if p.Again == nil || !strings.Contains(p.String(), says) || !strings.Contains(p.String(), "[join]") {
				t.Errorf("%s: %s", address, p.String())
			}
			cancel()
		}
		if _, err := joining.Join(ctx, a); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestADecisionThatIsOvertakenIsMadeAnew(t *testing.T) {
	s := newSite(t, 1)
	s.overtaken = 3
	_, at := port(t, s, 0)
	if m, err := joining.Join(within(t), ask(t, s.token(t), "new", at)); err != nil || m.N() != 2 || s.overtaken != 0 {
		t.Fatalf("%v, %v", m, err)
	}
}

func TestAJoinerIsToldWhoseWordIsMissing(t *testing.T) {
	s := newSite(t, 4)
	s.hold = make(chan struct{})
	s.words.Yes = []coord.BoxID{s.members.List[0].ID, s.members.List[3].ID}
	_, at := port(t, s, 0)
	a := ask(t, s.token(t), "new", at)
	var once sync.Once
	a.Tell = func(p joining.Progress) {
		if w := p.Waits; w != nil && w.Need == 3 && slices.Equal(w.Yes, []string{"box-0", "box-3"}) && slices.Equal(w.Missing, []string{"box-1", "box-2"}) {
			once.Do(func() { close(s.hold) })
		}
	}
	if _, err := joining.Join(within(t), a); err != nil {
		t.Fatal(err)
	}
}

// The joiner's connection breaks while it waits, and the site decides meanwhile: the same request again is told that it is in.
func TestAJoinerWhoseConnectionBreaksComesBack(t *testing.T) {
	s := newSite(t, 1)
	_, at := port(t, s, 0)
	tok := s.token(t)
	through := relay(t, at)
	a := ask(t, tok, "new", through.address)
	var once sync.Once
	a.Tell = func(p joining.Progress) {
		if p.Waits != nil {
			once.Do(through.cut)
		}
	}
	m, err := joining.Join(within(t), a)
	if err != nil || m.N() != 2 {
		t.Fatalf("%v, %v", m, err)
	}
	if _, err := joining.Join(within(t), ask(t, tok, "other", at)); !errors.Is(err, join.ErrUsed) {
		t.Fatalf("another one with the token: %v", err)
	}
}

// relayed is connections that a test can cut.
type relayed struct {
	address string
	mu      sync.Mutex
	open    []net.Conn
}

func (r *relayed) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.open {
		_ = c.Close()
	}
}

func relay(t *testing.T, to string) *relayed {
	t.Helper()
	l := listen(t)
	r := &relayed{address: l.Addr().String()}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); r.cut(); all.Wait() })
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			r.mu.Lock()
			r.open = append(r.open, in, out)
			r.mu.Unlock()
			for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
				all.Go(func() { _, _ = io.Copy(p[0], p[1]); _ = p[0].Close() })
			}
		}
	})
	return r
}

// A box that is no member, and one that shows a chain of its own, are not believed; with another address the joiner still gets in.
func TestALyingBoxIsNotBelieved(t *testing.T) {
	s := newSite(t, 4)
	_, good := port(t, s, 0)
	_, stranger := port(t, s, 0, func(c *joining.Config) { c.Certificate = newBox(t).Certificate() })
	fake := newSite(t, 1)
	tok := s.token(t)
	_, forged := port(t, s, 0, func(c *joining.Config) { c.Certificate, c.Site = fake.keys[0].Certificate(), forger{s, fake} })
	for name, at := range map[string]string{"no member": stranger, "a chain of its own": forged} {
		if _, err := joining.Join(within(t), ask(t, tok, "new", at)); !errors.Is(err, joining.ErrLiar) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := joining.Join(within(t), ask(t, tok, "new", stranger, forged, good)); err != nil {
		t.Fatalf("with one that is honest: %v", err)
	}
}

// forger answers for a site with the epochs of another that it invented, one key of which it has.
type forger struct {
	*fakeSite
	fake *fakeSite
}

func (f forger) Members() *coord.Members {
	m := *f.fake.Members()
	m.Site, m.Epoch = f.fakeSite.Members().Site, 2
	return &m
}

func (f forger) Past() ([]join.Past, error) {
	m, next := f.fakeSite.Members(), f.Members()
	step := join.Step{Block: coord.Digest{1}, Height: 1, Next: next}
	for v := range m.List { // it has no key of m
		sig := f.fake.keys[0].SignVote(m.Site, coord.VoteEpoch, m.Epoch, step.Height, coord.HandoverDigest(step.Block, next.Digest()))
		step.Sigs = append(step.Sigs, join.StepSig{Voter: uint8(v), Sig: sig})
	}
	return []join.Past{{Members: m, Step: step}}, nil
}

// Thousands of connections that say nothing, ask for puzzles or bring rubbish, from the joiner's own address even: it gets in.
func TestAnHonestJoinerGetsInThroughAFlood(t *testing.T) {
	s := newSite(t, 1)
	srv, at := port(t, s, 10)
	ctx, stop := context.WithCancel(context.Background())
	var flood sync.WaitGroup
	for i := range 8 {
		flood.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(10+i))}}
			var held []net.Conn
			defer func() {
				for _, c := range held {
					_ = c.Close()
				}
			}()
			for n := 0; ctx.Err() == nil; n++ {
				c, err := d.DialContext(ctx, "tcp", at)
				if err != nil {
					continue
				}
				switch n % 3 {
				case 0:
					_, _ = io.WriteString(c, "HFJOIN1?")
				case 1:
					_, _ = io.WriteString(c, "HFJOIN1!"+strings.Repeat("\x01", join.SolutionBytes))
				}
				if held = append(held, c); len(held) > 100 { // says nothing more, and stays
					_ = held[0].Close()
					held = held[1:]
				}
			}
		})
	}
	defer flood.Wait()
	defer stop()
	for srv.Counts().TooMany < 500 { // it has begun
		select {
		case <-time.After(time.Millisecond):
		case <-within(t).Done():
			t.Fatal("no flood")
		}
	}
	began := time.Now()
	if _, err := joining.Join(within(t), ask(t, s.token(t), "new", at)); err != nil {
		t.Fatal(err)
	}
	t.Logf("in after %v; %+v", time.Since(began).Round(time.Millisecond), srv.Counts())
}

// Who sends a byte now and then is cut like who sends none, when its time is over.
func TestWhoIsSlowIsCut(t *testing.T) {
	for name, begin := range map[string]string{"says nothing": "", "stops in the word": "HFJOI", "sends a byte a second": "HFJOIN1!"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, 1)
			synctest.Test(t, func(t *testing.T) {
				srv, err := joining.New(joining.Config{Certificate: s.keys[0].Certificate(), Site: s, Random: strings.NewReader(strings.Repeat("x", 32)), Logger: quiet()})
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				l := &pipes{ctx: ctx, conns: make(chan net.Conn)}
				var all sync.WaitGroup
				defer all.Wait()
				defer stop()
				all.Go(func() { _ = srv.Serve(ctx, l) })
				mine, its := net.Pipe()
				l.conns <- its
				began := time.Now()
				_, err = io.WriteString(mine, begin)
				for err == nil && name == "sends a byte a second" {
					time.Sleep(time.Second)
					_, err = mine.Write([]byte{1})
				}
				if _, err := mine.Read(make([]byte, 1)); err == nil {
					t.Error("it was answered")
				}
				if d := time.Since(began); d > 6*time.Second {
					t.Errorf("cut after %v", d)
				}
			})
		})
	}
}

// pipes is a listener whose connections are in memory, for virtual time.
type pipes struct {
	ctx   context.Context
	conns chan net.Conn
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestAProofOfWorkIsAskedForBeforeTLS(t *testing.T) {
	s := newSite(t, 1)
	_, at := port(t, s, 20)
	conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		_ = conn.Close()
		t.Fatal("a handshake without work")
	}
	raw, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_, _ = io.WriteString(raw, "HFJOIN1!"+strings.Repeat("\x00", join.SolutionBytes))
	var b [1]byte
	if _, err := io.ReadFull(raw, b[:]); err != nil || b[0] == 0 {
		t.Fatalf("%v, %v", b, err)
	}
}

func TestServingEndsWithItsContextWhoeverIsConnected(t *testing.T) {
	s := newSite(t, 1)
	s.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := joining.New(joining.Config{Certificate: s.keys[0].Certificate(), Site: s, Random: strings.NewReader(strings.Repeat("x", 32)), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	served := make(chan error, 1)
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { served <- srv.Serve(ctx, l) })
	a := ask(t, s.token(t), "new", l.Addr().String())
	joins, stop := context.WithCancel(within(t))
	defer stop()
	a.Tell = func(p joining.Progress) {
		if p.Waits != nil {
			cancel()
		}
	}
	all.Go(func() { _, _ = joining.Join(joins, a) })
	silent, err := net.Dial("tcp", l.Addr().String())
	if err == nil {
		defer silent.Close()
	}
	select {
	case err := <-served:
		if err != nil {
			t.Fatal(err)
		}
	case <-within(t).Done():
		t.Fatal("still serving")
	}
}

// proven is a connection from an address that has solved the puzzle, and what it was answered.
func proven(t *testing.T, at, from string) (net.Conn, byte) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	dial := func(say string) net.Conn {
		conn, err := d.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, say)
		return conn
	}
	asks := dial("HFJOIN1?")
	defer asks.Close()
	var c [join.ChallengeBytes]byte
	if _, err := io.ReadFull(asks, c[:]); err != nil {
		t.Fatal(err)
	}
	challenge, err := join.ParseChallenge(c[:])
	if err != nil {
		t.Fatal(err)
	}
	solution, _, _ := challenge.Search(0, 1, 1)
	conn := dial("HFJOIN1!" + string(solution[:]))
	t.Cleanup(func() { _ = conn.Close() })
	var is [1]byte
	if _, err := io.ReadFull(conn, is[:]); err != nil {
		t.Fatal(err)
	}
	return conn, is[0]
}

func TestOneAddressHasAQuarterOfThePlacesAfterTheProof(t *testing.T) {
	_, at := port(t, newSite(t, 1), 0)
	const places, busy = 4, 3
	var held net.Conn
	for i := range places {
		conn, is := proven(t, at, "127.0.0.2")
		if held = conn; is != 0 {
			t.Fatalf("connection %d: answered %d", i+1, is)
		}
	}
	if _, is := proven(t, at, "127.0.0.2"); is != busy {
		t.Errorf("one more: answered %d", is)
	}
	if _, is := proven(t, at, "127.0.0.3"); is != 0 {
		t.Errorf("another address: answered %d", is)
	}
	_ = held.Close()
	for ctx := within(t); ; { // its place is free when the server has seen its end
		if _, is := proven(t, at, "127.0.0.2"); is == 0 {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("the place stays taken")
		case <-time.After(300 * time.Millisecond): // what one address may connect
		}
	}
}

// Whoever has a token, and makes requests for many boxes with it, does not take all decisions that a box may have open.
func TestOneTokenHasTwoOpenDecisionsAtMost(t *testing.T) {
	s := newSite(t, 1)
	_, at := port(t, s, 0)
	s.openOf(2)
	a := ask(t, s.token(t), "new", at)
	done := make(chan error, 1)
	ctx := within(t)
	go func() { _, err := joining.Join(ctx, a); done <- err }()
	for !s.recorded(audit.Denied, "busy") {
		select {
		case err := <-done:
			t.Fatalf("it was let in, or refused otherwise: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.openOf(1)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// After the proof it is TLS 1.3 or nothing, and this port's protocol.
func TestAfterTheProofItIsTLS13(t *testing.T) {
	s := newSite(t, 1)
	_, at := port(t, s, 0)
	for name, tc := range map[string]struct {
		config *tls.Config
		good   bool
	}{
		"TLS 1.3":          {&tls.Config{NextProtos: []string{"holdfast-join/1"}}, true},
		"TLS 1.2":          {&tls.Config{NextProtos: []string{"holdfast-join/1"}, MaxVersion: tls.VersionTLS12}, false},
		"another protocol": {&tls.Config{NextProtos: []string{"h2"}}, false},
	} {
		conn, is := proven(t, at, "127.0.0.1")
		if is != 0 {
			t.Fatalf("answered %d", is)
		}
		tc.config.InsecureSkipVerify = true
		if err := tls.Client(conn, tc.config).Handshake(); (err == nil) != tc.good {
			t.Errorf("%s: %v", name, err)
		}
		_ = conn.Close()
	}
}

// A whole join, of a site of four in this process: what is left of it is the puzzle.
func BenchmarkJoin(b *testing.B) {
	for _, bits := range []int{0, 20} {
		b.Run(strconv.Itoa(bits)+" bits", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := newSite(b, 4)
				_, at := port(b, s, bits)
				a := ask(b, s.token(b), "new", at)
				b.StartTimer()
				if _, err := joining.Join(within(b), a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
