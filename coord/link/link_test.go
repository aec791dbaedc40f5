package link_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
)

// patience is how long a test waits for what must happen before it says that it did not. It is not a promise.
const patience = 20 * time.Second

// site is a member set with its keys and listeners.
type site struct {
	t         testing.TB
	members   *coord.Members
	certs     []tls.Certificate
	listeners []net.Listener // nil once a box has it
}

func newCertificate(t testing.TB) (c tls.Certificate, publicKey []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)} // valid at no time, for no name
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if publicKey, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, publicKey
}

// newSite makes n members that listen on the loopback.
func newSite(t testing.TB, n int) *site {
	t.Helper()
	s := newSiteWithout(t, n)
	for i := range n {
		l := listen(t, "127.0.0.1:0")
		s.listeners[i] = l
		s.members.List[i].Peer = l.Addr().String()
	}
	return s
}

// newSiteWithout makes n members without a network.
func newSiteWithout(t testing.TB, n int) *site {
	t.Helper()
	s := &site{t: t, members: &coord.Members{Site: coord.SiteID{1}, Epoch: 3}, listeners: make([]net.Listener, n)}
	for i := range n {
		c, key := newCertificate(t)
		s.certs = append(s.certs, c)
		s.members.List = append(s.members.List, coord.Member{
			ID: coord.BoxIDOf(key), Name: fmt.Sprintf("box-%d", i), Key: key, Peer: fmt.Sprint(i),
		})
	}
	return s
}

// index is a box's place among all that the test has, whatever set a Link serves.
func (s *site) index(id coord.BoxID) int {
	for i, c := range s.certs {
		if leaf, err := x509.ParseCertificate(c.Certificate[0]); err == nil && coord.BoxIDOf(leaf.RawSubjectPublicKeyInfo) == id {
			return i
		}
	}
	return -1
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

type message struct {
	from int
	msg  *coord.PeerMsg
}

type change struct {
	peer int
	up   bool
}

// box is one running Link.
type box struct {
	t    testing.TB
	site *site
	link *link.Link
	// kill closes the sockets without a word, as the kernel does for a killed process, and stops the rest.
	conns  *tracked
	cancel context.CancelFunc
	done   chan error

	messages chan message
	changes  chan change
	twins    chan int
}

// start runs member i until the test ends or stop is called.
func (s *site) start(i int, options ...func(*link.Config)) *box {
	s.t.Helper()
	b := &box{
		t: s.t, site: s, conns: new(tracked), done: make(chan error, 1),
		messages: make(chan message, 1<<16), changes: make(chan change, 1<<10), twins: make(chan int, 1<<10),
	}
	l := s.listeners[i]
	if s.listeners[i] = nil; l == nil {
		l = listen(s.t, s.members.List[i].Peer)
	}
	cfg := link.Config{
		Members: s.members, Self: i, Certificate: s.certs[i], Listener: trackedListener{l, b.conns},
		OnMessage: func(from coord.BoxID, m *coord.PeerMsg, _ int) { b.messages <- message{s.index(from), m} },
		OnState:   func(peer coord.BoxID, up bool) { b.changes <- change{s.index(peer), up} },
		OnTwin:    func(peer coord.BoxID) { b.twins <- s.index(peer) },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			b.conns.add(c)
			return c, err
		},
		// Nothing here is to be found dead because the machine is busy; who tests that sets it.
		Dead: time.Minute,
	}
	for _, o := range options {
		o(&cfg)
	}
	var err error
	if b.link, err = link.New(cfg); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go func() { b.done <- b.link.Run(ctx) }()
	s.t.Cleanup(b.stop)
	return b
}

// toAll is whom send sends to when it is all members.
const toAll = -1

// send sends to a box of the site, by its place there; beyond it is nobody.
func (b *box) send(to int, m *coord.PeerMsg) {
	p := coord.Parcel{Msg: m, To: coord.BoxID{0xff}}
	if to == toAll {
		p.To = coord.BoxID{}
	} else if to < len(b.site.members.List) {
		p.To = b.site.members.List[to].ID
	}
	b.link.Send(p)
}

// stop ends the box and waits for it.
func (b *box) stop() {
	b.cancel()
	select {
	case err := <-b.done:
		b.done <- nil
		if err != nil {
			b.t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		b.t.Error("Run does not return")
	}
}

// waitChange waits for a peer to go up or down.
func (b *box) waitChange(peer int, up bool) {
	b.t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case c := <-b.changes:
			if c == (change{peer, up}) {
				return
			}
		case <-timeout:
			b.t.Fatalf("peer %d is never reported up=%v: %+v", peer, up, b.link.Peers())
		}
	}
}

func (b *box) next() message {
	b.t.Helper()
	select {
	case m := <-b.messages:
		return m
	case <-time.After(patience):
		b.t.Fatalf("no message: %+v", b.link.Peers())
		return message{}
	}
}

// until waits for a condition on a peer's state, without a promise of when.
func (b *box) until(peer int, what string, ok func(link.PeerState) bool) {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); ; {
		for _, s := range b.link.Peers() {
			if s.Index == peer && ok(s) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-timeout:
			b.t.Fatalf("never %s: %+v", what, b.link.Peers())
		}
	}
}

// tracked closes connections behind a Link's back.
type tracked struct {
	mu    sync.Mutex
	conns []net.Conn
	dead  bool
}

func (k *tracked) add(c net.Conn) {
	if c == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conns = append(k.conns, c); k.dead {
		_ = c.Close()
	}
}

func (k *tracked) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dead = true
	for _, c := range k.conns {
		_ = c.Close()
	}
}

type trackedListener struct {
	net.Listener
	conns *tracked
}

func (l trackedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	l.conns.add(c)
	return c, err
}

// logTo is a logger whose lines go to a channel, those that do not fit nowhere.
func logTo(lines chan<- string) *slog.Logger {
	return slog.New(slog.NewTextHandler(lineWriter(lines), nil))
}

type lineWriter chan<- string

func (w lineWriter) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
	default:
	}
	return len(b), nil
}

func vote(round uint64) *coord.PeerMsg {
	return &coord.PeerMsg{Vote: &coord.Vote{Kind: coord.VoteNotarize, Round: round}}
}

func batch(seq uint64, bytes_ int) *coord.PeerMsg {
	return &coord.PeerMsg{Batch: &coord.Batch{Seq: seq, Count: 1, Body: bytes.Repeat([]byte{7}, bytes_)}}
}

func status(height uint64) *coord.PeerMsg {
	return &coord.PeerMsg{Status: &coord.Status{Height: height}}
}

// pair is two boxes that are up.
func pair(t testing.TB, options ...func(*link.Config)) (*box, *box) {
	t.Helper()
	s := newSite(t, 2)
	a, b := s.start(0, options...), s.start(1, options...)
	a.waitChange(1, true)
	b.waitChange(0, true)
	return a, b
}

func TestMessagesArriveOnceAndInOrderAtAllOthers(t *testing.T) {
	const each = 3000
	s := newSite(t, 4)
	boxes := make([]*box, 4)
	for i := range boxes {
		boxes[i] = s.start(i, func(c *link.Config) { c.QueueFrames = each })
	}
	for i, b := range boxes {
		for p := range boxes {
			if p != i {
				b.until(p, "up", func(s link.PeerState) bool { return s.Up })
			}
		}
	}
	for _, b := range boxes {
		go func() {
			for n := range uint64(each) {
				b.send(toAll, vote(n))
			}
		}()
	}
	for i, b := range boxes {
		var next [4]uint64
		for range each * 3 {
			m := b.next()
			if m.msg.Vote.Round != next[m.from] {
				t.Fatalf("box %d got message %d of box %d where %d is due", i, m.msg.Vote.Round, m.from, next[m.from])
			}
			next[m.from]++
		}
		if next[i] != 0 {
			t.Errorf("box %d heard itself", i)
		}
	}
}

func TestAMessageToOneReachesOnlyThatOne(t *testing.T) {
	s := newSite(t, 3)
	a, b, c := s.start(0), s.start(1), s.start(2)
	for _, p := range []int{1, 2} {
		a.until(p, "up", func(s link.PeerState) bool { return s.Up })
	}
	a.send(1, vote(1))
	a.send(0, vote(2)) // ourselves: ignored
	a.send(9, vote(2)) // nobody: ignored
	a.send(toAll, vote(3))
	for _, want := range []uint64{1, 3} {
		if m := b.next(); m.from != 0 || m.msg.Vote.Round != want {
			t.Fatalf("box 1 got %+v from %d, want vote %d", m.msg.Vote, m.from, want)
		}
	}
	if m := c.next(); m.msg.Vote.Round != 3 {
		t.Fatalf("box 2 got vote %d, want 3", m.msg.Vote.Round)
	}
}

func TestLargeAndSmallMessagesKeepTheirOrderAndContent(t *testing.T) {
	a, b := pair(t)
	sizes := []int{0, 1, 100, 16 << 10, 64 << 10, 65 << 10, 1 << 20, 10, 200 << 10}
	for i, n := range sizes {
		a.send(1, batch(uint64(i), n))
	}
	for i, n := range sizes {
		m := b.next().msg.Batch
		if m.Seq != uint64(i) || !bytes.Equal(m.Body, bytes.Repeat([]byte{7}, n)) {
			t.Fatalf("message %d: seq %d, %d bytes; want %d bytes", i, m.Seq, len(m.Body), n)
		}
	}
}

func TestWhatIsSentToABoxThatIsAwayIsCountedAndForgotten(t *testing.T) {
	s := newSite(t, 2)
	a := s.start(0)
	a.send(toAll, vote(1))
	b := s.start(1)
	a.waitChange(1, true)
	a.send(toAll, vote(2))
	if m := b.next(); m.msg.Vote.Round != 2 {
		t.Fatalf("got vote %d, want 2", m.msg.Vote.Round)
	}
	if p := a.link.Peers()[0]; p.Away != 1 || p.MessagesOut != 1 {
		t.Fatalf("away %d, sent %d; want 1 and 1", p.Away, p.MessagesOut)
	}
}

func TestAKilledBoxIsReportedDownAndItsReturnUp(t *testing.T) {
	s := newSite(t, 2)
	a, b := s.start(0), s.start(1)
	for range 3 {
		a.waitChange(1, true)
		b.conns.kill() // Dead is a minute: it is the closing that tells
		a.waitChange(1, false)
		b.stop()
		b = s.start(1)
	}
	a.waitChange(1, true)
	b.waitChange(0, true)
	a.send(1, vote(5))
	if m := b.next(); m.msg.Vote.Round != 5 {
		t.Fatalf("got vote %d after the return, want 5", m.msg.Vote.Round)
	}
}

func TestAStoppedLinkHasWrittenWhatItTookIn(t *testing.T) {
	const sent = 500
	a, b := pair(t)
	for n := range uint64(sent) {
		a.send(1, batch(n, 4000))
	}
	a.stop()
	for n := range uint64(sent) {
		if m := b.next(); m.msg.Batch.Seq != n {
			t.Fatalf("got message %d where %d is due", m.msg.Batch.Seq, n)
		}
	}
	b.waitChange(0, false)
}

func TestAPeerThatIsPushedBackDoesNotHoldUpAnother(t *testing.T) {
	s := newSite(t, 3)
	release := make(chan struct{})
	a := s.start(0, func(c *link.Config) {
		deliver := c.OnMessage
		c.OnMessage = func(from coord.BoxID, m *coord.PeerMsg, n int) {
			if from == s.members.List[1].ID {
				<-release
			}
			deliver(from, m, n)
		}
	})
	b, c := s.start(1), s.start(2)
	b.waitChange(0, true)
	c.waitChange(0, true)
	b.send(0, vote(1))
	c.send(0, vote(2))
	if m := a.next(); m.from != 2 {
		t.Fatalf("first came box %d's message, which is held", m.from)
	}
	close(release)
	if m := a.next(); m.from != 1 {
		t.Fatalf("box 1's message is lost; got one of box %d", m.from)
	}
}

func TestAPeersStateTellsWhatHappened(t *testing.T) {
	a, b := pair(t, func(c *link.Config) { c.Heartbeat = time.Millisecond })
	a.send(1, vote(1))
	b.next()
	a.until(1, "measured", func(s link.PeerState) bool { return s.RTT > 0 && !s.Heard.IsZero() })
	b.until(0, "heard", func(s link.PeerState) bool { return s.MessagesIn == 1 && s.BytesIn > 0 })
	p := a.link.Peers()
	if len(p) != 1 || p[0].Index != 1 || p[0].Name != "box-1" || !p[0].Up || !p[0].Sending || !p[0].Receiving ||
		p[0].Version != link.VersionMax || p[0].Ups != 1 || p[0].Since.IsZero() || p[0].MessagesOut != 1 || p[0].BytesOut == 0 {
		t.Errorf("state %+v", p)
	}
}

func TestASiteOfOneNeedsNoListener(t *testing.T) {
	s := newSiteWithout(t, 1)
	l, err := link.New(link.Config{Members: s.members, Certificate: s.certs[0], OnMessage: func(coord.BoxID, *coord.PeerMsg, int) {}})
	if err != nil {
		t.Fatal(err)
	}
	l.Send(coord.Parcel{Msg: vote(1)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Run(ctx); err != nil || len(l.Peers()) != 0 {
		t.Fatalf("Run: %v; peers %v", err, l.Peers())
	}
}
