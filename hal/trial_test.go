package hal_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
)

// rounds are n pairs on a machine whose speed drifts and jumps; with the setting rate, p99 and
// CPU are multiplied by what by says.
func rounds(rng *rand.Rand, n int, rate, p99, cpu float64) []hal.Pair {
	var all []hal.Pair
	speed := 1.0
	sample := func(rate, p99, cpu float64) hal.Sample {
		jitter := func() float64 { return math.Exp(0.04 * rng.NormFloat64()) }
		return hal.Sample{
			Rate: 5000 * speed * rate * jitter(), P99: time.Duration(2e7 / speed * p99 * jitter() * jitter()),
			CPU: 100 / speed * cpu * jitter(),
		}
	}
	for range n {
		speed *= math.Exp(0.1 * rng.NormFloat64())
		all = append(all, hal.Pair{Off: sample(1, 1, 1), On: sample(rate, p99, cpu)})
	}
	return all
}

func TestASettingIsKeptWhenItHelpsAndHarmsNothing(t *testing.T) {
	for _, c := range []struct {
		name           string
		rate, p99, cpu float64
		least, most    int // kept, of 200
	}{
		{"it does nothing", 1, 1, 1, 0, 20}, // 5 % by chance, with a margin
		{"it helps", 1.2, 0.8, 0.85, 180, 200},
		{"it saves CPU time and nothing else", 1, 1, 0.85, 150, 200},
		{"it is faster and costs CPU time", 1.3, 1, 1.3, 0, 5},
		{"it is slower", 0.85, 1.2, 1.1, 0, 0},
	} {
		rng := rand.New(rand.NewPCG(1, 2))
		kept := 0
		for range 200 {
			if hal.Judge(rounds(rng, 10, c.rate, c.p99, c.cpu)).Keep {
				kept++
			}
		}
		if kept < c.least || kept > c.most {
			t.Errorf("%s: kept %d times in 200, want %d to %d", c.name, kept, c.least, c.most)
		}
	}
}

func TestTheTestOfPairsIsExact(t *testing.T) {
	// All seven on one side: 2 of 128.
	var pairs []hal.Pair
	for i := range 7 {
		pairs = append(pairs, hal.Pair{Off: hal.Sample{Rate: 100, P99: 10, CPU: 10}, On: hal.Sample{Rate: 110 + float64(i), P99: 10, CPU: 10}})
	}
	v := hal.Judge(pairs)
	if v.Rate.P != 2.0/128 || !v.Keep || math.Abs(v.Rate.Ratio-1.13) > 1e-9 {
		t.Errorf("%+v", v)
	}
	if v.P99.P != 1 || v.P99.Ratio != 1 { // nothing but zeros
		t.Errorf("%+v", v.P99)
	}
	// Ranks 1 to 10, only 7 negative: 38 of the 1024 signs are as one-sided.
	pairs = nil
	for _, x := range []float64{1, 2, 3, 4, 5, 6, -7, 8, 9, 10} {
		pairs = append(pairs, hal.Pair{Off: hal.Sample{Rate: 1}, On: hal.Sample{Rate: math.Exp(x / 10)}})
	}
	if v := hal.Judge(pairs); math.Abs(v.Rate.P-38.0/1024) > 1e-12 || v.Keep {
		t.Errorf("%+v", v)
	}
}

func TestAVerdictSaysWhy(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		pairs []hal.Pair
		why   string
	}{
		{rounds(rng, 3, 2, 1, 1), "3 pairs of rounds; it takes 7 to 16 to tell an effect from noise"},
		{rounds(rng, 17, 2, 1, 1), "17 pairs of rounds; it takes 7 to 16 to tell an effect from noise"},
		{rounds(rng, 10, 1, 1, 1), "no figure changes beyond noise"},
	} {
		if v := hal.Judge(c.pairs); v.Keep || v.Why != c.why {
			t.Errorf("%+v, want %s", v, c.why)
		}
	}
	failing := rounds(rng, 10, 2, 0.5, 0.5)
	failing[3].On.Fail = 1
	if v := hal.Judge(failing); v.Keep || v.Why != "1 messages failed with it, 0 without" {
		t.Errorf("%+v", v)
	}
}
