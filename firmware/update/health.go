package update

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// behindMax is how many blocks a box may be behind others and still count as with them: they go on while it looks.
const behindMax = 256

// health judges whether a site is well with the release that a box tries. It is fed once a second. Pure.
type health struct {
	rules rollout.Rules
	began time.Time
	took  []time.Duration // of the last seconds, without a gap
	why   string          // what was wrong last
}

func newHealth(r rollout.Rules, now time.Time) *health {
	return &health{rules: r, began: now, why: "it has not begun to order"}
}

// unwell says what is wrong with the site as a box sees it; empty: nothing.
func unwell(v *site.View) string {
	switch {
	case v.Fault != "":
		return "the box has stopped voting: " + v.Fault
	case v.Removed:
		return "the box is no member any more"
	case v.Asking:
		return "the box asks which votes of it others know"
	case !v.Serving:
		return v.Verdict
	}
	for i := range v.Members {
		if m := &v.Members[i]; m.Up && !m.Self && m.Height > v.Height+behindMax {
			return fmt.Sprintf("the box is at height %d and %s at %d", v.Height, m.Label(), m.Height)
		}
	}
	return ""
}

// second takes what one second showed: whether something was wrong, and how long an ordered message took.
func (h *health) second(wrong string, took time.Duration) {
	if wrong != "" {
		h.took, h.why = h.took[:0], wrong
		return
	}
	h.took = append(h.took, took)
	if n := len(h.took) - int(h.rules.HealthSeconds); n > 0 {
		h.took = slices.Delete(h.took, 0, n)
	}
}

// p99 of the seconds that count, by the nearest rank.
func (h *health) p99() time.Duration {
	if len(h.took) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(h.took))
	return s[(len(s)*99+99)/100-1]
}

// good says that the site was well for as long as it must be.
func (h *health) good() bool {
	if len(h.took) < int(h.rules.HealthSeconds) {
		return false
	}
	if p, most := h.p99(), time.Duration(h.rules.LatencyMs)*time.Millisecond; p > most {
		h.why = fmt.Sprintf("99 of 100 messages take up to %v, where %v are allowed", p.Round(time.Millisecond), most)
		return false
	}
	return true
}

// trialMax is how long a release may take to show that it is good: less than what the site waits for the box, which also has to go back then.
func (h *health) trialMax() time.Duration { return time.Duration(h.rules.BoxSeconds) * time.Second / 2 }

// over says why the release is given up now; empty: it is not.
func (h *health) over(now time.Time) string {
	if now.Sub(h.began) < h.trialMax() {
		return ""
	}
	return fmt.Sprintf("the site was not well with it for %d s within %v: %s", h.rules.HealthSeconds, h.trialMax(), h.why)
}

// String says how it stands.
func (h *health) String() string {
	if len(h.took) == 0 {
		return h.why
	}
	return fmt.Sprintf("well for %d of %d s, p99 %v", len(h.took), h.rules.HealthSeconds, h.p99().Round(time.Millisecond))
}
