package box

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

// secured is the only box of a site with TLS on every port.
func secured(t *testing.T) (*config.Config, *identity) {
	t.Helper()
	c := newBox(t)
	c.Client.Listen, c.Client.TLS = freeAddress(t), "on"
	c.Console.Listen, c.Console.TLS = freeAddress(t), "on"
	c.Join.Listen = freeAddress(t)
	who, err := identify(c)
	if err != nil {
		t.Fatal(err)
	}
	return c, who
}

// speaks are the protocols that each port's clients offer. A port that is not here fails the test below: whoever opens one
// says what it speaks.
func speaks() map[string][]string {
	return map[string][]string{"peer": {"holdfast-peer/1"}, "native": nil, "client": {"h2"}, "console": {"http/1.1"}, "join": nil}
}

// Every TCP port speaks TLS 1.3 and nothing older, with a suite of it, and shows the box's own key.
func TestEveryPortSpeaksTLS13Only(t *testing.T) {
	c, who := secured(t)
	p, err := openPorts(t.Context(), c, who, &hardware{})
	if err != nil {
		t.Fatal(err)
	}
	var listeners []string
	addresses := map[string]string{"join": c.Join.Listen}
	for i, v := 0, reflect.ValueOf(p).Elem(); i < v.NumField(); i++ {
		name := v.Type().Field(i).Name
		if name == "join" {
			continue // a proof of work comes before TLS there: firmware/joining has its test
		}
		if v.Field(i).IsNil() {
			t.Errorf("the box of this test does not open its %s port", name)
			continue
		}
		listeners = append(listeners, name)
	}
	for name, l := range map[string]net.Listener{"peer": p.peer, "native": p.native, "client": p.client, "console": p.console} {
		addresses[name] = l.Addr().String()
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	stop := runBox(t, c)
	stranger, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range listeners {
		protocols, known := speaks()[name]
		if !known || addresses[name] == "" {
			t.Errorf("nobody says what is spoken at the %s port", name)
			continue
		}
		offer := &tls.Config{InsecureSkipVerify: true, NextProtos: protocols, Certificates: []tls.Certificate{stranger.Certificate()}}
		old := offer.Clone()
		old.MaxVersion = tls.VersionTLS12
		if conn, err := dialTLS(t, addresses[name], old); err == nil {
			t.Errorf("%s: TLS 1.2 is spoken", name)
			conn.Close()
		}
		conn, err := dialTLS(t, addresses[name], offer)
		if name == "join" {
			// Before its puzzle is solved it speaks no TLS at all; firmware/joining tests what comes after.
			if err == nil {
				t.Error("join: TLS is spoken with a stranger that has not worked for it")
				conn.Close()
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := conn.ConnectionState()
		if key := s.PeerCertificates[0].RawSubjectPublicKeyInfo; s.Version != tls.VersionTLS13 || coord.BoxIDOf(key) != who.key.ID() {
			t.Errorf("%s: version %x, a key of %v", name, s.Version, coord.BoxIDOf(key))
		}
		switch s.CipherSuite {
		case tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256:
		default:
			t.Errorf("%s: suite %s", name, tls.CipherSuiteName(s.CipherSuite))
		}
		if s.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s: key exchange %v", name, s.CurveID)
		}
		t.Logf("%s: %s, %v", name, tls.CipherSuiteName(s.CipherSuite), s.CurveID)
		if name == "peer" {
			// Who may be told of a handover is let say so (coord/link); this one says nothing of the kind.
			_, _ = conn.Write([]byte("GET / HTTP/1.1"))
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, err := conn.Read(make([]byte, 1))
			if late := net.Error(nil); err == nil || errors.As(err, &late) && late.Timeout() {
				t.Errorf("a stranger is not cut off: %v", err)
			}
		}
		conn.Close()
	}
	// What does not speak TLS at all is not answered.
	for _, name := range listeners {
		conn, err := net.Dial("tcp", addresses[name])
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		answer, _ := io.ReadAll(conn)
		if bytes.Contains(answer, []byte("200 OK")) {
			t.Errorf("%s answers in clear: %q", name, answer)
		}
		conn.Close()
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func dialTLS(t testing.TB, address string, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// BenchmarkHandshake is both sides of a new connection with certificates on both, in memory: what a core does of it is about the half.
func BenchmarkHandshake(b *testing.B) {
	var certs [2]tls.Certificate
	for i := range certs {
		id, err := trust.LoadOrCreate(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		certs[i] = id.Certificate()
	}
	server := &tls.Config{Certificates: certs[:1], MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true}
	client := &tls.Config{Certificates: certs[1:], MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	for b.Loop() {
		x, y := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- tls.Server(x, server).Handshake() }()
		err := tls.Client(y, client).Handshake()
		if err := errors.Join(err, <-done); err != nil {
			b.Fatal(err)
		}
		x.Close()
		y.Close()
	}
}
