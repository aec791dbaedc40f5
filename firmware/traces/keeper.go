package traces

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/store"
)

const (
	// queueMax bounds what waits to be worked on, of each kind: the ring keeps at most some 64 traces at once, and each of 15 others may
	// answer for each.
	queueMax = 1024
	// gatherTime is how long the other boxes have to tell their part of a trace.
	gatherTime = time.Second
	// gathersMax bounds the traces whose parts are being gathered.
	gathersMax = 256
	// flushEvery and flushTraces are when traces are written: in groups, since each write costs a card some pages.
	flushEvery  = 5 * time.Second
	flushTraces = 64
	// revisedMax bounds the changes of the revision that are not written, some seconds of a busy site.
	revisedMax = 64 << 10
	// asksEvery and asksBurst bound what one member may ask for: what its own ring may keep, twice.
	asksEvery = time.Second / 40
	asksBurst = 128
	// lookEvery is how often is looked at what is due. The others are asked after as long: they apply the block a little later.
	lookEvery = 100 * time.Millisecond
)

// Site is what a Keeper asks of the ordering; *site.Site is one.
type Site interface {
	View() *site.View
	AskTrace(id trace.ID)
	TellTrace(to coord.BoxID, id trace.ID, records []byte)
	Clock() (shift int64)
	Ahead(box coord.BoxID) time.Duration
	Past
}

// Disk is where traces are kept; *store.Traces is one.
type Disk interface {
	Keep([]store.KeptTrace, []store.KeptRevisions) error
	Get(id [16]byte) ([]byte, error)
	Each(since int64, fn func(value []byte) bool) error
	Revisions(revision uint64) ([]byte, error)
	Size() (used, limit, oldest int64, err error)
}

// Config of New; all but Export are required.
type Config struct {
	Ring   *trace.Ring
	Disk   Disk
	Logger *slog.Logger
	// Export, if not nil, gets this box's part of each trace that is kept. It must not block, and owns what it is given.
	Export func([]trace.Record)
}

// Keeper is the box's traces at work. It is coord/site's Traces.
type Keeper struct {
	cfg  Config
	site Site // from Run on

	kept  chan trace.Record
	asked chan question
	told  chan telling
	lost  atomic.Uint64

	writing sync.Mutex // what is taken from below is on the disk, or lost, when it is free
	mu      sync.Mutex
	gathers map[trace.ID]*gather
	fresh   map[trace.ID][]trace.Record // not written yet
	revised []trace.Revised             // not written yet
	shares  map[coord.BoxID]*share
}

type question struct {
	from coord.BoxID
	id   trace.ID
}

type telling struct {
	question
	records []byte
}

// gather is a trace whose parts come in.
type gather struct {
	records []trace.Record
	keep    bool
	asked   bool
	told    map[coord.BoxID]bool
	due     time.Time
	done    chan struct{} // closed when all are in, or due
}

// share is what a member may still ask for.
type share struct {
	tokens int
	filled time.Time
}

// New makes a keeper; Run starts it.
func New(cfg Config) *Keeper {
	return &Keeper{
		cfg: cfg, kept: make(chan trace.Record, queueMax), asked: make(chan question, queueMax), told: make(chan telling, queueMax),
		gathers: map[trace.ID]*gather{}, fresh: map[trace.ID][]trace.Record{}, shares: map[coord.BoxID]*share{},
	}
}

// offer puts v into a queue, or counts it as lost.
func offer[T any](k *Keeper, q chan T, v T) {
	select {
	case q <- v:
	default:
		k.lost.Add(1)
	}
}

// Kept is coord/site.Traces'.
func (k *Keeper) Kept(r *trace.Record) { offer(k, k.kept, *r) }

// Asked is coord/site.Traces'.
func (k *Keeper) Asked(from coord.BoxID, id trace.ID) { offer(k, k.asked, question{from, id}) }

// Told is coord/site.Traces'.
func (k *Keeper) Told(from coord.BoxID, id trace.ID, records []byte) {
	offer(k, k.told, telling{question{from, id}, records})
}

// Revised is coord/site.Options.Revised.
func (k *Keeper) Revised(list []trace.Revised) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.revised)+len(list) > revisedMax {
		k.lost.Add(uint64(len(list)))
		return
	}
	k.revised = append(k.revised, list...)
}

// Counts are coord/trace.Ring's, and how many traces, parts of them and notes of revisions had no room or could not be written.
func (k *Keeper) Counts() (judged, kept, spared, lost uint64) {
	judged, kept, spared = k.cfg.Ring.Counts()
	return judged, kept, spared, k.lost.Load()
}

// Attach tells the keeper whom to ask, before Run and before any question.
func (k *Keeper) Attach(s Site) { k.site = s }

// Run works until ctx ends, and writes what it has then.
func (k *Keeper) Run(ctx context.Context) error {
	look, flush := time.NewTicker(lookEvery), time.NewTicker(flushEvery)
	defer look.Stop()
	defer flush.Stop()
	for {
		select {
		case r := <-k.kept:
			k.begin(&r)
		case q := <-k.asked:
			k.answer(q)
		case t := <-k.told:
			k.take(t)
		case now := <-look.C:
			if k.finish(now) >= flushTraces {
				k.flush()
			}
		case <-flush.C:
			k.flush()
		case <-ctx.Done():
			k.finish(time.Now().Add(2 * gatherTime))
			k.flush()
			return nil
		}
	}
}

// begin starts to gather a trace that is to be kept.
func (k *Keeper) begin(r *trace.Record) {
	shift := k.site.Clock()
	own := k.cfg.Ring.Find(nil, r.Trace, shift)
	for i := range own {
		if own[i].Batch == r.Batch && own[i].Part == r.Part {
			own[i].Reasons = r.Reasons
		}
	}
	k.export(r.Trace, shift, r)
	g := k.open(r.Trace, true)
	if g == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range own {
		g.add(&own[i])
	}
}

// export hands on this box's records of a trace, each once; why, if not nil, has the reasons of one.
func (k *Keeper) export(id trace.ID, shift int64, why *trace.Record) {
	if k.cfg.Export == nil {
		return
	}
	rs := k.cfg.Ring.Once(nil, id, shift)
	for i := range rs {
		if why != nil && rs[i].Batch == why.Batch && rs[i].Part == why.Part {
			rs[i].Reasons = why.Reasons
		}
	}
	if len(rs) > 0 {
		k.cfg.Export(rs)
	}
}

// open is the gathering of a trace, nil when there are too many.
func (k *Keeper) open(id trace.ID, keep bool) *gather {
	k.mu.Lock()
	defer k.mu.Unlock()
	if g := k.gathers[id]; g != nil {
		g.keep = g.keep || keep
		return g
	}
	if len(k.gathers) >= gathersMax {
		k.lost.Add(1)
		return nil
	}
	g := &gather{keep: keep, told: map[coord.BoxID]bool{}, due: time.Now().Add(gatherTime), done: make(chan struct{})}
	k.gathers[id] = g
	return g
}

// add takes a record once; one that knows more replaces it.
func (g *gather) add(r *trace.Record) { g.records = merged(g.records, r) }

func merged(rs []trace.Record, r *trace.Record) []trace.Record {
	for i := range rs {
		if o := &rs[i]; o.Box == r.Box && o.Batch == r.Batch && o.Part == r.Part {
			if known(r) > known(o) {
				r.Reasons |= o.Reasons
				*o = *r
			}
			return rs
		}
	}
	if len(rs) >= trace.RecordsMax {
		return rs
	}
	return append(rs, *r)
}

// known is how many points a record has.
func known(r *trace.Record) (n int) {
	for _, at := range r.At {
		if at != 0 {
			n++
		}
	}
	return n
}

// answer tells another member what this box knows of a trace, and keeps that: the member does.
func (k *Keeper) answer(q question) {
	if !k.mayAsk(q.from, time.Now()) {
		k.lost.Add(1)
		return
	}
	shift := k.site.Clock()
	own := k.cfg.Ring.Find(nil, q.id, shift)
	if len(own) > 0 {
		k.mu.Lock()
		had := k.fresh[q.id]
		all := had
		for i := range own {
			all = merged(all, &own[i])
		}
		if k.gathers[q.id] == nil && (had != nil || len(k.fresh) < 2*flushTraces) {
			k.fresh[q.id] = all
		}
		k.mu.Unlock()
		k.export(q.id, shift, nil)
	} else if stored, err := k.stored(q.id); err == nil {
		me := k.site.View().ID
		for i := range stored {
			if stored[i].Box == me {
				own = append(own, stored[i])
			}
		}
	}
	k.site.TellTrace(q.from, q.id, trace.AppendRecords(nil, own))
}

// mayAsk bounds what one member can have this box do. There are as many shares as members ask.
func (k *Keeper) mayAsk(from coord.BoxID, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.shares[from]
	if s == nil {
		if len(k.shares) >= 2*coord.MembersMax {
			clear(k.shares)
		}
		s = &share{tokens: asksBurst, filled: now}
		k.shares[from] = s
	}
	if n := int(now.Sub(s.filled) / asksEvery); n > 0 {
		s.tokens, s.filled = min(s.tokens+n, asksBurst), s.filled.Add(time.Duration(n)*asksEvery)
	}
	if s.tokens == 0 {
		return false
	}
	s.tokens--
	return true
}

// take adds what another member knows to the trace that was asked for. A member speaks of itself only.
func (k *Keeper) take(t telling) {
	rs, err := trace.DecodeRecords(t.records)
	if err != nil {
		k.lost.Add(1)
		return
	}
	ahead := int64(k.site.Ahead(t.from))
	n := k.site.View().N
	k.mu.Lock()
	defer k.mu.Unlock()
	g := k.gathers[t.id]
	if g == nil {
		return
	}
	for i := range rs {
		if rs[i].Box == t.from && rs[i].Trace == t.id {
			rs[i].Shift(-ahead)
			g.add(&rs[i])
		}
	}
	if g.told[t.from] = true; len(g.told) >= n-1 {
		k.end(t.id, g)
	}
}

// end closes a gathering; under mu.
func (k *Keeper) end(id trace.ID, g *gather) {
	delete(k.gathers, id)
	close(g.done)
	if g.keep && len(g.records) > 0 {
		k.fresh[id] = g.records
	}
}

// finish asks for what is open, ends what is due, and says how many traces wait to be written.
func (k *Keeper) finish(now time.Time) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, g := range k.gathers {
		switch {
		case !now.Before(g.due):
			k.end(id, g)
		case !g.asked && now.After(g.due.Add(lookEvery-gatherTime)):
			g.asked = true
			k.site.AskTrace(id)
		}
	}
	return len(k.fresh)
}

// flush writes what waits. What cannot be written is lost: traces are not worth a box.
func (k *Keeper) flush() { k.write(true) }

// Durable writes which batches made the revisions so far. It is called before the state that has them is made durable, so that after a
// power cut no revision of that state is without its batch.
func (k *Keeper) Durable() { k.write(false) }

func (k *Keeper) write(traces bool) {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	revised := k.revised
	k.revised = nil
	var fresh map[trace.ID][]trace.Record
	if traces || len(revised) > 0 { // one write for both
		fresh, k.fresh = k.fresh, map[trace.ID][]trace.Record{}
	}
	k.mu.Unlock()
	ts := make([]store.KeptTrace, 0, len(fresh))
	for id, rs := range fresh {
		if old, err := k.stored(id); err == nil {
			for i := range old {
				rs = merged(rs, &old[i])
			}
		}
		ts = append(ts, store.KeptTrace{ID: id, Begin: max(begin(rs), 0), Value: trace.AppendRecords(nil, rs)})
	}
	if err := k.cfg.Disk.Keep(ts, pages(revised)); err != nil {
		k.lost.Add(uint64(len(ts)))
		if !errors.Is(err, store.ErrClosed) {
			k.cfg.Logger.Warn("traces were not kept", "traces", len(ts), "err", err)
		}
	}
}

// pages cuts a list into those that trace.AppendRevised takes.
func pages(list []trace.Revised) (out []store.KeptRevisions) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && n < trace.RevisedMax && list[n].Follows(&list[n-1]) {
			n++
		}
		out = append(out, store.KeptRevisions{From: list[0].From, Value: trace.AppendRevised(nil, list[:n])})
		list = list[n:]
	}
	return out
}

// stored is a trace as it is on the disk.
func (k *Keeper) stored(id trace.ID) ([]trace.Record, error) {
	v, err := k.cfg.Disk.Get(id)
	if err != nil {
		return nil, err
	}
	return trace.DecodeRecords(v)
}

// begin is when a trace begins, Unix nanoseconds.
func begin(rs []trace.Record) (at int64) {
	for i := range rs {
		for _, p := range rs[i].At {
			if p != 0 && (at == 0 || p < at) {
				at = p
			}
		}
	}
	return at
}

// locate finds the batch that made a revision.
func (k *Keeper) locate(revision uint64) (trace.Revised, bool) {
	k.mu.Lock()
	waiting := pages(k.revised)
	k.mu.Unlock()
	for _, p := range waiting {
		if list, err := trace.DecodeRevised(p.Value); err == nil {
			if r, ok := trace.Locate(list, revision); ok {
				return r, true
			}
		}
	}
	v, err := k.cfg.Disk.Revisions(revision)
	if err != nil {
		return trace.Revised{}, false
	}
	list, err := trace.DecodeRevised(v)
	if err != nil {
		return trace.Revised{}, false
	}
	return trace.Locate(list, revision)
}
