package sim

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/bft"
)

// envInt is a number from the environment, or def.
func envInt(t *testing.T, name string, def uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, v, err)
	}
	return n
}

// options of a seed: mostly four boxes, sometimes seven, now and then one, two, three or ten.
func options(seed uint64) Options {
	n := 4
	switch seed % 20 {
	case 17:
		n = 7
	case 18:
		n = []int{1, 2, 3, 5, 6, 10}[seed/20%6]
	case 19:
		n = 7
	}
	return Options{N: n, Seed: seed, Liars: -1}
}

// sweep runs seeds on all cores and gives the first failures.
func sweep(t *testing.T, from, count uint64, o func(uint64) Options, failuresMax int) []Report {
	var mu sync.Mutex
	var bad []Report
	var next, events, heights, maxHeal atomic.Uint64
	next.Store(from)
	start := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= from+count {
					return
				}
				r := Trial(o(seed))
				events.Add(r.Events)
				heights.Add(r.Heights)
				mu.Lock()
				maxHeal.Store(max(maxHeal.Load(), uint64(r.Healed)))
				if r.Fail != "" {
					bad = append(bad, r)
				}
				stop := len(bad) >= failuresMax
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds from %d: %d failures, %d events, %d heights, slowest heal %v, %v",
		next.Load()-from, from, len(bad), events.Load(), heights.Load(), time.Duration(maxHeal.Load()), time.Since(start).Round(time.Millisecond))
	return bad
}

// No fork, no loss, no double, no stall, whatever up to f liars and the faults of trial.go do.
// HOLDFAST_SEEDS and HOLDFAST_SEED0 choose the seeds.
func TestSeedsHold(t *testing.T) {
	count, from := envInt(t, "HOLDFAST_SEEDS", 100), envInt(t, "HOLDFAST_SEED0", 1)
	for _, r := range sweep(t, from, count, options, 5) {
		t.Errorf("seed %d n=%d K=%d liars %s: %s\n  replay: make sim SEEDS=1 SEED0=%d VERBOSE=1",
			r.Options.Seed, r.Options.N, r.Options.Term, r.Liars, r.Fail, r.Options.Seed)
	}
	if os.Getenv("HOLDFAST_VERBOSE") != "" {
		o := options(from)
		o.Log = func(f string, a ...any) { fmt.Printf(f+"\n", a...) }
		t.Logf("%+v", Trial(o))
	}
}

// A run depends on its options alone.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 6; seed++ {
		a, b := Trial(options(seed)), Trial(options(seed))
		if a.Digest != b.Digest || a.Events != b.Events {
			t.Errorf("seed %d: %d events %x, then %d events %x", seed, a.Events, a.Digest, b.Events, b.Digest)
		}
	}
}

// A broken core is noticed: the simulator can see what it is there to see.
func TestMutantsAreCaught(t *testing.T) {
	for _, m := range []struct {
		name  string
		m     bft.Mutant
		seeds uint64
	}{
		{"quorum one short", bft.MutantQuorumShort, 400},
		{"vote not written", bft.MutantNoPersist, 400},
		{"digest not compared", bft.MutantNoDigest, 400},
		{"empty after finalize", bft.MutantEmptyAfterFin, 400},
		{"finalize after empty", bft.MutantFinAfterEmpty, 400},
		{"nothing sent twice", bft.MutantNoRetransmit, 400},
		{"members not distinct", bft.MutantNotDistinct, 800},
		{"one box's word for a certificate", bft.MutantOneClaim, 800},
		{"no timer after a restart", bft.MutantNoTimerRestart, 400},
	} {
		t.Run(m.name, func(t *testing.T) {
			bad := sweep(t, 1, m.seeds, func(seed uint64) Options {
				o := options(seed)
				o.Mutant = m.m
				return o
			}, 1)
			if len(bad) == 0 {
				t.Errorf("not caught in %d seeds", m.seeds)
			} else {
				t.Logf("seed %d: %s", bad[0].Options.Seed, bad[0].Fail)
			}
		})
	}
}
