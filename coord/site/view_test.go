package site_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

func TestAViewBeforeDuringAndAfterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, site.Tuning{})
		defer r.end()
		for i := range r.boxes {
			r.open(i)
		}
		v := r.view(1)
		if v.Index != 1 || v.Name != "box-1" || v.N != 4 || v.F != 1 || v.Quorum != 3 || v.Version != "test" || v.Serving {
			t.Errorf("before Run: %+v", v)
		}
		if _, err := r.boxes[1].site.Top(1); !errors.Is(err, site.ErrStopped) {
			t.Errorf("Top before Run: %v", err)
		}
		for i := range r.boxes {
			r.run(i)
		}
		r.session(1, 1)
		p := r.must(1, r.put(1, "a", "b"))
		r.eventually("the box serves", func() bool { return r.view(1).Serving })
		v = r.view(1)
		if v.Height < p.Height || v.Revision != 2 || v.Applied != 2 || v.Leader != r.members.List[0].ID || v.Inflight != 0 {
			t.Errorf("height %d, revision %d, applied %d, leader %v", v.Height, v.Revision, v.Applied, v.Leader)
		}
		if c := v.Counters; c.Requests != 2 || c.OwnBatches == 0 || c.Syncs == 0 || c.SignedVotes == 0 || c.ConflictCommit != 0 {
			t.Errorf("%+v", c)
		}
		if len(v.Blocks) == 0 || v.Blocks[0].Height != v.Height || v.Blocks[0].Digest != v.Final {
			t.Errorf("blocks %+v, final %d", v.Blocks, v.Height)
		}
		for i, m := range v.Members {
			if m.Index != i || m.Self != (i == 1) || !m.Up {
				t.Errorf("member %d: %+v", i, m)
			}
		}
		if err := r.stop(1); err != nil {
			t.Error(err)
		}
		after := r.view(1)
		if after.Serving || after.Height < v.Height || after.Verdict != "This box is stopping." {
			t.Errorf("after Run: serving %v, height %d, %q", after.Serving, after.Height, after.Verdict)
		}
		if _, _, _, err := r.boxes[1].site.Get([]byte("a")); !errors.Is(err, site.ErrStopped) {
			t.Errorf("Get after Run: %v", err)
		}
	})
}

func TestABoxServesWhileItReachesAQuorum(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		for _, tt := range []struct {
			peer    int
			cut     bool
			serving bool
			verdict string
		}{
			{2, true, true, "3 of 4 boxes"},
			{3, true, false, "reaches 2 of 4 boxes, 3 are needed"},
			{2, false, true, "3 of 4 boxes"},
			{3, false, true, "all 4 boxes are here"},
		} {
			r.hub.setCut(0, tt.peer, tt.cut)
			r.eventually(tt.verdict, func() bool {
				v := r.view(0)
				return v.Serving == tt.serving && strings.Contains(v.Verdict, tt.verdict)
			})
		}
	})
}

func TestTheLogIsReadInPages(t *testing.T) {
	const puts = 150 // more than one page of the log
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		for k := range puts {
			r.must(0, r.put(1, fmt.Sprint("key ", k), "v"))
		}
		r.agree(0, 1, 2, 3)
		top := r.view(0).Height
		for _, tt := range []struct{ from, to, first, last uint64 }{
			{0, 0, 1, top},
			{1, 0, 1, top},
			{1, 1, 1, 1},
			{70, 140, 70, 140},
			{top, top, top, top},
			{top, top + 100, top, top},
			{top + 1, 0, 0, 0},
		} {
			var heights []uint64
			messages := 0
			err := r.boxes[0].site.Log(tt.from, tt.to, func(b *site.LogBlock) error {
				heights = append(heights, b.Block.Height)
				if b.Digest != b.Block.Digest() || len(b.Batches) != len(b.Block.Refs) || b.Leader != r.members.List[0].ID {
					t.Errorf("height %d: %d batches of %d", b.Block.Height, len(b.Batches), len(b.Block.Refs))
				}
				for _, x := range b.Batches {
					messages += int(x.Count)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var want []uint64
			for h := tt.first; h != 0 && h <= tt.last; h++ {
				want = append(want, h)
			}
			if !slices.Equal(heights, want) {
				t.Errorf("Log(%d, %d) gave %v", tt.from, tt.to, heights)
			}
			if tt.first == 1 && tt.last == top && messages != puts+1 {
				t.Errorf("%d messages, want %d", messages, puts+1)
			}
		}
		enough := errors.New("enough")
		if err := r.boxes[0].site.Log(1, 0, func(*site.LogBlock) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("the caller's error is %v", err)
		}
	})
}

func TestTheLogBelowItsBeginIsAnError(t *testing.T) {
	inSite(t, 1, shortLogs(), func(r *rig) {
		r.session(0, 1)
		for k := 0; k < 2000 && r.view(0).LogFrom < 10; k++ {
			r.must(0, r.put(1, "key", strings.Repeat("v", 200)))
		}
		low := r.view(0).LogFrom
		if low < 10 {
			t.Fatalf("the log begins at %d", low)
		}
		none := func(b *site.LogBlock) error { return fmt.Errorf("gave height %d", b.Block.Height) }
		if err := r.boxes[0].site.Log(low-1, 0, none); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("begins at height %d", low)) {
			t.Errorf("%v", err)
		}
		first := uint64(0)
		if err := r.boxes[0].site.Log(0, low, func(b *site.LogBlock) error { first = b.Block.Height; return nil }); err != nil || first != low {
			t.Errorf("from %d: %v", first, err)
		}
	})
}

// Beyond the list that is kept sorted, Top reads all counters; both are the same order.
func TestTopIsTheModelsOrderAtAnyLength(t *testing.T) {
	const objects = 3 * state.TopMax / 2
	inSite(t, 4, site.Tuning{CommitBytes: 8 << 10}, func(r *rig) {
		r.session(0, 1)
		model := map[uint64]uint64{}
		for k := 0; k < 2*objects; {
			c := new(coord.Columns)
			for ; k < 2*objects && c.Len() < 500; k++ {
				o := uint64(k*k+k) % objects
				model[o]++
				c.Append(r.observe(1, o))
			}
			r.must(0, c)
		}
		r.agree(0, 1, 2, 3)
		want := make([]site.Count, 0, len(model))
		for _, o := range slices.Sorted(maps.Keys(model)) {
			want = append(want, site.Count{Object: o, Count: model[o]})
		}
		slices.SortStableFunc(want, func(a, b site.Count) int { return int(b.Count) - int(a.Count) })
		for _, n := range []int{0, 1, 100, state.TopMax, state.TopMax + 1, len(want), 2 * objects} {
			top := r.top(2, n)
			if top.Total != 2*objects || top.Distinct != uint64(len(want)) || !slices.Equal(top.Top, want[:min(n, len(want))]) {
				t.Errorf("Top(%d): %d of %d, %d rows", n, top.Total, top.Distinct, len(top.Top))
			}
		}
	})
}
