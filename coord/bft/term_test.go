package bft

import (
	"testing"
	"time"
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
