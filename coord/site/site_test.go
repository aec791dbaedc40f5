package site_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

func TestWhatIsPutOnAnyBoxIsReadOnAll(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		for i := range r.boxes {
			r.session(i, uint64(i+1))
			r.must(i, r.put(uint64(i+1), fmt.Sprint("from ", i), "here"))
		}
		for i := range r.boxes {
			for k := range r.boxes {
				r.reads(i, fmt.Sprint("from ", k), "here")
			}
		}
		r.agree(0, 1, 2, 3)
	})
}

func TestConcurrentRequestsTakeEffectOnceAndAreAnsweredOnce(t *testing.T) {
	const clients, each = 16, 25
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		var wg sync.WaitGroup
		for c := range uint64(clients) {
			at := int(c) % len(r.boxes)
			r.session(at, c+1)
			wg.Go(func() {
				for range each {
					if p := r.answer(r.submit(at, r.observe(c+1, c%3))); p.Code != coord.CodeOK || len(p.Results) != 1 || p.Height == 0 {
						t.Errorf("client %d: %+v", c, p)
					}
				}
			})
		}
		wg.Wait()
		r.agree(0, 1, 2, 3)
		for i := range r.boxes {
			if top := r.top(i, 10); top.Total != clients*each || top.Distinct != 3 {
				t.Errorf("box %d counts %d of %d objects, want %d of 3", i, top.Total, top.Distinct, clients*each)
			}
		}
	})
}

func TestARetryOnAnotherBoxHasNoSecondEffect(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		c := r.observe(1, 5)
		again := new(coord.Columns)
		again.Append(c)
		r.must(0, c)
		if p := r.must(3, again); !p.Results[0].Duplicate {
			t.Errorf("%+v", p)
		}
		r.agree(0, 1, 2, 3)
		if top := r.top(0, 1); top.Total != 1 {
			t.Errorf("counted %d times", top.Total)
		}
	})
}

// While its log does not come back from a sync, a box says no vote and answers nobody; the others go on.
func TestASyncThatHangsHoldsBackVotesAndAnswers(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		r.agree(0, 1, 2, 3)
		blocked, letGo := r.boxes[1].log.hold()
		held := r.submit(1, r.put(1, "held", "x"))
		<-blocked
		_, before := r.saidBy(1)
		for k := range 20 {
			r.must(0, r.put(1, "other", fmt.Sprint(k)))
		}
		from := time.Now()
		r.eventually("repeated messages are due", func() bool { return time.Since(from) > time.Second })
		select {
		case p := <-held.reply:
			t.Errorf("answered without a sync: %+v", p)
		default:
		}
		if _, after := r.saidBy(1); after != before {
			t.Errorf("%d votes were said without a sync", after-before)
		}
		letGo()
		if p := r.answer(held); p.Code != coord.CodeOK {
			t.Errorf("%+v", p)
		}
		r.agree(0, 1, 2, 3)
	})
}

// A service manager's stop: nothing that was acknowledged is lost, though the power goes right after.
func TestWhatWasAcknowledgedIsThereAfterAStop(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tuning site.Tuning
	}{
		{"state written at once", site.Tuning{CommitBytes: 1}},
		{"state written once a second", site.Tuning{}},
		{"one segment a few blocks", site.Tuning{SegmentBytes: 4 << 10, CommitBytes: 1 << 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inSite(t, 4, tt.tuning, func(r *rig) {
				for i := range r.boxes {
					r.session(i, uint64(i+1))
				}
				total := uint64(0)
				for range 3 { // stops
					for k := range 20 {
						r.must(k%4, r.observe(uint64(k%4+1), uint64(k)))
						total++
					}
					r.restart(0, 1, 2, 3)
					r.agree(0, 1, 2, 3)
					for i := range r.boxes {
						if top := r.top(i, 1); top.Total != total {
							t.Fatalf("box %d has %d of %d", i, top.Total, total)
						}
					}
				}
			})
		})
	}
}

// A stop leaves the state as it was last shown: the next start has nothing to apply.
func TestAStopWritesTheState(t *testing.T) {
	inSite(t, 4, site.Tuning{CommitEvery: time.Hour}, func(r *rig) {
		r.session(1, 1)
		r.must(1, r.put(1, "a", "b"))
		if err := r.stop(1); err != nil {
			t.Error(err)
		}
		shown := r.view(1).Height
		if f := r.boxes[1].base.Committed(); f == nil || f.Header.Height != shown {
			t.Errorf("the state has %+v, shown was height %d", f, shown)
		}
	})
}

// A box reopened from its log alone applies each block once, also when its base has some of them.
func TestAReopenedBoxAppliesNothingTwice(t *testing.T) {
	inSite(t, 4, site.Tuning{CommitEvery: time.Hour}, func(r *rig) {
		r.session(0, 1)
		for k := range 30 {
			r.must(0, r.observe(1, uint64(k%4)))
		}
		before := r.view(2).Height
		for range 3 {
			r.restart(2)
			r.agree(0, 2)
			if v := r.view(2); v.Height < before {
				t.Errorf("height went from %d to %d", before, v.Height)
			}
			r.must(2, r.observe(1, 9))
		}
		r.agree(0, 1, 2, 3)
		if top := r.top(2, 10); top.Total != 33 {
			t.Errorf("counts %d, want 33", top.Total)
		}
		seen := r.boxes[2].base.seen
		for i := 1; i < len(seen); i++ {
			if seen[i] <= seen[i-1] {
				t.Errorf("state commits at heights %v", seen)
			}
		}
	})
}

// With three of four boxes away nothing can become final: the stop still comes to an end, and in time.
func TestAStopWithoutAQuorumIsBounded(t *testing.T) {
	const bound = 2 * time.Second // drainMax and a little, in virtual time
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(3, 1)
		r.agree(0, 1, 2, 3)
		for i := range 3 {
			if err := r.stop(i); err != nil {
				t.Fatal(err)
			}
		}
		stuck := []*asked{r.submit(3, r.put(1, "a", "b")), r.submit(3, r.put(1, "c", "d"))}
		from := time.Now()
		if err := r.stop(3); err != nil {
			t.Error(err)
		}
		if took := time.Since(from); took > bound {
			t.Errorf("took %v", took)
		}
		for _, a := range stuck {
			if p := r.answer(a); p.Code != coord.CodeStopping {
				t.Errorf("%+v", p)
			}
		}
	})
}

// Requests in every stage of their life when the stop comes: each is answered once (inSite checks it).
func TestEveryRequestIsAnsweredThroughAStop(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		var wg sync.WaitGroup
		for c := range uint64(8) {
			at := int(c) % 2 // boxes 0 (the leader) and 1 stop
			r.session(at, c+1)
			wg.Go(func() {
				for {
					open := []*asked{r.submit(at, r.observe(c+1, c)), r.submit(at, r.observe(c+1, c)), r.submit(at, r.observe(c+1, c))}
					stopping := false
					for _, a := range open {
						p := r.answer(a)
						stopping = stopping || p.Code == coord.CodeStopping
					}
					if stopping {
						return
					}
				}
			})
		}
		r.session(2, 100)
		for range 10 { // the clients are in the middle of it
			r.must(2, r.observe(100, 1))
		}
		for i := range 2 {
			if err := r.stop(i); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		late := r.submit(0, r.observe(100, 1))
		if p := r.answer(late); p.Code != coord.CodeStopping {
			t.Errorf("after the stop: %+v", p)
		}
	})
}

// A request that comes in at the very moment of the end is not forgotten in the queue.
func TestARequestAtTheMomentOfTheEndIsAnswered(t *testing.T) {
	inSite(t, 1, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		if err := r.stop(0); err != nil {
			t.Error(err)
		}
		a, q := r.request(0, r.observe(1, 1))
		r.boxes[0].site.RequestBeforeDrain(q)
		if p := r.answer(a); p.Code != coord.CodeStopping {
			t.Errorf("%+v", p)
		}
	})
}
