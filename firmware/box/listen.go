package box

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/crowd"
	"github.com/holdfast-edge/holdfast/firmware/etcdapi"
	"github.com/holdfast-edge/holdfast/firmware/unixsock"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

// ports are the box's TCP listeners; one that is not configured is nil.
type ports struct{ peer, native, client, console, join net.Listener }

func openPorts(ctx context.Context, c *config.Config, who *identity, hw *hardware) (*ports, error) {
	nativeAddress, err := c.NativeListen()
	if err != nil {
		return nil, fmt.Errorf("box: %w", err)
	}
	peer := c.Peer.Listen
	if peer == "" {
		peer = who.member.Peer
	}
	p := &ports{}
	for _, l := range []struct {
		key, address string
		to           *net.Listener
		as           linux.Sockets
	}{
		{"peer.listen", peer, &p.peer, hw.peers},
		{"native.listen", nativeAddress, &p.native, hw.clients},
		{"client.listen", c.Client.Listen, &p.client, hw.clients},
		{"console.listen", c.Console.Listen, &p.console, linux.Sockets{}},
		{"join.listen", c.Join.Listen, &p.join, linux.Sockets{}},
	} {
		if l.address == "" {
			continue
		}
		got, err := l.as.Listen(ctx, l.address)
		if err != nil {
			return nil, errors.Join(listenError(l.key, l.address, err), p.close())
		}
		*l.to = got
		hw.received(l.key, got)
	}
	// One source may have half of a port's connections; the peers' port counts visitors itself (coord/link).
	for _, l := range []struct {
		of   *net.Listener
		most int
	}{{&p.native, c.Limits.NativeConnections}, {&p.client, c.Limits.ClientConnections}, {&p.console, c.Limits.ConsoleConnections}} {
		if *l.of != nil {
			*l.of = crowd.Share(*l.of, max(1, l.most/2))
		}
	}
	if p.native != nil {
		p.native = tls.NewListener(p.native, &tls.Config{
			Certificates:           []tls.Certificate{who.key.Certificate()},
			MinVersion:             tls.VersionTLS13,
			SessionTicketsDisabled: true, // a resumed session would not show the certificate that names the box
		})
	}
	if p.client != nil && c.Client.Secure() {
		t, err := clientTLS(&c.Client, who)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.client = tls.NewListener(p.client, t)
	}
	if p.console != nil && c.Console.Secure() {
		get, err := certificates("console", c.Console.CertFile, c.Console.KeyFile, who.key, c.Console.Listen, who.member.Console)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.console = tls.NewListener(p.console, &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS13})
	}
	return p, nil
}

// clientTLS is the TLS of the etcd API.
func clientTLS(c *config.Client, who *identity) (*tls.Config, error) {
	get, err := certificates("client", c.CertFile, c.KeyFile, who.key, c.Listen, who.member.Client)
	if err != nil {
		return nil, err
	}
	// Whoever holds a token that is bound to a key may prove that with a certificate of the key; who signed it does not matter then.
	t := &tls.Config{GetCertificate: get, ClientAuth: tls.RequestClientCert}
	if c.ClientCAFile != "" {
		pem, err := os.ReadFile(c.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("box: client.client_ca_file: %w", err)
		}
		t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("box: client.client_ca_file: %w: %s has no certificate in PEM form", config.ErrValue, c.ClientCAFile)
		}
	}
	return etcdapi.TLSConfig(t), nil
}

func listenError(key, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("box: %w: %s = %s is in use; stop what uses it, or change %s", ErrListen, key, address, key)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("box: %w: %s = %s is not an address of this machine; change %s", ErrListen, key, address, key)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("box: %w: %s = %s needs more rights; use a port above 1023", ErrListen, key, address)
	}
	return fmt.Errorf("box: %w: %s = %s: %w", ErrListen, key, address, err)
}

func (p *ports) close() error { return closeAll(p.peer, p.native, p.client, p.console, p.join) }

// sockets are the box's unix sockets.
type sockets struct{ native, console net.Listener }

func openSockets(ctx context.Context, c *config.Config) (*sockets, error) {
	s := &sockets{}
	for _, l := range []struct {
		path string
		to   *net.Listener
	}{{c.Native.Socket, &s.native}, {c.Console.Socket, &s.console}} {
		if l.path == "" {
			continue
		}
		got, err := unixsock.Listen(ctx, l.path)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("box: %w: %w", ErrListen, err), s.close())
		}
		*l.to = got
	}
	return s, nil
}

func (s *sockets) close() error { return closeAll(s.native, s.console) }

// closeAll closes what is open; who serves a listener may have closed it already.
func closeAll(list ...net.Listener) (err error) {
	for _, l := range present(list...) {
		if e := l.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func present(list ...net.Listener) (open []net.Listener) {
	for _, l := range list {
		if l != nil {
			open = append(open, l)
		}
	}
	return open
}

func address(l net.Listener) string {
	if l == nil {
		return "none"
	}
	return l.Addr().String()
}
