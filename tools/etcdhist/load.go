package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	keyCount   = 12
	leasesMax  = 8
	ttlMin     = 2 // seconds; etcd with default ticks grants no less
	ttlSpread  = 3
	compactMin = 200 // revisions kept at least, so that watchers mostly follow
)

// board is what the workers know together; it only steers what they ask.
type board struct {
	mu      sync.Mutex
	rev     int64
	compact int64
	kvs     map[string]KV
	leases  []int64
}

func (b *board) learn(q Req, r Resp) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rev = max(b.rev, r.Rev)
	switch q.Kind {
	case Range:
		for _, kv := range r.KVs {
			if kv.Mod >= b.kvs[kv.Key].Mod && !q.KeysOnly {
				b.kvs[kv.Key] = kv
			}
		}
	case Put:
		if b.kvs[q.Key].Mod < r.Rev && !q.IgnoreValue {
			b.kvs[q.Key] = KV{Key: q.Key, Value: q.Value, Mod: r.Rev, Create: b.kvs[q.Key].Create, Lease: q.Lease}
		}
	case Grant:
		if len(b.leases) >= leasesMax {
			b.leases = b.leases[1:]
		}
		b.leases = append(b.leases, r.Lease)
	case KeepAlive:
		if r.TTL <= 0 {
			b.drop(q.Lease)
		}
	case Revoke:
		b.drop(q.Lease)
	case Compact:
		b.compact = max(b.compact, q.Rev)
	}
}

func (b *board) drop(lease int64) {
	b.leases = slices.DeleteFunc(b.leases, func(l int64) bool { return l == lease })
}

// worker makes requests. Its choices depend on its seed and on what the board knows.
type worker struct {
	*rand.Rand
	id    int
	seq   int
	board *board
	lease int64 // first free ID
}

func (w *worker) key() string { return fmt.Sprintf("k%02d", w.IntN(keyCount)) }

// leased is one of the keys that only puts with a lease write, so that they live until it ends.
func (w *worker) leased() string { return fmt.Sprintf("l%02d", w.IntN(keyCount)) }

func (w *worker) span() (string, string) {
	if w.IntN(4) == 0 {
		return "\x00", "\x00"
	}
	i := w.IntN(keyCount)
	return fmt.Sprintf("k%02d", i), fmt.Sprintf("k%02d", i+1+w.IntN(4))
}

// value is never used twice in a run.
func (w *worker) value() string {
	w.seq++
	return fmt.Sprintf("v%d.%d", w.id, w.seq)
}

func (w *worker) aLease() int64 {
	if n := len(w.board.leases); n > 0 {
		return w.board.leases[w.IntN(n)]
	}
	return 0
}

// next is the worker's next request.
func (w *worker) next() Req {
	b := w.board
	b.mu.Lock()
	defer b.mu.Unlock()
	switch p := w.IntN(1000); {
	case p < 260:
		return w.put()
	case p < 420:
		return Req{Kind: Range, Key: w.key()}
	case p < 520:
		return w.read()
	case p < 620:
		q := w.read()
		q.Serializable = true
		return q
	case p < 680:
		return w.del()
	case p < 850:
		return w.txn(1)
	case p < 862:
		q := Req{Kind: Grant, TTL: ttlMin + w.Int64N(ttlSpread)}
		if w.IntN(3) > 0 {
			w.lease++
			q.Lease = w.lease
		}
		return q
	case p < 930:
		// Every other lease is left to end by itself.
		if l := w.aLease(); l%2 != 0 {
			return Req{Kind: KeepAlive, Lease: l}
		}
		return w.put()
	case p < 933:
		if l := w.aLease(); l != 0 {
			return Req{Kind: Revoke, Lease: l}
		}
		return w.put()
	case p < 943:
		return Req{Kind: Compact, Rev: max(1, b.rev-compactMin-w.Int64N(2*compactMin)), Physical: w.IntN(4) == 0}
	case p < 950:
		if b.compact > 1 {
			return Req{Kind: Range, Key: "\x00", End: "\x00", Rev: max(1, b.compact-w.Int64N(3))}
		}
		return w.read()
	case p < 953:
		return Req{Kind: Range, Key: "\x00", End: "\x00", Rev: b.rev + 100_000}
	case p < 956:
		k, v := w.key(), w.value()
		return Req{Kind: Txn, Then: []Req{{Kind: Put, Key: k, Value: v}, {Kind: Put, Key: k, Value: w.value()}}}
	}
	q := w.read()
	q.Rev = max(1, b.rev-w.Int64N(compactMin))
	return q
}

func (w *worker) put() Req {
	q := Req{Kind: Put, Key: w.key(), PrevKV: w.IntN(3) == 0}
	switch w.IntN(12) {
	case 0:
		q.IgnoreValue = true
		return q
	case 1:
		q.IgnoreLease = true
	case 2, 3, 4:
		q.Lease = w.aLease()
		if q.Lease != 0 && w.IntN(2) == 0 {
			q.Key = w.leased()
		}
	}
	q.Value = w.value()
	return q
}

func (w *worker) read() Req {
	q := Req{Kind: Range}
	q.Key, q.End = w.span()
	switch w.IntN(8) {
	case 0:
		q.CountOnly = true
	case 1:
		q.KeysOnly = true
	case 2:
		q.Limit = 1 + w.Int64N(4)
	}
	return q
}

func (w *worker) del() Req {
	q := Req{Kind: Delete, PrevKV: w.IntN(2) == 0, Key: w.key()}
	if w.IntN(3) == 0 {
		i := w.IntN(keyCount)
		q.Key, q.End = fmt.Sprintf("k%02d", i), fmt.Sprintf("k%02d", i+2)
	}
	return q
}

// txn is valid: no branch touches a key twice, nested ones included.
func (w *worker) txn(depth int) Req {
	q := Req{Kind: Txn, If: w.compares()}
	for _, branch := range []*[]Req{&q.Then, &q.Else} {
		free := w.Perm(keyCount)
		*branch = w.branch(&free, depth)
	}
	return q
}

func (w *worker) branch(free *[]int, depth int) []Req {
	var ops []Req
	for range w.IntN(4) {
		if len(*free) < 4 {
			break
		}
		k := fmt.Sprintf("k%02d", (*free)[0])
		switch p := w.IntN(20); {
		case p < 9:
			*free = (*free)[1:]
			q := Req{Kind: Put, Key: k, Value: w.value(), PrevKV: w.IntN(4) == 0}
			if w.IntN(5) == 0 {
				q.Lease = w.aLease()
			}
			ops = append(ops, q)
		case p < 12:
			*free = (*free)[1:]
			ops = append(ops, Req{Kind: Delete, Key: k, PrevKV: w.IntN(2) == 0})
		case p < 18 || depth == 0:
			ops = append(ops, w.read())
		default:
			// Both nested branches share what is still free, which keeps siblings apart.
			q := Req{Kind: Txn, If: w.compares()}
			q.Then = w.branch(free, depth-1)
			q.Else = w.branch(free, depth-1)
			ops = append(ops, q)
		}
	}
	return ops
}

func (w *worker) compares() []Cmp {
	var cs []Cmp
	for range w.IntN(3) {
		k := w.key()
		kv := w.board.kvs[k]
		c := Cmp{Key: k, Op: []string{"=", "=", "!=", "<", ">"}[w.IntN(5)]}
		switch w.IntN(6) {
		case 0, 1:
			c.Target, c.N = "mod", kv.Mod
		case 2:
			c.Target, c.Value = "value", kv.Value
		case 3:
			c.Target, c.N = "version", w.Int64N(6)
		case 4:
			c.Target, c.N = "create", kv.Create
		case 5:
			c.Target, c.N = "lease", kv.Lease
		}
		if w.IntN(8) == 0 {
			c.Key, c.End = w.span()
		}
		cs = append(cs, c)
	}
	return cs
}

// work runs one worker until ctx ends; one that spreads takes its connections in turn.
func (r *run) work(ctx context.Context, w *worker, at []int) {
	var cs []*conn
	for _, e := range at {
		c, err := dial(r.cfg.endpoints[e])
		if err != nil {
			r.fail(err)
			return
		}
		defer c.Close()
		cs = append(cs, c)
	}
	for n := 0; ctx.Err() == nil; n++ {
		i := n % len(cs)
		q := w.next()
		o := r.do(cs[i], w.id, at[i], q)
		pause := time.Duration(w.Int64N(2 * int64(r.cfg.pause)))
		switch o.Outcome {
		case OK:
			w.board.learn(q, o.Resp)
		case Refused:
			if o.Req.Kind == Revoke {
				w.board.mu.Lock()
				w.board.drop(o.Req.Lease)
				w.board.mu.Unlock()
			}
		default:
			// Open operations make the search dear: no more of them than needed.
			pause += r.cfg.deadline / 8
		}
		sleep(ctx, pause)
	}
}

// do runs and records one operation. It outlives the end of the load: an operation is over by its deadline only.
func (r *run) do(c *conn, client, endpoint int, q Req) *Op {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.deadline)
	defer cancel()
	o := &Op{Client: client, Endpoint: endpoint, Req: q}
	before := c.number.Load()
	o.Call = r.now()
	resp, err := c.do(ctx, q)
	o.Return = r.now()
	if after := c.number.Load(); before == after {
		o.Conn = int(after)
	}
	o.Resp, o.Outcome = resp, outcome(err)
	if err != nil {
		o.Err = err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o.ID = len(r.hist.Ops) + 1
	r.hist.Ops = append(r.hist.Ops, o)
	return o
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
