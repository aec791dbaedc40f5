package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/pion/mdns/v2"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// mdnsEvery is how often the responder looks whether the machine has other addresses.
const mdnsEvery = 5 * time.Second

// runMDNS answers to HOST.local (RFC 6762) until ctx ends, with the addresses that the machine has now.
func (m *machine) runMDNS(ctx context.Context, host string) {
	if !m.file.Appliance.Network.MDNS {
		return
	}
	t := time.NewTicker(mdnsEvery)
	defer t.Stop()
	var c *mdns.Conn
	stop := func() {
		if c != nil {
			_ = c.Close() // its sockets are gone either way
			c = nil
		}
	}
	defer stop()
	was, said := "", ""
	for {
		s := m.status()
		var now strings.Builder
		for _, l := range s.Network.Links {
			if l.Up {
				now.WriteString(fmt.Sprint(l.Name, l.Addresses))
			}
		}
		if now.String() != was && s.Network.Address() != "" {
			was = now.String()
			stop()
			var err error
			if c, err = respond(host + ".local"); err != nil && err.Error() != said {
				said = err.Error()
				m.log.Warn("no mDNS name", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// respond answers questions for a name on all links.
func respond(name string) (*mdns.Conn, error) {
	var four *ipv4.PacketConn
	var six *ipv6.PacketConn
	a4, err := net.ResolveUDPAddr("udp4", mdns.DefaultAddressIPv4)
	if err != nil {
		return nil, err
	}
	l4, err4 := net.ListenUDP("udp4", a4)
	if err4 == nil {
		four = ipv4.NewPacketConn(l4)
	}
	a6, err := net.ResolveUDPAddr("udp6", mdns.DefaultAddressIPv6)
	if err != nil {
		return nil, err
	}
	l6, err6 := net.ListenUDP("udp6", a6)
	if err6 == nil {
		six = ipv6.NewPacketConn(l6)
	}
	if four == nil && six == nil {
		return nil, errors.Join(err4, err6)
	}
	c, err := mdns.NewServer(four, six, mdns.WithLocalNames(name))
	if err != nil {
		for _, l := range []*net.UDPConn{l4, l6} {
			if l != nil {
				_ = l.Close() // the error before says more
			}
		}
		return nil, fmt.Errorf("mdns: %w", err)
	}
	return c, nil
}
