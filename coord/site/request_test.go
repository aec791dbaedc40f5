package site_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

func TestRequestsBeyondALimitAreRefusedWhole(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		half := strings.Repeat("v", coord.BatchBytesMax/2)
		many := func(n int) *coord.Columns {
			c := new(coord.Columns)
			for range n {
				c.Append(r.observe(1, 1))
			}
			return c
		}
		full := many(coord.BatchMessagesMax)
		big := r.put(1, "", half)
		big.Append(r.put(1, "", half))
		huge := new(coord.Columns)
		huge.Append(big)
		huge.Append(r.put(1, "k", ""))
		for _, tt := range []struct {
			name string
			cols *coord.Columns
			code coord.Code
		}{
			{"no message", new(coord.Columns), coord.CodeBad},
			{"as many messages as a batch has", full, coord.CodeOK},
			{"one more", many(coord.BatchMessagesMax + 1), coord.CodeTooLarge},
			{"one byte more than a batch has", huge, coord.CodeTooLarge},
		} {
			p := r.answer(r.submit(0, tt.cols))
			if p.Code != tt.code || tt.code != coord.CodeOK && (p.Results != nil || p.Height != 0) {
				t.Errorf("%s: %q, %d results", tt.name, p.Code, len(p.Results))
			}
		}
		if p := r.answer(r.submit(0, big)); len(p.Results) != 2 {
			t.Errorf("as many bytes as a batch has: %q", p.Code)
		}
	})
}

func TestAMessageOfNoSessionIsAnsweredSo(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		if p := r.answer(r.submit(0, r.put(77, "a", "b"))); p.Code != coord.CodeNoSession || len(p.Results) != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// While the owner does not take requests they gather up to a limit; then the box is busy, and says when to
// come again. What gathered is answered in the end, here by a stop.
func TestAFullQueueIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, site.Tuning{})
		defer r.end()
		r.open(0)
		queued := 0
		for ; queued < 1<<16; queued++ {
			a := r.submit(0, r.observe(1, 1))
			if a.answers.Load() == 0 {
				continue
			}
			if p := r.answer(a); p.Code != coord.CodeBusy || p.RetryAfter <= 0 {
				t.Errorf("%+v", p)
			}
			break
		}
		if queued == 0 || queued == 1<<16 {
			t.Fatalf("%d requests were taken", queued)
		}
		r.run(0)
		r.eventually("the owner has the requests", func() bool { return r.view(0).Counters.Requests == uint64(queued) })
		if err := r.stop(0); err != nil {
			t.Error(err)
		}
		for _, a := range r.asked[:queued] {
			if p := r.answer(a); p.Code != coord.CodeStopping {
				t.Fatalf("%+v", p)
			}
		}
	})
}

// While a stop waits for what was taken in, new requests are refused.
func TestADrainingBoxRefuses(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(1, 1)
		r.agree(0, 1, 2, 3)
		blocked, letGo := r.boxes[1].log.hold()
		taken := r.submit(1, r.put(1, "taken", "x"))
		<-blocked
		r.boxes[1].stop()
		r.eventually("the box drains", func() bool { return r.view(1).Verdict == "This box is stopping." })
		if p := r.answer(r.submit(1, r.put(1, "late", "x"))); p.Code != coord.CodeStopping {
			t.Errorf("%+v", p)
		}
		letGo()
		if p := r.answer(taken); p.Code != coord.CodeOK {
			t.Errorf("what was taken in: %+v", p)
		}
		if err := r.stop(1); err != nil {
			t.Error(err)
		}
		r.reads(0, "taken", "x")
	})
}
