package box

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/holdfast-edge/holdfast/coord/trust"
)

// certificates gives the certificate that is configured, or the box's own. Programs are given that one as what they trust, so it is the same at each
// start: it has the names that the box has at these addresses, and none that come and go. Who comes in at another address of the
// machine, where the box listens everywhere, is shown one that has this address, too.
func certificates(section, certFile, keyFile string, key *trust.Identity, addresses ...string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("box: %s.cert_file: %w", section, err)
		}
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }, nil
	}
	o := &ownCertificates{key: key, names: names(addresses...), others: map[netip.Addr]*tls.Certificate{}}
	cert, err := key.ClientCertificate(o.names)
	if err != nil {
		return nil, fmt.Errorf("box: a certificate for the %s port: %w", section, err)
	}
	o.first = &cert
	return func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return o.at(h.Conn.LocalAddr()) }, nil
}

// othersMax bounds the certificates for other addresses of the machine; those beyond are made anew each time.
const othersMax = 64

// ownCertificates are a box's own.
type ownCertificates struct {
	key   *trust.Identity
	names []string
	first *tls.Certificate

	mu     sync.Mutex
	others map[netip.Addr]*tls.Certificate
}

// at is the one for who came in at an address of this machine.
func (o *ownCertificates) at(local net.Addr) (*tls.Certificate, error) {
	a, err := netip.ParseAddrPort(local.String())
	ip := a.Addr().Unmap().WithZone("")
	if err != nil || slices.Contains(o.names, ip.String()) {
		return o.first, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.others[ip]; c != nil {
		return c, nil
	}
	all := append(slices.Clone(o.names), ip.String())
	slices.Sort(all)
	c, err := o.key.ClientCertificate(all)
	if err != nil {
		return nil, err
	}
	if len(o.others) < othersMax {
		o.others[ip] = &c
	}
	return &c, nil
}

// names are what programs may call this box: where it listens, as the site knows it, its host name, also as mDNS has it, and loopback.
func names(addresses ...string) []string {
	list := []string{"localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil && h != "" {
		list = append(list, h, h+".local")
	}
	for _, a := range addresses {
		h, _, err := net.SplitHostPort(a)
		if err != nil {
			continue
		}
		if ip := net.ParseIP(h); h != "" && (ip == nil || !ip.IsUnspecified()) {
			list = append(list, h)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
