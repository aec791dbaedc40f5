package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

func TestASeqSetIsTheSetOfWhatWasAdded(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var s seqSet
		floor, in := uint64(0), map[uint64]bool{}
		for range 300 {
			n := 1 + rng.Uint64N(200)
			if rng.IntN(20) == 0 {
				floor = max(floor, n/4)
				s.raise(n / 4)
			}
			if has := n <= floor || in[n]; s.has(n) != has {
				t.Fatalf("seed %d: has(%d) is %v in %+v", seed, n, !has, s)
			} else if !has {
				const spansMax = 12
				before := len(s.spans)
				if s.add(n, spansMax) {
					in[n] = true
				} else if before < spansMax {
					t.Fatalf("seed %d: refused with %d spans", seed, before)
				}
			}
			last, above := s.floor, uint64(0)
			for _, sp := range s.spans {
				if sp.lo < last+2 || sp.hi < sp.lo {
					t.Fatalf("seed %d: %+v is not in order", seed, s)
				}
				last, above = sp.hi, above+sp.hi-sp.lo+1
			}
			if above != s.above {
				t.Fatalf("seed %d: %d above, counted %d", seed, above, s.above)
			}
		}
	}
}

func TestTopIsExactWithManyMoreObjectsThanItKeeps(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	top := topSet{at: map[uint64]int{}}
	counts := map[uint64]uint64{}
	for i := range 60_000 {
		o := uint64(rng.ExpFloat64() * 2000)
		counts[o] += 1 + rng.Uint64N(3)
		top.update(Count{o, counts[o]})
		if i%20_000 != 19_999 {
			continue
		}
		m := &model{counters: counts}
		_, want := m.top()
		if got := top.first(TopMax + 5); !slices.Equal(got, want[:TopMax]) {
			t.Fatalf("after %d: got %v", i, got)
		}
	}
	if len(top.first(3)) != 3 || len(top.first(-1)) != 0 {
		t.Fatal("the list has not the length asked for")
	}
}

// What is written while a commit is under way, what was written again, and what is gone:
// reads see the newest at every moment, and nothing is kept that is durable and cold.
func TestReadsSeeTheNewestWriteDuringACommit(t *testing.T) {
	r := newRig(t)
	r.open(1)
	seq := uint64(0)
	do := func(k coord.Kind, key, value string) {
		seq++
		r.one(k, 1, seq, key, value)
	}
	check := func(when string, want map[string]string) {
		t.Helper()
		for _, k := range []string{"a", "b", "c"} {
			kv, found, err := r.m.Get([]byte(k))
			if v, ok := want[k]; err != nil || ok != found || v != string(kv.Value) {
				t.Fatalf("%s: %s is %q (%v, %v), want %q", when, k, kv.Value, found, err, v)
			}
		}
	}
	do(coord.KindPut, "a", "1")
	do(coord.KindPut, "b", "1")
	do(coord.KindPut, "c", "1")
	first := r.m.Take()
	image := fmt.Sprintf("%q", first)
	do(coord.KindPut, "a", "2")
	do(coord.KindDelete, "b", "")
	check("one commit under way", map[string]string{"a": "2", "c": "1"})
	second := r.m.Take()
	do(coord.KindPut, "b", "3")
	do(coord.KindDelete, "c", "")
	want := map[string]string{"a": "2", "b": "3"}
	check("two commits under way", want)
	for i, ch := range [][]coord.Change{first, second, nil} {
		if ch == nil {
			ch = r.m.Take()
		}
		if err := r.back.Commit(&coord.Commit{Changes: ch}); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("commit %d durable, not yet told", i), want)
		r.m.Committed()
		check(fmt.Sprintf("commit %d told", i), want)
	}
	if got := fmt.Sprintf("%q", first); got != image {
		t.Fatal("changes that were handed out have changed")
	}
	r.restart()
	check("after a restart", want)
	if r.m.Take() != nil {
		t.Fatal("changes without a block")
	}
	r.m.Committed() // nothing is under way: no effect
}

func TestChangesComeInOrderAndOnce(t *testing.T) {
	r := newRig(t)
	r.open(2)
	r.open(1)
	seq := uint64(0)
	for _, k := range []string{"b", "a", "b", "c", "a"} {
		seq++
		r.one(coord.KindPut, 1, seq, k, "v")
		r.one(coord.KindObserve, 2, seq, object(uint64(k[0])), "")
	}
	ch := r.m.Take()
	if !slices.IsSortedFunc(ch, func(a, b coord.Change) int {
		if a.Space != b.Space {
			return int(a.Space) - int(b.Space)
		}
		return bytes.Compare(a.Key, b.Key)
	}) {
		t.Fatalf("not in order: %q", ch)
	}
	seen := map[string]bool{}
	for _, c := range ch {
		id := fmt.Sprint(c.Space, c.Key)
		if seen[id] {
			t.Fatalf("%s comes twice", id)
		}
		seen[id] = true
	}
	if len(ch) != 1+3+3+2+1+5 {
		t.Fatalf("%d changes", len(ch))
	}
}

func TestMemoryForDurableEntriesIsBounded(t *testing.T) {
	r := newRig(t)
	r.open(1)
	seq := uint64(0)
	for i := range 40 {
		c := new(coord.Columns)
		for j := range 2000 {
			seq++
			c.Add(coord.KindObserve, 1, seq, 0, key64(uint64(i*2000+j)), nil)
		}
		seq++
		c.Add(coord.KindPut, 1, seq, 0, fmt.Appendf(nil, "big-%d", i), make([]byte, 400<<10))
		r.block(c)
		r.commit()
		if n := len(r.m.counters.m); n > cleanEntriesMax {
			t.Fatalf("%d counters in memory", n)
		}
		if n := len(r.m.keys.m); n > cleanKeyBytesMax/(400<<10) {
			t.Fatalf("%d large keys in memory", n)
		}
	}
	if _, distinct, _ := r.m.Top(0); distinct != 80_000 {
		t.Fatalf("%d objects", distinct)
	}
	// A hot key that is written again and again does not fill the list of durable entries.
	o := newOverlay(10, func(*entry[uint64, uint64]) int { return 1 })
	e := o.insert(1)
	for range 3 * cleanEntriesMax {
		o.take()
		o.committed()
		if len(o.clean) > 3*cleanEntriesMax || o.cleanWeight > 1 {
			t.Fatalf("list of %d, weight %d", len(o.clean), o.cleanWeight)
		}
		if o.m[1] == nil {
			e = o.insert(1)
		} else {
			o.write(e)
		}
	}
}

func TestAFullCounterStays(t *testing.T) {
	r := newRig(t)
	r.open(1)
	r.one(coord.KindObserve, 1, 1, object(1), count(1<<64-1))
	r.one(coord.KindObserve, 1, 2, object(1), count(5))
	if total, distinct, top := r.m.Top(1); total != 1<<64-1 || distinct != 1 || top[0].Count != 1<<64-1 {
		t.Fatal(total, distinct, top)
	}
}
