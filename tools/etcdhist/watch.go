package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// watcher follows the whole key space at one endpoint, over as many sessions as it takes.
type watcher struct {
	*rand.Rand
	name     string
	endpoint int
	style    string
	session  int
	next     atomic.Int64 // first revision not seen yet
}

// styles of watchers, one of each per endpoint: read on; cancel and resume; ask for progress; read slowly in fragments.
var styles = []string{"steady", "resuming", "progress", "slow"}

const (
	reopenPause  = 100 * time.Millisecond
	slowPauseMax = 60 * time.Millisecond
)

func (r *run) watch(ctx context.Context, w *watcher) {
	c, err := dial(r.cfg.endpoints[w.endpoint])
	if err != nil {
		r.fail(err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil && !r.reached(w.next.Load()) {
		w.session++
		r.note(w, &Msg{Kind: Opened, Start: w.next.Load()})
		err := r.follow(ctx, c, w)
		note := ""
		if err != nil {
			note = err.Error()
		}
		r.note(w, &Msg{Kind: Closed, Note: note})
		sleep(ctx, reopenPause)
	}
	if !r.reached(w.next.Load()) {
		r.mu.Lock()
		r.hist.Late = append(r.hist.Late, fmt.Sprintf("%s wants revision %d next", w.name, w.next.Load()))
		r.mu.Unlock()
	}
}

// reached says whether a watcher that wants next has seen all there will be.
func (r *run) reached(next int64) bool {
	f := r.final.Load()
	return f != 0 && next > f
}

func (r *run) note(w *watcher, m *Msg) {
	m.Watcher, m.Endpoint, m.Session, m.At = w.name, w.endpoint, w.session, r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hist.Msgs = append(r.hist.Msgs, m)
}

// follow is one session.
func (r *run) follow(ctx context.Context, c *conn, w *watcher) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The last event may have come before anybody knew that it was the last.
	defer context.AfterFunc(r.ended, func() {
		if r.reached(w.next.Load()) {
			cancel()
		}
	})()
	s, err := pb.NewWatchClient(c.ClientConn).Watch(ctx)
	if err != nil {
		return err
	}
	err = s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: w.next.Load(), PrevKv: true,
		ProgressNotify: w.style == "progress", Fragment: w.style == "slow",
	}}})
	if err != nil {
		return err
	}
	left, cancelling := 20+w.IntN(200), false
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if stop := r.take(w, m); stop || r.reached(w.next.Load()) {
			return nil
		}
		switch left--; w.style {
		case "progress":
			if w.IntN(10) == 0 || len(m.Events) == 0 && w.IntN(2) == 0 {
				err = s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
					ProgressRequest: &pb.WatchProgressRequest{},
				}})
			}
		case "slow":
			if r.final.Load() == 0 { // then it must come to the end
				sleep(ctx, time.Duration(w.Int64N(int64(slowPauseMax))))
			}
		case "resuming":
			// Half of the ends are asked for, and everything up to the answer counts; half are just ends.
			switch {
			case left > 0 || cancelling:
			case w.IntN(2) == 0:
				return nil
			default:
				cancelling = true
				r.note(w, &Msg{Kind: Cancelling})
				err = s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
					CancelRequest: &pb.WatchCancelRequest{WatchId: m.WatchId},
				}})
			}
		}
		if err != nil {
			return err
		}
	}
}

// take records a message and says whether the session is over.
func (r *run) take(w *watcher, m *pb.WatchResponse) bool {
	rev := m.Header.GetRevision()
	switch {
	case m.Created && !m.Canceled:
		return false
	case m.CompactRevision != 0:
		r.note(w, &Msg{Kind: Compacted, Rev: rev, Compact: m.CompactRevision, Start: w.next.Load()})
		w.next.Store(max(w.next.Load(), m.CompactRevision))
		return true
	case m.Canceled:
		return true
	case len(m.Events) == 0:
		r.note(w, &Msg{Kind: Progress, Rev: rev})
		w.next.Store(max(w.next.Load(), rev+1))
		return false
	}
	msg := &Msg{Kind: Events, Rev: rev, Fragment: m.Fragment}
	for _, e := range m.Events {
		ev := Event{Delete: e.Type == mvccpb.DELETE, KV: kvOf(e.Kv)}
		if e.PrevKv != nil {
			kv := kvOf(e.PrevKv)
			ev.Prev = &kv
		}
		msg.Events = append(msg.Events, ev)
	}
	r.note(w, msg)
	if !m.Fragment {
		w.next.Store(max(w.next.Load(), msg.Events[len(msg.Events)-1].KV.Mod+1))
	}
	return false
}

// probe asks one endpoint for a watch below a compaction that this endpoint has just reported to a reader of the same
// connection: it must be refused with the revision of a compaction.
func (r *run) probe(ctx context.Context, c *conn, endpoint int, below int64) {
	o := r.do(c, 0, endpoint, Req{Kind: Range, Key: "\x00", End: "\x00", Rev: below})
	if o.Outcome != Refused || !strings.Contains(o.Err, "compacted") {
		return
	}
	w := &watcher{
		Rand: rand.New(rand.NewPCG(1, 1)), name: fmt.Sprintf("probe-%d", endpoint), endpoint: endpoint,
		style: "probe",
	}
	w.next.Store(below)
	r.probes++
	w.session = r.probes
	ctx, cancel := context.WithTimeout(ctx, r.cfg.deadline)
	defer cancel()
	r.note(w, &Msg{Kind: Opened, Start: below})
	err := r.follow(ctx, c, w)
	note := "conn changed"
	if o.Conn != 0 && int(c.number.Load()) == o.Conn {
		note = "same conn"
	}
	if err != nil {
		note += ": " + err.Error()
	}
	r.note(w, &Msg{Kind: Closed, Note: note})
}
