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
	"github.com/holdfast-edge/holdfast/store"
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
	// Store keeps what is older than some minutes; nil: an hour is remembered.
	Store  *store.Series
	Logger *slog.Logger
}

// History is a box's metrics over time. Make one with New.
type History struct {
	cfg    Config
	engine *promql.Engine
	start  time.Time

	mu       sync.RWMutex
	series   catalogue
	blocks   [len(tiers)][]*block // ascending by number; the last is open, unless it is sealed
	sealed   [len(tiers)]bool
	line     observe.Timeline
	number   uint64 // of the newest block
	failures uint64

	// Of the sampling goroutine.
	before  uint64                       // blocks to this number are of earlier starts
	earlier int64                        // the newest time of those
	thin    [len(tiers)]*observe.Thinner // none of the first
	named   int                          // how many series have durable names
	savedAt [len(tiers)]time.Time        // monotonic
	samples []observe.Sample             // reused
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
	h := &History{cfg: cfg, start: time.Now(), engine: newEngine(cfg.Logger), series: newCatalogue(SeriesMax)}
	if cfg.Store != nil {
		if err := h.load(); err != nil {
			return nil, err
		}
	}
	h.before, h.named = h.number, len(h.series.list)
	for t := range tiers {
		h.savedAt[t] = h.start
		if t > 0 {
			h.thin[t] = observe.NewThinner(tiers[t].every.Milliseconds(), func(id uint32) bool { return h.series.list[id].Counter })
		}
	}
	return h, nil
}

// Run samples until ctx ends, and then makes durable what it has.
func (h *History) Run(ctx context.Context) error {
	tick := time.NewTicker(h.cfg.Interval)
	defer tick.Stop()
	for {
		h.sample(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.end()
			return nil
		}
	}
}

// end makes all durable.
func (h *History) end() {
	h.mu.Lock()
	for t := 1; t < len(tiers); t++ {
		h.thin[t].Flush(func(at int64, samples []observe.Sample) { h.add(t, at, samples) })
	}
	h.mu.Unlock()
	h.save(time.Now(), true)
}

// Counts says how many samples had no room, of series beyond SeriesMax, and how many writes to the Store failed.
func (h *History) Counts() (dropped, failed uint64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.series.dropped, h.failures
}

// Now is the time by the history's clock.
func (h *History) Now() time.Time { return h.when(time.Now()) }

func (h *History) when(now time.Time) time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return time.UnixMilli(h.line.Now(now.Sub(h.start).Milliseconds()))
}

// sample takes one sample of everything at a time of the wall clock, which has a monotonic reading.
func (h *History) sample(now time.Time) {
	h.sampleAt(now.Sub(h.start).Milliseconds(), now.UnixMilli())
}

func (h *History) sampleAt(mono, wall int64) {
	families, err := h.cfg.Gatherer.Gather()
	if err != nil { // a collector failed: the others' values are there
		h.cfg.Logger.Warn("some metrics could not be read", "err", err)
	}
	h.mu.Lock()
	at, shift := h.line.At(mono, wall, h.earlier)
	if shift != 0 {
		h.cfg.Logger.Info("the clock was set; what was measured since the start moves with it", "by", time.Duration(shift)*time.Millisecond)
		h.shift(shift)
	}
	h.samples, h.scraped = h.series.flatten(families, h.samples[:0], h.scraped[:0])
	h.add(0, at, h.samples)
	for t := 1; t < len(tiers); t++ {
		h.thin[t].Add(at, h.samples, func(at int64, samples []observe.Sample) { h.add(t, at, samples) })
	}
	h.mu.Unlock()
	for _, fn := range h.cfg.Observe {
		fn(time.UnixMilli(at), h.scraped)
	}
	h.save(time.UnixMilli(at), false)
}
