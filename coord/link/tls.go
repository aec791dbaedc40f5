package link

import (
	"bytes"
	"crypto/tls"
	"fmt"
)

// ALPN is the application protocol named in the TLS handshake (RFC 7301).
const ALPN = "holdfast-peer/1"

// tlsConfig is what both sides have in common. verify judges the other side's public key, which is all that is
// judged: crypto/tls itself has checked that it holds the private key.
func tlsConfig(own tls.Certificate, verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		Certificates:       []tls.Certificate{own},
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

// publicKey is the key that the other side proved to have, PKIX DER; nil when it showed none.
func publicKey(s *tls.ConnectionState) []byte {
	if len(s.PeerCertificates) == 0 {
		return nil
	}
	return s.PeerCertificates[0].RawSubjectPublicKeyInfo
}

// serverTLS accepts any member but ourselves.
func (l *Link) serverTLS() *tls.Config {
	return tlsConfig(l.cfg.Certificate, func(s tls.ConnectionState) error {
		if l.memberOf(&s) == nil {
			return ErrStranger
		}
		return nil
	})
}

// clientTLS accepts exactly one member.
func (l *Link) clientTLS(p *peer) *tls.Config {
	return tlsConfig(l.cfg.Certificate, func(s tls.ConnectionState) error {
		if !bytes.Equal(publicKey(&s), p.member.Key) {
			return fmt.Errorf("%w: not that of box %s", ErrStranger, p.member.ID)
		}
		return nil
	})
}

// memberOf is the peer whose key a connection proved, or nil.
func (l *Link) memberOf(s *tls.ConnectionState) *peer {
	key := publicKey(s)
	for _, p := range l.peers {
		if p != nil && bytes.Equal(key, p.member.Key) {
			return p
		}
	}
	return nil
}
