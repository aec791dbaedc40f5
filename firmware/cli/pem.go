package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// dialTime is how long one box may take to show its certificate.
const dialTime = 3 * time.Second

// printCertificates prints what each box's etcd API shows, if it is the box's own: its key is the member's.
func printCertificates(ctx context.Context, s *streams, b *remote.Box) error {
	site, err := b.Members(ctx)
	if err != nil {
		return err
	}
	n := 0
	for i := range site.Members {
		m := &site.Members[i].Member
		der, err := certificateOf(ctx, m)
		if err != nil {
			fmt.Fprintf(s.err, "%s (%s): %v\n", m.Name, m.Client, err)
			continue
		}
		n++
		fmt.Fprintf(s.out, "# %s %s\n", m.Name, m.ID)
		if err := pem.Encode(s.out, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return err
		}
	}
	if n == 0 {
		return errors.New("no box has shown a certificate of its own")
	}
	return nil
}

func certificateOf(ctx context.Context, m *coord.Member) (der []byte, err error) {
	if m.Client == "" {
		return nil, errors.New("it has no etcd API")
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	d := tls.Dialer{NetDialer: new(net.Dialer), Config: &tls.Config{
		InsecureSkipVerify: true, // whose key it is is looked at below
		MinVersion:         tls.VersionTLS13, NextProtos: []string{"h2"},
	}}
	c, err := d.DialContext(ctx, "tcp", m.Client)
	if err != nil {
		return nil, fmt.Errorf("no certificate: %w", err)
	}
	defer c.Close()
	leaf := c.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, m.Key) {
		return nil, errors.New("its certificate is not of its own key: trust who issued it (client.cert_file) instead")
	}
	return leaf.Raw, nil
}
