package native_test

import (
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

func TestAProgramUsesTheSiteThroughAnyBox(t *testing.T) {
	for name, newBox := range map[string]func(testing.TB, int, func(*site.Request)) *box{"unix": unixBox, "tls": tlsBox} {
		for _, spread := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " spread ", spread), func(t *testing.T) {
				ctx, o := patience(t), newOrder(t)
				var boxes []*box
				for i := range 3 {
					b := newBox(t, i, o.answering)
					b.start()
					boxes = append(boxes, b)
				}
				c := dial(t, client.Config{Endpoints: endpoints(boxes...), Spread: spread, Name: "shop"})
				for i := range uint64(5) {
					rev, err := c.Put(ctx, []byte("k"), fmt.Append(nil, i))
					if err != nil || rev != i+2 { // an empty store is at 1
						t.Fatal(rev, err)
					}
				}
				if v, found, err := c.Get(ctx, []byte("k")); err != nil || !found || string(v) != "4" {
					t.Fatalf("%q %v %v", v, found, err)
				}
				for _, want := range []bool{true, false} {
					if found, err := c.Delete(ctx, []byte("k")); err != nil || found != want {
						t.Fatal(found, err)
					}
				}
				if _, found, err := c.Get(ctx, []byte("k")); err != nil || found {
					t.Fatal(found, err)
				}
				if err := c.Observe(ctx, 7, 3); err != nil {
					t.Fatal(err)
				}
				if err := c.Observe(ctx, 7, 0); !errors.Is(err, client.ErrMalformed) {
					t.Fatal(err)
				}
				var m client.Messages
				m.Put([]byte("a"), []byte("1"))
				m.Get([]byte("a"))
				m.Observe(7, 1)
				m.Delete([]byte("b"))
				r, err := c.Submit(ctx, &m)
				if err != nil || r.Code != coord.CodeOK || r.Height == 0 || len(r.Results) != 4 || string(r.Results[1].Value) != "1" {
					t.Fatalf("%+v %v", r, err)
				}
				if n := o.counts()[7]; n != 4 {
					t.Fatalf("counted %d", n)
				}
				if err := c.Close(ctx); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Put(ctx, []byte("k"), nil); !errors.Is(err, client.ErrClosed) {
					t.Fatal(err)
				}
				v := o.m.Sessions()
				if len(v) != 1 || v[0].Name != "shop" || v[0].Floor != 15 {
					t.Fatalf("%+v", v)
				}
				if st := c.Stats(); st.Sent != 15 || st.Acknowledged != 15 || st.Sessions != 1 || st.Retried != 0 {
					t.Fatalf("%+v", st)
				}
			})
		}
	}
}

// Boxes refuse, delay, lose, order twice, cut connections in the middle of frames, die
// and come back: what was acknowledged took effect exactly once, and nothing twice.
func TestEveryAcknowledgedMessageTookEffectExactlyOnce(t *testing.T) {
	for name, newBox := range map[string]func(testing.TB, int, func(*site.Request)) *box{"unix": unixBox, "tls": tlsBox} {
		for _, spread := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " spread ", spread), func(t *testing.T) {
				runChaos(t, newBox, spread)
			})
		}
	}
}

func runChaos(t *testing.T, newBox func(testing.TB, int, func(*site.Request)) *box, spread bool) {
	const clients, callers, calls = 2, 8, 25
	o := newOrder(t)
	var boxes []*box
	for i := range 4 {
		ch := &chaos{o: o, rng: mrand.New(mrand.NewPCG(uint64(i), 1))}
		b := newBox(t, i, ch.submit)
		rng := mrand.New(mrand.NewPCG(uint64(i), 2))
		b.wrap = func(l net.Listener) net.Listener { return &flaky{Listener: l, rng: rng} }
		b.start()
		boxes = append(boxes, b)
	}
	// A box is killed, or stopped, and started again for every 40 calls that end.
	var ended atomic.Int64
	tick, over := make(chan struct{}, 1), make(chan struct{})
	var breaker sync.WaitGroup
	breaker.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-tick:
			case <-over:
				return
			}
			b := boxes[i%len(boxes)]
			ctx := canceled()
			if i%2 == 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
				defer cancel()
			}
			_ = b.stop(ctx)
			b.start()
		}
	})
	var mu sync.Mutex
	acked, unknown := map[uint64]bool{}, map[uint64]bool{}
	var all sync.WaitGroup
	for i := range clients {
		c := dial(t, client.Config{Endpoints: endpoints(boxes...), Spread: spread, TryTimeout: 60 * time.Millisecond, InFlight: 6})
		for j := range callers {
			all.Go(func() {
				for k := range calls {
					// Each call counts objects of its own, so that a count is how often it took effect.
					object := uint64(i*1_000_000 + j*1000 + k*2)
					ctx := patience(t)
					if k%10 == 9 { // gives up early
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
						defer cancel()
					}
					var m client.Messages
					m.Observe(object, 1)
					m.Observe(object+1, 1)
					r, err := c.SubmitTo(ctx, k, &m)
					if n := ended.Add(1); n%40 == 0 {
						select {
						case tick <- struct{}{}:
						default:
						}
					}
					mu.Lock()
					switch {
					case err == nil && r.Code == coord.CodeOK:
						acked[object] = true
					case errors.Is(err, client.ErrUnknown), errors.Is(err, client.ErrNotSent):
						unknown[object] = true
					default:
						t.Errorf("%+v %v", r, err)
					}
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	close(over)
	breaker.Wait()
	got := o.counts()
	for object := range acked {
		if got[object] != 1 || got[object+1] != 1 {
			t.Errorf("acknowledged: %d took effect %d and %d times", object, got[object], got[object+1])
		}
	}
	for object := range unknown {
		if got[object] > 1 || got[object+1] != got[object] {
			t.Errorf("unknown: %d took effect %d and %d times", object, got[object], got[object+1])
		}
	}
	if len(acked) < clients*callers*calls*8/10 {
		t.Errorf("only %d were acknowledged", len(acked))
	}
	t.Logf("%d acknowledged, %d unknown", len(acked), len(unknown))
}

func TestTheClientGoesOnWhenItsBoxDies(t *testing.T) {
	ctx, o := patience(t), newOrder(t)
	a, b := unixBox(t, 0, o.answering), unixBox(t, 1, o.answering)
	a.start()
	c := dial(t, client.Config{Endpoints: endpoints(a, b)})
	for range 4 {
		if _, err := c.Put(ctx, []byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
		_ = a.stop(canceled()) // with the connection that the client has, if any
		b.start()
		a, b = b, a
	}
	if o.m.Revision() != 5 {
		t.Fatalf("revision %d", o.m.Revision())
	}
}

func TestABoxThatDoesNotAnswerIsPassedBy(t *testing.T) {
	ctx, o := patience(t), newOrder(t)
	held := make(chan *site.Request, 10)
	a := unixBox(t, 0, func(r *site.Request) {
		if r.Cols.Kinds[0] == coord.KindOpen {
			o.answering(r)
			return
		}
		held <- r
	})
	b := unixBox(t, 1, o.answering)
	a.start()
	b.start()
	c := dial(t, client.Config{Endpoints: endpoints(a, b), TryTimeout: 30 * time.Millisecond})
	if rev, err := c.Put(ctx, []byte("k"), []byte("v")); err != nil || rev != 2 {
		t.Fatal(rev, err)
	}
	// The slow box orders it at last: nothing happens, and its answer disturbs nobody.
	o.answering(<-held)
	if rev, err := c.Put(ctx, []byte("k"), []byte("w")); err != nil || rev != 3 {
		t.Fatal(rev, err)
	}
}

// A put whose caller gave up cannot take effect after its number was used up by a read.
func TestAnAbandonedMessageCannotHauntTheSite(t *testing.T) {
	ctx, o := patience(t), newOrder(t)
	held := make(chan *site.Request, 10)
	hold := atomic.Bool{}
	a := unixBox(t, 0, func(r *site.Request) {
		if hold.Load() && r.Cols.Kinds[0] == coord.KindPut {
			held <- r
			return
		}
		o.answering(r)
	})
	a.start()
	c := dial(t, client.Config{Endpoints: endpoints(a)})
	hold.Store(true)
	short, cancel := context.WithCancel(ctx)
	go func() {
		r := <-held
		cancel()
		held <- r
	}()
	if _, err := c.Put(short, []byte("k"), []byte("late")); !errors.Is(err, client.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	hold.Store(false)
	if err := c.Close(ctx); err != nil { // waits until the number is used up
		t.Fatal(err)
	}
	o.answering(<-held)
	if _, found, _ := o.m.Get([]byte("k")); found {
		t.Fatal("it took effect after all")
	}
	if v := o.m.Sessions(); v[0].Floor != 1 {
		t.Fatalf("the session has a hole: %+v", v)
	}
}

func TestALostSessionIsReplaced(t *testing.T) {
	ctx, o := patience(t), newOrder(t)
	drop := func() { // the site drops the idle session
		o.mu.Lock()
		defer o.mu.Unlock()
		many := new(coord.Columns)
		for i := range uint64(4096) {
			many.Add(coord.KindOpen, 1+i, 0, 0, nil, nil)
		}
		o.seq++
		o.m.Begin(&coord.Block{Height: o.m.Height() + 1})
		o.m.Batch(coord.BoxID{1}, o.seq, 0, many, nil)
		o.m.End()
	}
	var lose atomic.Bool
	a := unixBox(t, 0, func(r *site.Request) {
		if lose.Swap(false) { // ordered, and the answer is lost; then the session goes
			o.apply(r.Cols)
			drop()
			r.Done(coord.Reply{Code: coord.CodeStopping})
			return
		}
		o.answering(r)
	})
	a.start()
	c := dial(t, client.Config{Endpoints: endpoints(a)})
	drop()
	// The first try had no effect for certain: the client may go on under a new session.
	if rev, err := c.Put(ctx, []byte("k"), []byte("v")); err != nil || rev != 2 {
		t.Fatal(rev, err)
	}
	lose.Store(true)
	if _, err := c.Put(ctx, []byte("k"), []byte("w")); !errors.Is(err, client.ErrSessionLost) {
		t.Fatal(err)
	}
	if rev, err := c.Put(ctx, []byte("k"), []byte("x")); err != nil || rev != 4 {
		t.Fatal(rev, err)
	}
	if st := c.Stats(); st.Sessions != 3 {
		t.Fatalf("%+v", st)
	}
}

// Reads whose values do not fit one batch together are answered by and by.
func TestManyLargeReadsInOneRequest(t *testing.T) {
	ctx, o := patience(t), newOrder(t)
	a := unixBox(t, 0, o.answering)
	a.start()
	c := dial(t, client.Config{Endpoints: endpoints(a)})
	value := make([]byte, coord.ValueBytesMax)
	if _, err := c.Put(ctx, []byte("k"), value); err != nil {
		t.Fatal(err)
	}
	var m client.Messages
	const n = 11
	for range n {
		m.Get([]byte("k"))
	}
	r, err := c.Submit(ctx, &m)
	if err != nil || r.Code != coord.CodeOK || len(r.Results) != n {
		t.Fatal(r.Code, len(r.Results), err)
	}
	for i := range r.Results {
		if len(r.Results[i].Value) != len(value) {
			t.Fatalf("read %d gave %d bytes", i, len(r.Results[i].Value))
		}
	}
}

func TestWhoIsNotTheExpectedBoxIsNotSpokenTo(t *testing.T) {
	o := newOrder(t)
	for name, b := range map[string]*box{"tls": tlsBox(t, 0, o.answering), "unix": unixBox(t, 1, o.answering)} {
		b.start()
		e := b.endpoint()
		e.Box[0] ^= 1
		ctx, cancel := context.WithCancel(patience(t))
		go func() {
			for b.server.Stats().Accepted < 2 { // a second try: the first was turned down
				runtime.Gosched()
			}
			cancel()
		}()
		if _, err := client.Dial(ctx, client.Config{Endpoints: []client.Endpoint{e}}); !errors.Is(err, client.ErrIdentity) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStopAnswersWhatIsUnderWay(t *testing.T) {
	ctx, o := patience(t), newOrder(t)
	held := make(chan *site.Request, 10)
	var hold atomic.Bool
	a := unixBox(t, 0, func(r *site.Request) {
		if hold.Load() {
			held <- r
			return
		}
		o.answering(r)
	})
	a.start()
	c := dial(t, client.Config{Endpoints: endpoints(a), TryTimeout: 20 * time.Second})
	hold.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, []byte("k"), []byte("v"))
		result <- err
	}()
	r := <-held
	stopped := make(chan error, 1)
	go func() { stopped <- a.stop(ctx) }()
	r.Done(o.apply(r.Cols))
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if st := c.Stats(); st.Retried != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestAStopDoesNotWaitForEver(t *testing.T) {
	ctx, o := patience(t), newOrder(t)
	held := make(chan *site.Request, 10)
	var hold atomic.Bool
	a := unixBox(t, 0, func(r *site.Request) {
		if hold.Load() {
			held <- r
			return
		}
		o.answering(r)
	})
	a.start()
	c := dial(t, client.Config{Endpoints: endpoints(a), TryTimeout: 20 * time.Second})
	hold.Store(true)
	end := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, []byte("k"), []byte("v"))
		end <- err
	}()
	r := <-held
	if err := a.stop(canceled()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.Done(o.apply(r.Cols)) // after the end: no effect on anybody
	hold.Store(false)
	a.start()
	if err := <-end; err != nil { // repeated, and once
		t.Fatal(err)
	}
	if o.m.Revision() != 2 {
		t.Fatalf("revision %d", o.m.Revision())
	}
}

func TestARequestBringsTheProgramsTrace(t *testing.T) {
	const header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	want, err := trace.ParseTraceparent(header)
	if err != nil {
		t.Fatal(err)
	}
	o := newOrder(t)
	got := make(chan trace.Context, 8)
	b := unixBox(t, 0, func(r *site.Request) { got <- r.Trace; o.answering(r) })
	b.start()
	c := dial(t, client.Config{Endpoints: endpoints(b)})
	ctx, err := client.WithTrace(patience(t), header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(patience(t), []byte("k"), []byte("w")); err != nil {
		t.Fatal(err)
	}
	for i, want := range []trace.Context{{}, want, {}} { // the session, and the two
		if got := <-got; got != want {
			t.Errorf("request %d: %+v, want %+v", i, got, want)
		}
	}
}
