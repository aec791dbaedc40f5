package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// callTime is more than any call takes.
	callTime = 30 * time.Second
	// etcdLooks is more than the time between two looks of etcd after watchers that are behind (100 ms).
	etcdLooks = 250 * time.Millisecond
)

type comparison struct {
	left, right *side
	verbose     bool

	requests, events, different int
	kinds                       map[string]int
	known                       map[string]int
}

func (c *comparison) run(ctx context.Context, seed uint64, n int) error {
	if c.kinds == nil {
		c.kinds = map[string]int{}
	}
	g := &generator{r: rand.New(rand.NewPCG(seed, 3))}
	for _, s := range []*side{c.left, c.right} {
		if err := s.clear(ctx); err != nil {
			return err
		}
	}
	var watches []*watches
	for i := range n {
		if i%(n/6+1) == 0 {
			w, err := c.watch(ctx, g)
			if err != nil {
				return err
			}
			watches = append(watches, w)
		}
		q := g.next()
		var got [2]string
		for j, s := range []*side{c.left, c.right} {
			call, cancel := context.WithTimeout(ctx, callTime)
			m, err := q.call(call, s)
			cancel()
			got[j] = s.text(m, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.requests++
		c.kinds[q.kind]++
		c.judge(q.kind, fmt.Sprintf("seed %d request %d", seed, i), got)
	}
	return c.finish(ctx, seed, watches)
}

func (c *comparison) judge(kind, where string, got [2]string) {
	if c.verbose {
		fmt.Printf("%s %s: %s\n", where, kind, got[0])
	}
	if got[0] == got[1] {
		return
	}
	for _, k := range known {
		if k.is(kind, got[0], got[1]) {
			c.known[k.name]++
			return
		}
	}
	if c.different++; c.different <= 20 {
		fmt.Printf("%s: %s\n  asked %s\n  etcd  %s\n  other %s\n", where, kind, c.right.asked, got[0], got[1])
	}
}

// clear leaves a side without keys and leases, and notes its revision. Another seed starts at another one.
func (s *side) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	l, err := s.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return err
	}
	for _, x := range l.Leases {
		if _, err := s.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: x.ID}); err != nil {
			return err
		}
	}
	if _, err := s.kv.Put(ctx, &pb.PutRequest{Key: []byte("x")}); err != nil {
		return err
	}
	r, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		return err
	}
	if _, err := s.kv.Compact(ctx, &pb.CompactionRequest{Revision: r.Header.Revision}); err != nil {
		return err
	}
	s.base, s.leases, s.names = r.Header.Revision, map[string]int64{}, map[int64]string{}
	return nil
}

// text is an answer in the words that are compared: revisions count from the seed's first, leases have names, and what
// each side has its own of is left out.
func (s *side) text(m proto.Message, err error) string {
	if err != nil {
		st := status.Convert(err)
		return fmt.Sprintf("error %v: %s", st.Code(), st.Message())
	}
	m = proto.Clone(m)
	s.relative(m.ProtoReflect())
	b, _ := prototext.MarshalOptions{Multiline: false}.Marshal(m)
	return strings.ReplaceAll(string(b), "  ", " ") // prototext varies its spaces on purpose
}

var revisions = map[protoreflect.Name]bool{"revision": true, "create_revision": true, "mod_revision": true, "compact_revision": true, "hash_revision": true}

var leaseFields = map[protoreflect.Name]bool{"lease": true, "ID": true}

func (s *side) relative(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch name := f.Name(); {
		case name == "cluster_id" || name == "member_id" || name == "raft_term":
			m.Clear(f)
		case revisions[name] && f.Kind() == protoreflect.Int64Kind && v.Int() > 0:
			m.Set(f, protoreflect.ValueOfInt64(v.Int()-s.base+1_000_000))
		case leaseFields[name] && f.Kind() == protoreflect.Int64Kind:
			if n := s.names[v.Int()]; n != "" {
				m.Set(f, protoreflect.ValueOfInt64(int64(len(n))<<40+int64(n[len(n)-1])))
			} else if v.Int()>>20 == s.base {
				m.Set(f, protoreflect.ValueOfInt64(v.Int()-s.base<<20))
			}
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			l := v.List()
			for i := range l.Len() {
				s.relative(l.Get(i).Message())
			}
			if f.Name() == "leases" { // in no order
				var ids []int64
				for i := range l.Len() {
					x := l.Get(i).Message()
					ids = append(ids, x.Get(x.Descriptor().Fields().ByName("ID")).Int())
				}
				slices.Sort(ids)
				for i := range l.Len() {
					x := l.Get(i).Message()
					x.Set(x.Descriptor().Fields().ByName("ID"), protoreflect.ValueOfInt64(ids[i]))
				}
			}
		case f.Kind() == protoreflect.MessageKind && !f.IsMap():
			s.relative(v.Message())
		}
		return true
	})
}

// watches is a stream on each side with the same watchers, and what they gave.
type watches struct {
	mu     sync.Mutex
	got    [2]map[int64][]string
	cancel context.CancelFunc
	ids    []int64
	done   sync.WaitGroup
	ended  [2]map[int64]bool // the last event, or a cancellation, was seen
}

// last is put at the end: each watcher that was not cancelled gets it.
var last = []byte("\xff\xfflast")

func (c *comparison) watch(ctx context.Context, g *generator) (*watches, error) {
	w := &watches{}
	ctx, w.cancel = context.WithCancel(ctx)
	var create []func(s *side) *pb.WatchCreateRequest
	for id := int64(1); id <= 6; id++ {
		r := &pb.WatchCreateRequest{WatchId: id, PrevKv: g.r.IntN(2) == 0, Fragment: g.r.IntN(3) == 0}
		r.Key, r.RangeEnd = g.span()
		if g.r.IntN(2) == 0 {
			r.Key, r.RangeEnd = []byte{0}, []byte{0}
		}
		for _, f := range []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE} {
			if g.r.IntN(6) == 0 {
				r.Filters = append(r.Filters, f)
			}
		}
		rev := g.rev()
		create = append(create, func(s *side) *pb.WatchCreateRequest {
			q := proto.Clone(r).(*pb.WatchCreateRequest)
			q.StartRevision = rev(s)
			return q
		})
		w.ids = append(w.ids, id)
	}
	for j, s := range []*side{c.left, c.right} {
		w.got[j], w.ended[j] = map[int64][]string{}, map[int64]bool{}
		stream, err := s.watch.Watch(ctx)
		if err != nil {
			return nil, err
		}
		created := make(chan struct{}, len(create))
		w.done.Go(func() { w.read(j, s, stream, created) })
		for _, q := range create {
			if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: q(s)}}); err != nil {
				return nil, err
			}
		}
		for range create {
			select {
			case <-created:
			case <-time.After(callTime):
				return nil, errors.New("a watcher is not created")
			}
		}
	}
	time.Sleep(etcdLooks) // or a compaction that follows decides by chance what a watcher of the past is given
	return w, nil
}

func (w *watches) read(j int, s *side, stream pb.Watch_WatchClient, created chan struct{}) {
	refused := int64(100)
	for {
		r, err := stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) && status.Code(err).String() != "Canceled" {
				w.mu.Lock()
				w.got[j][-2] = append(w.got[j][-2], "stream: "+err.Error())
				w.mu.Unlock()
			}
			return
		}
		w.mu.Lock()
		id := r.WatchId
		if r.Created && r.Canceled {
			refused++
			id = refused
		}
		add := func(s string) { w.got[j][id] = append(w.got[j][id], s) }
		if r.Created {
			add(fmt.Sprintf("created %v", r.Canceled))
		}
		for _, e := range r.Events {
			if string(e.Kv.Key) == string(last) {
				w.ended[j][id] = true
				continue
			}
			add(s.text(e, nil))
		}
		if r.Canceled {
			// Which compaction a watcher hears of depends on when the server looks.
			add(fmt.Sprintf("canceled, compacted %v, %s", r.CompactRevision > 0, r.CancelReason))
			w.ended[j][id] = true
		}
		w.mu.Unlock()
		if r.Created {
			created <- struct{}{}
		}
	}
}

// finish makes the last event, waits until all watchers that can have it, and compares what they gave.
func (c *comparison) finish(ctx context.Context, seed uint64, all []*watches) error {
	for _, s := range []*side{c.left, c.right} {
		if _, err := s.kv.Put(ctx, &pb.PutRequest{Key: last}); err != nil {
			return err
		}
		if _, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: last}); err != nil {
			return err
		}
	}
	time.Sleep(2 * etcdLooks)
	for i, w := range all {
		w.mu.Lock()
		w.cancel()
		w.mu.Unlock()
		w.done.Wait()
		ids := map[int64]bool{}
		for j := range w.got {
			for id := range w.got[j] {
				ids[id] = true
			}
		}
		for id := range ids {
			c.events += len(w.got[0][id])
			c.judge("watch", fmt.Sprintf("seed %d stream %d watcher %d", seed, i, id), [2]string{strings.Join(w.got[0][id], "\n    "), strings.Join(w.got[1][id], "\n    ")})
		}
	}
	return nil
}
