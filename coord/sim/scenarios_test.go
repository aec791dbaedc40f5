package sim

import (
	"os"
	"testing"
)

// Every scenario that somebody wrote down holds, over a number of orders.
func TestScenarios(t *testing.T) {
	for _, sc := range Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			evidence := 0
			for seed := uint64(1); seed <= 12; seed++ {
				r := Trial(sc.Options(seed))
				evidence += r.Evidence
				if r.Fail != "" {
					t.Errorf("%v: %s\n%v", &r, r.Fail, r.Options.Plan)
				}
			}
			if sc.Evidence && evidence == 0 {
				t.Error("nobody handed up evidence")
			}
		})
	}
}

// A slice of the enumerated Twins; HOLDFAST_TWINS=all runs them all.
func TestTwins(t *testing.T) {
	stride := 41
	if os.Getenv("HOLDFAST_TWINS") == "all" {
		stride = 1
	}
	for _, r := range sweep(t, 0, uint64(TwinsCount()/stride), func(i uint64) Options { return TwinsOptions(int(i) * stride) }, 3) {
		t.Errorf("scenario %d, K=%d: %s\n%v", r.Options.Seed, r.Options.Term, r.Fail, r.Options.Plan)
	}
}

// Random ones of up to ten boxes.
func TestTwinsAtRandom(t *testing.T) {
	for _, r := range sweep(t, 1, 200, TwinsRandom, 3) {
		t.Errorf("seed %d n=%d: %s\n%v", r.Options.Seed, r.Options.N, r.Fail, r.Options.Plan)
	}
}
