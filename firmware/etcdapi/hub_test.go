package etcdapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// Streams that are never read have no more waiting than the bounds, and what they lost is to be read again from its beginning.
func TestWhatWaitsForClientsThatDoNotReadIsBounded(t *testing.T) {
	h := newHub()
	h.begin(1)
	var watchers []*watcher
	for range 20 {
		s := &stream{hub: h, wake: make(chan struct{}, 1), watchers: map[int64]*watcher{}, behind: map[*watcher]bool{}}
		h.all[s] = struct{}{}
		for id := range int64(3) {
			w := &watcher{id: id, stream: s, key: []byte("k"), end: []byte("l"), live: true, next: 2}
			s.watchers[id] = w
			h.live.add(w)
			watchers = append(watchers, w)
		}
	}
	relieved := false
	for rev := uint64(2); rev < 200; rev++ {
		e := kv.Event{KV: kv.KeyValue{Key: []byte("k"), Value: make([]byte, 64<<10), Mod: rev}}
		h.changes(&site.Changes{Revisions: []kv.Revision{{Revision: rev, Events: []kv.Event{e}}}, Revision: rev})
		sum := 0
		for s := range h.all {
			n := 0
			for _, w := range s.watchers {
				for _, e := range w.pending {
					n += eventBytes(e)
				}
			}
			if n != s.queued || n > queueBytes+3*eventBytes(&e) {
				t.Fatalf("revision %d: a stream counts %d bytes and has %d", rev, s.queued, n)
			}
			sum += n
		}
		if sum != h.queued || sum > hubBytes {
			t.Fatalf("revision %d: the hub counts %d bytes and has %d", rev, h.queued, sum)
		}
		for _, w := range watchers {
			switch {
			case w.live && w.next != rev+1:
				t.Fatalf("a live watcher waits for %d after %d", w.next, rev)
			case !w.live && len(w.pending) == 0:
				relieved = true
				if w.next != 2 {
					t.Fatalf("a watcher that was given nothing reads on from %d", w.next)
				}
			case !w.live && w.next != w.pending[len(w.pending)-1].KV.Mod+1:
				t.Fatalf("a gap after %d", w.pending[len(w.pending)-1].KV.Mod)
			}
		}
	}
	if !relieved {
		t.Fatal("the bound of all streams was never reached")
	}
}

// asks is a client that has sent its requests and reads nothing.
type asks struct {
	grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]
	requests []*pb.WatchRequest
}

func (a *asks) Recv() (*pb.WatchRequest, error) {
	if len(a.requests) == 0 {
		return nil, io.EOF
	}
	r := a.requests[0]
	a.requests = a.requests[1:]
	return r, nil
}

// The reader of a stream that has ended may still find requests that the client had sent.
func TestAStreamThatHasEndedMakesNoWatchers(t *testing.T) {
	s := &Server{cfg: Config{Limits: Limits{}.withDefaults()}, hub: newHub()}
	s.view.Store(new(site.View))
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}
	for _, ended := range []bool{false, true} {
		w := &stream{
			hub: s.hub, s: s, out: &asks{requests: []*pb.WatchRequest{create, create}}, wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
			watchers: map[int64]*watcher{}, behind: map[*watcher]bool{},
		}
		if ended {
			w.end()
		}
		if err := w.read(t.Context()); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if !ended {
			if s.hub.n != 2 {
				t.Fatalf("%d watchers, want 2", s.hub.n)
			}
			w.end()
		}
		if s.hub.n != 0 || len(s.hub.live.all) != 0 {
			t.Fatalf("%d watchers are left, %d live", s.hub.n, len(s.hub.live.all))
		}
	}
}

// at is a client at an address.
type at struct {
	grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]
	ctx context.Context
}

func (a *at) Context() context.Context { return a.ctx }

type closed chan struct{}

func (c closed) Close() error {
	close(c)
	return nil
}

// Streams that cannot send give their places to others; of too many, those that have been stuck longest are disconnected.
func TestStreamsThatCannotSendHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{cfg: Config{Logger: slog.New(slog.DiscardHandler)}, hub: newHub()}
		var conns []closed
		var streams []*stream
		for i := range 2*flights + stallsMax {
			addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: i + 1}
			c := make(closed)
			conns = append(conns, c)
			s.conns.Store(addr.String(), c)
			w := &stream{hub: s.hub, s: s, out: &at{ctx: peer.NewContext(t.Context(), &peer.Peer{Addr: addr})}}
			streams = append(streams, w)
			if !s.hub.takeOff(t.Context(), w) { // waits for the places of those before
				t.Fatal("no place")
			}
		}
		time.Sleep(2 * stallTime)
		synctest.Wait()
		for i, c := range conns {
			select {
			case <-c:
				if i >= 2*flights {
					t.Errorf("stream %d is disconnected", i)
				}
			default:
				if i < 2*flights {
					t.Errorf("stream %d, stuck longest, is not disconnected", i)
				}
			}
		}
		for _, w := range streams {
			s.hub.land(w)
		}
		if len(s.hub.flights) != 0 || len(s.hub.stalls) != 0 {
			t.Fatalf("%d places are taken and %d streams stalled after all have landed", len(s.hub.flights), len(s.hub.stalls))
		}
	})
}
