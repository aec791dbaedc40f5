package console

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/anomaly"
)

// Unusual is what the console asks of the watch over metrics; *anomalies.Watcher is one.
type Unusual interface {
	// List gives the stretches that are kept, the newest first, and the score of the last point of every series that is watched. The caller
	// owns both.
	List() ([]anomaly.Event, map[string]float64)
}

const (
	pageOfAnomalies = "/anomalies"
	// scoresMax is how many scores the page lists.
	scoresMax = 10
)

// anomalyPages are there if somebody watches the box's metrics.
func (c *Console) anomalyPages() []*page {
	if c.cfg.Unusual == nil {
		return nil
	}
	return []*page{{
		path: pageOfAnomalies, title: "Anomalies", name: "anomalies", group: "Watch", live: true, data: c.anomaliesData,
		sections: []part{{"events", ""}, {"scores", ""}},
	}}
}

// anomaliesPage is what the page of anomalies shows.
type anomaliesPage struct {
	Open    int
	Events  []anomalyRow
	Scores  []scoreRow
	Watched int
	Step    time.Duration
}

type anomalyRow struct {
	Series     string
	Start, End time.Time
	Open       bool
	Peak, Low  string
	High       string
	Odds       string
	// Graph leads to the series in the metrics explorer; empty: no history is kept.
	Graph string
}

type scoreRow struct {
	Series, Graph string
	Score         float64
	Open          bool
}

func (c *Console) anomaliesData(*look) (any, error) {
	events, scores := c.cfg.Unusual.List()
	d := &anomaliesPage{Watched: len(scores), Step: anomaly.Step}
	open := map[string]bool{}
	now := time.Now()
	for i := range events {
		e := &events[i]
		expr := exprOf(e.Series)
		unit := unitOf(expr)
		row := anomalyRow{
			Series: e.Series, Start: e.Start, End: e.End, Open: e.Open, Peak: unit.Text(e.Peak), Low: unit.Text(e.Low), High: unit.Text(e.High), Odds: oddsText(e.Chance),
			Graph: c.graphOf(expr, now.Sub(e.Start)),
		}
		if e.Open {
			open[e.Series] = true
			d.Open++
		}
		d.Events = append(d.Events, row)
	}
	for series, score := range scores {
		d.Scores = append(d.Scores, scoreRow{series, c.graphOf(exprOf(series), 0), score, open[series]})
	}
	slices.SortFunc(d.Scores, func(a, b scoreRow) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Series, b.Series))
	})
	d.Scores = d.Scores[:min(len(d.Scores), scoresMax)]
	return d, nil
}

// exprOf is the question to the history whose answer is a series that is watched: package anomalies names a rate "X per second", and a
// histogram's mean "X mean".
func exprOf(series string) string {
	if x, ok := strings.CutSuffix(series, " per second"); ok {
		return "rate(" + x + "[1m])"
	}
	x, ok := strings.CutSuffix(series, " mean")
	if !ok {
		return series
	}
	name, labels := x, ""
	if i := strings.IndexByte(x, '{'); i >= 0 {
		name, labels = x[:i], x[i:]
	}
	return fmt.Sprintf("rate(%s_sum%s[1m]) / rate(%s_count%s[1m])", name, labels, name, labels)
}

// graphOf leads to a question's graph that goes back for so long at least, with something before to compare with.
func (c *Console) graphOf(expr string, ago time.Duration) string {
	if c.cfg.Query == nil {
		return ""
	}
	spans := lookBacks()
	at := slices.IndexFunc(spans, func(s lookBack) bool { return ago+ago/4 <= s.long })
	if at < 0 {
		at = len(spans) - 1
	}
	return explorePath(expr, spans[at].Value)
}

// oddsText is a chance as people say small ones.
func oddsText(chance float64) string {
	if !(chance > 0 && chance < 1) {
		return "none like it"
	}
	n := math.Round(1 / chance)
	for _, s := range []struct {
		least float64
		name  string
	}{{1e12, "million million"}, {1e9, "thousand million"}, {1e6, "million"}} {
		if n >= s.least {
			if n /= s.least; n >= 1e4 {
				return "less than 1 in 10 000 " + s.name
			}
			return "1 in " + countText(uint64(n)) + " " + s.name
		}
	}
	return "1 in " + countText(uint64(n))
}
