package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/faultfs"
)

// The promises of a log under power cuts, at every changing operation of a run and in every mode:
//
//  1. what was synced is replayed, in order;
//  2. what was only appended is replayed as a prefix;
//  3. nothing else is replayed, and nothing is called damage;
//  4. segments are dropped only when Prune was told so;
//  5. the log goes on from there, and the same holds after a second cut.

// model is what a log has to hold. Segment i has number i+1.
type model struct {
	segs   [][]string
	finals []uint64 // highest final height of each segment
	synced int      // records of the last segment
	pruned uint64   // the highest height that Prune was told
}

func (m *model) clone() *model {
	c := *m
	c.segs = make([][]string, len(m.segs))
	for i := range m.segs {
		c.segs[i] = slices.Clone(m.segs[i])
	}
	c.finals = slices.Clone(m.finals)
	return &c
}

// step is one call and what it does to the model.
type step struct {
	name string
	call func(l *store.Log) error
	do   func(m *model)
}

func script(seed uint64, steps int) []step {
	r, c := rand.New(rand.NewPCG(seed, 7)), newChain()
	var ss []step
	since := 0
	for range steps {
		switch k := r.IntN(12); {
		case k < 5:
			var rs []coord.Record
			if r.IntN(2) == 0 {
				rs = c.height(r.IntN(900), r.IntN(3) > 0)
			} else {
				rs = []coord.Record{c.vote(), c.batch(r.IntN(400))}
			}
			top := uint64(0)
			for i := range rs {
				if f := rs[i].Final; f != nil {
					top = f.Header.Height
				}
			}
			since++
			ss = append(ss, step{
				"append", func(l *store.Log) error { return l.Append(rs) },
				func(m *model) {
					i := len(m.segs) - 1
					m.segs[i] = append(m.segs[i], texts(rs)...)
					m.finals[i] = max(m.finals[i], top)
				},
			})
		case k < 8 || since < 3:
			ss = append(ss, step{
				"sync", func(l *store.Log) error { return l.Sync() },
				func(m *model) { m.synced = len(m.segs[len(m.segs)-1]) },
			})
		case k < 10:
			head, top := c.live(), c.head.Height
			since = 0
			ss = append(ss, step{
				"roll", func(l *store.Log) error { return l.Roll(head) },
				func(m *model) {
					m.segs = append(m.segs, texts(head))
					m.finals = append(m.finals, top)
					m.synced = len(head)
				},
			})
		default:
			top := c.head.Height
			ss = append(ss, step{
				"prune", func(l *store.Log) error { return l.Prune(top) },
				func(m *model) { m.pruned = top },
			})
		}
	}
	return ss
}

// run plays a script until it fails, and gives the model before and after the step that failed.
func run(fs *faultfs.FS, ss []step) (before, after *model, err error) {
	m := &model{segs: [][]string{nil}, finals: []uint64{0}}
	l, err := store.OpenLog(logDir, small(fs))
	if err != nil {
		return m, m, err
	}
	defer l.Close()
	for _, s := range ss {
		next := m.clone()
		s.do(next)
		if err := s.call(l); err != nil {
			return m, next, fmt.Errorf("%s: %w", s.name, err)
		}
		m = next
	}
	return m, m, nil
}

// first is the number of the lowest segment on a disk, 1 for none.
func first(fs *faultfs.FS) int {
	names, _ := fs.List(logDir)
	low := 0
	for _, n := range names {
		k := 0
		if strings.HasSuffix(n, ".seg") {
			fmt.Sscanf(n, "%d.seg", &k)
		}
		if k > 0 && (low == 0 || k < low) {
			low = k
		}
	}
	return max(low, 1)
}

// admits says why a replay is not one that the model admits.
func (m *model) admits(got []string, first int) error {
	dropped := first - 1
	if dropped >= len(m.segs) {
		return fmt.Errorf("segment %d is the first of %d", first, len(m.segs))
	}
	for i := range dropped {
		if m.finals[i] > m.pruned {
			return fmt.Errorf("segment %d was dropped", i+1)
		}
	}
	all := slices.Concat(m.segs[dropped:]...)
	need := len(all) - len(m.segs[len(m.segs)-1]) + m.synced
	if len(got) < need {
		return fmt.Errorf("%d records, %d were synced", len(got), need)
	}
	if len(got) > len(all) || !slices.Equal(got, all[:len(got)]) {
		return fmt.Errorf("%d records that are not a prefix of the %d written", len(got), len(all))
	}
	return nil
}

func TestEverySyncedRecordSurvivesAPowerCutAnywhere(t *testing.T) {
	scripts := uint64(6)
	if testing.Short() {
		scripts = 2
	}
	rolled, dropped, cuts := 0, 0, 0
	for seed := range scripts {
		ss := script(seed, 60)
		whole := faultfs.New()
		_, m, err := run(whole, ss)
		must(t, err)
		rolled, dropped = rolled+len(m.segs)-1, dropped+first(whole)-1
		for cut := range whole.Ops() {
			fs := faultfs.New()
			fs.CutAfter(cut)
			before, after, err := run(fs, ss)
			if err != nil && !errors.Is(err, faultfs.ErrCut) { // nil: it was cut while closing
				t.Fatalf("script %d, cut %d: %v", seed, cut, err)
			}
			for torn := range uint64(4) {
				mode := faultfs.Mode(min(torn, uint64(faultfs.Torn)))
				where := fmt.Sprintf("script %d, cut %d in %v, mode %d, seed %d", seed, cut, err, mode, torn)
				checkCut(t, fs.Crash(mode, torn), before, after, where)
				cuts++
			}
		}
	}
	t.Logf("%d cuts; %d segments made, %d dropped", cuts, rolled, dropped)
	if rolled == 0 || dropped == 0 {
		t.Error("the scripts do not reach all of the log")
	}
}

func checkCut(t *testing.T, fs *faultfs.FS, before, after *model, where string) {
	t.Helper()
	l, err := store.OpenLog(logDir, small(fs))
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	defer l.Close()
	got, err := replayed(l)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	e1, e2 := before.admits(got, first(fs)), after.admits(got, first(fs))
	after.synced = min(after.synced, before.synced)
	if e1 != nil && e2 != nil {
		// In flight, an append's records may be there in part.
		if e3 := after.admits(got, first(fs)); len(after.segs) != len(before.segs) || e3 != nil {
			t.Fatalf("%s: before: %v; after: %v", where, e1, e2)
		}
	}
	more := coord.Record{Vote: &coord.Vote{Kind: coord.VoteEmpty, Epoch: 2, Round: 77}}
	if err := errors.Join(l.Append([]coord.Record{more}), l.Sync()); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	again, err := store.OpenLog(logDir, small(fs.Crash(faultfs.Lost, 0)))
	if err != nil {
		t.Fatalf("%s, again: %v", where, err)
	}
	defer again.Close()
	if ts, err := replayed(again); err != nil || !slices.Equal(ts, append(got, text(&more))) {
		t.Fatalf("%s, again: %d records, want %d: %v", where, len(ts), len(got)+1, err)
	}
}
