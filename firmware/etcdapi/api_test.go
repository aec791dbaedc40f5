package etcdapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// patience is longer than anything takes on any machine.
const patience = 60 * time.Second

// start runs the only box of a site until the test ends.
func start(t *testing.T, edit func(c *config.Config)) *config.Config {
	t.Helper()
	c, err := config.Default()
	if err != nil {
		t.Fatal(err)
	}
	c.DataDir = filepath.Join(t.TempDir(), "box")
	if err := os.Mkdir(c.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := trust.LoadOrCreate(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	c.Peer.Listen, c.Native.Listen, c.Console.Listen, c.Client.Listen = free(t), free(t), "", free(t)
	c.Native.Socket, c.Console.Socket = "", filepath.Join(c.DataDir, "holdfast.sock")
	c.Log.SegmentSize, c.Log.RetainSize = 1<<20, 4<<20
	if edit != nil {
		edit(c)
	}
	err = trust.SaveMembers(c.DataDir, &coord.Members{Site: coord.SiteID{1}, Epoch: 1, List: []coord.Member{
		{ID: id.ID(), Name: "alone", Key: id.PublicKey(), Peer: c.Peer.Listen, Native: c.Native.Listen, Client: c.Client.Listen},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var ended error // when done is closed
	go func() {
		defer close(done)
		ended = box.Run(ctx, box.Options{Config: c, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		cancel()
		if <-done; ended != nil {
			t.Errorf("the box ended: %v", ended)
		}
	})
	r, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for r.Ready(t.Context()) != nil {
		select {
		case <-done:
			t.FailNow() // the cleanup says why
		case <-time.After(5 * time.Millisecond):
		}
	}
	return c
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// same says whether an error is one of etcd's, by code and words.
func same(err, want error) bool {
	a, b := status.Convert(err), status.Convert(want)
	return err != nil && a.Code() == b.Code() && a.Message() == b.Message()
}

func TestWhatIsRefusedIsRefusedInEtcdsWords(t *testing.T) {
	c := start(t, nil)
	conn, ctx := dial(t, c.Client.Listen), within(t)
	k, l, m := pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewMaintenanceClient(conn)
	must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}))
	many := &pb.TxnRequest{}
	for i := range 129 {
		many.Success = append(many.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: fmt.Append(nil, i)}}})
	}
	for name, x := range map[string]struct {
		call func() error
		want error
	}{
		"no key":            {func() error { _, err := k.Put(ctx, &pb.PutRequest{}); return err }, rpctypes.ErrGRPCEmptyKey},
		"a future revision": {func() error { _, err := k.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Revision: 99}); return err }, rpctypes.ErrGRPCFutureRev},
		"no such lease":     {func() error { _, err := k.Put(ctx, &pb.PutRequest{Key: []byte("k"), Lease: 7}); return err }, rpctypes.ErrGRPCLeaseNotFound},
		"a long lease":      {func() error { _, err := l.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 1 << 50}); return err }, rpctypes.ErrGRPCLeaseTTLTooLarge},
		"129 operations":    {func() error { _, err := k.Txn(ctx, many); return err }, rpctypes.ErrGRPCTooManyOps},
		"1.6 MiB": {func() error {
			_, err := k.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1600<<10)})
			return err
		}, rpctypes.ErrGRPCRequestTooLarge},
		"a key of 5 KiB": {func() error { _, err := k.Put(ctx, &pb.PutRequest{Key: make([]byte, 5<<10)}); return err }, rpctypes.ErrGRPCRequestTooLarge},
		"an unknown box": {func() error { _, err := m.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 5}); return err }, rpctypes.ErrGRPCBadLeaderTransferee},
		"a user": {func() error {
			_, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "a", Password: "b"})
			return err
		}, rpctypes.ErrGRPCAuthNotEnabled},
	} {
		if err := x.call(); !same(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	if r := must[*pb.RangeResponse](t)(k.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})); r.Count != 1 || r.Header.Revision != 2 {
		t.Errorf("after all that was refused: %v", r)
	}
	big := make([]byte, 1500<<10)
	must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: []byte("big"), Value: big}))
	if r := must[*pb.RangeResponse](t)(k.Range(ctx, &pb.RangeRequest{Key: []byte("big")})); !bytes.Equal(r.Kvs[0].Value, big) {
		t.Error("a value of 1500 KiB is not what was put")
	}
}

// Watchers that read nothing for a long time, together more than the box has room for, and one that is as fast as it can are
// given the same: everything, in order.
func TestASlowWatcherMissesNothing(t *testing.T) {
	c := start(t, nil)
	conn, ctx := dial(t, c.Client.Listen), within(t)
	k := pb.NewKVClient(conn)
	const puts, keys = 600, 7
	watch := func() pb.Watch_WatchClient {
		w := must[pb.Watch_WatchClient](t)(pb.NewWatchClient(dial(t, c.Client.Listen)).Watch(ctx))
		for id := int64(1); id <= 3; id++ { // all keys with what they were; some keys; deletes only
			q := &pb.WatchCreateRequest{WatchId: id, Key: []byte("k"), RangeEnd: []byte("l"), PrevKv: id == 1, Fragment: true}
			if id == 2 {
				q.Key, q.RangeEnd = []byte("k3"), nil
			}
			if id == 3 {
				q.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}
			}
			if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q}}); err != nil {
				t.Fatal(err)
			}
			if r := must[*pb.WatchResponse](t)(w.Recv()); !r.Created || r.WatchId != id {
				t.Fatalf("%v", r)
			}
		}
		return w
	}
	quick := watch()
	var slow []pb.Watch_WatchClient
	for range 10 {
		slow = append(slow, watch())
	}
	quickly := make(chan string, 1)
	go func() { quickly <- collect(quick) }()
	for i := range puts {
		key := fmt.Appendf(nil, "k%d", i%keys)
		if i%11 == 0 {
			must[*pb.DeleteRangeResponse](t)(k.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key}))
		}
		must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: key, Value: bytes.Repeat([]byte{byte(i)}, 32<<10)})) // far more than a stream may have waiting
	}
	must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: []byte("k3")})) // the last of the second watcher
	must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: []byte("k-end")}))
	must[*pb.DeleteRangeResponse](t)(k.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k-end")}))
	want := <-quickly
	if n := strings.Count(want, "\n"); n < puts {
		t.Fatalf("only %d events", n)
	}
	for i, w := range slow {
		if got := collect(w); got != want {
			t.Fatalf("slow watcher %d was given %d bytes of events, the quick one %d:\n%.2000s\n---\n%.2000s", i, len(got), len(want), got, want)
		}
	}
}

// collect reads a stream's events, by watcher, until each has had its last. A gap or a repetition in the first one's revisions is said.
func collect(w pb.Watch_WatchClient) string {
	got := map[int64]*strings.Builder{1: {}, 2: {}, 3: {}}
	ended := map[int64]bool{}
	for last := int64(0); len(ended) < len(got); {
		r, err := w.Recv()
		if err != nil {
			return err.Error()
		}
		for _, e := range r.Events {
			b := got[r.WatchId]
			fmt.Fprintf(b, "%v %s %d %d %d", e.Type, e.Kv.Key, e.Kv.ModRevision, e.Kv.Version, len(e.Kv.Value))
			if e.PrevKv != nil {
				fmt.Fprintf(b, " was %d %x", e.PrevKv.ModRevision, e.PrevKv.Value[:min(len(e.PrevKv.Value), 2)])
			}
			b.WriteString("\n")
			if string(e.Kv.Key) == "k-end" && e.Type == mvccpb.Event_DELETE || r.WatchId == 2 && len(e.Kv.Value) == 0 && e.Type == mvccpb.Event_PUT {
				ended[r.WatchId] = true
			}
			if r.WatchId == 1 {
				if last > 0 && e.Kv.ModRevision != last+1 {
					return fmt.Sprintf("revision %d after %d", e.Kv.ModRevision, last)
				}
				last = e.Kv.ModRevision
			}
		}
	}
	return got[1].String() + got[2].String() + got[3].String()
}

func TestWatchesStartEndAndSayHowFarTheyAre(t *testing.T) {
	c := start(t, nil)
	conn, ctx := dial(t, c.Client.Listen), within(t)
	k := pb.NewKVClient(conn)
	put := func(v string) int64 {
		return must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte(v)})).Header.Revision
	}
	for i := range 5 {
		put(fmt.Sprint(i)) // revisions 2 to 6
	}
	must[*pb.CompactionResponse](t)(k.Compact(ctx, &pb.CompactionRequest{Revision: 4, Physical: true}))
	w := must[pb.Watch_WatchClient](t)(pb.NewWatchClient(conn).Watch(ctx))
	create := func(q *pb.WatchCreateRequest) *pb.WatchResponse {
		t.Helper()
		if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q}}); err != nil {
			t.Fatal(err)
		}
		return must[*pb.WatchResponse](t)(w.Recv())
	}
	events := func(id int64, want ...int64) {
		t.Helper()
		for len(want) > 0 {
			r := must[*pb.WatchResponse](t)(w.Recv())
			for _, e := range r.Events {
				if r.WatchId != id || len(want) == 0 || e.Kv.ModRevision != want[0] || r.Header.Revision < e.Kv.ModRevision {
					t.Fatalf("%v, want watcher %d and revisions %v", r, id, want)
				}
				want = want[1:]
			}
		}
	}
	if r := create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 3}); !r.Created || r.Canceled {
		t.Fatalf("%v", r)
	}
	if r := must[*pb.WatchResponse](t)(w.Recv()); !r.Canceled || r.CompactRevision != 4 {
		t.Fatalf("a watch below the compaction: %v", r)
	}
	create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 4, WatchId: 9})
	events(9, 4, 5, 6)
	if r := create(&pb.WatchCreateRequest{Key: []byte("k"), WatchId: 9}); !r.Canceled || r.WatchId != -1 {
		t.Fatalf("the same id twice: %v", r)
	}
	if r := create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")}); !r.Canceled || r.WatchId != -1 {
		t.Fatalf("an empty span: %v", r)
	}
	create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 9, WatchId: 10})
	put("a") // 7: the watcher from 9 on does not have it, and no progress is given that would be before it
	events(9, 7)
	put("b")
	events(9, 8)
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}); err != nil {
		t.Fatal(err)
	}
	if r := must[*pb.WatchResponse](t)(w.Recv()); r.WatchId != -1 || len(r.Events) > 0 || r.Header.Revision != 8 {
		t.Fatalf("progress: %v", r)
	}
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 9}}}); err != nil {
		t.Fatal(err)
	}
	if r := must[*pb.WatchResponse](t)(w.Recv()); !r.Canceled || r.WatchId != 9 {
		t.Fatalf("cancel: %v", r)
	}
	put("c") // 9
	events(10, 9)
}

func TestALeaseThatNobodyRenewsEnds(t *testing.T) {
	c := start(t, nil)
	conn, ctx := dial(t, c.Client.Listen), within(t)
	k, l := pb.NewKVClient(conn), pb.NewLeaseClient(conn)
	g := must[*pb.LeaseGrantResponse](t)(l.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 2}))
	long := must[*pb.LeaseGrantResponse](t)(l.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 3600}))
	for i, id := range []int64{g.ID, g.ID, long.ID} {
		must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: fmt.Append(nil, "k", i), Lease: id}))
	}
	w := must[pb.Watch_WatchClient](t)(pb.NewWatchClient(conn).Watch(ctx))
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l")}}}); err != nil {
		t.Fatal(err)
	}
	must[*pb.WatchResponse](t)(w.Recv())
	r := must[*pb.WatchResponse](t)(w.Recv())
	if len(r.Events) != 2 || r.Events[0].Type != mvccpb.Event_DELETE || r.Events[0].Kv.ModRevision != r.Events[1].Kv.ModRevision {
		t.Fatalf("the end of a lease: %v", r)
	}
	if r := must[*pb.LeaseTimeToLiveResponse](t)(l.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: g.ID})); r.TTL != -1 {
		t.Errorf("after its end: %v", r)
	}
	if r := must[*pb.LeaseTimeToLiveResponse](t)(l.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: long.ID, Keys: true})); r.GrantedTTL != 3600 || len(r.Keys) != 1 {
		t.Errorf("the other one: %v", r)
	}
	a := must[pb.Lease_LeaseKeepAliveClient](t)(l.LeaseKeepAlive(ctx))
	for id, want := range map[int64]int64{long.ID: 3600, g.ID: 0} {
		if err := a.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if r := must[*pb.LeaseKeepAliveResponse](t)(a.Recv()); r.TTL != want || r.ID != id {
			t.Errorf("keep alive: %v", r)
		}
	}
}

func TestJSONAndHealthOnTheSamePort(t *testing.T) {
	c := start(t, nil)
	ask := func(method, path, body string) (int, string) {
		q := must[*http.Request](t)(http.NewRequestWithContext(within(t), method, "http://"+c.Client.Listen+path, strings.NewReader(body)))
		r := must[*http.Response](t)(http.DefaultClient.Do(q))
		defer r.Body.Close()
		return r.StatusCode, string(must[[]byte](t)(io.ReadAll(r.Body)))
	}
	if code, b := ask("POST", "/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`); code != 200 || !strings.Contains(b, `"revision":"2"`) {
		t.Errorf("put: %d %s", code, b)
	}
	code, b := ask("POST", "/v3/kv/range", `{"key":"Zm9v"}`)
	var r struct {
		Kvs   []struct{ Key, Value, Version string }
		Count string
	}
	if err := json.Unmarshal([]byte(b), &r); err != nil || code != 200 || r.Count != "1" || r.Kvs[0].Value != "YmFy" {
		t.Errorf("range: %d %s (%v)", code, b, err)
	}
	if code, b := ask("POST", "/v3/kv/range", `{"key":"Zm9v","revision":"50"}`); code != 400 || !strings.Contains(b, "required revision is a future revision") {
		t.Errorf("a future range: %d %s", code, b)
	}
	q := must[*http.Request](t)(http.NewRequestWithContext(within(t), "POST", "http://"+c.Client.Listen+"/v3/watch", strings.NewReader(`{"create_request":{"key":"Zm9v"}}`)))
	w := must[*http.Response](t)(http.DefaultClient.Do(q))
	defer w.Body.Close()
	lines := bufio.NewScanner(w.Body)
	for i, want := range []string{`"created":true`, `"mod_revision":"3"`, `"DELETE"`} {
		switch i {
		case 1:
			ask("POST", "/v3/kv/put", `{"key":"Zm9v","value":"YmF6"}`)
		case 2:
			ask("POST", "/v3/kv/deleterange", `{"key":"Zm9v"}`)
		}
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Errorf("watch: %s, want %s (%v)", lines.Text(), want, lines.Err())
		}
	}
	for path, want := range map[string]string{"/version": `"etcdserver":"3.6.0"`, "/health": `"health":"true"`, "/livez": "ok", "/readyz": "ok"} {
		if code, b := ask("GET", path, ""); code != 200 || !strings.Contains(b, want) {
			t.Errorf("%s: %d %s", path, code, b)
		}
	}
}

func TestTLSAsksForWhatIsConfigured(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "client"), 0o700); err != nil {
		t.Fatal(err)
	}
	who := must[*trust.Identity](t)(trust.LoadOrCreate(filepath.Join(dir, "client")))
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: who.Certificate().Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, func(c *config.Config) { c.Client.TLS, c.Client.ClientCAFile = "on", ca })
	call := func(certs ...tls.Certificate) error {
		conn := must[*grpc.ClientConn](t)(grpc.NewClient(c.Client.Listen, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{Certificates: certs, InsecureSkipVerify: true}))))
		defer conn.Close()
		_, err := pb.NewKVClient(conn).Put(within(t), &pb.PutRequest{Key: []byte("k")})
		return err
	}
	if err := call(who.Certificate()); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := call(); err == nil {
		t.Error("without a certificate a client was served")
	}
	h := http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{who.Certificate()}, InsecureSkipVerify: true}}}
	defer h.CloseIdleConnections()
	r := must[*http.Response](t)(h.Get("https://" + c.Client.Listen + "/version"))
	defer r.Body.Close()
	if r.StatusCode != 200 || r.ProtoMajor != 1 {
		t.Errorf("over HTTP: %v", r)
	}
}

// The file that `etcdctl snapshot save` writes.
func TestASnapshotIsADatabaseOfEtcd(t *testing.T) {
	c := start(t, nil)
	conn, ctx := dial(t, c.Client.Listen), within(t)
	k := pb.NewKVClient(conn)
	for i := range 1200 { // more than are read at a time
		must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: fmt.Append(nil, "k", i%1100), Value: fmt.Append(nil, i)}))
	}
	s := must[pb.Maintenance_SnapshotClient](t)(pb.NewMaintenanceClient(conn).Snapshot(ctx, &pb.SnapshotRequest{}))
	var file []byte
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		file = append(file, must[*pb.SnapshotResponse](t)(r, err).Blob...)
	}
	db, sum := file[:len(file)-sha256.Size], file[len(file)-sha256.Size:]
	if got := sha256.Sum256(db); !bytes.Equal(got[:], sum) {
		t.Fatal("the checksum is not that of the file")
	}
	name := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(name, db, 0o600); err != nil {
		t.Fatal(err)
	}
	b := must[*bolt.DB](t)(bolt.Open(name, 0o600, &bolt.Options{ReadOnly: true}))
	defer b.Close()
	if err := b.View(func(tx *bolt.Tx) error {
		if n := tx.Bucket([]byte("key")).Stats().KeyN; n != 1100 {
			t.Errorf("%d keys", n)
		}
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	left := must[[]string](t)(filepath.Glob(filepath.Join(c.DataDir, "snapshot-*")))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A client renews all its leases over one stream, without waiting for answers; they come in turn.
func TestManyLeasesAreKeptAliveOverOneStream(t *testing.T) {
	c := start(t, nil)
	conn, ctx := dial(t, c.Client.Listen), within(t)
	l := pb.NewLeaseClient(conn)
	const n = 600 // more than are ordered at a time
	for id := int64(1); id <= n; id++ {
		must[*pb.LeaseGrantResponse](t)(l.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: 100 + id}))
	}
	k := must[pb.Lease_LeaseKeepAliveClient](t)(l.LeaseKeepAlive(ctx))
	go func() {
		for id := int64(0); id <= n+1; id++ { // none has 0 and n+1
			if err := k.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
				t.Error(err)
			}
		}
		if err := k.CloseSend(); err != nil {
			t.Error(err)
		}
	}()
	for id := int64(0); id <= n+1; id++ {
		r := must[*pb.LeaseKeepAliveResponse](t)(k.Recv())
		want := 100 + id
		if id == 0 || id > n {
			want = 0
		}
		if r.ID != id || r.TTL != want || r.Header == nil {
			t.Fatalf("%v, want lease %d with %d s", r, id, want)
		}
	}
	if r, err := k.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("%v %v after the client has ended", r, err)
	}
}

func TestSnapshotsAtATimeAreBounded(t *testing.T) {
	c := start(t, nil)
	conn, ctx := dial(t, c.Client.Listen), within(t)
	k := pb.NewKVClient(conn)
	for i := range 64 { // more than a stream has room for unread
		must[*pb.PutResponse](t)(k.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i), Value: bytes.Repeat([]byte{1}, 64<<10)}))
	}
	var unread []pb.Maintenance_SnapshotClient
	for range 2 {
		s := must[pb.Maintenance_SnapshotClient](t)(pb.NewMaintenanceClient(conn).Snapshot(ctx, new(pb.SnapshotRequest)))
		must[*pb.SnapshotResponse](t)(s.Recv())
		unread = append(unread, s)
	}
	another := func() error {
		s, err := pb.NewMaintenanceClient(conn).Snapshot(ctx, new(pb.SnapshotRequest))
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}
	if err := another(); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("a third snapshot: %v", err)
	}
	for { // the first is read to its end
		if _, err := unread[0].Recv(); err != nil {
			break
		}
	}
	for err := another(); err != nil; err = another() {
		if status.Code(err) != codes.ResourceExhausted || ctx.Err() != nil {
			t.Fatalf("when one has ended: %v", err)
		}
	}
}

// Without a certificate of the operator's the box shows one of its own, for the names by which it is called.
func TestAClientThatTrustsTheBoxesCertificateIsServed(t *testing.T) {
	c := start(t, func(c *config.Config) { c.Client.TLS = "on" })
	first := must[*tls.Conn](t)(tls.Dial("tcp", c.Client.Listen, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}))
	defer first.Close()
	pool := x509.NewCertPool()
	pool.AddCert(first.ConnectionState().PeerCertificates[0])
	for server, good := range map[string]bool{"127.0.0.1": true, "localhost": true, "10.9.8.7": false, "elsewhere": false} {
		conn := must[*grpc.ClientConn](t)(grpc.NewClient(c.Client.Listen, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: server}))))
		_, err := pb.NewKVClient(conn).Put(within(t), &pb.PutRequest{Key: []byte("k")})
		if (err == nil) != good {
			t.Errorf("as %s: %v", server, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A key that is too long is refused wherever it stands: the state relies on it.
func TestKeysAreBoundedEverywhere(t *testing.T) {
	c := start(t, nil)
	conn, ctx := dial(t, c.Client.Listen), within(t)
	k := pb.NewKVClient(conn)
	long := bytes.Repeat([]byte{'k'}, coord.KeyBytesMax+1)
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: long}}}
	for name, call := range map[string]func() error{
		"put":    func() error { _, err := k.Put(ctx, &pb.PutRequest{Key: long}); return err },
		"range":  func() error { _, err := k.Range(ctx, &pb.RangeRequest{Key: long}); return err },
		"delete": func() error { _, err := k.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: long}); return err },
		"txn":    func() error { _, err := k.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{put}}); return err },
		"nested": func() error {
			inner := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: []*pb.RequestOp{put}}}}
			_, err := k.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{inner}})
			return err
		},
		"compare": func() error { _, err := k.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{{Key: long}}}); return err },
	} {
		if err := call(); !errors.Is(err, rpctypes.ErrGRPCRequestTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	longest := long[1:]
	must[*pb.TxnResponse](t)(k.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: longest}}}}}))
	r := must[*pb.RangeResponse](t)(k.Range(ctx, &pb.RangeRequest{Key: longest, RangeEnd: append(bytes.Clone(longest), 0), Revision: 1}))
	if r.Count != 0 {
		t.Errorf("%d keys before it was put", r.Count)
	}
}
