package client

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

func TestEndpointsAreReadFromURLs(t *testing.T) {
	id := coord.BoxID{1}
	for url, want := range map[string]Endpoint{
		"unix:///run/holdfast.sock": {"unix", "/run/holdfast.sock", id},
		"tls://10.0.0.1:2380":       {"tcp", "10.0.0.1:2380", id},
		"tls://[::1]:2380":          {"tcp", "[::1]:2380", id},
	} {
		if e, err := ParseEndpoint(url, id); err != nil || e != want {
			t.Errorf("%s: %+v %v", url, e, err)
		}
	}
	for _, url := range []string{"", "unix://", "tls://host", "tcp://host:1", "http://host:1", "tls://"} {
		if _, err := ParseEndpoint(url, id); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := ParseEndpoint("tls://host:1", coord.BoxID{}); !errors.Is(err, ErrConfig) {
		t.Errorf("without an id: %v", err)
	}
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	unix := []Endpoint{{Network: "unix", Address: "/s"}}
	for name, c := range map[string]Config{
		"no boxes":               {},
		"a name too long":        {Endpoints: unix, Name: strings.Repeat("n", 65)},
		"a token too long":       {Endpoints: unix, Token: make([]byte, 4097)},
		"tcp without an id":      {Endpoints: []Endpoint{{Network: "tcp", Address: "h:1"}}},
		"a network not served":   {Endpoints: []Endpoint{{Network: "udp", Address: "h:1", Box: coord.BoxID{1}}}},
		"more boxes than a site": {Endpoints: make([]Endpoint, coord.MembersMax+1)},
	} {
		if _, err := Dial(context.Background(), c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsTooLargeIsNotSent(t *testing.T) {
	c := &Client{boxes: make([]*endpoint, 1)}
	for name, fill := range map[string]func(m *Messages){
		"a key":   func(m *Messages) { m.Put(make([]byte, coord.KeyBytesMax+1), nil) },
		"a value": func(m *Messages) { m.Put(nil, make([]byte, coord.ValueBytesMax+1)) },
		"together": func(m *Messages) {
			for range 3 {
				m.Put(nil, make([]byte, coord.ValueBytesMax))
			}
		},
		"many": func(m *Messages) {
			for range coord.BatchMessagesMax + 1 {
				m.Observe(1, 1)
			}
		},
	} {
		var m Messages
		fill(&m)
		if _, err := c.Submit(context.Background(), &m); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if m.Reset(); m.Len() != 0 || m.Bytes() != 0 {
			t.Errorf("%s: not empty after Reset", name)
		}
	}
	if r, err := c.Submit(context.Background(), new(Messages)); err != nil || r.Results != nil {
		t.Errorf("nothing: %+v %v", r, err)
	}
}

func TestACallWaitsWhenTheWindowIsFull(t *testing.T) {
	ctx := context.Background()
	full, cancel := context.WithCancel(ctx)
	cancel()
	s := newSession(1, 3)
	take := func(n int) *ticket {
		t.Helper()
		k, err := s.reserve(full, t.Context(), n)
		if err != nil {
			return nil
		}
		return k
	}
	a, b, c := take(1), take(8192), take(1)
	if a.first != 1 || b.first != 2 || c.first != 8194 {
		t.Fatal(a, b, c)
	}
	if take(1) != nil {
		t.Fatal("a fourth call with three allowed")
	}
	// An old gap holds the numbers back, not only the count of calls.
	s.finish(b)
	s.finish(c)
	for range 3 {
		d := take(8190)
		if d == nil {
			t.Fatal("held back too early")
		}
		s.finish(d)
	}
	if take(8190) != nil {
		t.Fatal("further ahead of number 1 than the window")
	}
	// When the oldest is finished, whoever waits goes on.
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if k, err := s.reserve(ctx, t.Context(), 8190); err != nil || k == nil {
			t.Error(k, err)
		}
	})
	s.finish(a)
	waiting.Wait()
	// And nobody waits for a lost session.
	take(1)
	take(1)
	waiting.Go(func() {
		if k, err := s.reserve(ctx, t.Context(), 1); err != nil || k != nil {
			t.Error(k, err)
		}
	})
	s.lose()
	waiting.Wait()
}

func TestOnlyMessagesWithoutAnOutcomeAreSentAgain(t *testing.T) {
	w := newWork(4)
	for i := range uint64(4) {
		w.cols.Add(coord.KindPut, 0, 0, 0, []byte{byte(i)}, nil)
	}
	w.number(9, 10)
	if done, err := w.judge(coord.Reply{Code: coord.CodeWindow, Results: []coord.Result{
		{Revision: 1}, {Code: coord.CodeWindow}, {Code: coord.CodeBad}, {Code: coord.CodeBusy},
	}}); done || !errors.Is(err, errLater) {
		t.Fatal(done, err)
	}
	if w.cols.Len() != 2 || w.cols.Seqs[0] != 11 || w.cols.Seqs[1] != 13 || w.cols.Key(1)[0] != 3 {
		t.Fatalf("%+v", w.cols)
	}
	if done, err := w.judge(coord.Reply{Height: 5, Results: []coord.Result{{Revision: 2}, {Revision: 3}}}); !done || err != nil {
		t.Fatal(done, err)
	}
	r := w.finished()
	if r.Code != coord.CodeBad || r.Height != 5 || r.Results[0].Revision != 1 || r.Results[1].Revision != 2 || r.Results[3].Revision != 3 {
		t.Fatalf("%+v", r)
	}
}

// script is a box that says what the test likes.
type script struct {
	l    net.Listener
	work sync.WaitGroup
}

// serve answers each request with what answer makes of its id and columns; nil: nothing.
func serve(t *testing.T, answer func(id uint64, cols *coord.Columns) *wire.ClientMsg) (*script, Endpoint) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{l: l}
	s.work.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.work.Go(func() { converse(nc, answer) })
		}
	})
	t.Cleanup(func() { l.Close(); s.work.Wait() })
	return s, Endpoint{Network: "unix", Address: path}
}

func converse(nc net.Conn, answer func(id uint64, cols *coord.Columns) *wire.ClientMsg) {
	defer nc.Close()
	r, d := wire.NewFrameReader(nc), wire.NewBodyDecoder()
	for {
		b, err := r.Next(coord.FrameBytesMax)
		if err != nil {
			return
		}
		m, err := wire.DecodeClient(b)
		if err != nil {
			return
		}
		var out *wire.ClientMsg
		switch {
		case m.Hello != nil:
			out = &wire.ClientMsg{Welcome: &wire.Welcome{Version: 1}}
		case m.Submit != nil && m.Submit.Trace != nil:
			return // a release of version 1 cannot read it
		case m.Submit != nil:
			var cols coord.Columns
			if d.DecodeBody(m.Submit.Body, &cols) != nil {
				return
			}
			out = answer(m.Submit.ID, &cols)
		}
		if out == nil {
			continue
		}
		f, err := wire.AppendClientFrame(nil, out)
		if err != nil {
			return
		}
		if _, err = nc.Write(f); err != nil {
			return
		}
	}
}

func TestABoxOfTheReleaseBeforeIsNotToldOfTraces(t *testing.T) {
	asked := 0
	_, e := serve(t, func(id uint64, cols *coord.Columns) *wire.ClientMsg { asked++; return fine(id, cols) })
	c, err := Dial(t.Context(), Config{Endpoints: []Endpoint{e}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := WithTrace(t.Context(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, []byte("key"), nil); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Retried != 0 || s.Dials != 1 {
		t.Errorf("%+v", s)
	}
	if err := c.Close(t.Context()); err != nil || asked != 2 { // the session, and the put
		t.Error(asked, err)
	}
	if again, err := WithTrace(ctx, "00-none"); !errors.Is(err, trace.ErrContext) || again != ctx {
		t.Errorf("a header that is none: %v", err)
	}
}

func fine(id uint64, cols *coord.Columns) *wire.ClientMsg {
	return &wire.ClientMsg{Answer: &wire.Answer{ID: id, Results: make([]coord.Result, cols.Len())}}
}

func isOpen(cols *coord.Columns) bool { return cols.Kinds[0] == coord.KindOpen }

// Whatever one box answers against the rules, the call goes on at the next.
func TestABoxThatBreaksTheRulesIsLeft(t *testing.T) {
	number := uint64(1)
	for name, wrong := range map[string]func(id uint64, cols *coord.Columns) *wire.ClientMsg{
		"too few results": func(id uint64, _ *coord.Columns) *wire.ClientMsg {
			return &wire.ClientMsg{Answer: &wire.Answer{ID: id, Results: []coord.Result{}}}
		},
		"no results": func(id uint64, _ *coord.Columns) *wire.ClientMsg {
			return &wire.ClientMsg{Answer: &wire.Answer{ID: id}}
		},
		"another's answer": func(id uint64, cols *coord.Columns) *wire.ClientMsg { return fine(id+1000, cols) },
		"a client's words": func(uint64, *coord.Columns) *wire.ClientMsg { return &wire.ClientMsg{Hello: &wire.Hello{}} },
		"an end": func(uint64, *coord.Columns) *wire.ClientMsg {
			return &wire.ClientMsg{Error: &wire.Error{Code: coord.CodeStopping, Text: "bye"}}
		},
		"only pongs": func(uint64, *coord.Columns) *wire.ClientMsg { return &wire.ClientMsg{Pong: &number} },
		"only pings": func(uint64, *coord.Columns) *wire.ClientMsg { return &wire.ClientMsg{Ping: &number} },
		"an unknown code": func(id uint64, _ *coord.Columns) *wire.ClientMsg {
			return &wire.ClientMsg{Answer: &wire.Answer{ID: id, Code: 99}}
		},
		"unknown results": func(id uint64, _ *coord.Columns) *wire.ClientMsg {
			return &wire.ClientMsg{Answer: &wire.Answer{ID: id, Results: []coord.Result{{Code: 99}}}}
		},
		"nothing": func(uint64, *coord.Columns) *wire.ClientMsg { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			_, a := serve(t, func(id uint64, cols *coord.Columns) *wire.ClientMsg {
				if isOpen(cols) {
					return fine(id, cols)
				}
				return wrong(id, cols)
			})
			_, b := serve(t, fine)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			c, err := Dial(ctx, Config{Endpoints: []Endpoint{a, b}, TryTimeout: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Put(ctx, []byte("k"), nil); err != nil {
				t.Error(err)
			}
			if c.Stats().Retried == 0 {
				t.Error("nothing was retried")
			}
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// A connection on which a box is silent while asked (half-open TCP) is made anew.
func TestASilentConnectionIsReplaced(t *testing.T) {
	var mu sync.Mutex
	puts := 0
	_, a := serve(t, func(id uint64, cols *coord.Columns) *wire.ClientMsg {
		mu.Lock()
		defer mu.Unlock()
		if !isOpen(cols) {
			if puts++; puts < 8 {
				return nil
			}
		}
		return fine(id, cols)
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := Dial(ctx, Config{Endpoints: []Endpoint{a}, TryTimeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, []byte("k"), nil); err != nil {
		t.Fatal(err)
	}
	if st := c.Stats(); st.Dials < 2 {
		t.Fatalf("%+v", st)
	}
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// Close waits for calls, and for no longer than it may.
func TestCloseEndsCallsWhenItsTimeIsUp(t *testing.T) {
	asked := make(chan struct{}, 100)
	_, a := serve(t, func(id uint64, cols *coord.Columns) *wire.ClientMsg {
		if isOpen(cols) {
			return fine(id, cols)
		}
		asked <- struct{}{}
		return nil
	})
	c, err := Dial(context.Background(), Config{Endpoints: []Endpoint{a}, TryTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() {
		_, err := c.Put(context.Background(), []byte("k"), nil)
		end <- err
	}()
	<-asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := <-end; !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
}
