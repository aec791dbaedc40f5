package state

import (
	"errors"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// What coord/site leans on when it starts, and when it is asked for long lists.

func TestAStartingBoxLearnsItsLastBatchNumber(t *testing.T) {
	r := newRig(t)
	if r.m.LastSeq(boxB) != 0 {
		t.Fatal("an author that was never seen has a last number")
	}
	for i, c := range []struct{ seq, floor, want uint64 }{
		{3, 0, 3},                               // above a gap
		{1, 0, 3},                               // the gap is no later
		{2, 0, 3},                               // nor is its end
		{9, 8, 9},                               // the author gave 4 to 8 up
		{2<<startBits + 1, 0, 2<<startBits + 1}, // a later start
	} {
		r.begin()
		r.m.Batch(boxB, c.seq, c.floor, nil, nil)
		r.m.End()
		r.commit()
		r.restart()
		if got := r.m.LastSeq(boxB); got != c.want {
			t.Fatalf("step %d: %d, want %d", i, got, c.want)
		}
	}
}

func TestALongTopIsExactBeforeAndAfterACommit(t *testing.T) {
	const n = TopMax + 500
	r := newRig(t)
	r.open(1)
	want := &model{counters: map[uint64]uint64{}}
	seq := uint64(0)
	observe := func(step uint64) {
		c := new(coord.Columns)
		for o := uint64(0); o < n; o += step {
			seq++
			c.Add(coord.KindObserve, 1, seq, 0, key64(o), []byte(count(1+o%7)))
			want.counters[o] += 1 + o%7
		}
		r.block(c)
	}
	check := func(when string) {
		t.Helper()
		total, top := want.top()
		for _, ask := range []int{0, 5, TopMax, TopMax + 1, n, n + 100} {
			gotTotal, distinct, got, err := r.m.TopScan(ask)
			if err != nil || gotTotal != total || distinct != n || len(got) != min(ask, n) {
				t.Fatalf("%s: %d of %d objects, total %d, %v", when, len(got), distinct, gotTotal, err)
			}
			for i := range got {
				if got[i] != top[i] {
					t.Fatalf("%s: place %d is %+v, want %+v", when, i, got[i], top[i])
				}
			}
		}
	}
	observe(1)
	check("nothing durable")
	r.commit()
	r.restart()
	check("all durable, nothing in memory")
	observe(3)
	check("some newer than what is durable")
}

func TestALongTopOfDamagedCountersSaysSo(t *testing.T) {
	r := newRig(t)
	if err := r.back.Commit(&coord.Commit{Changes: []coord.Change{{Space: coord.SpaceCounters, Key: key64(1), Value: []byte{1, 0}}}}); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := r.m.TopScan(TopMax + 1); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}

func TestTheCheckpointRuleCanBeMadeSmall(t *testing.T) {
	r := newRig(t)
	r.m.SetRule(Rule{BytesMin: 3 * blockLogBytes, GapBlocks: 5})
	var due []uint64
	for r.m.Height() < 12 {
		r.begin()
		if r.m.End() {
			due = append(due, r.m.Height())
		}
	}
	if len(due) != 4 || due[0] != 3 || due[3] != 12 {
		t.Fatalf("%v", due)
	}
	if d := DefaultRule(); d.BytesMin != 32<<20 || d.GapBlocks != 256 {
		t.Fatalf("%+v", d)
	}
}
