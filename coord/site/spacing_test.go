package site_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
)

// Messages that come by themselves to one box and another share blocks; a client that waits for each answer does not wait longer.
func TestBlocksAreSpacedOnlyWhereMessagesComeByThemselves(t *testing.T) {
	const messages, every, spacing = 200, time.Millisecond, 4 * time.Millisecond
	inSite(t, 4, site.Tuning{Spacing: spacing}, func(r *rig) {
		for i := range 4 {
			r.session(i, uint64(i+1))
		}
		alone := func(box int) time.Duration {
			began := time.Now()
			for n := range messages {
				r.must(box, r.put(uint64(box+1), fmt.Sprint("k", n), "v"))
			}
			return time.Since(began)
		}
		alone(1) // the first blocks still have the sessions' changing company
		blocks := r.view(0).Height
		var all []*asked
		for n := range messages {
			all = append(all, r.submit(n%4, r.put(uint64(n%4+1), fmt.Sprint("k", n), "v")))
			time.Sleep(every)
		}
		for _, a := range all {
			r.answer(a)
		}
		if got := r.view(0).Height - blocks; got > messages/2 {
			t.Errorf("%d blocks for %d messages, one each %v", got, messages, every)
		}
		alone(1)
		if took := alone(1); took > messages*spacing/2 {
			t.Errorf("one client waits: %v for %d messages", took, messages)
		}
	})
}
