package native_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/native"
)

// order is a whole site without the agreement: what the boxes submit is applied one
// request after the other by a real state machine.
type order struct {
	mu  sync.Mutex
	m   *state.Machine
	seq uint64
}

func newOrder(t testing.TB) *order {
	t.Helper()
	m, err := state.New(state.NewMemBackend())
	if err != nil {
		t.Fatal(err)
	}
	return &order{m: m}
}

func (o *order) apply(cols *coord.Columns) coord.Reply {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seq++
	o.m.Begin(&coord.Block{Height: o.m.Height() + 1})
	res, ok := o.m.Batch(coord.BoxID{1}, o.seq, o.seq-1, cols, nil)
	o.m.End()
	if !ok {
		panic(fmt.Sprint("the test's own batch had no effect: ", o.m.Err()))
	}
	r := coord.Reply{Height: o.m.Height(), Results: res}
	for i := range res {
		if res[i].Code != coord.CodeOK {
			r.Code = res[i].Code
			break
		}
	}
	return r
}

// counts gives every observed object with its count.
func (o *order) counts() map[uint64]uint64 {
	out := map[uint64]uint64{}
	_, _, top := o.m.Top(state.TopMax)
	for _, c := range top {
		out[c.Object] = c.Count
	}
	return out
}

// box is one box of the site: a server that can die and come back.
type box struct {
	t     testing.TB
	index int
	id    coord.BoxID
	cert  *tls.Certificate // nil: a unix socket
	addr  string
	// submit is what the box does with a request.
	submit func(*site.Request)
	limits native.Limits
	wrap   func(net.Listener) net.Listener

	mu     sync.Mutex
	server *native.Server
	done   chan error
}

func unixBox(t testing.TB, index int, submit func(*site.Request)) *box {
	return &box{
		t: t, index: index, id: coord.BoxID{byte(index + 1)}, submit: submit,
		addr: filepath.Join(t.TempDir(), "s"),
	}
}

func tlsBox(t testing.TB, index int, submit func(*site.Request)) *box {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1, 0)} // time is not looked at
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &box{
		t: t, index: index, id: coord.BoxIDOf(public), submit: submit, addr: "127.0.0.1:0",
		cert: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}
}

// start serves; its end is that of the test, unless stop comes first.
func (b *box) start() {
	b.t.Helper()
	s, err := native.New(native.Config{
		Submit: b.submit, Box: b.id, Site: coord.SiteID{9}, Limits: b.limits,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	var l net.Listener
	if b.cert == nil {
		l, err = net.Listen("unix", b.addr)
	} else {
		l, err = net.Listen("tcp", b.addr)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.addr = l.Addr().String()
	if b.wrap != nil {
		l = b.wrap(l)
	}
	if b.cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*b.cert}, MinVersion: tls.VersionTLS13})
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	b.mu.Lock()
	b.server, b.done = s, done
	b.mu.Unlock()
	b.t.Cleanup(func() { b.stop(canceled()) })
}

// stop ends the server if there is one: gracefully for as long as ctx lasts.
func (b *box) stop(ctx context.Context) error {
	b.mu.Lock()
	s, done := b.server, b.done
	b.server = nil
	b.mu.Unlock()
	if s == nil {
		return nil
	}
	err := s.Shutdown(ctx)
	if serr := <-done; serr != nil && !errors.Is(serr, native.ErrStopped) {
		b.t.Error("serve: ", serr)
	}
	return err
}

func (b *box) endpoint() client.Endpoint {
	network := "tcp"
	if b.cert == nil {
		network = "unix"
	}
	return client.Endpoint{Network: network, Address: b.addr, Box: b.id}
}

func endpoints(boxes ...*box) (e []client.Endpoint) {
	for _, b := range boxes {
		e = append(e, b.endpoint())
	}
	return e
}

// canceled is a context that has ended: stop at once.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// patience is for calls that must end by themselves; a test that needs it all has failed.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func dial(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.Dial(patience(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(canceled()) })
	return c
}

// answering is what a healthy box does.
func (o *order) answering(r *site.Request) { r.Done(o.apply(r.Cols)) }

// chaos is what an unhealthy one does: it refuses, answers twice as often as it should
// not, late or never, and orders things once, twice or not at all.
type chaos struct {
	o *order

	mu   sync.Mutex
	rng  *mrand.Rand
	late []func()
	n    int
}

func (c *chaos) submit(r *site.Request) {
	c.mu.Lock()
	roll := c.rng.IntN(100)
	c.n++
	c.mu.Unlock()
	switch {
	case roll < 10: // overloaded
		r.Done(coord.Reply{Code: coord.CodeBusy, RetryAfter: time.Millisecond})
	case roll < 15: // its batch is lost
		r.Done(coord.Reply{Code: coord.CodeStopping})
	case roll < 20: // ordered, and the answer comes when nobody waits for it any more
		reply := c.o.apply(r.Cols)
		c.postpone(func() { r.Done(reply) })
	case roll < 25: // ordered much later, if ever
		c.postpone(func() { r.Done(c.o.apply(r.Cols)) })
	case roll < 35: // ordered twice
		r.Done(c.o.apply(r.Cols))
		c.o.apply(r.Cols)
	default:
		r.Done(c.o.apply(r.Cols))
	}
}

// postpone keeps an answer back until a few more have been kept back.
func (c *chaos) postpone(f func()) {
	c.mu.Lock()
	c.late = append(c.late, f)
	var due []func()
	if len(c.late) > 8 {
		c.rng.Shuffle(len(c.late), func(i, j int) { c.late[i], c.late[j] = c.late[j], c.late[i] })
		due, c.late = c.late[:4], c.late[4:]
	}
	c.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// flaky cuts connections after a random number of bytes.
type flaky struct {
	net.Listener
	mu  sync.Mutex
	rng *mrand.Rand
}

func (f *flaky) Accept() (net.Conn, error) {
	nc, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &flakyConn{Conn: nc, left: 2000 + f.rng.IntN(20_000)}, nil
}

type flakyConn struct {
	net.Conn
	mu   sync.Mutex
	left int
}

func (f *flakyConn) spend(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left -= n; f.left < 0 {
		f.Conn.Close()
	}
}

func (f *flakyConn) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	f.spend(n)
	return n, err
}

func (f *flakyConn) Write(b []byte) (int, error) {
	n, err := f.Conn.Write(b[:min(len(b), 1+len(b)/2)]) // half may leave before the cut
	f.spend(n)
	if err == nil && n < len(b) {
		var m int
		m, err = f.Conn.Write(b[n:])
		n += m
	}
	return n, err
}
