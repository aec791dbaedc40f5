package sim

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trust"
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

// sweep runs seeds on all cores and gives the first failures.
func sweep(t *testing.T, from, count uint64, o func(uint64) Options, failuresMax int) []Report {
	var mu sync.Mutex
	var bad []Report
	var next, events, heights, maxHeal atomic.Uint64
	next.Store(from)
	start := time.Now()
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // small heaps, and much garbage
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
	for _, r := range sweep(t, from, count, OptionsFor, 5) {
		t.Errorf("seed %d n=%d K=%d liars %v: %s\n  replay: make sim REPLAY=%d",
			r.Options.Seed, r.Options.N, r.Options.Term, r.Options.Plan.Liars, r.Fail, r.Options.Seed)
	}
}

// A run depends on its options alone.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 6; seed++ {
		a, b := Trial(OptionsFor(seed)), Trial(OptionsFor(seed))
		if a.Digest != b.Digest || a.Events != b.Events {
			t.Errorf("seed %d: %d events %x, then %d events %x", seed, a.Events, a.Digest, b.Events, b.Digest)
		}
	}
}

// The promises hold with the product's signatures too.
func TestRealSignatures(t *testing.T) {
	var ids []Identity
	for range 7 {
		id, err := trust.LoadOrCreate(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	events, start := uint64(0), time.Now()
	for seed := uint64(1); seed <= 20; seed++ {
		o := OptionsFor(seed)
		o.Identities = ids
		r := Trial(o)
		events += r.Events
		if r.Fail != "" {
			t.Errorf("%v: %s", &r, r.Fail)
		}
	}
	t.Logf("%d events, %v", events, time.Since(start).Round(time.Millisecond))
}

// With more than f boxes that lie or forget the promises are void: a trial ends all the same and says which broke.
func TestMoreThanFSaysWhatBroke(t *testing.T) {
	broken := map[string]int{}
	for seed := uint64(1); seed <= 60; seed++ {
		r := Trial(Options{N: 4, Seed: seed, Faulty: 3})
		if r.Fail != "" {
			word, _, _ := strings.Cut(r.Fail, " ")
			broken[strings.TrimSuffix(word, ":")]++
		}
	}
	if len(broken) == 0 {
		t.Error("three faulty boxes of four break nothing")
	}
	t.Log(broken)
}

// A shrunk plan breaks the same promise with less.
func TestShrink(t *testing.T) {
	for seed := uint64(1); ; seed++ {
		o := Options{N: 4, Seed: seed, Faulty: 3}
		r := Trial(o)
		if !strings.HasPrefix(r.Fail, "STALL") || len(r.Options.Plan.Faults) < 4 {
			continue
		}
		small := Shrink(o, time.Minute)
		if len(small.Plan.Faults) >= len(r.Options.Plan.Faults) {
			t.Errorf("seed %d: %d faults of %d are left", seed, len(small.Plan.Faults), len(r.Options.Plan.Faults))
		}
		if x := Trial(small); !strings.HasPrefix(x.Fail, "STALL") {
			t.Errorf("seed %d: shrunk to %q", seed, x.Fail)
		}
		t.Logf("%v", small.Plan)
		return
	}
}
