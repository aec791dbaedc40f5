package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/iotest"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

func TestTheBackOffDoublesWithinItsBoundsAndIsHalfRandom(t *testing.T) {
	low := backoff{min: 50 * time.Millisecond, max: 2 * time.Second, random: func(int64) int64 { return 0 }}
	high := low
	high.random = func(n int64) int64 { return n - 1 }
	for _, want := range []time.Duration{50, 100, 200, 400, 800, 1600, 2000, 2000} {
		want *= time.Millisecond
		if l, h := low.next(), high.next(); l != want/2 || h != want {
			t.Fatalf("waits from %v to %v, want from %v to %v", l, h, want/2, want)
		}
	}
	low.reset()
	if l := low.next(); l != 25*time.Millisecond {
		t.Errorf("after a reset %v", l)
	}
}

func TestOnlyIncarnationsThatComeBackAreTwins(t *testing.T) {
	type step struct {
		after       time.Duration
		incarnation uint64
		ok, twin    bool
	}
	for name, steps := range map[string][]step{
		"one process that reconnects": {{0, 1, true, false}, {0, 1, true, false}, {0, 1, true, false}},
		"restarts":                    {{0, 1, true, false}, {0, 2, true, false}, {0, 3, true, false}, {0, 4, true, false}},
		"a late connection of the old process": {
			{0, 1, true, false}, {0, 2, true, false}, {0, 1, true, false},
		},
		"two machines": {
			{0, 1, true, false},
			{0, 2, true, false},
			{0, 1, true, false},
			{0, 2, true, true},
			{0, 1, false, false},           // held to 2 ...
			{0, 2, true, false},            // ... which may reconnect
			{time.Second, 1, true, true},   // for a second,
			{time.Second, 2, false, false}, // then for two,
			{time.Second, 2, true, true},
			{3 * time.Second, 1, false, false}, // then for four
			{0, 3, false, false},               // a third one does not help
		},
		"long ago": {
			{0, 1, true, false}, {0, 2, true, false}, {0, 1, true, false}, {twinForget + 1, 2, true, false},
		},
		"more restarts than are remembered": {
			{0, 1, true, false},
			{0, 2, true, false},
			{0, 3, true, false},
			{0, 4, true, false},
			{0, 5, true, false},
			{0, 6, true, false},
			{0, 7, true, false},
			{0, 8, true, false},
			{0, 9, true, false},
			{0, 1, true, false},
		},
	} {
		var l lineage
		now := time.Unix(1000, 0)
		for i, s := range steps {
			now = now.Add(s.after)
			if ok, twin := l.admit(s.incarnation, now); ok != s.ok || twin != s.twin {
				t.Errorf("%s, step %d: admitted %v, twin %v; want %v, %v", name, i, ok, twin, s.ok, s.twin)
			}
		}
		if len(l.seen) > lineageMax {
			t.Errorf("%s: %d remembered", name, len(l.seen))
		}
	}
}

func TestAPenaltyGrowsAndIsForgotten(t *testing.T) {
	var p penalty
	now := time.Unix(1000, 0)
	if p.holds(now) {
		t.Fatal("held without a reason")
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		want *= time.Second
		if got := p.add(now); got != want || !p.holds(now.Add(want-1)) || p.holds(now.Add(want)) {
			t.Fatalf("held for %v, want %v", got, want)
		}
		now = now.Add(want)
	}
	if got := p.add(now.Add(penaltyForget + penaltyMax)); got != penaltyMin {
		t.Errorf("held for %v after a good time, want %v", got, penaltyMin)
	}
}

// fakeConn is a connection that only has an origin and an end.
type fakeConn struct {
	net.Conn
	from   net.Addr
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.from }
func (c *fakeConn) Close() error         { c.closed = true; return nil }

func from(ip string) *fakeConn {
	return &fakeConn{from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 999))}
}

func TestTheOldestStrangerOfTheMostCrowdedAddressMakesRoom(t *testing.T) {
	now := time.Unix(1000, 0)
	g := gate{max: 6, perAddress: 3, perSecond: visitsPerSecondMax}
	enter := func(ip string) (*fakeConn, *visitor) {
		c := from(ip)
		return c, g.enter(c, now)
	}
	member, seat := enter("10.0.0.1")
	first, _ := enter("10.0.0.66")
	second, _ := enter("10.0.0.66")
	enter("10.0.0.66")
	if first.closed {
		t.Fatal("evicted with room to spare")
	}
	enter("10.0.0.66") // a fourth of one address
	if !first.closed || second.closed {
		t.Fatal("not the oldest of its address was evicted")
	}
	enter("10.0.0.2")
	enter("10.0.0.3") // six in all
	enter("10.0.0.4")
	if !second.closed || member.closed {
		t.Fatal("not the oldest of the most crowded address was evicted")
	}
	g.leave(seat)
	if got := len(g.waiting); got != 5 || g.evicted.Load() != 2 {
		t.Fatalf("%d wait, %d were evicted; want 5 and 2", got, g.evicted.Load())
	}
}

func TestAnAddressThatFloodsIsRefusedForTheRestOfTheSecond(t *testing.T) {
	now := time.Unix(1000, 0)
	g := gate{max: 1000, perAddress: 1000, perSecond: visitsPerSecondMax}
	for range visitsPerSecondMax {
		if g.enter(from("10.0.0.66"), now) == nil {
			t.Fatal("refused too early")
		}
	}
	if g.enter(from("10.0.0.66"), now) != nil || g.flooding.Load() != 1 {
		t.Error("a flood is let in")
	}
	if g.enter(from("10.0.0.1"), now) == nil {
		t.Error("another address is refused")
	}
	if g.enter(from("10.0.0.66"), now.Add(time.Second)) == nil {
		t.Error("refused in the next second")
	}
	for i := range 2 * originsMax {
		g.enter(from(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}).String()), now.Add(time.Second))
	}
	if len(g.visits) > originsMax {
		t.Errorf("%d addresses are counted, more than %d", len(g.visits), originsMax)
	}
}

func TestOneHostIsOneOrigin(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"::ffff:10.0.0.1", "10.0.0.1", true},
		{"2001:db8::1", "2001:db8::2:3:4:5", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		if got := origin(from(tt.a).from) == origin(from(tt.b).from); got != tt.same {
			t.Errorf("%s and %s: same origin %v, want %v", tt.a, tt.b, got, tt.same)
		}
	}
}

func TestFramesAreReadAsTheyWereWritten(t *testing.T) {
	sizes := []int{0, 1, 8, 59, 60, 300, 200 << 10, 3, 600 << 10, 0}
	var stream []byte
	for i, n := range sizes {
		stream = append(appendHeader(stream, byte(i), n), bytes.Repeat([]byte{byte(i)}, n)...)
	}
	for name, in := range map[string]io.Reader{
		"at once":          bytes.NewReader(stream),
		"by halves":        iotest.HalfReader(bytes.NewReader(stream)),
		"with data at EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		r := newFrameReader(in, 64)
		for i, n := range sizes {
			typ, body, err := r.next(coord.FrameBytesMax)
			if err != nil || typ != byte(i) || !bytes.Equal(body, bytes.Repeat([]byte{byte(i)}, n)) {
				t.Fatalf("%s, frame %d: type %d of %d bytes, error %v", name, i, typ, len(body), err)
			}
		}
		if cap(r.big) > keepBytes {
			t.Errorf("%s: keeps %d bytes after the large frames", name, cap(r.big))
		}
		if _, _, err := r.next(coord.FrameBytesMax); err != io.EOF {
			t.Errorf("%s: at the end %v, want io.EOF", name, err)
		}
	}
}

func TestACutFrameIsNotAnEnd(t *testing.T) {
	whole := append(appendHeader(nil, frameMessage, 300), make([]byte, 300)...)
	for n := 1; n < len(whole); n++ {
		if _, _, err := newFrameReader(bytes.NewReader(whole[:n]), 64).next(1000); err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestMemoryFollowsWhatArrivedNotWhatWasAnnounced(t *testing.T) {
	r := newFrameReader(bytes.NewReader(append(appendHeader(nil, frameMessage, coord.FrameBytesMax), make([]byte, 1000)...)), 64)
	if _, _, err := r.next(coord.FrameBytesMax); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if cap(r.big) > keepBytes {
		t.Errorf("%d bytes taken for 1000", cap(r.big))
	}
}

// FuzzFrames: whatever arrives, reading it ends, stays within limits, and reading in pieces gives the same.
func FuzzFrames(f *testing.F) {
	f.Add(appendHello(nil, &hello{max: 1}), uint16(64))
	f.Add(appendStamp(appendStamp(nil, framePing, 1), framePong, 2), uint16(8))
	f.Add([]byte{0, 0, 0, 0, 1}, uint16(8))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1}, uint16(8))
	f.Fuzz(func(t *testing.T, stream []byte, limit uint16) {
		whole := newFrameReader(bytes.NewReader(stream), 64)
		pieces := newFrameReader(iotest.OneByteReader(bytes.NewReader(stream)), 16)
		for {
			typ, body, err := whole.next(int(limit))
			typ2, body2, err2 := pieces.next(int(limit))
			if typ != typ2 || !bytes.Equal(body, body2) || (err == nil) != (err2 == nil) {
				t.Fatalf("type %d of %d bytes (%v), in pieces %d of %d bytes (%v)", typ, len(body), err, typ2, len(body2), err2)
			}
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrFrame) {
					t.Fatal(err)
				}
				return
			}
			if len(body) > int(limit) {
				t.Fatalf("%d bytes above the limit of %d", len(body), limit)
			}
		}
	})
}

// FuzzHello: a hello that is decoded says, encoded again, the same.
func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, &hello{coord.SiteID{1}, 2, coord.BoxID{3}, 4, 5, 6})[headerBytes:])
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := decodeHello(body)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatal(err)
			}
			return
		}
		if again := appendHello(nil, &h)[headerBytes:]; !bytes.Equal(again, body[:helloBytes]) {
			t.Fatalf("%x became %x", body, again)
		}
	})
}
