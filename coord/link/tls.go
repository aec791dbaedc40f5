package link

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"fmt"
)

// ALPN is the application protocol named in the TLS handshake (RFC 7301).
const ALPN = "holdfast-peer/1"

// tlsConfig is what both sides have in common. verify judges the other side's public key, which is all that is
// judged: crypto/tls itself has checked that it holds the private key.
func tlsConfig(verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{ALPN},
		ClientAuth:         tls.RequireAnyClientCert,
		InsecureSkipVerify: true, // as client: no name, date or issuer means anything; VerifyConnection decides
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol != ALPN {
				return fmt.Errorf("%w: protocol %q", ErrStranger, s.NegotiatedProtocol)
			}
			return verify(s)
		},
		SessionTicketsDisabled: true,
		// Full records from the start: these connections live for days, and nobody renders a page of them.
		DynamicRecordSizingDisabled: true,
	}
}

// publicKey is the key that the other side proved to have, PKIX DER. A box's key is on P-256: others are not looked at.
func publicKey(s *tls.ConnectionState) ([]byte, error) {
	if len(s.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: it shows none", ErrStranger)
	}
	leaf := s.PeerCertificates[0]
	if k, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: a %T that is not on P-256", ErrStranger, leaf.PublicKey)
	}
	return leaf.RawSubjectPublicKeyInfo, nil
}

// serverTLS accepts any box's key but our own, and shows the key that we have now: identify decides what the other side is to us.
func (l *Link) serverTLS() *tls.Config {
	config := tlsConfig(func(s tls.ConnectionState) error {
		key, err := publicKey(&s)
		if err != nil {
			return err
		}
		if r := l.roster.Load(); r.Self >= 0 && bytes.Equal(key, r.Members.List[r.Self].Key) {
			return ErrStranger
		}
		return nil
	})
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		r := l.roster.Load()
		if r.Self < 0 {
			return nil, ErrGuest
		}
		return &r.Certificate, nil
	}
	return config
}

// clientTLS accepts exactly one member.
func clientTLS(own *tls.Certificate, p *peer) *tls.Config {
	config := tlsConfig(func(s tls.ConnectionState) error {
		key, err := publicKey(&s)
		if err != nil {
			return err
		}
		if !bytes.Equal(key, p.member.Load().Key) {
			return fmt.Errorf("%w: not that of box %s", ErrStranger, p.id)
		}
		return nil
	})
	config.Certificates = []tls.Certificate{*own}
	return config
}
