package sim

import "testing"

// No fork, no loss, no double, no stall while the members of the site change in the midst of all that (change.go).
// HOLDFAST_SEEDS and HOLDFAST_SEED0 choose the seeds.
func TestSitesWhoseMembersChangeHold(t *testing.T) {
	count, from := envInt(t, "HOLDFAST_SEEDS", 100), envInt(t, "HOLDFAST_SEED0", 1)
	for _, r := range sweep(t, from, count, EpochsFor, 5) {
		t.Errorf("seed %d n=%d K=%d liars %v changes %v: %s", r.Options.Seed, r.Options.N, r.Options.Term, r.Options.Plan.Liars, r.Options.Plan.Changes, r.Fail)
	}
}

// A run in which the members change depends on its options alone.
func TestSameSeedSameChanges(t *testing.T) {
	for seed := uint64(1); seed <= 4; seed++ {
		a, b := Trial(EpochsFor(seed)), Trial(EpochsFor(seed))
		if a.Digest != b.Digest || a.Events != b.Events {
			t.Errorf("seed %d: %d events %x, then %d events %x", seed, a.Events, a.Digest, b.Events, b.Digest)
		}
	}
}
