package link_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/link"
)

// liar speaks the protocol by hand, over a connection that it dialled.
type liar struct {
	t    testing.TB
	conn *tls.Conn
}

func clientConfig(cert *tls.Certificate) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{link.ALPN}}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return c
}

// dialLiar connects to address; the handshake's outcome shows with the first read.
func dialLiar(t testing.TB, address string, config *tls.Config) *liar {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return &liar{t, tls.Client(raw, config)}
}

// say writes; a refusal shows with the next read.
func (l *liar) say(b []byte) { _, _ = l.conn.Write(b) }

// hears wants one frame of a type.
func (l *liar) hears(typ byte) []byte {
	l.t.Helper()
	_ = l.conn.SetReadDeadline(time.Now().Add(patience))
	got, body, err := link.ReadFrame(l.conn)
	if err != nil || got != typ {
		l.t.Fatalf("heard type %d, error %v; want type %d", got, err, typ)
	}
	return body
}

// isCutOff wants the other side to close without a word.
func (l *liar) isCutOff() {
	l.t.Helper()
	_ = l.conn.SetReadDeadline(time.Now().Add(patience))
	typ, body, err := link.ReadFrame(l.conn)
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		l.t.Fatalf("not cut off: heard type %d of %d bytes, error %v", typ, len(body), err)
	}
}

// hello is what member i of a site rightly says.
func (s *site) hello(i int, incarnation uint64) link.Hello {
	return link.Hello{
		Site: s.members.Site, Epoch: s.members.Epoch, Box: s.members.List[i].ID, Incarnation: incarnation,
		Min: link.VersionMin, Max: link.VersionMax,
	}
}

// liarAs is member i connected to a box, past the hellos.
func (s *site) liarAs(i, to int, incarnation uint64) *liar {
	s.t.Helper()
	l := dialLiar(s.t, s.members.List[to].Peer, clientConfig(&s.certs[i]))
	l.say(link.AppendHello(s.hello(i, incarnation)))
	l.hears(link.FrameHello)
	return l
}

func TestOnlyMembersGetPastTLS(t *testing.T) {
	s := newSite(t, 2)
	b := s.start(0)
	stranger, _ := newCertificate(t)
	for name, config := range map[string]*tls.Config{
		"a stranger's key": clientConfig(&stranger),
		"our own key":      clientConfig(&s.certs[0]),
		"no certificate":   clientConfig(nil),
		"TLS 1.2": func() *tls.Config {
			c := clientConfig(&s.certs[1])
			c.MaxVersion = tls.VersionTLS12
			return c
		}(),
		"another protocol": func() *tls.Config {
			c := clientConfig(&s.certs[1])
			c.NextProtos = []string{"h2"}
			return c
		}(),
		"no protocol": func() *tls.Config {
			c := clientConfig(&s.certs[1])
			c.NextProtos = nil
			return c
		}(),
		"a member's certificate without its key": func() *tls.Config {
			c := stranger
			c.Certificate = s.certs[1].Certificate
			return clientConfig(&c)
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			before := b.link.Strangers().Refused
			l := dialLiar(t, s.members.List[0].Peer, config)
			l.say(link.AppendHello(s.hello(1, 1)))
			l.isCutOff()
			b.until(1, "refused", func(link.PeerState) bool { return b.link.Strangers().Refused == before+1 })
			if p := b.link.Peers()[0]; p.Receiving || p.BytesIn != 0 {
				t.Errorf("it was heard: %+v", p)
			}
		})
	}
}

func TestNotTLSIsCutOff(t *testing.T) {
	s := newSite(t, 2)
	s.start(0)
	raw, err := net.Dial("tcp", s.members.List[0].Peer)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := io.WriteString(raw, strings.Repeat("GET / HTTP/1.1\r\n", 100)); err != nil {
		t.Fatal(err)
	}
	_ = raw.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, raw); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("not cut off")
	}
}

func TestAnImpostorAtAMembersAddressGetsNothing(t *testing.T) {
	s := newSite(t, 2)
	fake, _ := newCertificate(t)
	impostor := s.listeners[1]
	heard := make(chan error, 1)
	go func() {
		raw, err := impostor.Accept()
		if err != nil {
			heard <- err
			return
		}
		defer raw.Close()
		c := tls.Server(raw, &tls.Config{
			Certificates: []tls.Certificate{fake}, NextProtos: []string{link.ALPN}, ClientAuth: tls.RequestClientCert,
		})
		_, _, err = link.ReadFrame(c)
		heard <- err
	}()
	a := s.start(0)
	if err := <-heard; err == nil {
		t.Fatal("the impostor heard a hello")
	}
	if p := a.link.Peers()[0]; p.Sending {
		t.Fatalf("the impostor was taken for box 1: %+v", p)
	}
}

func TestAHelloOfAnotherPlaceIsAnsweredAndCutOff(t *testing.T) {
	s := newSite(t, 2)
	b := s.start(0)
	for name, change := range map[string]func(*link.Hello){
		"another site":        func(h *link.Hello) { h.Site[0]++ },
		"another box":         func(h *link.Hello) { h.Box[0]++ },
		"only later versions": func(h *link.Hello) { h.Min, h.Max = link.VersionMax+1, link.VersionMax+2 },
		"only older versions": func(h *link.Hello) { h.Min, h.Max = 0, link.VersionMin-1 },
		"no versions":         func(h *link.Hello) { h.Min, h.Max = 2, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			l := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[1]))
			h := s.hello(1, 1)
			change(&h)
			l.say(link.AppendHello(h))
			l.say(link.AppendMessage(nil, vote(1)))
			l.hears(link.FrameHello) // tells the other side's operator what does not fit
			l.isCutOff()
		})
	}
	if p := b.link.Peers()[0]; p.MessagesIn != 0 || p.BadFrames != 0 {
		t.Errorf("its messages were heard, or it was punished: %+v", p)
	}
}

func TestVersionsThatOverlapAgree(t *testing.T) {
	s := newSite(t, 2)
	b := s.start(0)
	h := s.hello(1, 1)
	h.Min, h.Max = 0, 900
	l := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[1]))
	l.say(append(link.AppendFrame(link.FrameHello, append(link.AppendHello(h)[5:], "what a later version adds"...)),
		link.AppendMessage(nil, vote(1))...))
	l.hears(link.FrameHello)
	if b.next().msg.Vote.Round != 1 || b.link.Peers()[0].Version != link.VersionMax {
		t.Fatalf("state %+v", b.link.Peers()[0])
	}
}

func TestABadFrameEndsTheConnectionAndIsCounted(t *testing.T) {
	good := link.AppendMessage(nil, batch(1, 200))
	tooLong := append([]byte(nil), good...)
	tooLong[0] = 0x7f
	for name, bytes := range map[string][]byte{
		"a length of zero":          {0, 0, 0, 0, 4},
		"a length beyond any frame": tooLong,
		"an unknown type":           link.AppendFrame(99, []byte("x")),
		"a second hello":            link.AppendFrame(link.FrameHello, make([]byte, 36)),
		"a pong from the dialler":   link.AppendFrame(link.FramePong, make([]byte, 8)),
		"a short ping":              link.AppendFrame(link.FramePing, make([]byte, 7)),
		"a message that is none":    link.AppendFrame(link.FrameMessage, []byte{0xc1, 0xff, 0xff}),
		"an empty message":          link.AppendFrame(link.FrameMessage, nil),
		"a truncated message":       link.AppendFrame(link.FrameMessage, good[5:len(good)-1]),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, 2)
			b := s.start(0)
			l := s.liarAs(1, 0, 1)
			l.say(good)
			b.next()
			l.say(bytes)
			l.isCutOff()
			b.until(1, "counted", func(p link.PeerState) bool { return p.BadFrames == 1 && !p.Receiving })
			// It is held off: its next hello is not answered.
			l = dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[1]))
			l.say(link.AppendHello(s.hello(1, 1)))
			l.isCutOff()
		})
	}
}

func TestAPeerThatWasHeldOffIsHeardAgain(t *testing.T) {
	s := newSite(t, 2)
	b := s.start(0)
	l := s.liarAs(1, 0, 1)
	l.say(link.AppendFrame(99, nil))
	l.isCutOff()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); ; {
		l := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[1]))
		l.say(append(link.AppendHello(s.hello(1, 1)), link.AppendMessage(nil, vote(1))...))
		_ = l.conn.SetReadDeadline(time.Now().Add(patience))
		if _, _, err := link.ReadFrame(l.conn); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("held off for ever: %+v", b.link.Peers())
		}
	}
	b.next()
}

func TestAFirstFrameThatIsNoHelloEndsTheConnection(t *testing.T) {
	for name, first := range map[string][]byte{
		"larger than any hello": link.AppendFrame(link.FrameHello, make([]byte, 4096)),
		"a short hello":         link.AppendFrame(link.FrameHello, make([]byte, 35)),
		"a message":             link.AppendMessage(nil, vote(1)),
		"a ping":                link.AppendFrame(link.FramePing, make([]byte, 8)),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, 2)
			b := s.start(0)
			l := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[1]))
			l.say(first)
			l.isCutOff()
			b.until(1, "counted", func(p link.PeerState) bool { return p.BadFrames == 1 && p.MessagesIn == 0 })
		})
	}
}

// mute accepts connections as member i, says hello, and reads nothing after.
func (s *site) mute(i int) (connected <-chan struct{}) {
	up := make(chan struct{}, 64)
	l := s.listeners[i]
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			s.t.Cleanup(func() { _ = raw.Close() })
			_ = raw.(*net.TCPConn).SetReadBuffer(4096)
			c := tls.Server(raw, &tls.Config{
				Certificates: []tls.Certificate{s.certs[i]}, NextProtos: []string{link.ALPN}, ClientAuth: tls.RequireAnyClientCert,
			})
			if _, _, err := link.ReadFrame(c); err != nil {
				continue
			}
			if _, err := c.Write(link.AppendHello(s.hello(i, 1))); err == nil {
				up <- struct{}{}
			}
		}
	}()
	return up
}

func TestAPeerThatNeverReadsBlocksNobodyAndLosesTheLeastNeededFirst(t *testing.T) {
	const rounds = 3000
	s := newSite(t, 3)
	connected := s.mute(2)
	a := s.start(0, func(c *link.Config) { c.QueueFrames = 2 * rounds })
	b := s.start(1)
	a.waitChange(1, true)
	<-connected
	a.until(2, "connected", func(p link.PeerState) bool { return p.Sending })
	// 3000 x 8 KiB are more than the sockets' buffers and a queue of 8 MiB.
	for n := range uint64(rounds) {
		a.send(toAll, batch(n, 8<<10))
		a.send(toAll, status(n))
		a.send(toAll, vote(n))
		for range 3 { // box 1 keeps up
			b.next()
		}
	}
	states := a.link.Peers()
	if d := states[0].Dropped; d != [3]uint64{} {
		t.Errorf("box 1 reads and lost %v", d)
	}
	d := states[1].Dropped
	if d[link.ClassBulk] == 0 || d[link.ClassRepair] == 0 || d[link.ClassVital] != 0 {
		t.Errorf("box 2 reads nothing and lost repair %d, bulk %d, vital %d; want some, some, none",
			d[link.ClassRepair], d[link.ClassBulk], d[link.ClassVital])
	}
	if max := link.QueueBytesDefault; states[1].WaitingBytes > max {
		t.Errorf("its queue holds %d bytes, more than %d", states[1].WaitingBytes, max)
	}
}

func TestSilentStrangersDoNotKeepMembersOut(t *testing.T) {
	s := newSite(t, 2)
	a := s.start(0, func(c *link.Config) {
		c.StrangersMax, c.StrangersPerAddress = 8, 4
		c.Handshake = time.Hour // no deadline helps
	})
	for range 40 {
		raw, err := net.Dial("tcp", s.members.List[0].Peer)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if _, err := raw.Write([]byte{22}); err != nil { // the first byte of a handshake, and no more
			t.Fatal(err)
		}
	}
	b := s.start(1)
	a.waitChange(1, true)
	b.waitChange(0, true)
	if got := a.link.Strangers().Evicted; got < 36 {
		t.Errorf("%d strangers made room, want 36 or more", got)
	}
}

func TestANewerConnectionWinsAndTheBreakIsTold(t *testing.T) {
	s := newSite(t, 2)
	s.mute(1)
	a := s.start(0)
	first := s.liarAs(1, 0, 1)
	a.waitChange(1, true)
	second := s.liarAs(1, 0, 2)
	first.isCutOff()
	a.waitChange(1, false)
	a.waitChange(1, true)
	second.say(link.AppendMessage(nil, vote(1)))
	if a.next().msg.Vote.Round != 1 {
		t.Fatal("the newer connection is not heard")
	}
}

func TestTwoMachinesWithOneIdentityAreToldAndDamped(t *testing.T) {
	s := newSite(t, 2)
	s.mute(1)
	a := s.start(0)
	for _, incarnation := range []uint64{1, 2, 1, 2} { // 1 came back, 2 came back: both live
		s.liarAs(1, 0, incarnation)
	}
	select {
	case p := <-a.twins:
		if p != 1 {
			t.Fatalf("told of peer %d", p)
		}
	case <-time.After(patience):
		t.Fatal("never told")
	}
	// For a while the identity stays with the machine that has it.
	other := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[1]))
	other.say(link.AppendHello(s.hello(1, 1)))
	other.isCutOff()
	s.liarAs(1, 0, 2)
	if got := a.link.Peers()[0].Twins; got != 1 {
		t.Errorf("counted %d, want 1", got)
	}
}

func TestARestartedBoxIsNoTwin(t *testing.T) {
	s := newSite(t, 2)
	s.mute(1)
	a := s.start(0)
	for incarnation := range uint64(20) {
		s.liarAs(1, 0, incarnation)
	}
	if got := a.link.Peers()[0].Twins; got != 0 {
		t.Errorf("counted %d twins, want none", got)
	}
}
