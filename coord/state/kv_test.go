package state

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// history is what etcd's data model promises, kept whole: the keys after every revision.
type history struct {
	revs    []map[string]kv.KeyValue // by revision
	events  map[uint64][]kv.Event
	compact int64
	leases  map[int64]bool
}

func newHistory() *history {
	return &history{revs: []map[string]kv.KeyValue{nil, {}}, events: map[uint64][]kv.Event{}, compact: -1, leases: map[int64]bool{}}
}

func (h *history) now() map[string]kv.KeyValue { return h.revs[len(h.revs)-1] }
func (h *history) revision() uint64            { return uint64(len(h.revs) - 1) }

// change makes a revision of what fn does to a copy of the newest one, if it does anything.
func (h *history) change(fn func(c *copying)) {
	c := &copying{keys: maps.Clone(h.now()), rev: h.revision() + 1}
	fn(c)
	if len(c.events) > 0 {
		h.revs = append(h.revs, c.keys)
		h.events[c.rev] = c.events
	}
}

type copying struct {
	keys   map[string]kv.KeyValue
	rev    uint64
	events []kv.Event
}

func (c *copying) put(key, value string, lease int64) {
	e := kv.Event{KV: kv.KeyValue{Key: []byte(key), Value: []byte(value), Create: c.rev, Mod: c.rev, Version: 1, Lease: lease}}
	if p, ok := c.keys[key]; ok {
		e.KV.Create, e.KV.Version, e.Prev = p.Create, p.Version+1, &p
	}
	c.keys[key] = e.KV
	c.events = append(c.events, e)
}

func (c *copying) remove(from, end string) {
	for _, k := range slices.Sorted(maps.Keys(c.keys)) {
		if kv.Within([]byte(k), []byte(from), []byte(end)) {
			p := c.keys[k]
			delete(c.keys, k)
			c.events = append(c.events, kv.Event{Delete: true, KV: kv.KeyValue{Key: []byte(k), Mod: c.rev}, Prev: &p})
		}
	}
}

func (h *history) span(from, end string, rev uint64) (out []kv.KeyValue) {
	for _, k := range slices.Sorted(maps.Keys(h.revs[rev])) {
		if kv.Within([]byte(k), []byte(from), []byte(end)) {
			out = append(out, h.revs[rev][k])
		}
	}
	return out
}

func message(kind coord.Kind, key string, value []byte) *coord.Columns {
	c := new(coord.Columns)
	c.Add(kind, 0, 0, 0, []byte(key), value)
	return c
}

func (r *rig) op(o kv.Op) *kv.Answer {
	r.t.Helper()
	key := ""
	if o.Put != nil {
		key = string(o.Put.Key)
	}
	return r.block(message(coord.KindKV, key, o.Append(nil, o.Put != nil)))[0].KV
}

func (r *rig) lease(a kv.LeaseAction, id, ttl int64) *kv.Answer {
	r.t.Helper()
	return r.block(message(coord.KindLease, "", kv.AppendLease(nil, a, id, ttl)))[0].KV
}

func (r *rig) compact(rev uint64) error {
	r.t.Helper()
	return r.block(message(coord.KindCompact, "", kv.AppendNumber(nil, rev)))[0].KV.Err
}

var spans = [][2]string{{"a", ""}, {"a\x00", ""}, {"b", "c"}, {"a", "\x00"}, {"\x00", "\x00"}, {"a\x00", "b\x01"}, {"zz", "a"}, {"c", "d"}}

var names = []string{"a", "a\x00", "a\x00\x01", "a\x00\xff", "a\x01", "ab", "b", "b\x00", "b\x00z", "bb", "c", "c\xff", "c\xff\xff", "d"}

// Whatever is put, deleted, transacted, leased and compacted, before and after commits and restarts: reads at every revision that
// is not compacted, and what changed since, are as if the whole history had been kept.
func TestEveryRevisionReadsAsItWas(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			r, h := newRig(t), newHistory()
			r.m.Watch(true)
			r.m.SetSite(siteOf(boxA), coord.BoxID{})
			var live []kv.Revision
			for range 300 {
				h.step(t, rng, r)
				live = append(live, r.m.TakeEvents()...)
				switch rng.IntN(12) {
				case 0:
					r.commit()
				case 1:
					r.commit()
					r.restart()
					r.m.Watch(true)
					r.m.SetSite(siteOf(boxA), coord.BoxID{})
				}
				h.compare(t, rng, r)
			}
			for i, x := range live {
				if x.Revision != uint64(i)+2 || !reflect.DeepEqual(x.Events, h.events[x.Revision]) {
					t.Fatalf("event %d: %+v, want %+v", i, x, h.events[x.Revision])
				}
			}
			if len(live) != len(h.revs)-2 {
				t.Fatalf("%d revisions of %d were told", len(live), len(h.revs)-2)
			}
			h.tidy(t, r)
		})
	}
}

// Batches of hundreds of revisions fill pages; they are read, watched and compacted at every place.
func TestPagesOfManyRevisions(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 5))
			r, h := newRig(t), newHistory()
			r.m.Watch(true)
			var told []kv.Revision
			for range 12 {
				cols := new(coord.Columns)
				add := func(o kv.Op, key string) { cols.Add(coord.KindKV, 0, 0, 0, []byte(key), o.Append(nil, key != "")) }
				for range 1 + rng.IntN(500) {
					k := names[rng.IntN(len(names))]
					switch rng.IntN(12) {
					case 0:
						h.change(func(c *copying) { c.remove(k, "") })
						add(kv.Op{Delete: &kv.Delete{Key: []byte(k)}}, "")
					case 1:
						s := spans[rng.IntN(len(spans))]
						h.change(func(c *copying) { c.remove(s[0], s[1]) })
						add(kv.Op{Delete: &kv.Delete{Key: []byte(s[0]), End: []byte(s[1])}}, "")
					default:
						v := strings.Repeat("v", rng.IntN(1+rng.IntN(1500)))
						h.change(func(c *copying) { c.put(k, v, 0) })
						add(kv.Op{Put: &kv.Put{Key: []byte(k), Value: []byte(v)}}, k)
					}
				}
				r.block(cols)
				told = append(told, r.m.TakeEvents()...)
				if rng.IntN(3) == 0 {
					if c := 1 + rng.Uint64N(h.revision()); int64(c) > h.compact {
						h.compact = int64(c)
						if err := r.compact(c); err != nil {
							t.Fatal(err)
						}
					}
				}
				if rng.IntN(3) == 0 {
					r.commit()
				}
				for range 10 {
					h.compare(t, rng, r)
				}
			}
			for i, x := range told {
				if x.Revision != uint64(i)+2 || !reflect.DeepEqual(x.Events, h.events[x.Revision]) {
					t.Fatalf("event %d: %+v, want %+v", i, x, h.events[x.Revision])
				}
			}
			for r.m.Cleaning() {
				r.op(kv.Op{Put: &kv.Put{Key: []byte("zz")}})
			}
			h.tidy(t, r)
		})
	}
}

// One transaction may change more than a page holds.
func TestARevisionOfManyPages(t *testing.T) {
	r, h := newRig(t), newHistory()
	const n = 3000
	for lo := 0; lo < n; lo += 100 {
		cols := new(coord.Columns)
		for i := lo; i < lo+100; i++ {
			k, v := fmt.Sprintf("b%04d", i), strings.Repeat("v", i%200)
			h.change(func(c *copying) { c.put(k, v, 0) })
			cols.Add(coord.KindKV, 0, 0, 0, []byte(k), (&kv.Op{Put: &kv.Put{Key: []byte(k), Value: []byte(v)}}).Append(nil, true))
		}
		r.block(cols)
	}
	h.change(func(c *copying) { c.remove("b", "c") })
	if a := r.op(kv.Op{Delete: &kv.Delete{Key: []byte("b"), End: []byte("c")}}); a.Deleted != n {
		t.Fatalf("%d deleted", a.Deleted)
	}
	h.change(func(c *copying) { c.put("b", "again", 0) })
	r.op(kv.Op{Put: &kv.Put{Key: []byte("b"), Value: []byte("again")}})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		h.compare(t, rng, r)
	}
	if revs, next, err := r.m.Events(n+2, 1); err != nil || len(revs) != 1 || len(revs[0].Events) != n || next != n+3 {
		t.Fatalf("%d revisions, next %d, %v", len(revs), next, err)
	}
	if err := r.compact(n + 2); err != nil {
		t.Fatal(err)
	}
	h.compact = n + 2
	for range 20 {
		h.compare(t, rng, r)
	}
	h.tidy(t, r)
}

func (h *history) step(t *testing.T, rng *rand.Rand, r *rig) {
	t.Helper()
	name := func() string { return names[rng.IntN(len(names))] }
	lease := func() (id int64) {
		for _, id := range slices.Sorted(maps.Keys(h.leases)) {
			if rng.IntN(3) == 0 {
				return id
			}
		}
		return 0
	}
	var a *kv.Answer
	switch rng.IntN(10) {
	case 0, 1, 2, 3:
		k, v, l := name(), fmt.Sprint(rng.Uint32()), lease()
		if rng.IntN(4) == 0 {
			v += strings.Repeat("v", inlineMax-20+rng.IntN(40)) // around what a page holds twice
		}
		h.change(func(c *copying) { c.put(k, v, l) })
		a = r.op(kv.Op{Put: &kv.Put{Key: []byte(k), Value: []byte(v), Lease: l}})
	case 4:
		s := spans[rng.IntN(len(spans))]
		want := len(h.span(s[0], s[1], h.revision()))
		h.change(func(c *copying) { c.remove(s[0], s[1]) })
		if a = r.op(kv.Op{Delete: &kv.Delete{Key: []byte(s[0]), End: []byte(s[1])}}); a.Deleted != int64(want) {
			t.Fatalf("%d deleted, want %d", a.Deleted, want)
		}
	case 5:
		k1, k2 := name(), name()
		if k1 == k2 {
			return
		}
		_, holds := h.now()[k1]
		h.change(func(c *copying) {
			if holds {
				c.remove(k1, "")
				c.put(k2, "moved", 0)
			} else {
				c.put(k1, "made", 0)
			}
		})
		a = r.op(kv.Op{Txn: &kv.Txn{
			Compares: []kv.Compare{{Key: []byte(k1), Target: kv.TargetVersion, Relation: kv.Greater}},
			Then:     []kv.Op{{Delete: &kv.Delete{Key: []byte(k1)}}, {Txn: &kv.Txn{Then: []kv.Op{{Put: &kv.Put{Key: []byte(k2), Value: []byte("moved")}}}}}},
			Else:     []kv.Op{{Put: &kv.Put{Key: []byte(k1), Value: []byte("made")}}},
		}})
		if a.Succeeded != holds {
			t.Fatalf("succeeded %v, want %v", a.Succeeded, holds)
		}
	case 6:
		id := 1 + rng.Int64N(6) - 3
		if id == 0 {
			return
		}
		if a = r.lease(kv.LeaseGrant, id, 2); (a.Err != nil) != h.leases[id] {
			t.Fatalf("grant: %v", a.Err)
		}
		h.leases[id] = true
		return
	case 7:
		id := lease()
		if id == 0 {
			return
		}
		delete(h.leases, id)
		h.change(func(c *copying) { h.drop(c, id) })
		a = r.lease(kv.LeaseRevoke, id, 0)
	case 8:
		if rng.IntN(3) > 0 {
			return
		}
		rev := rng.Uint64N(h.revision() + 3)
		err := r.compact(rev)
		switch {
		case int64(rev) <= h.compact:
			if !errors.Is(err, kv.ErrCompacted) {
				t.Fatalf("compact %d of %d: %v", rev, h.compact, err)
			}
		case rev > h.revision():
			if !errors.Is(err, kv.ErrFutureRevision) {
				t.Fatalf("compact %d at %d: %v", rev, h.revision(), err)
			}
		case err != nil:
			t.Fatal(err)
		default:
			h.compact = int64(rev)
		}
		return
	default: // a second passes
		now, _ := r.m.Clock()
		over := map[int64]bool{}
		for id := range h.leases {
			if _, left, _, err := r.m.Lease(id, false); err != nil {
				t.Fatal(err)
			} else if left == 0 {
				over[id] = true
			}
		}
		for _, id := range r.m.Leases() {
			if over[id] && id > 0 {
				delete(h.leases, id)
				h.change(func(c *copying) { h.drop(c, id) })
			}
		}
		for _, id := range r.m.Leases() { // negative ids come after, as in storage
			if over[id] && id < 0 {
				delete(h.leases, id)
				h.change(func(c *copying) { h.drop(c, id) })
			}
		}
		r.block(message(coord.KindTick, "", kv.AppendNumber(nil, now+1)))
		if got := r.m.Leases(); len(got) != len(h.leases) {
			t.Fatalf("leases %v, want %v", got, h.leases)
		}
		return
	}
	if a.Err != nil || a.Revision != h.revision() {
		t.Fatalf("%+v, want revision %d", a, h.revision())
	}
}

func (h *history) drop(c *copying, id int64) {
	for _, k := range slices.Sorted(maps.Keys(c.keys)) {
		if c.keys[k].Lease == id {
			c.remove(k, "")
		}
	}
}

func (h *history) compare(t *testing.T, rng *rand.Rand, r *rig) {
	t.Helper()
	s, rev := spans[rng.IntN(len(spans))], rng.Int64N(int64(h.revision())+2)
	a := r.m.Range(&kv.Range{Key: []byte(s[0]), End: []byte(s[1]), Revision: rev})
	switch {
	case rev > int64(h.revision()):
		if !errors.Is(a.Err, kv.ErrFutureRevision) {
			t.Fatalf("read at %d of %d: %v", rev, h.revision(), a.Err)
		}
	case rev > 0 && rev < h.compact:
		if !errors.Is(a.Err, kv.ErrCompacted) {
			t.Fatalf("read at %d, compacted %d: %v", rev, h.compact, a.Err)
		}
	default:
		at := uint64(rev)
		if at == 0 {
			at = h.revision()
		}
		want := h.span(s[0], s[1], at)
		if a.Err != nil || a.Count != int64(len(want)) || a.Revision != h.revision() || !equalKVs(a.KVs, want) {
			t.Fatalf("%q at %d: %+v\nwant %+v", s, at, a, want)
		}
	}
	from := rng.Uint64N(h.revision() + 2)
	got, next, err := r.m.Events(from, 1<<30)
	if int64(from) < h.compact {
		if !errors.Is(err, kv.ErrCompacted) {
			t.Fatalf("events from %d, compacted %d: %v", from, h.compact, err)
		}
		return
	}
	if err != nil || next != max(from, h.revision()+1) {
		t.Fatalf("events from %d: next %d, %v", from, next, err)
	}
	for _, x := range got {
		want := slices.Clone(h.events[x.Revision])
		if int64(x.Revision) == h.compact {
			for i := range want {
				want[i].Prev = nil
			}
		}
		if !reflect.DeepEqual(x.Events, want) {
			t.Fatalf("events of %d: %+v\nwant %+v", x.Revision, x.Events, want)
		}
	}
	first := max(from, uint64(max(h.compact, 0)), 2)
	if want := int(h.revision()) - int(first) + 1; len(got) != max(want, 0) {
		t.Fatalf("%d revisions from %d (compacted %d, now %d)", len(got), from, h.compact, h.revision())
	}
}

func equalKVs(a, b []kv.KeyValue) bool {
	return slices.EqualFunc(a, b, func(a, b kv.KeyValue) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.Create == b.Create && a.Mod == b.Mod && a.Version == b.Version && a.Lease == b.Lease
	})
}

// tidy: when everything is deleted and compacted, nothing is left but the last revision's events.
func (h *history) tidy(t *testing.T, r *rig) {
	t.Helper()
	r.op(kv.Op{Put: &kv.Put{Key: []byte("last")}})
	for _, id := range r.m.Leases() {
		r.lease(kv.LeaseRevoke, id, 0)
	}
	r.op(kv.Op{Delete: &kv.Delete{Key: []byte("\x00"), End: kv.OpenEnded}})
	r.op(kv.Op{Put: &kv.Put{Key: []byte("last")}})
	if err := r.compact(r.m.Revision()); err != nil {
		t.Fatal(err)
	}
	r.commit()
	for sp, want := range map[coord.Space]int{coord.SpaceKeys: 1, coord.SpaceHistory: 0, coord.SpaceRevisions: 1, coord.SpaceLeases: 0, coord.SpaceLeaseKeys: 0} {
		n := 0
		if err := r.back.Scan(sp, nil, func(_, _ []byte) bool { n++; return true }); err != nil || n != want {
			t.Errorf("space %d has %d entries (%v), want %d", sp, n, err, want)
		}
	}
	var key, val int
	_ = r.back.Scan(coord.SpaceRevisions, nil, func(k, v []byte) bool { key, val = len(k), len(v); return true })
	if r.m.meta.histBytes != uint64(key+val) {
		t.Errorf("history counts %d bytes, it has %d", r.m.meta.histBytes, key+val)
	}
	if r.m.Cleaning() {
		t.Error("still cleaning")
	}
}

func TestALeaseEndsWhenMoreThanFBoxesSawItsTimePass(t *testing.T) {
	r := newRig(t)
	ids := []coord.BoxID{{1}, {2}, {3}, {4}}
	r.m.SetSite(siteOf(ids...), coord.BoxID{})
	r.lease(kv.LeaseGrant, 5, 3)
	r.op(kv.Op{Put: &kv.Put{Key: []byte("k"), Lease: 5}})
	seq := map[coord.BoxID]uint64{}
	tick := func(by coord.BoxID, to uint64) {
		r.begin()
		seq[by]++
		r.m.Batch(by, seq[by], 0, message(coord.KindTick, "", kv.AppendNumber(nil, to)), nil)
		r.m.End()
	}
	for range 50 { // one liar
		for to := range uint64(9) {
			tick(ids[0], to)
		}
	}
	if now, runs := r.m.Clock(); now != 0 || !runs {
		t.Fatalf("a liar alone moved the clock to %d, runs %v", now, runs)
	}
	for to := uint64(1); to <= 4; to++ {
		if _, _, keys, err := r.m.Lease(5, true); err != nil || len(keys) != 1 {
			t.Fatalf("before second %d: keys %q, %v", to, keys, err)
		}
		tick(ids[1], to)
		tick(ids[0], to)
	}
	if _, _, _, err := r.m.Lease(5, true); !errors.Is(err, kv.ErrLeaseNotFound) {
		t.Fatalf("the lease is still there: %v", err)
	}
	if _, found, _ := r.m.Get([]byte("k")); found {
		t.Fatal("the lease's key is still there")
	}
	if _, runs := r.m.Clock(); runs {
		t.Fatal("the clock runs without a lease")
	}
}

// A box that replays old blocks after a member was replaced has the list of today, and must come to the same clock.
func TestTheClockIsTheSameWhoeverIsAMemberNow(t *testing.T) {
	var clocks []uint64
	for _, replaced := range []coord.BoxID{{2}, {9}} {
		r := newRig(t)
		r.m.SetSite(siteOf(coord.BoxID{1}, replaced, coord.BoxID{3}, coord.BoxID{4}), coord.BoxID{})
		r.lease(kv.LeaseGrant, 5, 3)
		for to := uint64(1); to <= 2; to++ {
			for _, by := range []coord.BoxID{{1}, {2}} {
				r.begin()
				r.m.Batch(by, to, 0, message(coord.KindTick, "", kv.AppendNumber(nil, to)), nil)
				r.m.End()
			}
		}
		now, _ := r.m.Clock()
		clocks = append(clocks, now)
	}
	if clocks[0] != 2 || clocks[1] != 2 {
		t.Fatalf("clocks %d, want 2 and 2", clocks)
	}
}

func TestATransactionThatCannotBeDoneChangesNothing(t *testing.T) {
	r := newRig(t)
	r.op(kv.Op{Put: &kv.Put{Key: []byte("k"), Value: []byte("v")}})
	for name, c := range map[string]struct {
		op   kv.Op
		want error
	}{
		"a lease that is not":    {kv.Op{Put: &kv.Put{Key: []byte("x"), Lease: 9}}, kv.ErrLeaseNotFound},
		"a value that is not":    {kv.Op{Put: &kv.Put{Key: []byte("x"), IgnoreValue: true}}, kv.ErrKeyNotFound},
		"a future read":          {kv.Op{Range: &kv.Range{Key: []byte("k"), Revision: 9}}, kv.ErrFutureRevision},
		"a nested future read":   {kv.Op{Txn: &kv.Txn{Then: []kv.Op{{Range: &kv.Range{Key: []byte("k"), Revision: 9}}}}}, kv.ErrFutureRevision},
		"an empty key":           {kv.Op{Put: &kv.Put{}}, kv.ErrEmptyKey},
		"a key put twice":        {kv.Op{Txn: &kv.Txn{Then: []kv.Op{{Put: &kv.Put{Key: []byte("a")}}, {Put: &kv.Put{Key: []byte("a")}}}}}, kv.ErrDuplicateKey},
		"a key put and deleted":  {kv.Op{Txn: &kv.Txn{Else: []kv.Op{{Put: &kv.Put{Key: []byte("a")}}, {Delete: &kv.Delete{Key: []byte("\x00"), End: kv.OpenEnded}}}}}, kv.ErrDuplicateKey},
		"too many operations":    {kv.Op{Txn: &kv.Txn{Then: make([]kv.Op, kv.TxnOpsMax+1)}}, nil},
		"an operation of nobody": {kv.Op{Txn: &kv.Txn{Then: []kv.Op{{}}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			op := c.op
			if op.Txn != nil && len(op.Txn.Then) == 1 {
				op.Txn.Then = append([]kv.Op{{Put: &kv.Put{Key: []byte("first")}}}, op.Txn.Then...)
			}
			before := r.m.Revision()
			a := r.op(op)
			if a.Err == nil || c.want != nil && !errors.Is(a.Err, c.want) {
				t.Fatalf("%v, want %v", a.Err, c.want)
			}
			if r.m.Revision() != before || a.Revision != before {
				t.Fatalf("revision %d, was %d", r.m.Revision(), before)
			}
		})
	}
}
