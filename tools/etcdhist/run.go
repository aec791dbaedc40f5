package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readyMax = 60 * time.Second // until every endpoint answers, at the start and after the last fault
	drainMax = 60 * time.Second // until every watcher has seen the end
	settle   = 200 * time.Millisecond
)

// Config is one run.
type Config struct {
	endpoints []string
	time      time.Duration
	seed      uint64
	workers   int
	pause     time.Duration // mean think time of a worker
	deadline  time.Duration
	hook      Hook // nil: nothing is broken
}

// run is a run in progress.
type run struct {
	cfg    Config
	began  time.Time
	final  atomic.Int64
	ended  context.Context // done when final is known
	probes int

	mu   sync.Mutex
	hist *History
	errs []error
}

func (r *run) now() int64 { return int64(time.Since(r.began)) }

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// Record runs load, watchers and faults against the endpoints and returns what was seen.
func Record(ctx context.Context, cfg Config) (*History, error) {
	r := &run{cfg: cfg, began: time.Now(), hist: &History{Meta: Meta{Seed: cfg.seed, Endpoints: cfg.endpoints}}}
	ended, end := context.WithCancel(ctx)
	defer end()
	r.ended = ended
	var cs []*conn
	for _, e := range cfg.endpoints {
		c, err := dial(e)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		cs = append(cs, c)
	}
	all := Req{Kind: Range, Key: "\x00", End: "\x00"}
	if err := r.ready(ctx, cs, all); err != nil {
		return nil, err
	}
	first, err := r.must(ctx, cs[0], all)
	if err != nil {
		return nil, err
	}
	r.hist = &History{Meta: Meta{Seed: cfg.seed, Endpoints: cfg.endpoints, Base: first.Resp.Rev, Init: first.Resp.KVs}}

	watchers, stopWatch := r.watchAll(ctx)
	defer stopWatch()
	r.loadAll(ctx)
	if err := r.ready(ctx, cs, all); err != nil {
		return r.hist, errors.Join(append(r.errs, err)...)
	}
	// A lease that ends now would move the end: nothing is attached any more.
	if _, err := r.must(ctx, cs[0], Req{Kind: Delete, Key: "\x00", End: "\x00", PrevKV: true}); err != nil {
		return r.hist, err
	}
	last, err := r.must(ctx, cs[0], Req{Kind: Put, Key: "end", Value: fmt.Sprint("end.", cfg.seed)})
	if err != nil {
		return r.hist, err
	}
	r.hist.Meta.Final = last.Resp.Rev
	r.final.Store(last.Resp.Rev)
	end()
	r.audit(ctx, cs, all)
	t := time.AfterFunc(drainMax, stopWatch)
	defer t.Stop()
	watchers.Wait()
	return r.hist, errors.Join(r.errs...)
}

// ready waits until every endpoint answers a linearizable read.
func (r *run) ready(ctx context.Context, cs []*conn, q Req) error {
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	for i, c := range cs {
		for {
			o := r.do(c, 0, i, q)
			if o.Outcome == OK {
				break
			}
			if sleep(ctx, settle); ctx.Err() != nil {
				return fmt.Errorf("endpoint %s does not serve: %s", r.cfg.endpoints[i], o.Err)
			}
		}
	}
	return nil
}

// must repeats an operation until it is acknowledged.
func (r *run) must(ctx context.Context, c *conn, q Req) (*Op, error) {
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	for n := 0; ; n++ {
		if q.Kind == Put {
			q.Value = fmt.Sprintf("%s.%d", q.Value, n)
		}
		if o := r.do(c, 0, 0, q); o.Outcome == OK {
			return o, nil
		} else if sleep(ctx, settle); ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %s", q.Kind, o.Err)
		}
	}
}

func (r *run) watchAll(ctx context.Context) (*sync.WaitGroup, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	start := r.hist.Meta.Base + 1
	if r.hist.Meta.Base == 1 {
		start = 1 // a fresh store: its first revision holds nothing
	}
	for e := range r.cfg.endpoints {
		for i, style := range styles {
			w := &watcher{
				Rand: rand.New(rand.NewPCG(r.cfg.seed, uint64(1000+10*e+i))),
				name: fmt.Sprintf("%s-%d", style, e), endpoint: e, style: style,
			}
			w.next.Store(start)
			wg.Go(func() { r.watch(ctx, w) })
		}
	}
	return &wg, cancel
}

// loadAll runs workers and faults for the time of the run.
func (r *run) loadAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.time)
	defer cancel()
	b := &board{kvs: map[string]KV{}, rev: r.hist.Meta.Base}
	var wg sync.WaitGroup
	n := len(r.cfg.endpoints)
	for i := range r.cfg.workers {
		w := &worker{
			Rand: rand.New(rand.NewPCG(r.cfg.seed, uint64(i))), id: i + 1, board: b,
			lease: int64(r.cfg.seed%1000+1)<<40 | int64(i+1)<<24,
		}
		at := []int{i % n}
		if i%4 == 3 {
			at = w.Perm(n)
		}
		wg.Go(func() { r.work(ctx, w, at) })
	}
	if r.cfg.hook != nil {
		wg.Go(func() { r.faults(ctx, rand.New(rand.NewPCG(r.cfg.seed, 1<<32))) })
	}
	wg.Wait()
}

// audit asks every endpoint for the same things at rest: now, and at revisions still kept, and below the compaction.
func (r *run) audit(ctx context.Context, cs []*conn, all Req) {
	var compact int64
	for _, o := range r.hist.Ops {
		if o.Req.Kind == Compact && o.Outcome == OK {
			compact = max(compact, o.Req.Rev)
		}
	}
	final := r.hist.Meta.Final
	for i, c := range cs {
		r.do(c, 0, i, all)
		s := all
		s.Serializable = true
		r.do(c, 0, i, s)
		for rev := max(compact, r.hist.Meta.Base); rev <= final; rev += max(1, (final-compact)/40) {
			q := all
			q.Rev = rev
			r.do(c, 0, i, q)
		}
		if compact > 1 {
			r.probe(ctx, c, i, compact-1)
			r.probe(ctx, c, i, 1)
		}
	}
}
