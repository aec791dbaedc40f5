package etcdapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const password = "correct horse battery"

// closed runs a box whose site has an operator and asks programs for tokens.
func closed(t *testing.T, edit func(*config.Config)) (*config.Config, *remote.Box) {
	t.Helper()
	c := start(t, func(c *config.Config) {
		o, err := operators.New("admin", password, 1)
		if err != nil {
			t.Fatal(err)
		}
		b, err := o.Encode()
		if err == nil {
			err = os.WriteFile(filepath.Join(c.DataDir, operators.FoundingFile), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			edit(c)
		}
	})
	r, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if err := r.Post(within(t), "/api/v1/settings/client", map[string]string{"value": `{"access":"token"}`}, nil); err != nil {
		t.Fatal(err)
	}
	return c, r
}

// login gives the token of an operator at the client API.
func login(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	a, err := pb.NewAuthClient(conn).Authenticate(within(t), &pb.AuthenticateRequest{Name: "admin", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return a.Token
}

// narrowed makes a token that is good for keys below cache/ only; with a holder it is bound to that key.
func narrowed(t *testing.T, of string, holder *ecdsa.PublicKey) *access.Token {
	t.Helper()
	wide, err := access.ParseToken(of)
	if err != nil {
		t.Fatal(err)
	}
	b := access.Block{Actions: []string{"kv.delete", "kv.get", "kv.put", "kv.watch"}, Resources: []string{"key:cache/*"}}
	var own *ecdsa.PrivateKey
	if holder != nil {
		if b.Holder, err = access.PublicKeyOf(holder); err != nil {
			t.Fatal(err)
		}
		b.Bound = true
	} else if own, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	narrow, err := wide.Attenuate(b, nil, own)
	if err != nil {
		t.Fatal(err)
	}
	return narrow
}

func showing(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(within(t), rpctypes.TokenFieldNameGRPC, token)
}

// why is what a refusal says beside etcd's words.
func why(err error) map[string]string {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return i.Metadata
		}
	}
	return nil
}

func TestASiteThatAsksForTokensRefusesWhoShowsNone(t *testing.T) {
	c, _ := closed(t, nil)
	conn := dial(t, c.Client.Listen)
	k, a := pb.NewKVClient(conn), pb.NewAuthClient(conn)
	if s, err := a.AuthStatus(within(t), &pb.AuthStatusRequest{}); err != nil || !s.Enabled {
		t.Errorf("auth status %v, %v", s, err)
	}
	for name, call := range map[string]func() error{
		"range": func() error { _, err := k.Range(within(t), &pb.RangeRequest{Key: []byte("k")}); return err },
		"put":   func() error { _, err := k.Put(within(t), &pb.PutRequest{Key: []byte("k")}); return err },
		"txn": func() error {
			_, err := k.Txn(within(t), &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("k")}}})
			return err
		},
		"lease": func() error {
			_, err := pb.NewLeaseClient(conn).LeaseGrant(within(t), &pb.LeaseGrantRequest{TTL: 60})
			return err
		},
		"leases": func() error {
			s, err := pb.NewLeaseClient(conn).LeaseKeepAlive(within(t))
			if err != nil {
				return err
			}
			if err := s.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
				return err
			}
			_, err = s.Recv()
			return err
		},
		"snapshot": func() error {
			s, err := pb.NewMaintenanceClient(conn).Snapshot(within(t), &pb.SnapshotRequest{})
			if err != nil {
				return err
			}
			_, err = s.Recv()
			return err
		},
		"range stream": func() error {
			s, err := k.RangeStream(within(t), &pb.RangeRequest{Key: []byte("k")})
			if err != nil {
				return err
			}
			_, err = s.Recv()
			return err
		},
		"members": func() error {
			_, err := pb.NewClusterClient(conn).MemberList(within(t), &pb.MemberListRequest{})
			return err
		},
	} {
		if err := call(); !same(err, rpctypes.ErrGRPCUserEmpty) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.Range(showing(t, "hf1.nonsense"), &pb.RangeRequest{Key: []byte("k")}); !same(err, rpctypes.ErrGRPCInvalidAuthToken) {
		t.Errorf("a token that is none: %v", err)
	}
	if _, err := a.Authenticate(within(t), &pb.AuthenticateRequest{Name: "admin", Password: "wrong and wrong again"}); !same(err, rpctypes.ErrGRPCAuthFailed) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := a.Authenticate(within(t), &pb.AuthenticateRequest{Name: "token", Password: "hf1.nonsense"}); !same(err, rpctypes.ErrGRPCAuthFailed) {
		t.Errorf("a wrong token as a password: %v", err)
	}
}

func TestATokenIsGoodForWhatItSaysAndNothingElse(t *testing.T) {
	c, _ := closed(t, nil)
	conn := dial(t, c.Client.Listen)
	k := pb.NewKVClient(conn)
	wide := login(t, conn)
	must[*pb.PutResponse](t)(k.Put(showing(t, wide), &pb.PutRequest{Key: []byte("secret"), Value: []byte("v")}))
	narrow := narrowed(t, wide, nil).Text()
	given, err := pb.NewAuthClient(conn).Authenticate(within(t), &pb.AuthenticateRequest{Name: "token", Password: narrow})
	if err != nil || given.Token != narrow {
		t.Fatalf("%v, %v", given, err)
	}
	for range 2 { // the second time from what is remembered
		ctx := showing(t, narrow)
		must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: []byte("cache/a"), Value: []byte("v"), PrevKv: true}))
		must[*pb.RangeResponse](t)(k.Range(ctx, &pb.RangeRequest{Key: []byte("cache/"), RangeEnd: []byte("cache0")}))
		put := func(key string) *pb.RequestOp {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
		}
		must[*pb.TxnResponse](t)(k.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{put("cache/b")}}))
		for name, call := range map[string]func() error{
			"another key": func() error { _, err := k.Range(ctx, &pb.RangeRequest{Key: []byte("secret")}); return err },
			"all keys": func() error {
				_, err := k.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
				return err
			},
			"a longer range": func() error {
				_, err := k.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("cache/"), RangeEnd: []byte("cache1")})
				return err
			},
			"the way not taken": func() error {
				_, err := k.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{put("cache/b")}, Failure: []*pb.RequestOp{put("secret")}})
				return err
			},
			"a comparison": func() error {
				_, err := k.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("secret")}}, Success: []*pb.RequestOp{put("cache/b")}})
				return err
			},
			"nested": func() error {
				in := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{put("secret")}}}}
				_, err := k.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{in}})
				return err
			},
			"compaction": func() error { _, err := k.Compact(ctx, &pb.CompactionRequest{Revision: 2}); return err },
			"a lease": func() error {
				_, err := pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60})
				return err
			},
		} {
			if err := call(); !same(err, rpctypes.ErrGRPCPermissionDenied) || !strings.Contains(why(err)["policy"], "operator:admin") {
				t.Errorf("%s: %v, %v", name, err, why(err))
			}
		}
	}
}

func TestAWatchOfARevokedTokenEnds(t *testing.T) {
	c, r := closed(t, nil)
	conn := dial(t, c.Client.Listen)
	token := narrowed(t, login(t, conn), nil)
	w, err := pb.NewWatchClient(conn).Watch(showing(t, token.Text()))
	if err != nil {
		t.Fatal(err)
	}
	create := func(key string) *pb.WatchResponse {
		t.Helper()
		if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(key)}}}); err != nil {
			t.Fatal(err)
		}
		return must[*pb.WatchResponse](t)(w.Recv())
	}
	if a := create("cache/a"); a.Canceled {
		t.Fatalf("%v", a)
	}
	if a := create("secret"); !a.Canceled || a.CancelReason != rpctypes.ErrPermissionDenied.Error() {
		t.Errorf("a watch of another key: %v", a)
	}
	text, err := json.Marshal(map[string]any{
		"kind": "token.revoke", "subject": "token:" + token.ID().String(),
		"writes": []map[string]any{{"key": "token/revoked/" + token.ID().String(), "value": "{}"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Post(within(t), "/api/v1/decisions/propose", map[string]string{"proposal": string(text)}, nil); err != nil {
		t.Fatal(err)
	}
	if a, err := w.Recv(); !same(err, rpctypes.ErrGRPCInvalidAuthToken) {
		t.Fatalf("the watch goes on: %v, %v", a, err)
	}
	if _, err := pb.NewKVClient(conn).Range(showing(t, token.Text()), &pb.RangeRequest{Key: []byte("cache/a")}); !same(err, rpctypes.ErrGRPCInvalidAuthToken) {
		t.Errorf("a read: %v", err)
	}
}

func TestJSONTakesATokenAsBearer(t *testing.T) {
	c, _ := closed(t, nil)
	wide := login(t, dial(t, c.Client.Listen))
	for _, tc := range []struct {
		header, want string
		code         int
	}{
		{"", "user name is empty", http.StatusBadRequest},
		{"Bearer " + wide, "revision", http.StatusOK},
		{wide, "revision", http.StatusOK}, // as etcd's JSON has it
		{"Bearer " + narrowed(t, wide, nil).Text(), "permission denied", http.StatusForbidden},
		{"Bearer hf1.nonsense", "invalid auth token", http.StatusUnauthorized},
	} {
		req, err := http.NewRequestWithContext(within(t), http.MethodPost, "http://"+c.Client.Listen+"/v3/kv/put", strings.NewReader(`{"key":"aw==","value":"dg=="}`))
		if err != nil {
			t.Fatal(err)
		}
		if tc.header != "" {
			req.Header.Set("Authorization", tc.header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != tc.code || !strings.Contains(string(b), tc.want) {
			t.Errorf("%.20q: %d %s (%v)", tc.header, resp.StatusCode, b, err)
		}
		if resp.StatusCode == http.StatusForbidden && !strings.Contains(string(b), "operator:admin") {
			t.Errorf("it does not say which policy: %s", b)
		}
	}
}

// Where no token is needed a policy forbids all the same, also what would be deleted with a lease.
func TestAForbiddenKeyDoesNotGoWithALease(t *testing.T) {
	c := start(t, nil)
	root, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	conn := dial(t, c.Client.Listen)
	leases := pb.NewLeaseClient(conn)
	for _, k := range []string{"kept/a", "other"} {
		l, err := leases.LeaseGrant(within(t), &pb.LeaseGrantRequest{TTL: 600})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pb.NewKVClient(conn).Put(within(t), &pb.PutRequest{Key: []byte(k), Lease: l.ID}); err != nil {
			t.Fatal(err)
		}
		if k == "other" {
			if _, err := leases.LeaseRevoke(within(t), &pb.LeaseRevokeRequest{ID: l.ID}); err != nil {
				t.Errorf("a lease of keys that nothing forbids: %v", err)
			}
			continue
		}
		if _, err := root.ChangeAccess(t.Context(), "/access/policy", map[string]string{
			"name": "kept", "text": `forbid (principal, action in [Action::"kv.get", Action::"kv.delete"], resource in Prefix::"kept/");`,
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := leases.LeaseRevoke(within(t), &pb.LeaseRevokeRequest{ID: l.ID}); why(err)["policy"] != "policy/kept" {
			t.Errorf("revoke: %v", err)
		}
		if a, err := leases.LeaseTimeToLive(within(t), &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true}); why(err)["policy"] != "policy/kept" {
			t.Errorf("its keys: %v, %v", a, err)
		}
	}
}

func TestWebPagesDoNotUseTheJSON(t *testing.T) {
	c := start(t, nil)
	for header, code := range map[string]int{"": http.StatusOK, "Origin: http://evil.example": http.StatusForbidden, "Sec-Fetch-Site: cross-site": http.StatusForbidden} {
		// What a page may send without being asked, as text of no kind that JSON has.
		req, err := http.NewRequestWithContext(within(t), http.MethodPost, "http://"+c.Client.Listen+"/v3/kv/put", strings.NewReader(`{"key":"aw==","value":"dg=="}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "text/plain")
		if name, value, ok := strings.Cut(header, ": "); ok {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("%q: %d", header, resp.StatusCode)
		}
	}
}

// certified is a client's certificate that nobody but itself signed.
func certified(t *testing.T) (tls.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, key
}

func TestATokenThatIsBoundToAKeyNeedsTheKey(t *testing.T) {
	c, _ := closed(t, func(c *config.Config) { c.Client.TLS = "on" })
	secure := func(certs ...tls.Certificate) *grpc.ClientConn {
		conn, err := grpc.NewClient(c.Client.Listen, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: certs})))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	mine, key := certified(t)
	others, _ := certified(t)
	token := narrowed(t, login(t, secure()), &key.PublicKey)
	put := func(conn *grpc.ClientConn, ctx context.Context) error {
		_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("cache/a")})
		return err
	}
	if err := put(secure(mine), showing(t, token.Text())); err != nil {
		t.Errorf("with the key's certificate: %v", err)
	}
	for name, conn := range map[string]*grpc.ClientConn{"no certificate": secure(), "another's": secure(others)} {
		if err := put(conn, showing(t, token.Text())); !same(err, rpctypes.ErrGRPCInvalidAuthToken) {
			t.Errorf("with %s: %v", name, err)
		}
	}
}

func TestTheNativeStreamTakesTheSameTokens(t *testing.T) {
	c, _ := closed(t, nil)
	wide := login(t, dial(t, c.Client.Listen))
	id, err := trust.LoadOrCreate(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	with := func(token string) *client.Client {
		e, err := client.ParseEndpoint("tls://"+c.Native.Listen, id.ID())
		if err != nil {
			t.Fatal(err)
		}
		cl, err := client.Dial(t.Context(), client.Config{Endpoints: []client.Endpoint{e}, Token: []byte(token)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cl.Close(within(t)) })
		return cl
	}
	cl := with(narrowed(t, wide, nil).Text())
	for range 3 {
		if _, err := cl.Put(within(t), []byte("cache/a"), []byte("v")); err != nil {
			t.Fatal(err)
		}
		if _, err := cl.Put(within(t), []byte("secret"), []byte("v")); !errors.Is(err, client.ErrDenied) {
			t.Fatalf("another key: %v", err)
		}
	}
	if _, err := with("").Put(within(t), []byte("cache/a"), []byte("v")); !errors.Is(err, client.ErrDenied) {
		t.Errorf("without a token: %v", err)
	}
}
