package link_test

import (
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
)

// at is a clock that is ahead of the machine's.
func at(ahead time.Duration) func(*link.Config) {
	return func(c *link.Config) {
		c.Clock = func() (time.Time, bool) { return time.Now().Add(ahead), true }
		c.Heartbeat = 5 * time.Millisecond
	}
}

func TestHeartbeatsSayHowFarAPeersClockIsAhead(t *testing.T) {
	s := newSite(t, 2)
	a, b := s.start(0, at(0)), s.start(1, at(-3*time.Second))
	within := func(want time.Duration) func(link.PeerState) bool {
		return func(p link.PeerState) bool {
			c := p.Clock
			return c != nil && c.Ahead >= want-c.RoundTrip/2 && c.Ahead <= want+c.RoundTrip/2 && !c.Taken.IsZero()
		}
	}
	a.until(1, "b is 3 s behind", within(-3*time.Second))
	b.until(0, "a is 3 s ahead", within(3*time.Second))
}

func TestAClockThatIsNotSetIsNotCompared(t *testing.T) {
	s := newSite(t, 2)
	unset := func(c *link.Config) {
		c.Clock = func() (time.Time, bool) { return time.Unix(1, 0), false }
		c.Heartbeat = 5 * time.Millisecond
	}
	a, b := s.start(0, at(0)), s.start(1, unset)
	for _, x := range []struct {
		box  *box
		peer int
	}{{a, 1}, {b, 0}} {
		x.box.until(x.peer, "heartbeats are answered", func(p link.PeerState) bool { return p.RTT > 0 })
		for _, p := range x.box.link.Peers() {
			if p.Clock != nil {
				t.Errorf("peer %d's clock is compared: %+v", p.Index, p.Clock)
			}
		}
	}
}

func TestAPeerOfAnEarlierVersionIsServedWithoutAClock(t *testing.T) {
	s := newSite(t, 2)
	a, b := s.start(0, at(0)), s.start(1, at(0), link.SpeakAtMost(1))
	a.waitChange(1, true)
	b.waitChange(0, true)
	a.send(1, vote(1))
	if m := b.next(); m.from != 0 {
		t.Fatalf("a message of %d", m.from)
	}
	for i, x := range []*box{a, b} {
		x.until(1-i, "heartbeats are answered", func(p link.PeerState) bool { return p.RTT > 0 && p.Version == 1 && p.Clock == nil })
	}
}

func TestWhatAPeerSendsIsCountedByKind(t *testing.T) {
	s := newSite(t, 2)
	a, b := s.start(0), s.start(1)
	a.waitChange(1, true)
	b.waitChange(0, true)
	a.send(1, vote(1))
	a.send(1, batch(1, 100<<10))
	b.next()
	b.next()
	b.until(0, "one message, and the bytes of a batch", func(p link.PeerState) bool {
		return p.ControlIn == 1 && p.BulkIn > 100<<10 && p.BulkIn < 101<<10
	})
}

// A box of a release before traces would take them for garbage, and suspect who sends it.
func TestAPeerOfAnEarlierVersionIsNotAskedForTraces(t *testing.T) {
	for version, want := range map[uint16]int{2: 0, link.VersionMax: 2} {
		s := newSite(t, 2)
		a, b := s.start(0), s.start(1, link.SpeakAtMost(version))
		a.waitChange(1, true)
		b.waitChange(0, true)
		a.send(1, &coord.PeerMsg{TraceAsk: new([16]byte)})
		a.send(1, &coord.PeerMsg{Trace: &coord.TracePart{Records: []byte{1}}})
		a.send(1, vote(1))
		n := 0
		for b.next().msg.Vote == nil {
			n++
		}
		if n != want || b.link.Peers()[0].BadFrames != 0 {
			t.Errorf("version %d: %d of two messages of traces came", version, n)
		}
	}
}
