package crowd

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// dial connects from a loopback address, which is its own source.
func dial(t *testing.T, l net.Listener, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestOneSourceCannotTakeAllConnections(t *testing.T) {
	raw, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Share(raw, 3)
	defer l.Close()
	accepted := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	var crowd []net.Conn
	for range 3 {
		dial(t, l, "127.0.0.2")
		crowd = append(crowd, <-accepted)
	}
	for range 5 {
		if _, err := dial(t, l, "127.0.0.2").Read(make([]byte, 1)); err == nil {
			t.Fatal("a fourth connection is served")
		}
	}
	other := dial(t, l, "127.0.0.3")
	if c := <-accepted; c.RemoteAddr().String() != other.LocalAddr().String() {
		t.Fatalf("accepted %v", c.RemoteAddr())
	}
	if l.Turned() != 5 {
		t.Errorf("%d were turned away", l.Turned())
	}
	_ = crowd[0].Close()
	_ = crowd[0].Close() // counts once
	again := dial(t, l, "127.0.0.2")
	if c := <-accepted; c.RemoteAddr().String() != again.LocalAddr().String() {
		t.Fatalf("accepted %v", c.RemoteAddr())
	}
	if _, err := dial(t, l, "127.0.0.2").Read(make([]byte, 1)); !errors.Is(err, io.EOF) && err == nil {
		t.Error("a place was given back twice")
	}
}

func TestSourcesAreToldApartByWhatOnePersonHas(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80": "fe80::/64", "192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "@": "@", "box:7": "box",
	} {
		if got := Source(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
