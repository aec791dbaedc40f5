package box

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/trust"
)

// What programs were given as their CA must hold after another start of a machine whose other addresses come and go.
func TestTheCertificateThatProgramsTrustHasNoAddressThatComesAndGoes(t *testing.T) {
	key, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	get, err := certificates("client", "", "", key, "[::]:2379", "192.0.2.7:2379")
	if err != nil {
		t.Fatal(err)
	}
	at := func(address string) *x509.Certificate {
		c, err := get(&tls.ClientHelloInfo{Conn: from{address: address}})
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	first := at("192.0.2.7:2379")
	for _, name := range []string{"192.0.2.7", "127.0.0.1", "localhost"} {
		if err := first.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	for _, ip := range first.IPAddresses {
		if !ip.IsLoopback() && ip.String() != "192.0.2.7" {
			t.Errorf("it has %v", ip)
		}
	}
	for _, local := range []string{"127.0.0.1:2379", "[::ffff:192.0.2.7]:2379", "[::1]:2379"} {
		if !at(local).Equal(first) {
			t.Errorf("another one at %s", local)
		}
	}
	other := at("[2001:db8::7]:2379")
	if err := other.VerifyHostname("2001:db8::7"); err != nil || !first.PublicKey.(*ecdsa.PublicKey).Equal(other.PublicKey) {
		t.Errorf("the machine's other address: %v", err)
	}
	if !at("[2001:db8::7]:2379").Equal(other) {
		t.Error("a second connection there has another one")
	}
	// The same at each start.
	again, err := certificates("client", "", "", key, "[::]:2379", "192.0.2.7:2379")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := again(&tls.ClientHelloInfo{Conn: from{address: "192.0.2.7:2379"}}); err != nil || !slices.Equal(c.Leaf.Raw, first.Raw) {
		t.Errorf("another start, another certificate: %v", err)
	}
}

// from is a connection that came in at an address.
type from struct {
	net.Conn
	address string
}

func (f from) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.address))
}
