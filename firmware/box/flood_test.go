package box

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/operators"
)

// attacker is one source that does its worst until the test ends.
type attacker struct {
	t      *testing.T
	from   string
	ctx    context.Context
	work   *sync.WaitGroup
	opened atomic.Int64
	said   atomic.Int64 // bytes that got through
}

func attack(t *testing.T, from string) *attacker {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	a := &attacker{t: t, from: from, ctx: ctx, work: new(sync.WaitGroup)}
	t.Cleanup(func() {
		stop()
		a.work.Wait()
	})
	return a
}

func (a *attacker) dial(address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a.from)}}
	c, err := d.DialContext(a.ctx, "tcp", address)
	if t, ok := c.(*net.TCPConn); ok {
		err = t.SetLinger(0) // its ports are free again at once
	}
	return c, err
}

// drip keeps n connections open on each of which it says text, a byte at a time and as slowly as it can without being idle, and opens a new one
// when it is cut off.
func (a *attacker) drip(address, text string, n int) {
	for range n {
		a.work.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for a.ctx.Err() == nil {
				if c, err := a.dial(address); err == nil {
					a.opened.Add(1)
					a.say(c, text, tick.C)
					_ = c.Close()
				}
				select {
				case <-a.ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
}

func (a *attacker) say(c net.Conn, text string, tick <-chan time.Time) {
	defer context.AfterFunc(a.ctx, func() { _ = c.Close() })()
	for i := range len(text) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
		a.said.Add(1)
		select {
		case <-a.ctx.Done():
			return
		case <-tick:
		}
	}
	_, _ = c.Read(make([]byte, 1)) // holds it
}

// guess tries passwords from n connections at once.
func (a *attacker) guess(url string, n int) {
	transport := &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) { return a.dial(address) }}
	a.t.Cleanup(transport.CloseIdleConnections)
	for i := range n {
		a.work.Go(func() {
			for k := 0; a.ctx.Err() == nil; k++ {
				body := strings.NewReader(fmt.Sprintf(`{"name":"admin","password":"guess %d of %d"}`, k, i))
				req, err := http.NewRequestWithContext(a.ctx, http.MethodPost, url, body)
				if err != nil {
					return
				}
				req.Header.Set("Content-Type", "application/json")
				if resp, err := transport.RoundTrip(req); err == nil {
					a.said.Add(1)
					_ = resp.Body.Close()
				}
			}
		})
	}
}

const password = "correct horse battery"

// fortress is a box with all its ports, small limits, and an operator.
func fortress(t *testing.T, client string) *config.Config {
	t.Helper()
	c := newBox(t)
	c.Console.Listen, c.Client.Listen, c.Client.TLS = freeAddress(t), freeAddress(t), client
	c.Limits.ConsoleConnections, c.Limits.ClientConnections, c.Limits.NativeConnections = 16, 32, 32
	o, err := operators.New("admin", password, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.DataDir, operators.FoundingFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// served says that somebody else is served at every port, again and again.
func served(t *testing.T, c *config.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	scheme, creds := "http", insecure.NewCredentials()
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer web.CloseIdleConnections()
	post := func(url, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := web.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		return resp.StatusCode, string(b)
	}
	if c.Client.TLS == "on" {
		scheme = "https"
	}
	id, err := trust.LoadOrCreate(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	native := dial(t, c, "tls://"+c.Native.Listen, id.ID())
	defer closeClient(t, native)
	var kv pb.KVClient
	if c.Client.TLS == "off" {
		conn, err := grpc.NewClient(c.Client.Listen, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		kv = pb.NewKVClient(conn)
	}
	for i := range 10 {
		if code, text := post("http://"+c.Console.Listen+"/api/v1/login", `{"name":"admin","password":"`+password+`"}`); code != http.StatusOK {
			t.Fatalf("log in: %d %s", code, text)
		}
		if code, text := post(scheme+"://"+c.Client.Listen+"/v3/kv/put", `{"key":"aw==","value":"dg=="}`); code != http.StatusOK {
			t.Fatalf("etcd JSON: %d %s", code, text)
		}
		if kv != nil {
			if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte{byte(i)}}, grpc.WaitForReady(true)); err != nil {
				t.Fatalf("etcd gRPC: %v", err)
			}
		}
		if _, err := native.Put(ctx, []byte("n"), []byte("v")); err != nil {
			t.Fatalf("native: %v", err)
		}
		web.CloseIdleConnections() // each round is a new client
	}
}

// await waits until fn holds, for a minute at most.
func (a *attacker) await(fn func() bool) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !fn() {
		select {
		case <-ctx.Done():
			a.t.Fatalf("the attack does not get on: %d connections, %d bytes or guesses", a.opened.Load(), a.said.Load())
		case <-tick.C:
		}
	}
}

// heapMax is how much more a box may use under attack: a few hundred connections of some 50 KiB and one password being hashed.
const heapMax = 96 << 20

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func TestSlowClientsAndFloodsLeaveOthersServed(t *testing.T) {
	const (
		headers = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00"
	)
	bodyOf := func(path string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("{", 60000)
	}
	// The beginning of a ClientHello of TLS 1.3 that never ends.
	hello := binary.BigEndian.AppendUint16([]byte{22, 3, 1}, 512)
	hello = append(hello, bytes.Repeat([]byte{1}, 500)...)
	for i, tc := range []struct {
		name, tls string
		on        func(c *config.Config) string
		text      string
	}{
		{"console headers", "off", func(c *config.Config) string { return c.Console.Listen }, headers},
		{"console bodies", "off", func(c *config.Config) string { return c.Console.Listen }, bodyOf("/login")},
		{"etcd JSON headers", "off", func(c *config.Config) string { return c.Client.Listen }, headers},
		{"etcd JSON bodies", "off", func(c *config.Config) string { return c.Client.Listen }, bodyOf("/v3/kv/put")},
		{"etcd gRPC greetings", "off", func(c *config.Config) string { return c.Client.Listen }, preface},
		{"etcd TLS greetings", "on", func(c *config.Config) string { return c.Client.Listen }, string(hello)},
		{"native TLS greetings", "off", func(c *config.Config) string { return c.Native.Listen }, string(hello)},
		{"peer TLS greetings", "off", func(c *config.Config) string { return c.Peer.Listen }, string(hello)},
		{"silence", "off", func(c *config.Config) string { return c.Client.Listen }, "G"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := fortress(t, tc.tls)
			stop := runBox(t, c)
			before := heap()
			a := attack(t, "127.0.1."+strconv.Itoa(i+1)) // of its own: ports of one address are few
			a.drip(tc.on(c), tc.text, 60)
			a.await(func() bool { return a.opened.Load() >= 100 })
			served(t, c)
			if after := heap(); after > before+heapMax {
				t.Errorf("the heap grew from %d to %d MiB", before>>20, after>>20)
			}
			if a.said.Load() == 0 {
				t.Error("the attacker said nothing")
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGuessingPasswordsLeavesOthersServedAndGetsNowhere(t *testing.T) {
	c := fortress(t, "off")
	stop := runBox(t, c)
	before := heap()
	a := attack(t, "127.0.0.2")
	a.guess("http://"+c.Console.Listen+"/api/v1/login", 4) // half of its share: it has a place for the right password, too
	a.await(func() bool { return a.said.Load() >= 50 })
	served(t, c)
	if after := heap(); after > before+heapMax {
		t.Errorf("the heap grew from %d to %d MiB", before>>20, after>>20)
	}
	transport := &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) { return a.dial(address) }}
	defer transport.CloseIdleConnections()
	var resp *http.Response
	a.await(func() bool { // a connection of its own may be ending yet
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.Console.Listen+"/api/v1/login", strings.NewReader(`{"name":"admin","password":"`+password+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err = transport.RoundTrip(req)
		return err == nil
	})
	defer resp.Body.Close()
	var said struct{ Error string }
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(said.Error, "wait") {
		t.Errorf("after %d guesses even the right password from there gets %d %q", a.said.Load(), resp.StatusCode, said.Error)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
