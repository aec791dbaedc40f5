package etcdapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// docs are a site's documents.
type docs map[string]string

func (d docs) Doc(key string) (coord.Doc, bool) {
	v, ok := d[key]
	return coord.Doc{Key: key, Version: 1, Value: []byte(v)}, ok
}

func (d docs) Docs(prefix string) (list []coord.Doc) {
	for k := range d {
		if strings.HasPrefix(k, prefix) {
			x, _ := d.Doc(k)
			list = append(list, x)
		}
	}
	return list
}

func (docs) Members() *coord.Members { return &coord.Members{Site: coord.SiteID{1}, Epoch: 1} }
func (docs) Seconds() uint64         { return 1 }

// What a call costs to be authorised, after the first on its connection.
func BenchmarkAdmit(b *testing.B) {
	fresh := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		return k
	}
	key, holder := fresh(), fresh()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	doc, err := json.Marshal(access.OperatorDoc{Name: "ann", Key: der})
	if err != nil {
		b.Fatal(err)
	}
	signer, err := access.NewPrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	now := uint64(time.Now().Unix())
	token, err := access.Issue(access.Block{
		Site: coord.SiteID{1}, Issuer: "operator:ann", NotBefore: now - 60, NotAfter: now + 3600, Actions: []string{"kv.*"}, Resources: []string{"key:cache/*"},
	}, signer, holder)
	if err != nil {
		b.Fatal(err)
	}
	for _, bc := range []struct {
		name, setting, token string
	}{{"nothing", "", ""}, {"open", "open", ""}, {"token", "token", token.Text()}} {
		b.Run(bc.name, func(b *testing.B) {
			s := &Server{began: time.Now()}
			if bc.setting != "" {
				s = New(Config{Access: access.NewAuthorizer(coord.BoxID{1}, nil, func() uint64 { return uint64(time.Now().UnixMilli()) })})
				s.cfg.Access.Update(1, docs{
					"operator/ann": string(doc), "grant/operator:ann": `{"roles":["admin"]}`, access.SettingClient: `{"access":"` + bc.setting + `"}`,
				})
			}
			ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, AuthInfo: &link{}})
			md := metadata.MD{"user-agent": {"grpc-go"}, ":authority": {"box"}}
			if bc.token != "" {
				md[rpctypes.TokenFieldNameGRPC] = []string{bc.token}
			}
			ctx = metadata.NewIncomingContext(ctx, md)
			r := &pb.PutRequest{Key: []byte("cache/object/17"), Value: []byte("v")}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.admit(ctx, pb.KV_Put_FullMethodName, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A new TLS connection at the client port, both ends on this machine.
func BenchmarkHandshake(b *testing.B) {
	id, err := trust.LoadOrCreate(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	cert, err := id.ClientCertificate([]string{"127.0.0.1"})
	if err != nil {
		b.Fatal(err)
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	l := tls.NewListener(raw, TLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}))
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = c.Write([]byte{1})
				_ = c.Close()
			}()
		}
	}()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	})
}
