// Package anomalies watches a box's coordination metrics for what is unusual: it makes points of the
// samples that package history takes (rates of what only grows, means of what is measured), gives them
// to the detector (coord/anomaly), shows scores as a metric and events over the API, and has the traces
// of an unusual time kept.
//
// It holds at most anomaly.SeriesMax series and anomaly.EventsMax events, in memory; after a restart it
// learns both anew from what the history has of the day before. It is safe for use by several goroutines.
package anomalies

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord/anomaly"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/prometheus/client_golang/prometheus"
)

// ours is the prefix of what is watched, own of what would watch itself.
const (
	ours = "coord_"
	own  = "coord_anomal"
)

// keepTraces is for how long after a point that is an alarm traces are kept: until the next one, with one to spare.
const keepTraces = 2 * anomaly.Step

// grows are gauges that only grow: their rate may be unusual.
var grows = []string{"coord_height", "coord_round", "coord_revision", "coord_checkpoint_height", "coord_member_height"}

// Watcher is a box's. Make one with New.
type Watcher struct {
	score, begun, open, missed *prometheus.Desc
	alarm                      func(next time.Duration)

	mu    sync.Mutex
	watch *anomaly.Watch
	begin time.Time        // of the open step
	sums  map[uint32]*step // by the history's number of a series
	past  bool             // Learn goes on
}

// step gathers a series' samples until a point is due.
type step struct {
	name  string
	rate  bool
	sum   float64
	n     int
	was   float64 // at the last point, of a rate
	known bool
}

// mean is a histogram's sum and count, whose quotient is watched beside the count's rate.
type mean struct{ sum, count float64 }

// New makes a watcher that has seen nothing. It calls alarm, unless that is nil, for each step in which a series had a point that is an
// alarm, with the time that it speaks for; alarm must be quick, and not ask the watcher.
func New(alarm func(next time.Duration)) *Watcher {
	return &Watcher{
		alarm:  alarm,
		score:  prometheus.NewDesc("coord_anomaly_score", "How unusual the last point of a series was: 0 not, 1 unlike all before.", []string{"series"}, nil),
		begun:  prometheus.NewDesc("coord_anomalies_total", "Unusual stretches of a watched series since the box started.", nil, nil),
		open:   prometheus.NewDesc("coord_anomaly_open", "1 for each series of which an unusual stretch goes on.", []string{"series"}, nil),
		missed: prometheus.NewDesc("coord_anomaly_points_dropped_total", "Points of series for which there was no room.", nil, nil),
		watch:  anomaly.NewWatch(), sums: map[uint32]*step{},
	}
}

// goneAfter is for how long a series of the history may be without a point and still have room.
const goneAfter = 6 * time.Hour

// Learn makes a watcher that has just begun know what is usual from what replay, a history's, has of before the start. Events of that time
// are listed again, and neither counted nor told. What is observed meanwhile, a second or some, is left out. Its error is replay's; what
// was learned until then is kept.
func (w *Watcher) Learn(ctx context.Context, replay func(context.Context, func(*history.Info) bool, history.Observer) error) error {
	w.live(false)
	newest := time.Time{}
	err := replay(ctx, watched, func(at time.Time, scraped []history.Scraped) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.take(at, scraped)
		newest = at
	})
	w.mu.Lock()
	w.watch.Forget(newest.Add(-goneAfter))
	w.mu.Unlock()
	w.live(true)
	return err
}

// live ends the open step, since a restart lies between what was and what comes: counters begin anew.
func (w *Watcher) live(live bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.past = !live
	w.watch.Past(w.past)
	w.begin = time.Time{}
	clear(w.sums)
}

// Observe is a history.Observer.
func (w *Watcher) Observe(at time.Time, scraped []history.Scraped) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.past {
		w.take(at, scraped)
	}
}

// take gathers a scrape; w.mu is held.
func (w *Watcher) take(at time.Time, scraped []history.Scraped) {
	for _, s := range scraped {
		if watched(s.Info) {
			w.gather(s)
		}
	}
	if w.begin.IsZero() {
		w.begin = at
	}
	// Half a scrape early is in time.
	if passed := at.Sub(w.begin); passed >= anomaly.Step-time.Second {
		w.points(at, passed.Seconds())
		w.begin = at
	}
}

func watched(i *history.Info) bool {
	_, quantile := i.Labels["quantile"]
	return strings.HasPrefix(i.Name, ours) && !strings.HasPrefix(i.Name, own) && !strings.HasSuffix(i.Name, "_bucket") && !quantile
}

func (w *Watcher) gather(s history.Scraped) {
	g := w.sums[s.ID]
	if g == nil {
		// The history numbers a bounded number of series, of which some are watched.
		g = &step{name: title(s.Info), rate: s.Counter || slices.Contains(grows, s.Name)}
		w.sums[s.ID] = g
	}
	g.sum += s.Value
	g.n++
	if g.rate {
		g.sum, g.n = s.Value, 1
	}
}

// points makes one point of each series of what was gathered in the last seconds.
func (w *Watcher) points(at time.Time, seconds float64) {
	means, alarm := map[string]*mean{}, false
	for _, id := range slices.Sorted(maps.Keys(w.sums)) { // the first ones have room, always the same
		g := w.sums[id]
		if g.n == 0 {
			continue
		}
		v := g.sum / float64(g.n)
		g.sum, g.n = 0, 0
		if !g.rate {
			alarm = w.watch.Observe(g.name, at, v) || alarm
			continue
		}
		rose := v - g.was
		known := g.known && rose >= 0 // a counter that falls began anew
		g.was, g.known = v, true
		if !known {
			continue
		}
		if base, rest, ok := strings.Cut(g.name, "_sum"); ok {
			pair(means, base+rest).sum = rose
			continue // a sum alone says less than its mean
		}
		if base, rest, ok := strings.Cut(g.name, "_count"); ok {
			pair(means, base+rest).count = rose
		}
		alarm = w.watch.Observe(g.name+" per second", at, rose/seconds) || alarm
	}
	for _, name := range slices.Sorted(maps.Keys(means)) {
		if m := means[name]; m.count > 0 {
			alarm = w.watch.Observe(name+" mean", at, m.sum/m.count) || alarm
		}
	}
	if alarm && w.alarm != nil && !w.past {
		w.alarm(keepTraces)
	}
}

func pair(means map[string]*mean, name string) *mean {
	if means[name] == nil {
		means[name] = new(mean)
	}
	return means[name]
}

// title is a series' name as PromQL has it.
func title(i *history.Info) string {
	if len(i.Labels) == 0 {
		return i.Name
	}
	var b strings.Builder
	b.WriteString(i.Name)
	for n, l := range slices.Sorted(maps.Keys(i.Labels)) {
		b.WriteString([]string{"{", ","}[min(n, 1)] + l + `="` + i.Labels[l] + `"`)
	}
	b.WriteByte('}')
	return b.String()
}

// List gives the events, the newest first, and the score of the last point of every series. The caller owns both.
func (w *Watcher) List() ([]anomaly.Event, map[string]float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	scores := map[string]float64{}
	w.watch.Scores(func(series string, score float64, _ bool) { scores[series] = score })
	return w.watch.Events(), scores
}

// Events is the answer of GET /api/v1/anomalies, the newest event first.
func (w *Watcher) Events() (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return map[string]any{"anomalies": w.watch.Events()}, nil
}

// Describe implements prometheus.Collector.
func (w *Watcher) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{w.score, w.begun, w.open, w.missed} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (w *Watcher) Collect(out chan<- prometheus.Metric) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch.Scores(func(series string, score float64, open bool) {
		out <- prometheus.MustNewConstMetric(w.score, prometheus.GaugeValue, score, series)
		if open {
			out <- prometheus.MustNewConstMetric(w.open, prometheus.GaugeValue, 1, series)
		}
	})
	begun, missed := w.watch.Counts()
	out <- prometheus.MustNewConstMetric(w.begun, prometheus.CounterValue, float64(begun))
	out <- prometheus.MustNewConstMetric(w.missed, prometheus.CounterValue, float64(missed))
}
