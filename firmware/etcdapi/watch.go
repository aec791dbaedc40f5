package etcdapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

const (
	// answerBytes is where the answers for one watcher are cut, between revisions, and with fragments within one.
	answerBytes = 1 << 20
	// pieceBytes is about how much a stream takes at a time, from what waits and from the history.
	pieceBytes = 256 << 10
	// progressAgain is how often a stream looks whether it can give the progress that it was asked for.
	progressAgain = 500 * time.Millisecond
	// noWatch is the id in answers that are about no watch, or about all.
	noWatch = -1
	// controlsMax is how many answers to a stream's own requests wait; its reader then waits, too.
	controlsMax = 64
)

// stream is one Watch call. A reader takes requests, a sender sends; what they share belongs to hub.mu.
type stream struct {
	hub  *hub
	s    *Server
	who  *access.Credentials
	out  grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]
	wake chan struct{}

	watchers map[int64]*watcher
	nextID   int64
	controls []*pb.WatchResponse // to be sent first, in order
	room     chan struct{}       // controls were taken
	changed  []*watcher          // live ones with pending events, each once
	behind   map[*watcher]bool
	queued   int  // bytes pending
	asked    bool // for a progress of all
	ended    bool // what its reader still takes in is not done
	flight   flight
}

func (t *stream) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// ready says that a watcher has pending events.
func (t *stream) ready(w *watcher) {
	if !w.listed {
		w.listed = true
		t.changed = append(t.changed, w)
	}
	t.wakeUp()
}

// Watch implements etcdserverpb.WatchServer.
func (s *Server) Watch(out grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]) error {
	t := &stream{
		hub: s.hub, s: s, who: callerOf(out.Context()), out: out, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), watchers: map[int64]*watcher{}, behind: map[*watcher]bool{},
	}
	t.hub.mu.Lock()
	t.hub.all[t] = struct{}{}
	t.hub.mu.Unlock()
	defer t.end()
	ctx, cancel := context.WithCancelCause(out.Context())
	defer cancel(nil)
	defer s.hold(t.mayGoOn(), cancel)()
	go func() {
		// A client that asks nothing more, as every one of the JSON form, still wants its events.
		if err := t.read(ctx); !errors.Is(err, io.EOF) {
			cancel(err)
		}
	}()
	err := t.send(ctx)
	switch cause := context.Cause(ctx); {
	case err != nil:
		return err
	case cause != nil && !errors.Is(cause, context.Canceled):
		return cause
	}
	return rpctypes.ErrGRPCWatchCanceled
}

func (t *stream) end() {
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	t.ended = true
	delete(t.hub.all, t)
	for _, w := range t.watchers {
		t.drop(w)
	}
}

// drop forgets a watcher; hub.mu is held.
func (t *stream) drop(w *watcher) {
	if w.live {
		t.hub.live.remove(w)
	}
	t.taken(w.pending)
	w.live, w.canceled, w.pending = false, true, nil
	delete(t.behind, w)
	delete(t.watchers, w.id)
	t.hub.n--
}

func (t *stream) read(ctx context.Context) error {
	for {
		r, err := t.out.Recv()
		if err != nil {
			return err
		}
		var denied error
		if q, ok := r.GetRequestUnion().(*pb.WatchRequest_CreateRequest); ok && q.CreateRequest != nil {
			first, end := watched(q.CreateRequest)
			denied = t.s.allow(ctx, t.who, access.KVWatch, keys(first, end))
		}
		t.hub.mu.Lock()
		if t.ended {
			t.hub.mu.Unlock()
			return io.EOF
		}
		switch q := r.GetRequestUnion().(type) {
		case *pb.WatchRequest_CreateRequest:
			if denied != nil { // in etcd's words, on the stream, which goes on
				t.control(&pb.WatchResponse{WatchId: noWatch, Created: true, Canceled: true, CancelReason: status.Convert(denied).Message()})
			} else if q.CreateRequest != nil {
				t.create(q.CreateRequest)
			}
		case *pb.WatchRequest_CancelRequest:
			if w := t.watchers[q.CancelRequest.GetWatchId()]; w != nil {
				t.drop(w)
				t.control(&pb.WatchResponse{WatchId: w.id, Canceled: true})
			}
		case *pb.WatchRequest_ProgressRequest:
			t.asked = true
			t.wakeUp()
		}
		full := len(t.controls) >= controlsMax
		t.hub.mu.Unlock()
		for full {
			select {
			case <-t.room:
			case <-ctx.Done():
				return ctx.Err()
			}
			t.hub.mu.Lock()
			full = len(t.controls) >= controlsMax
			t.hub.mu.Unlock()
		}
	}
}

// control queues an answer to a request; hub.mu is held.
func (t *stream) control(r *pb.WatchResponse) {
	r.Header = t.s.header(t.hub.rev)
	t.controls = append(t.controls, r)
	t.wakeUp()
}

// watched are the keys that a watcher is to be told of.
func watched(r *pb.WatchCreateRequest) (first, end []byte) {
	if len(r.Key) == 0 {
		return []byte{0}, r.RangeEnd
	}
	return r.Key, r.RangeEnd
}

// mayGoOn asks whether whose stream it is may still be told what it is told.
func (t *stream) mayGoOn() func() error {
	if t.s.cfg.Access == nil {
		return nil
	}
	rules := t.s.cfg.Access.Rules()
	return func() error {
		if g := t.who.Grant; g != nil && t.s.cfg.Access.Rules().Still(g, uint64(time.Now().Unix())) != nil {
			return rpctypes.ErrGRPCInvalidAuthToken
		}
		now := t.s.cfg.Access.Rules()
		if now == rules {
			return nil
		}
		rules = now
		t.hub.mu.Lock()
		defer t.hub.mu.Unlock()
		for _, w := range t.watchers {
			if _, ok := t.s.may(t.who, access.KVWatch, keys(w.key, w.end)); !ok {
				return rpctypes.ErrGRPCPermissionDenied
			}
		}
		return nil
	}
}

// create makes a watcher; hub.mu is held. The refusals are etcd's, in its words.
func (t *stream) create(r *pb.WatchCreateRequest) {
	refuse := func(why string) {
		t.control(&pb.WatchResponse{WatchId: noWatch, Created: true, Canceled: true, CancelReason: why})
	}
	w := &watcher{stream: t, prevKV: r.PrevKv, fragment: r.Fragment, progress: r.ProgressNotify, quiet: true}
	w.key, w.end = watched(r)
	for _, f := range r.Filters {
		w.noPut = w.noPut || f == pb.WatchCreateRequest_NOPUT
		w.noDelete = w.noDelete || f == pb.WatchCreateRequest_NODELETE
	}
	switch {
	case r.StartRevision < 0:
		refuse(rpctypes.ErrCompacted.Error())
		return
	case len(w.end) > 0 && !kv.IsOpenEnded(w.end) && bytes.Compare(w.key, w.end) >= 0:
		refuse("mvcc: watcher range is empty")
		return
	case r.WatchId != 0 && t.watchers[r.WatchId] != nil:
		refuse("mvcc: duplicate watch ID provided on the WatchStream")
		return
	case t.hub.n >= t.s.cfg.Limits.Watchers:
		refuse(rpctypes.ErrGRPCRequestTooManyRequests.Error())
		return
	}
	if w.id = r.WatchId; w.id == 0 {
		for t.watchers[t.nextID] != nil {
			t.nextID++
		}
		w.id = t.nextID
		t.nextID++
	}
	t.watchers[w.id] = w
	t.hub.n++
	if w.next = uint64(r.StartRevision); w.next == 0 {
		w.next = t.hub.rev + 1
	}
	t.control(&pb.WatchResponse{WatchId: w.id, Created: true})
	if w.next > t.hub.rev {
		w.live = true
		t.hub.live.add(w)
		return
	}
	t.behind[w] = true
}

// send sends until the stream or the server ends. The client hears of a watcher's creation before its first event.
func (t *stream) send(ctx context.Context) error {
	every := time.NewTicker(t.s.cfg.Limits.ProgressEvery)
	defer every.Stop()
	for {
		tick := false
		var again <-chan time.Time
		idle, asked := t.idle()
		if asked {
			again = time.After(progressAgain)
		}
		if !idle {
			select {
			case <-ctx.Done():
				return nil
			case <-every.C:
				tick = true
			default:
			}
		} else {
			select {
			case <-ctx.Done():
				return nil
			case <-every.C:
				tick = true
			case <-t.wake:
			case <-again:
			}
		}
		if more, err := t.piece(ctx, tick); err != nil || !more {
			return err
		}
	}
}

// piece sends what waits, up to pieceBytes, and as much of the history.
func (t *stream) piece(ctx context.Context, tick bool) (more bool, err error) {
	if !t.hub.takeOff(ctx, t) {
		return false, nil
	}
	defer t.hub.land(t)
	if more, err = t.sendOnce(tick); err != nil || !more {
		return more, err
	}
	return true, t.catchUp()
}

// idle says whether nothing but a wake-up can bring work, and whether a progress is still to be given.
func (t *stream) idle() (idle, asked bool) {
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	return len(t.behind) == 0 && !t.hub.ended && len(t.changed) == 0 && len(t.controls) == 0, t.asked
}

// caughtUp says whether all watchers have been given all until now. One that waits for a later revision has not: its client knows
// more than this box, which perhaps has just started. hub.mu is held.
func (t *stream) caughtUp() bool {
	for _, w := range t.watchers {
		if !w.live || w.next > t.hub.rev+1 || len(w.pending) > 0 {
			return false
		}
	}
	return true
}

// batch is what one watcher is sent.
type batch struct {
	w      *watcher
	events []*kv.Event
}

// takePiece takes whole revisions of what waits, up to about pieceBytes; hub.mu is held.
func (t *stream) takePiece() (batches []batch) {
	size := 0
	for len(t.changed) > 0 && size < pieceBytes {
		w := t.changed[0]
		n := 0
		for n < len(w.pending) && (size < pieceBytes || w.pending[n].KV.Mod == w.pending[n-1].KV.Mod) {
			size += eventBytes(w.pending[n])
			n++
		}
		if n > 0 {
			batches = append(batches, batch{w, w.pending[:n:n]})
			t.taken(w.pending[:n])
			w.pending, w.quiet = w.pending[n:], false
		}
		if len(w.pending) > 0 {
			break
		}
		w.pending, w.listed = nil, false
		t.changed = t.changed[1:]
	}
	if len(t.changed) == 0 {
		t.changed = nil
	}
	return batches
}

// sendOnce sends what waits. more is false when the server stops.
func (t *stream) sendOnce(tick bool) (more bool, err error) {
	h := t.hub
	h.mu.Lock()
	controls, ended := t.controls, h.ended
	t.controls = nil
	batches := t.takePiece()
	var progress []*pb.WatchResponse
	head := t.s.header(h.rev)
	if t.asked && t.caughtUp() {
		t.asked = false
		progress = append(progress, &pb.WatchResponse{Header: head, WatchId: noWatch})
	}
	if tick {
		for _, w := range t.watchers {
			if w.progress && w.live && w.quiet && w.next <= h.rev+1 && len(w.pending) == 0 {
				progress = append(progress, &pb.WatchResponse{Header: head, WatchId: w.id})
			}
			w.quiet = true
		}
	}
	h.mu.Unlock()
	select {
	case t.room <- struct{}{}:
	default:
	}
	for _, c := range controls {
		if err := t.out.Send(c); err != nil {
			return false, err
		}
	}
	for i := range batches {
		b := &batches[i]
		if err := t.sendEvents(b.w, b.events); err != nil {
			return false, err
		}
	}
	// What is before the progress' revision was taken from the hub at the same moment, and is sent.
	for _, p := range progress {
		if err := t.out.Send(p); err != nil {
			return false, err
		}
	}
	if ended {
		return false, rpctypes.ErrGRPCStopped
	}
	return true, nil
}

// sendEvents sends a watcher's events, which are whole revisions, in answers of about answerBytes.
func (t *stream) sendEvents(w *watcher, events []*kv.Event) error {
	for len(events) > 0 {
		n, size := 0, 0
		for n < len(events) && (size < answerBytes || events[n].KV.Mod == events[n-1].KV.Mod) {
			size += eventBytes(events[n])
			n++
		}
		out := &pb.WatchResponse{WatchId: w.id, Header: t.s.header(events[n-1].KV.Mod), Events: make([]*mvccpb.Event, n)}
		for i, e := range events[:n] {
			out.Events[i] = w.event(e)
		}
		events = events[n:]
		if err := t.sendWhole(w, out); err != nil {
			return err
		}
	}
	return nil
}

// sendWhole sends an answer, in fragments if the watcher takes them and it is large.
func (t *stream) sendWhole(w *watcher, r *pb.WatchResponse) error {
	if !w.fragment || proto.Size(r) < answerBytes+answerBytes/2 {
		return t.out.Send(r)
	}
	for rest := r.Events; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && (n == 0 || size+proto.Size(rest[n]) < answerBytes) {
			size += proto.Size(rest[n])
			n++
		}
		part := &pb.WatchResponse{Header: r.Header, WatchId: r.WatchId, Events: rest[:n], Fragment: n < len(rest)}
		rest = rest[n:]
		if err := t.out.Send(part); err != nil {
			return err
		}
	}
	return nil
}

// catchUp reads a piece of the history for the watchers that are behind, all that need it at once.
func (t *stream) catchUp() error {
	h := t.hub
	h.mu.Lock()
	from, visible := uint64(0), h.rev
	for w := range t.behind {
		if w.next > visible { // caught up: from here on it is told
			w.live = true
			delete(t.behind, w)
			h.live.add(w)
			continue
		}
		if from == 0 || w.next < from {
			from = w.next
		}
	}
	pending := len(t.controls) > 0 || len(t.changed) > 0
	h.mu.Unlock()
	if from == 0 || pending { // answers first: a watcher's creation is told before its events
		if pending {
			t.wakeUp()
		}
		return nil
	}
	st := t.s.cfg.Site.State()
	revs, next, err := st.Events(from, pieceBytes)
	if errors.Is(err, kv.ErrCompacted) {
		return t.compacted(int64(st.Compacted()))
	}
	if err != nil {
		return kvError(err)
	}
	// What is not visible yet will be told.
	revs = slices.DeleteFunc(revs, func(r kv.Revision) bool { return r.Revision > visible })
	next = min(next, visible+1)
	h.mu.Lock()
	batches := make([]batch, 0, len(t.behind))
	for w := range t.behind {
		if w.next >= next {
			continue
		}
		b := batch{w: w}
		for i := range revs {
			r := &revs[i]
			if r.Revision < w.next {
				continue
			}
			for j := range r.Events {
				if e := &r.Events[j]; kv.Within(e.KV.Key, w.key, w.end) && !w.skips(e) {
					b.events = append(b.events, e)
				}
			}
		}
		w.next = next
		if len(b.events) > 0 {
			w.quiet = false
			batches = append(batches, b)
		}
	}
	t.wakeUp()
	h.mu.Unlock()
	for i := range batches {
		if err := t.sendEvents(batches[i].w, batches[i].events); err != nil {
			return err
		}
	}
	return nil
}

// compacted cancels the watchers whose next revision is gone.
func (t *stream) compacted(at int64) error {
	h := t.hub
	h.mu.Lock()
	var gone []*pb.WatchResponse
	for w := range t.behind {
		if int64(w.next) < at {
			gone = append(gone, &pb.WatchResponse{Header: t.s.header(h.rev), WatchId: w.id, Canceled: true, CompactRevision: at})
			t.drop(w)
		}
	}
	h.mu.Unlock()
	for _, r := range gone {
		if err := t.out.Send(r); err != nil {
			return err
		}
	}
	return nil
}
