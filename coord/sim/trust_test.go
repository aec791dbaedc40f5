package sim

import (
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

// watched is a long quiet time in which box 2, if k is a kind of liar, lies that way, and all keep scores.
func watched(n int, seed, term uint64, d time.Duration, k liar.Kind) Options {
	p := &Plan{End: d, Net: Net{DelayLo: at, DelayHi: 3 * at}}
	for i := range n { // some client is at every box in turn
		p.Clients = append(p.Clients, Client{Start: time.Duration(i) * at, Gap: 150 * at})
	}
	if k != "" {
		p.lies(2, k)
	}
	return Options{N: n, Seed: seed, Term: term, Plan: p, Suspicion: true}
}

// accusers is how many honest boxes came to suspect whom, for a reason.
func accusers(r *Report, of int, why suspicion.Reason) int {
	by := map[int]bool{}
	for _, x := range r.Suspects {
		if x.Of == of && x.Reason == why {
			by[x.By] = true
		}
	}
	return len(by)
}

// Trial itself says that a run in which nobody lies and nothing breaks is one in which nobody is suspected.
func TestWhereNobodyLiesNobodyIsSuspected(t *testing.T) {
	for seed := uint64(1); seed <= 6; seed++ {
		n := []int{4, 7}[seed%2]
		r := Trial(watched(n, seed, []uint64{8, 64, 1000}[seed%3], 2*time.Minute, ""))
		if r.Fail != "" {
			t.Errorf("%v: %s", &r, r.Fail)
		}
	}
}

func TestEachLiarIsNamedByMostForWhatItDoes(t *testing.T) {
	for _, c := range []struct {
		kind liar.Kind
		why  suspicion.Reason
		d    time.Duration
		term uint64
	}{
		{liar.BadSig, suspicion.BadSignature, time.Minute, 8},
		{liar.Poisoner, suspicion.BadSignature, time.Minute, 8},
		{liar.Misstate, suspicion.WrongState, time.Minute, 64},
		{liar.Late, suspicion.Late, 3 * time.Minute, 8},
		{liar.Miser, suspicion.Challenge, 2 * time.Minute, 8},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			const seeds = 3
			named := 0
			for seed := uint64(1); seed <= seeds; seed++ {
				r := Trial(watched(4, seed, c.term, c.d, c.kind))
				if r.Fail != "" {
					t.Errorf("%v: %s", &r, r.Fail)
				}
				for of := range 4 {
					if k := accusers(&r, of, c.why); of != 2 && k > coord.MaxFaulty(4) {
						t.Errorf("seed %d: %d boxes suspect honest box %d: %v", seed, k, of, r.Suspects)
					}
				}
				k := accusers(&r, 2, c.why)
				t.Logf("seed %d: %d of 3 name it, %v", seed, k, r.Suspects)
				if k >= 2 {
					named++
				}
			}
			if named < seeds/2+1 {
				t.Errorf("named in %d of %d seeds", named, seeds)
			}
		})
	}
}

// Crashes, partitions, and disks that are slow, stuck or full: they may make a box late, and prove nothing. SLANDER ends a trial that has it.
func TestFaultsAreNoEvidence(t *testing.T) {
	for seed := uint64(1); seed <= 30; seed++ {
		o := OptionsFor(seed)
		o.Faulty, o.Suspicion = 0, true
		r := Trial(o)
		if r.Fail != "" {
			t.Errorf("%v: %s", &r, r.Fail)
		}
		if r.Evidence > 0 {
			t.Errorf("%v: %d pieces of evidence", &r, r.Evidence)
		}
	}
}
