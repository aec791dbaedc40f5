package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
)

// set is a member set of some of the test's boxes as one of them has it.
func (s *site) set(self int, epoch uint64, boxes ...int) link.Set {
	set := link.Set{Members: &coord.Members{Site: s.members.Site, Epoch: epoch}, Self: -1, Certificate: s.certs[self]}
	for at, i := range boxes {
		set.Members.List = append(set.Members.List, s.members.List[i])
		if i == self {
			set.Self = at
		}
	}
	return set
}

// former adds boxes that were removed.
func (s *site) former(set link.Set, boxes ...int) link.Set {
	for _, i := range boxes {
		set.Former = append(set.Former, s.members.List[i])
	}
	return set
}

// in makes a box begin with a set.
func in(set link.Set) func(*link.Config) {
	return func(c *link.Config) {
		c.Members, c.Self, c.Certificate, c.Former = set.Members, set.Self, set.Certificate, set.Former
	}
}

// tellsBehind makes a Link tell of boxes that are behind.
func (s *site) tellsBehind(to chan<- message) func(*link.Config) {
	return func(c *link.Config) {
		c.OnBehind = func(peer coord.BoxID, epoch uint64) { to <- message{s.index(peer), status(epoch)} }
	}
}

func (b *box) use(set link.Set) {
	b.t.Helper()
	if err := b.link.SetMembers(set); err != nil {
		b.t.Fatal(err)
	}
}

// peer is the state of a box's link to another, by name.
func (b *box) peer(id coord.BoxID) (p link.PeerState, ok bool) {
	for _, p := range b.link.Peers() {
		if p.ID == id {
			return p, true
		}
	}
	return p, false
}

// untilUp waits until a box has a link with another that works both ways.
func (b *box) untilUp(id coord.BoxID) {
	b.t.Helper()
	b.wait("up with "+id.String(), func() bool { p, ok := b.peer(id); return ok && p.Up })
}

func (b *box) wait(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-timeout:
			b.t.Fatalf("never %s: %+v", what, b.link.Peers())
		}
	}
}

func TestMembersThatStayKeepTheirConnectionsWhereverTheyStandInTheNewSet(t *testing.T) {
	s := newSite(t, 4)
	a, b, c := s.start(0, in(s.set(0, 1, 0, 1, 2))), s.start(1, in(s.set(1, 1, 0, 1, 2))), s.start(2, in(s.set(2, 1, 0, 1, 2)))
	for _, x := range []*box{a, b, c} {
		for i := range 3 {
			if id := s.members.List[i].ID; x != []*box{a, b, c}[i] {
				x.untilUp(id)
			}
		}
	}
	// Box 0 leaves, box 3 comes: 2 is at index 1 then, and 1 at 0.
	d := s.start(3, in(s.set(3, 2, 1, 2, 3)))
	b.send(2, vote(1))
	b.use(s.set(1, 2, 1, 2, 3))
	c.use(s.set(2, 2, 1, 2, 3))
	b.send(2, vote(2))
	b.send(toAll, vote(3))
	for want := range uint64(3) {
		if m := c.next(); m.from != 1 || m.msg.Vote.Round != want+1 {
			t.Fatalf("got vote %d of box %d, want %d of box 1", m.msg.Vote.Round, m.from, want+1)
		}
	}
	b.untilUp(s.members.List[3].ID)
	c.untilUp(s.members.List[3].ID)
	d.send(toAll, vote(4))
	for _, x := range []*box{b, c} {
		if m := x.next(); m.from != 3 || m.msg.Vote.Round != 4 {
			t.Fatalf("got vote %d of box %d, want 4 of box 3", m.msg.Vote.Round, m.from)
		}
	}
	for _, p := range b.link.Peers() {
		if p.ID == s.members.List[2].ID && (p.Ups != 1 || p.Index != 1 || p.Dropped != [3]uint64{} || p.Away != 0) {
			t.Errorf("the link between two that stayed: %+v", p)
		}
		if p.ID == s.members.List[0].ID {
			t.Errorf("the box that left is still a peer: %+v", p)
		}
	}
}

func TestWhatWaitsForAMemberThatLeavesIsWritten(t *testing.T) {
	const sent = 300
	s := newSite(t, 3)
	a, b := s.start(0), s.start(1)
	a.untilUp(s.members.List[1].ID)
	b.untilUp(s.members.List[0].ID)
	for n := range uint64(sent) {
		a.send(1, batch(n, 4000))
	}
	a.use(s.former(s.set(0, 4, 0, 2), 1))
	a.send(1, batch(sent, 10)) // by name: it is told why
	for n := range uint64(sent + 1) {
		if m := b.next(); m.msg.Batch.Seq != n {
			t.Fatalf("got message %d where %d is due", m.msg.Batch.Seq, n)
		}
	}
	b.waitChange(0, true)
	b.waitChange(0, false)
	a.waitChange(1, true)
	a.waitChange(1, false)
}

func TestBoxesOfDifferentEpochsSpeakAndTheOneBehindIsNamed(t *testing.T) {
	s := newSite(t, 2)
	behind := make(chan message, 16)
	a := s.start(0, in(s.set(0, 7, 0, 1)), s.tellsBehind(behind))
	b := s.start(1, in(s.set(1, 5, 0, 1)), s.tellsBehind(make(chan message))) // it would block
	a.untilUp(s.members.List[1].ID)
	b.untilUp(s.members.List[0].ID)
	if m := <-behind; m.from != 1 || m.msg.Status.Height != 5 {
		t.Fatalf("box %d is said to be behind in epoch %d, want box 1 in 5", m.from, m.msg.Status.Height)
	}
	b.send(0, vote(1))
	a.send(1, vote(2))
	if a.next().msg.Vote.Round != 1 || b.next().msg.Vote.Round != 2 {
		t.Fatal("other votes came")
	}
}

func TestARemovedBoxThatDoesNotKnowComesBackAsAGuestAndIsTold(t *testing.T) {
	s := newSite(t, 3)
	behind := make(chan message, 16)
	a := s.start(0, in(s.former(s.set(0, 4, 0, 1), 2)), s.tellsBehind(behind))
	r := s.start(2) // in epoch 3, of all three
	if m := <-behind; m.from != 2 || m.msg.Status.Height != 3 {
		t.Fatalf("box %d is said to be behind in epoch %d, want box 2 in 3", m.from, m.msg.Status.Height)
	}
	r.untilUp(s.members.List[0].ID)
	// It says what members say; only where it is goes through.
	r.send(0, batch(1, 1000))
	r.send(0, vote(1))
	r.send(0, status(9))
	if m := a.next(); m.from != 2 || m.msg.Status == nil || m.msg.Status.Height != 9 {
		t.Fatalf("got %+v of box %d, want only its status", m.msg, m.from)
	}
	// And it is told only that.
	a.send(2, vote(2))
	a.send(toAll, vote(3))
	a.send(2, status(10))
	if m := r.next(); m.from != 0 || m.msg.Status == nil || m.msg.Status.Height != 10 {
		t.Fatalf("the guest got %+v", m.msg)
	}
	if _, ok := a.peer(s.members.List[2].ID); ok || len(a.changes) > 0 {
		t.Error("the guest is shown as a member")
	}
}

func TestAMemberIsToldOfAHandoverByOnesThatItDoesNotKnow(t *testing.T) {
	s := newSite(t, 3)
	behind := make(chan message, 16)
	b := s.start(1, in(s.set(1, 5, 1, 2)))                        // was away when 2 became 0
	a := s.start(0, in(s.set(0, 6, 0, 1)), s.tellsBehind(behind)) // a new key
	if m := <-behind; m.from != 1 || m.msg.Status.Height != 5 {
		t.Fatalf("box %d is said to be behind in epoch %d, want box 1 in 5", m.from, m.msg.Status.Height)
	}
	a.send(1, vote(1))
	a.send(1, status(6))
	if m := b.next(); m.from != 0 || m.msg.Status == nil {
		t.Fatalf("got %+v of box %d, want the status of box 0 and nothing else", m.msg, m.from)
	}
	b.use(s.set(1, 6, 0, 1))
	a.untilUp(s.members.List[1].ID)
	b.untilUp(s.members.List[0].ID)
	a.send(1, vote(2))
	if m := b.next(); m.from != 0 || m.msg.Vote == nil {
		t.Fatalf("as a member it says %+v", m.msg)
	}
}

func TestAKeyIsChangedWithoutAMessageLost(t *testing.T) {
	const rounds = 200
	s := newSite(t, 3) // 2 is what 1 becomes
	s.members.List[2].Peer = s.members.List[1].Peer
	a, b := s.start(0, in(s.set(0, 1, 0, 1))), s.start(1, in(s.set(1, 1, 0, 1)))
	a.untilUp(s.members.List[1].ID)
	b.untilUp(s.members.List[0].ID)
	say := func(from, to uint64) {
		for n := from; n < to; n++ {
			b.send(0, batch(n, 2000))
		}
	}
	hear := func(from, to uint64) {
		t.Helper()
		for n := from; n < to; n++ {
			if m := a.next(); m.msg.Batch.Seq != n {
				t.Fatalf("got message %d of box %d where %d is due", m.msg.Batch.Seq, m.from, n)
			}
		}
	}
	say(0, rounds)
	b.use(s.set(2, 2, 0, 2)) // 0 does not know it yet
	say(rounds, 2*rounds)
	hear(0, 2*rounds)
	a.use(s.set(0, 2, 0, 2))
	a.untilUp(s.members.List[2].ID)
	b.untilUp(s.members.List[0].ID)
	say(2*rounds, 3*rounds)
	hear(2*rounds, 3*rounds)
	a.send(2, vote(1))
	if m := b.next(); m.from != 0 {
		t.Fatalf("a message of box %d", m.from)
	}
}

func TestWhoKnowsTheNewKeyFirstIsServedAsSoonAsItIsUsed(t *testing.T) {
	s := newSite(t, 3)
	s.members.List[2].Peer = s.members.List[1].Peer
	a, b := s.start(0, in(s.set(0, 1, 0, 1))), s.start(1, in(s.set(1, 1, 0, 1)))
	a.untilUp(s.members.List[1].ID)
	b.untilUp(s.members.List[0].ID)
	a.use(s.set(0, 2, 0, 2))
	b.use(s.set(2, 2, 0, 2))
	a.untilUp(s.members.List[2].ID)
	b.untilUp(s.members.List[0].ID)
	// What was dialled with the old key is over.
	old := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[1]))
	old.say(link.AppendHello(link.Hello{Site: s.members.Site, Epoch: 1, Box: s.members.List[1].ID, Min: link.VersionMin, Max: link.VersionMax}))
	old.isRefused("epoch 2")
}

func TestAMemberThatMovesIsDialledWhereItIs(t *testing.T) {
	s := newSite(t, 2)
	a, b := s.start(0), s.start(1)
	a.untilUp(s.members.List[1].ID)
	b.stop()
	moved := s.set(0, 4, 0, 1)
	l := listen(t, "127.0.0.1:0")
	moved.Members.List[1].Peer = l.Addr().String()
	a.use(moved)
	s.listeners[1] = l
	b = s.start(1)
	b.untilUp(s.members.List[0].ID)
	a.untilUp(s.members.List[1].ID)
}

func TestABoxThatIsRemovedLeavesAllAndListensToNobody(t *testing.T) {
	s := newSite(t, 2)
	a, b := s.start(0), s.start(1)
	a.waitChange(1, true)
	b.waitChange(0, true)
	a.use(s.set(0, 4, 1))
	a.waitChange(1, false)
	if p := a.link.Peers(); len(p) != 1 { // the set's, with nobody behind it
		for _, x := range p {
			if x.Up || x.Sending || x.Receiving {
				t.Errorf("still linked: %+v", x)
			}
		}
	}
	l := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[1]))
	l.say(link.AppendHello(s.hello(1, 1)))
	l.isCutOff()
}

func TestASetThatCannotBeChangesNothing(t *testing.T) {
	s := newSite(t, 3)
	a, b := s.start(0), s.start(1)
	a.untilUp(s.members.List[1].ID)
	good := s.set(0, 4, 0, 1)
	for name, change := range map[string]func(*link.Set){
		"no members":            func(c *link.Set) { c.Members = nil },
		"too many members":      func(c *link.Set) { c.Members.List = make([]coord.Member, 33) },
		"not in the site":       func(c *link.Set) { c.Self = 2 },
		"another's certificate": func(c *link.Set) { c.Certificate = s.certs[1] },
		"no certificate":        func(c *link.Set) { c.Certificate = tls.Certificate{} },
		"an epoch of before":    func(c *link.Set) { c.Members.Epoch = 2 },
		"another site":          func(c *link.Set) { c.Members.Site[0]++ },
	} {
		set := good
		m := *good.Members
		set.Members = &m
		change(&set)
		if err := a.link.SetMembers(set); !errors.Is(err, link.ErrConfig) {
			t.Errorf("%s: error %v, want ErrConfig", name, err)
		}
	}
	a.send(1, vote(1))
	b.next()
}

func TestASiteOfOneThatDoesNotListenCannotGrow(t *testing.T) {
	s := newSiteWithout(t, 2)
	one := s.set(0, 1, 0)
	l, err := link.New(link.Config{Members: one.Members, Certificate: one.Certificate, OnMessage: func(coord.BoxID, *coord.PeerMsg, int) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetMembers(s.set(0, 2, 0, 1)); !errors.Is(err, link.ErrConfig) {
		t.Fatalf("error %v, want ErrConfig", err)
	}
}

// isRefused wants the other side to say why it closes.
func (l *liar) isRefused(because string) {
	l.t.Helper()
	why := string(l.hears(link.FrameRefusal))
	if !strings.Contains(why, because) {
		l.t.Errorf("refused with %q, which does not say %q", why, because)
	}
	l.isCutOff()
}

func TestOnlyAStrangerThatSaysItIsOfALaterEpochStays(t *testing.T) {
	s := newSite(t, 2)
	b := s.start(0)
	key, public := newCertificate(t)
	good := link.Hello{Site: s.members.Site, Epoch: s.members.Epoch + 1, Box: coord.BoxIDOf(public), Min: link.VersionMin, Max: link.VersionMax}
	for name, tt := range map[string]struct {
		change func(*link.Hello)
		told   bool
	}{
		"another site":        {func(h *link.Hello) { h.Site[0]++ }, false},
		"the name of a box":   {func(h *link.Hello) { h.Box = s.members.List[1].ID }, false},
		"only later versions": {func(h *link.Hello) { h.Min, h.Max = link.VersionMax+1, link.VersionMax+2 }, false},
		"our epoch":           {func(h *link.Hello) { h.Epoch = s.members.Epoch }, true},
		"an earlier epoch":    {func(h *link.Hello) { h.Epoch = 1 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := good
			tt.change(&h)
			l := dialLiar(t, s.members.List[0].Peer, clientConfig(&key))
			l.say(link.AppendHello(h))
			if tt.told {
				l.isRefused("epoch 3")
			} else {
				l.isCutOff()
			}
		})
	}
	l := dialLiar(t, s.members.List[0].Peer, clientConfig(&key))
	l.say(append(link.AppendHello(good), link.AppendMessage(nil, vote(1))...))
	l.say(link.AppendMessage(nil, status(5)))
	l.hears(link.FrameHello)
	if m := b.next(); m.msg.Status == nil {
		t.Fatalf("a stranger's %+v is handed on", m.msg)
	}
}

func TestStrangersOfALaterEpochAreFewAndKeepNobodyOut(t *testing.T) {
	s := newSite(t, 3)
	b := s.start(0, in(s.set(0, 3, 0, 1)))
	for range 1000 { // of one address four a second stay, however slow this machine is
		if b.link.Strangers().Refused >= 26 {
			break
		}
		key, public := newCertificate(t)
		l := dialLiar(t, s.members.List[0].Peer, clientConfig(&key))
		l.say(link.AppendHello(link.Hello{Site: s.members.Site, Epoch: 1 << 60, Box: coord.BoxIDOf(public), Min: link.VersionMin, Max: link.VersionMax}))
	}
	b.wait("refused", func() bool { return b.link.Strangers().Refused >= 26 })
	m := s.start(1, in(s.set(1, 3, 0, 1)))
	m.untilUp(s.members.List[0].ID)
	b.untilUp(s.members.List[1].ID)
}

func TestAGuestThatSaysTooMuchIsRefusedWithAReason(t *testing.T) {
	s := newSite(t, 3)
	_ = s.mute(2)
	b := s.start(0, in(s.former(s.set(0, 4, 0, 1), 2)))
	l := s.liarAs(2, 0, 1)
	for n := range uint64(400) {
		l.say(link.AppendMessage(nil, status(n)))
	}
	go func() {
		frame := link.AppendMessage(nil, batch(1, 1<<20))
		for range 10 {
			l.say(frame)
		}
	}()
	l.isRefused("more than a guest may")
	if n := len(b.messages); n == 0 || n > 256 {
		t.Errorf("%d of 400 messages were handed on", n)
	}
}

func TestAGuestThatComesAgainAndAgainIsRefusedWithAReason(t *testing.T) {
	s := newSite(t, 3)
	_ = s.mute(2)
	s.start(0, in(s.former(s.set(0, 4, 0, 1), 2)))
	for range 4 {
		s.liarAs(2, 0, 1)
	}
	l := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[2]))
	l.say(link.AppendHello(s.hello(2, 1)))
	l.isRefused("it has been told")
}

func TestOfFormerMembersOnlyTheLastFewMayCome(t *testing.T) {
	s := newSiteWithout(t, link.FormerMax+3)
	s.listeners[0] = listen(t, "127.0.0.1:0")
	s.members.List[0].Peer = s.listeners[0].Addr().String()
	var removed []int
	for i := 2; i < len(s.certs); i++ {
		removed = append(removed, i)
	}
	s.start(0, in(s.former(s.set(0, 4, 0, 1), removed...)))
	s.liarAs(link.FormerMax+1, 0, 1)
	l := dialLiar(t, s.members.List[0].Peer, clientConfig(&s.certs[link.FormerMax+2]))
	l.say(link.AppendHello(s.hello(link.FormerMax+2, 1)))
	l.isRefused("not a member's key")
}

func TestARefusalIsTakenForWhatItSays(t *testing.T) {
	s := newSite(t, 2)
	refusing := s.listeners[1]
	go func() {
		for {
			raw, err := refusing.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, &tls.Config{
				Certificates: []tls.Certificate{s.certs[1]}, NextProtos: []string{link.ALPN}, ClientAuth: tls.RequireAnyClientCert,
			})
			if _, _, err := link.ReadFrame(c); err == nil {
				_, _ = c.Write(link.AppendFrame(link.FrameRefusal, []byte("go\x1b[2Jaway")))
			}
			_ = raw.Close()
		}
	}()
	logged := make(chan string, 64)
	s.start(0, func(c *link.Config) { c.Logger = logTo(logged) })
	for line := range logged {
		if strings.Contains(line, "refused by the other side") {
			if strings.Contains(line, "\x1b") {
				t.Errorf("what a stranger says goes to the log as it is: %q", line)
			}
			return
		}
	}
}

func TestAGuestsConnectionEndsWithItsTime(t *testing.T) {
	s := newSiteWithout(t, 3)
	virtualSite(t, s, func(c *cable, on func(i int, options ...func(*link.Config)) *box) {
		on(0, in(s.former(s.set(0, 4, 0, 1), 2)))
		raw, err := c.dial(context.Background(), "0")
		if err != nil {
			t.Fatal(err)
		}
		l := &liar{t, tls.Client(raw, clientConfig(&s.certs[2]))}
		began := time.Now()
		var pinging sync.WaitGroup
		pinging.Go(func() {
			tick := time.NewTicker(link.HeartbeatDefault)
			defer tick.Stop()
			h := s.hello(2, 1)
			l.say(link.AppendHello(h))
			for range tick.C {
				if _, err := l.conn.Write(link.AppendFrame(link.FramePing, make([]byte, 8))); err != nil {
					return
				}
			}
		})
		l.hears(link.FrameHello)
		for {
			_ = raw.SetReadDeadline(time.Time{})
			typ, body, err := link.ReadFrame(l.conn)
			if err != nil {
				t.Fatal(err)
			}
			if typ == link.FrameRefusal {
				if !strings.Contains(string(body), "told") {
					t.Errorf("refused with %q", body)
				}
				break
			}
		}
		if d := time.Since(began); d < 25*time.Second || d > 31*time.Second {
			t.Errorf("after %v, want about 30s", d)
		}
		_ = raw.Close()
		pinging.Wait()
	})
}
