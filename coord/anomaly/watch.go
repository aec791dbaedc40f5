package anomaly

import "time"

// month is what false alarms are counted over.
const month = 30 * 24 * time.Hour

// falsePerMonth is how many a box may have, in the mean, on series where nothing happens.
const falsePerMonth = 0.5

// ChanceLimit is the chance of a point below which it is an alarm, so that a box that takes a point of
// each of its series every step has fewer than one false alarm a month (Bonferroni's bound: the number
// of points is all that matters, not how they depend on each other).
func ChanceLimit(series int, step time.Duration) float64 {
	points := float64(series) * month.Seconds() / max(step.Seconds(), 1)
	return falsePerMonth / points
}
