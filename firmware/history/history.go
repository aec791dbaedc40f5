// Package history remembers a box's metrics and answers questions about them. It samples a Prometheus gatherer at an interval, keeps
// recent samples in memory and older ones at falling resolution in a Store, and evaluates PromQL over both with Prometheus' own engine, for
// the alarms, the console and, by HTTP in Prometheus' format, for Grafana.
//
// It promises: a fixed bound of memory and disk whatever the clock does and however many series there are (what does not fit is counted);
// no question can hold up the sampling for longer than it takes to copy what it needs, and none can take more samples or time than its limit.
package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord/observe"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
)

// Errors of this package.
var (
	// ErrConfig says that a part is missing.
	ErrConfig = errors.New("incomplete")
	// ErrQuery says that an expression cannot be evaluated.
	ErrQuery = errors.New("query")
)

const (
	// IntervalDefault is how often is sampled: twice in the shortest window that a built-in alarm looks at.
	IntervalDefault = 5 * time.Second
	// SeriesMax bounds the series: a box of 16 members has about 900.
	SeriesMax = 2000
	// segmentTimes is how many times a segment has: ten minutes at the default interval.
	segmentTimes = 120
)

// Sample is a value of a series at a time. Labels has "__name__" where the expression keeps it.
type Sample struct {
	Labels map[string]string
	Time   time.Time
	Value  float64
}

// Point is a value at a time.
type Point struct {
	Time  time.Time
	Value float64
}

// Series is the values of a series, ascending in time.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Querier answers questions in PromQL. Errors wrap ErrQuery, or are the context's.
type Querier interface {
	// Instant evaluates expr at one time; the zero time is now by the history's clock, which is right where the wall clock is not yet.
	Instant(ctx context.Context, expr string, at time.Time) ([]Sample, error)
	// Range evaluates expr at from, from+step and so on until to.
	Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error)
}

// Scraped is a value that was just sampled.
type Scraped struct {
	*Info
	Value float64
}

// Info is what a series is; it is immutable.
type Info struct {
	ID      uint32
	Name    string
	Labels  map[string]string // without the name
	Counter bool              // it only grows, but for restarts
}

// Observer gets each scrape, at its time by the history's clock, on the sampling goroutine: it must be quick. The slice is valid until it
// returns.
type Observer func(at time.Time, scraped []Scraped)

// Config of a History.
type Config struct {
	Gatherer prometheus.Gatherer
	// Interval between samples, IntervalDefault by default.
	Interval time.Duration
	Observe  []Observer
	Logger   *slog.Logger
}

// History is a box's metrics over time. Make one with New.
type History struct {
	cfg    Config
	engine *promql.Engine
	start  time.Time

	mu     sync.RWMutex
	series catalogue
	recent []*observe.Segment // the last one is open
	last   int64              // time of the newest sample

	samples []observe.Sample // reused, of the sampling goroutine
	scraped []Scraped
}

// New makes a history; Run fills it.
func New(cfg Config) (*History, error) {
	if cfg.Gatherer == nil || cfg.Logger == nil {
		return nil, fmt.Errorf("history: %w: Gatherer and Logger are required", ErrConfig)
	}
	if cfg.Interval <= 0 {
		cfg.Interval = IntervalDefault
	}
	h := &History{
		cfg: cfg, start: time.Now(), engine: newEngine(cfg.Logger), series: newCatalogue(SeriesMax),
		recent: []*observe.Segment{observe.NewSegment(segmentTimes)},
	}
	return h, nil
}

// Run samples until ctx ends.
func (h *History) Run(ctx context.Context) error {
	tick := time.NewTicker(h.cfg.Interval)
	defer tick.Stop()
	for {
		h.sample(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Now is the time by the history's clock.
func (h *History) Now() time.Time { return time.Now() }

// sample takes one sample of everything.
func (h *History) sample(now time.Time) {
	families, err := h.cfg.Gatherer.Gather()
	if err != nil { // a collector failed: the others' values are there
		h.cfg.Logger.Warn("some metrics could not be read", "err", err)
	}
	h.mu.Lock()
	h.samples, h.scraped = h.series.flatten(families, h.samples[:0], h.scraped[:0])
	h.last = max(now.UnixMilli(), h.last+1)
	open := h.recent[len(h.recent)-1]
	if open.Len() >= segmentTimes {
		open = observe.NewSegment(segmentTimes)
		h.recent = append(h.recent, open)
		h.recent = h.recent[max(0, len(h.recent)-7):]
	}
	open.Append(h.last, h.samples)
	at := time.UnixMilli(h.last)
	h.mu.Unlock()
	for _, fn := range h.cfg.Observe {
		fn(at, h.scraped)
	}
}
