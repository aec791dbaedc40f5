package site_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// shortLogs makes boxes forget blocks soon: a checkpoint every few KiB, segments of the same size.
func shortLogs() site.Tuning {
	return site.Tuning{
		SegmentBytes: 6 << 10, CommitBytes: 2 << 10, BlockBytes: 4 << 10,
		Checkpoint: state.Rule{BytesMin: 8 << 10, GapBlocks: 4},
	}
}

// A box that was away for longer than the others' logs go back fetches a state that a quorum signed.
func TestABoxAwayBeyondTheLogFetchesAState(t *testing.T) {
	for _, tt := range []struct {
		name string
		busy bool // the site goes on ordering while the box comes back
	}{{"quiet site", false}, {"busy site", true}} {
		t.Run(tt.name, func(t *testing.T) {
			inSite(t, 4, shortLogs(), func(r *rig) {
				r.session(0, 1)
				r.must(0, r.put(1, "old", "kept"))
				r.agree(0, 1, 2, 3)
				left := r.view(3).Height
				if err := r.stop(3); err != nil {
					t.Fatal(err)
				}
				n := 0
				for ; n < 2000 && r.view(0).LogFrom <= left+10; n++ {
					r.must(n%3, r.put(1, fmt.Sprint("key ", n%50), strings.Repeat("v", 200)))
					r.must(n%3, r.observe(1, uint64(n)))
				}
				if v := r.view(0); v.LogFrom <= left+10 || v.Checkpoint == 0 {
					t.Fatalf("log from %d, checkpoint at %d", v.LogFrom, v.Checkpoint)
				}
				r.start(3)
				for k := 0; tt.busy && k < 50; k++ {
					r.must(k%3, r.put(1, "busy", fmt.Sprint(k)))
				}
				r.agree(0, 1, 2, 3)
				r.reads(3, "old", "kept")
				r.reads(3, "key 1", strings.Repeat("v", 200))
				if c := r.view(3).Counters; c.Snapshots != 1 {
					t.Errorf("fetched %d states", c.Snapshots)
				}
				r.session(3, 9)
				r.must(3, r.put(9, "new", "x"))
				r.reads(0, "new", "x")
				// The fetched state and the log on top of it are what it starts from.
				r.restart(3)
				r.agree(0, 1, 2, 3)
				r.reads(3, "new", "x")
				if c := r.view(3).Counters; c.Snapshots != 0 {
					t.Errorf("fetched %d states after a restart", c.Snapshots)
				}
			})
		})
	}
}

// A box that was away for less than that takes the blocks.
func TestABoxAwayWithinTheLogTakesTheBlocks(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		for range 2 {
			if err := r.stop(3); err != nil {
				t.Fatal(err)
			}
			for k := range 200 {
				r.must(0, r.observe(1, uint64(k)))
			}
			r.start(3)
			r.agree(0, 1, 2, 3)
		}
		if c := r.view(3).Counters; c.Snapshots != 0 {
			t.Errorf("fetched %d states", c.Snapshots)
		}
	})
}
