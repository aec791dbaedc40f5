package history

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

const (
	// queryTimeMax is how long a question may take.
	queryTimeMax = 10 * time.Second
	// querySamplesMax is how many samples a question may hold in memory: 16 bytes each.
	querySamplesMax = 1_000_000
	// lookback is for how long a sample counts for what comes after it, at full resolution.
	lookback = time.Minute
	// pointsMax bounds the times of a range query, as Prometheus does (web/api/v1, 11,000).
	pointsMax = 11_000
	// exprBytesMax bounds an expression.
	exprBytesMax = 8 << 10
)

func newEngine(log *slog.Logger) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger: log, MaxSamples: querySamplesMax, Timeout: queryTimeMax, LookbackDelta: lookback,
		EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
}

// Instant implements Querier.
func (h *History) Instant(ctx context.Context, expr string, at time.Time) ([]Sample, error) {
	v, err := h.instant(ctx, expr, at)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case promql.Vector:
		out := make([]Sample, 0, len(v))
		for i := range v {
			if v[i].H == nil {
				out = append(out, Sample{v[i].Metric.Map(), time.UnixMilli(v[i].T), v[i].F})
			}
		}
		return out, nil
	case promql.Scalar:
		return []Sample{{map[string]string{}, time.UnixMilli(v.T), v.V}}, nil
	}
	return nil, fmt.Errorf("history: %w: the expression gives a %s; a vector or a number is needed", ErrQuery, v.Type())
}

// instant evaluates expr; the value is the caller's.
func (h *History) instant(ctx context.Context, expr string, at time.Time) (parser.Value, error) {
	if at.IsZero() {
		at = h.Now()
	}
	if len(expr) > exprBytesMax {
		return nil, fmt.Errorf("history: %w: longer than %d bytes", ErrQuery, exprBytesMax)
	}
	q, err := h.engine.NewInstantQuery(ctx, h.queryable(), h.options(at), expr, at)
	if err != nil {
		return nil, fmt.Errorf("history: %w: %w", ErrQuery, err)
	}
	return result(ctx, q)
}

// Range implements Querier.
func (h *History) Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	m, err := h.matrix(ctx, expr, from, to, step)
	if err != nil {
		return nil, err
	}
	out := make([]Series, 0, len(m))
	for _, s := range m {
		t := Series{Labels: s.Metric.Map(), Points: make([]Point, 0, len(s.Floats))}
		for _, p := range s.Floats {
			t.Points = append(t.Points, Point{time.UnixMilli(p.T), p.F})
		}
		out = append(out, t)
	}
	return out, nil
}

func (h *History) matrix(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	switch {
	case len(expr) > exprBytesMax:
		return nil, fmt.Errorf("history: %w: longer than %d bytes", ErrQuery, exprBytesMax)
	case step < time.Millisecond:
		return nil, fmt.Errorf("history: %w: a step of %v", ErrQuery, step)
	case to.Before(from):
		return nil, fmt.Errorf("history: %w: the end is before the start", ErrQuery)
	case to.Sub(from)/step > pointsMax:
		return nil, fmt.Errorf("history: %w: more than %d points; make the step longer", ErrQuery, pointsMax)
	}
	q, err := h.engine.NewRangeQuery(ctx, h.queryable(), h.options(from), expr, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("history: %w: %w", ErrQuery, err)
	}
	v, err := result(ctx, q)
	if err != nil {
		return nil, err
	}
	m, ok := v.(promql.Matrix)
	if !ok {
		return nil, fmt.Errorf("history: %w: the expression gives a %s", ErrQuery, v.Type())
	}
	return m, nil
}

// options has a sample count until the next one where these are further apart.
func (h *History) options(from time.Time) promql.QueryOpts {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return promql.NewPrometheusQueryOpts(false, max(lookback, 2*h.coarsest(from.UnixMilli())))
}

// result runs a query. Its value does not outlive Close, so it is copied.
func result(ctx context.Context, q promql.Query) (parser.Value, error) {
	defer q.Close()
	r := q.Exec(ctx)
	if r.Err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("history: %w: %w", ErrQuery, r.Err)
	}
	if m, ok := r.Value.(promql.Matrix); ok { // its points go back to a pool
		c := make(promql.Matrix, len(m))
		for i, s := range m {
			c[i] = promql.Series{Metric: s.Metric, Floats: slices.Clone(s.Floats)}
		}
		return c, nil
	}
	return r.Value, nil
}

// queryable gives the engine the history's samples.
func (h *History) queryable() storage.Queryable {
	return storage.QueryableFunc(func(from, to int64) (storage.Querier, error) { return &reader{h: h, from: from, to: to}, nil })
}

// matching parses "match[]" as Prometheus' API has it.
func matching(text string) ([]*labels.Matcher, error) {
	ms, err := parser.ParseMetricSelector(text)
	if err != nil {
		return nil, fmt.Errorf("history: %w: %w", ErrQuery, err)
	}
	return ms, nil
}
