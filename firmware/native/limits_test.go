package native_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/wire"
	"github.com/holdfast-edge/holdfast/firmware/native"
)

// raw is a client that says what it likes.
type raw struct {
	t  testing.TB
	nc net.Conn
	r  *wire.FrameReader
}

func connect(t testing.TB, b *box) *raw {
	t.Helper()
	nc, err := net.Dial("unix", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	return &raw{t, nc, wire.NewFrameReader(nc)}
}

func frame(t testing.TB, m *wire.ClientMsg) []byte {
	t.Helper()
	b, err := wire.AppendClientFrame(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *raw) say(m *wire.ClientMsg) { _, _ = r.nc.Write(frame(r.t, m)) }

func (r *raw) hear() *wire.ClientMsg {
	r.t.Helper()
	b, err := r.r.Next(coord.FrameBytesMax)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := wire.DecodeClient(b)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// ended waits for the end of the connection.
func (r *raw) ended() {
	r.t.Helper()
	for {
		if _, err := r.r.Next(coord.FrameBytesMax); err != nil {
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				r.t.Fatal("the connection is still open")
			}
			return
		}
	}
}

var hello = &wire.ClientMsg{Hello: &wire.Hello{MinVersion: 1, MaxVersion: 1, Client: "raw"}}

func (r *raw) greet() *wire.Welcome {
	r.t.Helper()
	r.say(hello)
	return r.hear().Welcome
}

func submit(id uint64, add func(c *coord.Columns)) *wire.ClientMsg {
	var c coord.Columns
	add(&c)
	return &wire.ClientMsg{Submit: &wire.Submit{ID: id, Body: wire.NewBodyEncoder().AppendBody(nil, &c)}}
}

// traced makes a submit a part of a client's trace.
func traced(m *wire.ClientMsg) *wire.ClientMsg {
	m.Submit.Trace = &wire.TraceContext{1, 16: 1, 24: 1}
	return m
}

func put(id uint64, size int) *wire.ClientMsg {
	return submit(id, func(c *coord.Columns) { c.Add(coord.KindPut, 1, id, 12345, []byte("k"), make([]byte, size)) })
}

func TestTheWelcomeNamesTheBox(t *testing.T) {
	o := newOrder(t)
	b := unixBox(t, 4, o.answering)
	b.start()
	w := connect(t, b).greet()
	if w == nil || w.Version != 1 || w.Box != b.id || w.Site != (coord.SiteID{9}) || w.MessagesMax != coord.BatchMessagesMax || w.BytesMax != coord.BatchBytesMax {
		t.Fatalf("%+v", w)
	}
}

func TestMessagesCarryTheBoxsTime(t *testing.T) {
	got := make(chan int64, 1)
	b := unixBox(t, 0, func(r *site.Request) {
		got <- r.Cols.Times[0]
		r.Done(coord.Reply{Results: make([]coord.Result, 1)})
	})
	b.start()
	c := connect(t, b)
	c.greet()
	before := time.Now().UnixMilli()
	c.say(put(1, 1))
	if ms := <-got; ms < before || ms > time.Now().UnixMilli() {
		t.Fatalf("%d", ms)
	}
}

// What ends the connection, and whether the client is told why.
func TestRuleBreakersAreToldAndCutOff(t *testing.T) {
	o := newOrder(t)
	b := unixBox(t, 0, o.answering)
	b.start()
	for name, c := range map[string]struct {
		greet bool
		say   []byte
		told  string
	}{
		"no hello":             {false, frame(t, put(1, 1)), "no hello"},
		"a hello of no bytes":  {false, []byte{0, 0, 0, 0}, "protocol violation"},
		"a hello too long":     {false, []byte{0, 1, 0, 0}, "frame too long"},
		"a version to come":    {false, frame(t, &wire.ClientMsg{Hello: &wire.Hello{MinVersion: 3, MaxVersion: 4}}), "versions 3 to 4"},
		"an hello after hello": {true, frame(t, hello), "no place"},
		"an answer":            {true, frame(t, &wire.ClientMsg{Answer: &wire.Answer{ID: 1}}), "no place"},
		"noise":                {true, []byte{0, 0, 0, 3, 1, 2, 3}, "protocol violation"},
		"a frame beyond all":   {true, []byte{255, 255, 255, 255}, "frame too long"},
		"a trace in version 1": {true, frame(t, traced(put(1, 1))), "trace in version 1"},
		"a broken body":        {true, frame(t, &wire.ClientMsg{Submit: &wire.Submit{ID: 1, Body: []byte{0, 1, 2}}}), "protocol violation"},
	} {
		r := connect(t, b)
		if c.greet && r.greet() == nil {
			t.Fatal("no welcome")
		}
		_, _ = r.nc.Write(c.say)
		if m := r.hear(); m.Error == nil || m.Error.Code != coord.CodeBad || !strings.Contains(m.Error.Text, c.told) {
			t.Errorf("%s: told %+v", name, m.Error)
		}
		r.ended()
	}
}

func TestAClientThatIsNotAllowedIsTurnedAway(t *testing.T) {
	s, err := native.New(native.Config{
		Submit: func(*site.Request) { t.Error("a request came through") },
		Guard:  secretGuard{},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := unixBox(t, 0, nil)
	l, err := net.Listen("unix", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	r := connect(t, b)
	r.say(&wire.ClientMsg{Hello: &wire.Hello{MinVersion: 1, MaxVersion: 1, Token: []byte("guess"), Client: "me"}})
	r.say(put(1, 1))
	if m := r.hear(); m.Error == nil || !strings.Contains(m.Error.Text, "not allowed") {
		t.Fatalf("%+v", m)
	}
	r = connect(t, b)
	r.say(&wire.ClientMsg{Hello: &wire.Hello{MinVersion: 1, MaxVersion: 1, Token: []byte("secret"), Client: "me"}})
	if m := r.hear(); m.Welcome == nil {
		t.Fatalf("%+v", m)
	}
	if err := s.Shutdown(patience(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, native.ErrStopped) {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Accepted != 2 || st.Broken != 1 || st.Connections != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestAClientMayDoWhatItsTokenAllowsForAsLongAsItIsGood(t *testing.T) {
	var submitted atomic.Int64
	guard := secretGuard{new(atomic.Bool)}
	s, err := native.New(native.Config{Guard: guard, Submit: func(r *site.Request) {
		submitted.Add(int64(r.Cols.Len()))
		r.Done(coord.Reply{Results: make([]coord.Result, r.Cols.Len())})
	}})
	if err != nil {
		t.Fatal(err)
	}
	b := unixBox(t, 0, nil)
	l, err := net.Listen("unix", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	r := connect(t, b)
	r.say(&wire.ClientMsg{Hello: &wire.Hello{MinVersion: 1, MaxVersion: 1, Token: []byte("secret"), Client: "me"}})
	if m := r.hear(); m.Welcome == nil {
		t.Fatalf("%+v", m)
	}
	ask := func(keys ...string) *wire.ClientMsg {
		var c coord.Columns
		for i, k := range keys {
			c.Add(coord.KindPut, 1, uint64(i+1), 0, []byte(k), []byte("v"))
		}
		c.Add(coord.KindGet, 1, uint64(len(keys)+1), 0, nil, nil) // uses up a number
		r.say(&wire.ClientMsg{Submit: &wire.Submit{ID: 1, Body: wire.NewBodyEncoder().AppendBody(nil, &c)}})
		return r.hear()
	}
	if m := ask("mine/a", "mine/b"); m.Answer == nil || m.Answer.Code != coord.CodeOK {
		t.Fatalf("%+v", m)
	}
	if m := ask("mine/a", "yours/b"); m.Answer == nil || m.Answer.Code != coord.CodeDenied {
		t.Fatalf("one key of another's: %+v", m.Answer)
	}
	if n := submitted.Load(); n != 3 {
		t.Errorf("%d messages came through", n)
	}
	guard.revoked.Store(true)
	if m := ask("mine/a"); m.Error == nil || !strings.Contains(m.Error.Text, "revoked") {
		t.Fatalf("after the token was revoked: %+v", m)
	}
	r.ended()
	if err := s.Shutdown(patience(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAClientMayNotSendWhatOnlyBoxesSend(t *testing.T) {
	b := unixBox(t, 0, func(*site.Request) { t.Error("a request came through") })
	b.start()
	c := connect(t, b)
	c.greet()
	for i, add := range []func(*coord.Columns){
		func(c *coord.Columns) {},
		func(c *coord.Columns) { c.Add(6, 0, 0, 0, nil, nil) },
		func(c *coord.Columns) {
			c.Add(coord.KindPut, 1, 1, 0, []byte("k"), nil)
			c.Add(77, 1, 2, 0, nil, nil)
		},
	} {
		id := uint64(i + 10)
		c.say(submit(id, add))
		if a := c.hear().Answer; a == nil || a.ID != id || a.Code != coord.CodeBad || a.Results != nil {
			t.Errorf("%d: %+v", i, a)
		}
	}
}

func TestAClientMayBeSilentAsLongAsItAnswersPings(t *testing.T) {
	o := newOrder(t)
	b := unixBox(t, 0, o.answering)
	b.limits = native.Limits{PingAfter: 5 * time.Millisecond}
	b.start()
	c := connect(t, b)
	c.greet()
	for range 6 {
		m := c.hear()
		if m.Ping == nil {
			t.Fatalf("%+v", m)
		}
		c.say(&wire.ClientMsg{Pong: m.Ping})
	}
	number := uint64(5) // and it may ask itself
	c.say(&wire.ClientMsg{Ping: &number})
	for m := c.hear(); m.Pong == nil || *m.Pong != 5; m = c.hear() {
		if m.Ping == nil {
			t.Fatalf("%+v", m)
		}
	}
}

func TestAClientThatAnswersNoPingIsCutOff(t *testing.T) {
	o := newOrder(t)
	b := unixBox(t, 0, o.answering)
	b.limits = native.Limits{PingAfter: 5 * time.Millisecond, IdleTime: 20 * time.Millisecond}
	b.start()
	c := connect(t, b)
	c.say(hello)
	c.ended()
}

func TestAFrameMayNotTakeForEver(t *testing.T) {
	o := newOrder(t)
	b := unixBox(t, 0, o.answering)
	b.limits = native.Limits{FrameTime: 40 * time.Millisecond, HandshakeTime: 40 * time.Millisecond, PingAfter: time.Hour}
	b.start()
	slow := connect(t, b) // says nothing at all
	slow.ended()
	slow = connect(t, b)
	slow.greet()
	_, _ = slow.nc.Write([]byte{0}) // the first byte of a frame, and no more
	slow.ended()
}

func TestTooManyConnectionsAreTurnedAway(t *testing.T) {
	o := newOrder(t)
	b := unixBox(t, 0, o.answering)
	b.limits = native.Limits{Connections: 2}
	b.start()
	first, second := connect(t, b), connect(t, b)
	if first.greet() == nil || second.greet() == nil {
		t.Fatal("not welcome")
	}
	connect(t, b).ended()
	first.nc.Close()
	for { // until the server has noticed
		if st := b.server.Stats(); st.Connections == 1 {
			if st.Refused != 1 || st.Accepted != 2 {
				t.Fatalf("%+v", st)
			}
			break
		}
		runtime.Gosched()
	}
	if connect(t, b).greet() == nil {
		t.Fatal("not welcome when there is room")
	}
}

// A client that sends more than it may have under way is not read: its requests wait in
// the sockets and in the client, and go on when earlier ones are answered.
func TestABoxStopsReadingWhenAClientHasEnoughUnderWay(t *testing.T) {
	for name, limits := range map[string]native.Limits{
		"requests": {Requests: 3},
		"bytes":    {ConnectionBytes: 3 * (1000 + 1 + 33)},
	} {
		t.Run(name, func(t *testing.T) {
			held := make(chan *site.Request, 100)
			b := unixBox(t, 0, func(r *site.Request) { held <- r })
			b.limits = limits
			b.start()
			c := connect(t, b)
			c.greet()
			const n = 20
			for i := range uint64(n) {
				c.say(put(i, 1000))
			}
			for got := range n {
				r := <-held
				if got > 0 && len(held) > 2 {
					t.Fatalf("%d requests under way", len(held)+1)
				}
				r.Done(coord.Reply{Results: make([]coord.Result, 1)})
				if a := c.hear().Answer; a == nil || a.Code != coord.CodeOK {
					t.Fatalf("%+v", a)
				}
			}
		})
	}
}

func TestABoxOutOfMemoryForRequestsSaysBusy(t *testing.T) {
	held := make(chan *site.Request, 100)
	b := unixBox(t, 0, func(r *site.Request) { held <- r })
	b.limits = native.Limits{TotalBytes: 1500}
	b.start()
	one, two := connect(t, b), connect(t, b)
	one.greet()
	two.greet()
	one.say(put(1, 1000))
	r := <-held
	two.say(put(1, 1000))
	if a := two.hear().Answer; a == nil || a.Code != coord.CodeBusy || a.RetryAfter <= 0 {
		t.Fatalf("%+v", a)
	}
	r.Done(coord.Reply{Results: make([]coord.Result, 1)})
	if a := one.hear().Answer; a == nil || a.Code != coord.CodeOK {
		t.Fatalf("%+v", a)
	}
	two.say(put(2, 1000))
	(<-held).Done(coord.Reply{Results: make([]coord.Result, 1)})
	if a := two.hear().Answer; a == nil || a.Code != coord.CodeOK {
		t.Fatalf("%+v", a)
	}
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	value := make([]byte, 100<<10)
	b := unixBox(t, 0, func(r *site.Request) {
		r.Done(coord.Reply{Results: []coord.Result{{Found: true, Value: value}}})
	})
	b.limits = native.Limits{AnswerBytes: 1 << 20, WriteTime: 50 * time.Millisecond}
	b.start()
	c := connect(t, b)
	c.greet()
	get := frame(t, submit(1, func(c *coord.Columns) { c.Add(coord.KindGet, 1, 1, 0, []byte("k"), nil) }))
	for {
		if _, err := c.nc.Write(get); err != nil {
			break // cut off
		}
	}
	for b.server.Stats().Connections > 0 {
		runtime.Gosched()
	}
	if st := b.server.Stats(); st.Broken != 1 {
		t.Fatalf("%+v", st)
	}
}

func TestAnAnswerTooLongForAFrameSaysSo(t *testing.T) {
	b := unixBox(t, 0, func(r *site.Request) {
		value := make([]byte, coord.ValueBytesMax)
		results := make([]coord.Result, 9)
		for i := range results {
			results[i].Value = value
		}
		r.Done(coord.Reply{Height: 3, Results: results})
	})
	b.start()
	c := connect(t, b)
	c.greet()
	c.say(put(1, 1))
	if a := c.hear().Answer; a == nil || a.Code != coord.CodeTooLarge || a.ID != 1 || a.Height != 3 {
		t.Fatalf("%+v", a)
	}
}

// Nothing that a client sends makes the server panic, hang, or leave a goroutine.
func FuzzConnection(f *testing.F) {
	ok := append(frame(f, hello), frame(f, put(1, 20))...)
	f.Add(ok)
	f.Add(ok[:len(ok)-3])
	f.Add(append(bytes.Clone(ok), 0, 0, 0, 1, 0xff))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := native.New(native.Config{Submit: func(r *site.Request) {
			for _, k := range r.Cols.Kinds {
				if k < coord.KindOpen || k > coord.KindObserve {
					t.Errorf("kind %d came through", k)
				}
			}
			r.Done(coord.Reply{Results: make([]coord.Result, r.Cols.Len())})
		}})
		if err != nil {
			t.Fatal(err)
		}
		l := &pipes{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		ours, theirs := net.Pipe()
		l.conns <- theirs
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		go func() {
			_, _ = ours.Write(b)
			ours.Close()
		}()
		_, _ = io.Copy(io.Discard, ours)
		if err := s.Shutdown(patience(t)); err != nil {
			t.Error(err)
		}
		<-done
	})
}

// pipes is a listener for connections made by hand.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// secretGuard lets those in who know the word, for keys that begin with "mine/".
type secretGuard struct{ revoked *atomic.Bool }

func (g secretGuard) Admit(token []byte, client string, _ net.Conn) (native.Caller, error) {
	if string(token) != "secret" || client != "me" {
		return nil, errors.New("no such token")
	}
	return g, nil
}

func (secretGuard) May(k coord.Kind, key []byte) bool { return bytes.HasPrefix(key, []byte("mine/")) }

func (g secretGuard) Good() error {
	if g.revoked != nil && g.revoked.Load() {
		return errors.New("the token is revoked")
	}
	return nil
}
