package bft

import (
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

func TestAChangeOfTermCostsNoTimeout(t *testing.T) {
	r := newRig(t, 4, 3)
	r.settle()
	for i := range uint64(20) {
		r.submit(int(i%4), i+1)
		r.settle()
		r.wait(5 * time.Millisecond)
		for k := range r.n {
			if got := len(r.got[k]); got != int(i)+1 {
				t.Fatalf("core %d delivered %d of %d batches: %v", k, got, i+1, r.cores[k])
			}
		}
	}
}

// Links on which a term ends by the time-out although its block becomes final just after.
func TestATimeoutThatIsTooShortIsLearntThoughEachTermMakesABlockFinal(t *testing.T) {
	const way = 390 * tms // finality takes 1.2 s, the time-out is 0.5 s
	type flying struct {
		at int64
		parcel
	}
	r := newRig(t, 7, 3)
	var air []flying
	pass := func(until int64) {
		for ; r.now < until; r.now += tms {
			for i := range r.n {
				r.step(i, Input{})
			}
			for _, p := range r.inbox {
				air = append(air, flying{r.now + way, p})
			}
			r.inbox = nil
			late := air[:0]
			for _, f := range air {
				if f.at > r.now {
					late = append(late, f)
					continue
				}
				r.inbox = append(r.inbox, f.parcel)
			}
			air = late
			due := r.inbox
			r.inbox = nil
			for _, p := range due {
				if b := p.msg.Batch; b != nil {
					r.step(p.to, Input{From: p.from, Batch: b, BatchDigest: b.Digest(coord.SiteID{}), Verified: true})
					continue
				}
				r.step(p.to, Input{From: p.from, Msg: p.msg})
			}
		}
	}
	var ds []coord.Digest
	seq := uint64(0)
	load := func(d int64) {
		for end := r.now + d; r.now < end; pass(r.now + 300*tms) {
			ds = append(ds, r.submit(int(seq%7), seq/7+1))
			seq++
		}
	}
	load(10_000 * tms)
	for _, c := range r.cores {
		c.slow, c.inTime = 0, 0 // as after many blocks that were in time
	}
	load(10_000 * tms)
	before := r.cores[0].Stats().EmptyVotes
	load(30_000 * tms)
	if n := r.cores[0].Stats().EmptyVotes - before; n > 2 {
		t.Errorf("%d terms were given up in 30 s", n)
	}
	pass(r.now + 30_000*tms)
	r.wantEverywhere(ds...)
}
