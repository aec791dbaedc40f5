package history

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord/observe"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// reader is what the engine reads from; it implements storage.Querier for times from..to in milliseconds.
type reader struct {
	h        *History
	from, to int64
	taken    int // points, of all selections of a question
}

// Select copies the points of the series that match.
func (r *reader) Select(_ context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	from, to := r.from, r.to
	if hints != nil {
		from, to = hints.Start, hints.End
	}
	set := &selection{i: -1}
	r.h.mu.RLock()
	found, pieces := r.h.series.match(ms), r.h.pieces(from, to)
	list := make([]*selected, len(found))
	for i, e := range found {
		list[i] = &selected{set: e.set}
	}
	// What is on the disk is read without the lock, and what is in memory is the newest of its resolution.
	copied := make([][]points, len(pieces))
	for p := range pieces {
		if g := pieces[p].live; g != nil {
			copied[p] = make([]points, len(found))
			for i, e := range found {
				copied[p][i] = pointsOf(g, e.ID, &pieces[p])
				r.taken += len(copied[p][i])
			}
		} else {
			pieces[p].times = slices.Clone(pieces[p].times)
		}
	}
	r.h.mu.RUnlock()
	for p := range pieces {
		if copied[p] == nil {
			g, err := r.h.read(&pieces[p], found)
			if err != nil {
				return &selection{err: err}
			}
			copied[p] = make([]points, len(found))
			for i, e := range found {
				copied[p][i] = pointsOf(g, e.ID, &pieces[p])
				r.taken += len(copied[p][i])
			}
		}
		if r.taken > querySamplesMax {
			return &selection{err: fmt.Errorf("history: %w: more than %d samples; ask for less at a time", ErrQuery, querySamplesMax)}
		}
		for i := range found {
			list[i].points = append(list[i].points, copied[p][i]...)
		}
		copied[p] = nil
	}
	for _, s := range list {
		if len(s.points) > 0 {
			set.list = append(set.list, s)
		}
	}
	if sorted {
		slices.SortFunc(set.list, func(a, b *selected) int { return labels.Compare(a.set, b.set) })
	}
	return set
}

func pointsOf(g *observe.Segment, id uint32, p *piece) (out points) {
	g.Points(id, p.from, p.to, func(t int64, v float64) { out = append(out, point{t, v}) })
	return out
}

// read reads the groups of a block that series are in.
func (h *History) read(p *piece, found []*entry) (*observe.Segment, error) {
	g := observe.SegmentAt(p.times)
	seen := map[uint32]bool{}
	for _, e := range found {
		group := e.ID / observe.GroupSeries
		if seen[group] {
			continue
		}
		seen[group] = true
		data, err := h.cfg.Store.Group(p.id, group)
		if err == nil && data != nil {
			err = g.AddGroup(data)
		}
		if err != nil {
			return nil, fmt.Errorf("history: block %v: %w", p.id, err)
		}
	}
	return g, nil
}

// LabelValues implements storage.Querier.
func (r *reader) LabelValues(_ context.Context, name string, _ *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return r.h.labelValues(name, ms), nil, nil
}

// LabelNames implements storage.Querier.
func (r *reader) LabelNames(_ context.Context, _ *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return r.h.labelNames(ms), nil, nil
}

// Close implements storage.Querier.
func (r *reader) Close() error { return nil }

func (h *History) labelValues(name string, ms []*labels.Matcher) []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var vs []string
	for _, e := range h.series.match(ms) {
		if v := e.set.Get(name); v != "" {
			vs = append(vs, v)
		}
	}
	slices.Sort(vs)
	return slices.Compact(vs)
}

func (h *History) labelNames(ms []*labels.Matcher) []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var ns []string
	for _, e := range h.series.match(ms) {
		e.set.Range(func(l labels.Label) { ns = append(ns, l.Name) })
	}
	slices.Sort(ns)
	return slices.Compact(ns)
}

// selection implements storage.SeriesSet.
type selection struct {
	list []*selected
	i    int
	err  error
}

func (s *selection) Next() bool                        { s.i++; return s.i < len(s.list) }
func (s *selection) At() storage.Series                { return s.list[s.i] }
func (s *selection) Err() error                        { return s.err }
func (s *selection) Warnings() annotations.Annotations { return nil }

// selected implements storage.Series.
type selected struct {
	set    labels.Labels
	points points
}

func (s *selected) Labels() labels.Labels { return s.set }

func (s *selected) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return storage.NewListSeriesIterator(s.points)
}

// point is a value at a time in milliseconds; it implements chunks.Sample.
type point struct {
	t int64
	v float64
}

func (p *point) T() int64                      { return p.t }
func (p *point) ST() int64                     { return 0 }
func (p *point) F() float64                    { return p.v }
func (p *point) H() *histogram.Histogram       { return nil }
func (p *point) FH() *histogram.FloatHistogram { return nil }
func (p *point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p *point) Copy() chunks.Sample           { c := *p; return &c }

// points implements storage.Samples.
type points []point

func (p points) Get(i int) chunks.Sample { return &p[i] }
func (p points) Len() int                { return len(p) }
