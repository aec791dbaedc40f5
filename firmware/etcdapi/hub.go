package etcdapi

import (
	"bytes"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// queueBytes is how much one stream's watchers may have waiting in memory. Beyond it they fall behind: what they missed is
// read from the history when the client has taken what waits.
const queueBytes = 4 << 20

// hubBytes is the same for all streams together: clients that do not read must not take a box's memory.
const hubBytes = 32 << 20

// hub hands what changes to the watchers of all streams.
//
// A watcher is live, and gets each revision as it becomes visible, or behind, and its stream reads the history from
// watcher.next on until it has caught up. The change from one to the other happens under mu, so that no revision is missed or
// given twice.
type hub struct {
	mu   sync.Mutex
	rev  uint64 // the newest visible revision
	live table
	n    int // watchers of all streams

	queued  int           // bytes pending, of all streams
	flights chan struct{} // places for those that send
	stalls  []*stream     // those that cannot, longest first

	up     bool // the site orders
	losses map[*func()]struct{}
	ended  bool
	all    map[*stream]struct{}
}

func newHub() *hub {
	return &hub{live: newTable(), up: true, losses: map[*func()]struct{}{}, all: map[*stream]struct{}{}, flights: make(chan struct{}, flights)}
}

func (h *hub) begin(rev uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rev = rev
}

// visible is the newest revision that anybody was told of.
func (h *hub) visible() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rev
}

// changes hands revisions on. It does not block.
func (h *hub) changes(c *site.Changes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range c.Revisions {
		r := &c.Revisions[i]
		if r.Revision != h.rev+1 {
			h.jump(h.rev + 1)
		}
		h.rev = r.Revision
		h.deliver(r)
	}
	if c.Jump {
		h.jump(h.rev + 1)
		h.rev = max(h.rev, c.Revision)
	}
}

// jump: what happened from a revision on is not told, it is in the history.
func (h *hub) jump(from uint64) {
	for w := range h.live.all {
		w.fallBehind(from)
	}
}

// deliver gives one revision to the live watchers whose keys it changes.
func (h *hub) deliver(r *kv.Revision) {
	touched := map[*watcher]bool{}
	for i := range r.Events {
		e := &r.Events[i]
		h.live.each(e.KV.Key, func(w *watcher) {
			if r.Revision < w.next || w.skips(e) {
				return
			}
			touched[w] = true
			w.pending = append(w.pending, e)
			n := eventBytes(e)
			w.stream.queued += n
			h.queued += n
		})
	}
	for w := range touched {
		w.next, w.last = r.Revision+1, r.Revision
		if w.stream.queued > queueBytes {
			w.fallBehind(r.Revision + 1)
		}
		w.stream.ready(w)
	}
	for h.queued > hubBytes {
		h.relieve()
	}
}

// relieve has the stream with the most waiting read it from the history later.
func (h *hub) relieve() {
	var most *stream
	for t := range h.all {
		if most == nil || t.queued > most.queued {
			most = t
		}
	}
	for _, w := range most.watchers {
		if len(w.pending) > 0 {
			w.fallBehind(h.rev + 1)
			w.next = w.pending[0].KV.Mod // pending are whole revisions
			most.taken(w.pending)
			w.pending = nil
		}
	}
}

func eventBytes(e *kv.Event) int {
	n := len(e.KV.Key) + len(e.KV.Value) + 64
	if e.Prev != nil {
		n += len(e.Prev.Key) + len(e.Prev.Value)
	}
	return n
}

// serving says whether the site orders; when it stops, those who asked for it hear of it.
func (h *hub) serving(up bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.up && !up {
		for f := range h.losses {
			(*f)()
		}
	}
	h.up = up
}

// onLoss calls fn when the site stops ordering, until done.
func (h *hub) onLoss(fn func()) (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losses[&fn] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.losses, &fn)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for s := range h.all {
		s.wakeUp()
	}
}

// watcher is one watch of a stream; what is not constant belongs to hub.mu.
type watcher struct {
	id                     int64
	stream                 *stream
	key, end               []byte
	prevKV, fragment       bool
	progress               bool
	noPut, noDelete        bool
	live, listed, canceled bool
	// next is the first revision that it has not been given, last the one of its newest event.
	next, last uint64
	pending    []*kv.Event
	quiet      bool // nothing was sent since the last progress
}

func (w *watcher) skips(e *kv.Event) bool { return e.Delete && w.noDelete || !e.Delete && w.noPut }

// fallBehind takes a live watcher off: from is the first revision that it will have to read.
func (w *watcher) fallBehind(from uint64) {
	if !w.live {
		return
	}
	w.live = false
	w.next = max(w.next, from)
	w.stream.hub.live.remove(w)
	w.stream.behind[w] = true
	w.stream.wakeUp()
}

// taken says that events do not wait any more; mu is held.
func (t *stream) taken(events []*kv.Event) {
	for _, e := range events {
		n := eventBytes(e)
		t.queued -= n
		t.hub.queued -= n
	}
}

func (w *watcher) event(e *kv.Event) *mvccpb.Event {
	out := &mvccpb.Event{Kv: keyValue(&e.KV)}
	if e.Delete {
		out.Type = mvccpb.Event_DELETE
	}
	if w.prevKV {
		out.PrevKv = keyValue(e.Prev)
	}
	return out
}

// table finds the watchers of a key: of the key itself, of a prefix (the end is the prefix' successor), or of another span.
type table struct {
	all      map[*watcher]struct{}
	keys     map[string]map[*watcher]struct{}
	prefixes map[string]map[*watcher]struct{}
	lengths  map[int]int // of prefixes, and how many have it
	spans    map[*watcher]struct{}
}

func newTable() table {
	return table{
		all: map[*watcher]struct{}{}, keys: map[string]map[*watcher]struct{}{}, prefixes: map[string]map[*watcher]struct{}{}, lengths: map[int]int{},
		spans: map[*watcher]struct{}{},
	}
}

// place is where a watcher is kept; nil: among the spans.
func (t *table) place(w *watcher) (in map[string]map[*watcher]struct{}) {
	switch {
	case len(w.end) == 0:
		return t.keys
	case bytes.Equal(w.end, successor(w.key)):
		return t.prefixes
	}
	return nil
}

// successor is the end of a prefix' span, nil when it has none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

func (t *table) add(w *watcher) {
	t.all[w] = struct{}{}
	in := t.place(w)
	if in == nil {
		t.spans[w] = struct{}{}
		return
	}
	set := in[string(w.key)]
	if set == nil {
		set = map[*watcher]struct{}{}
		in[string(w.key)] = set
		if len(w.end) > 0 {
			t.lengths[len(w.key)]++
		}
	}
	set[w] = struct{}{}
}

func (t *table) remove(w *watcher) {
	delete(t.all, w)
	in := t.place(w)
	if in == nil {
		delete(t.spans, w)
		return
	}
	set := in[string(w.key)]
	if delete(set, w); len(set) > 0 {
		return
	}
	delete(in, string(w.key))
	if len(w.end) > 0 {
		if t.lengths[len(w.key)]--; t.lengths[len(w.key)] == 0 {
			delete(t.lengths, len(w.key))
		}
	}
}

func (t *table) each(key []byte, fn func(w *watcher)) {
	for w := range t.keys[string(key)] {
		fn(w)
	}
	for n := range t.lengths {
		if n <= len(key) {
			for w := range t.prefixes[string(key[:n])] {
				fn(w)
			}
		}
	}
	for w := range t.spans {
		if kv.Within(key, w.key, w.end) {
			fn(w)
		}
	}
}
