package traces

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/firmware/console"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// names says what boxes are called.
type names map[coord.BoxID]string

func (k *Keeper) names() names {
	n := names{}
	for _, m := range k.site.View().Members {
		n[m.ID] = m.Name
	}
	return n
}

func (n names) of(id coord.BoxID) string {
	if s := n[id]; s != "" {
		return s
	}
	return id.String()
}

// List is the kept traces, newest first. Errors: those of store.Traces.
func (k *Keeper) List(q api.TraceQuery) (*api.Traces, error) {
	if q.Limit <= 0 {
		q.Limit = api.TracesDefault
	}
	out, n := &api.Traces{Traces: []api.TraceHead{}}, k.names()
	out.Judged, out.Kept, out.Spared, out.Lost = k.Counts()
	since := int64(0)
	if !q.Since.IsZero() {
		since = q.Since.UnixNano()
	}
	add := func(rs []trace.Record) {
		h := head(rs, n)
		if time.Duration(h.Duration) >= q.Min && (q.Reason == 0 || reasons(rs)&q.Reason != 0) && !h.Start.Before(q.Since) {
			out.Traces = append(out.Traces, h)
		}
	}
	waiting := map[trace.ID]bool{}
	k.mu.Lock()
	for id, rs := range k.fresh {
		waiting[id] = true
		add(rs)
	}
	k.mu.Unlock()
	most := q.Limit + len(out.Traces)
	err := k.cfg.Disk.Each(since, func(v []byte) bool {
		rs, err := trace.DecodeRecords(v)
		if err == nil && len(rs) > 0 && !waiting[rs[0].Trace] { // else of another release, or old
			add(rs)
		}
		return len(out.Traces) < most
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out.Traces, func(a, b api.TraceHead) int { return b.Start.Compare(a.Start) })
	out.Traces = out.Traces[:min(len(out.Traces), q.Limit)]
	var oldest int64
	if out.Bytes, out.BytesMax, oldest, err = k.cfg.Disk.Size(); err == nil && oldest != math.MaxInt64 {
		out.OldestKept = time.Unix(0, oldest)
	}
	return out, err
}

func reasons(rs []trace.Record) (all trace.Reason) {
	for i := range rs {
		all |= rs[i].Reasons
	}
	return all
}

// first is the record of the author, or when that is not known of whoever knew first.
func first(rs []trace.Record) *trace.Record {
	best := &rs[0]
	for i := range rs {
		if r := &rs[i]; r.Box == r.Author && r.Part == 0 && (best.Box != best.Author || best.Part > 0 || r.Seq < best.Seq) {
			best = r
		}
	}
	return best
}

// head tells of a trace in short; there is at least one record.
func head(rs []trace.Record, n names) api.TraceHead {
	f := first(rs)
	start, end := begin(rs), int64(0)
	boxes := map[coord.BoxID]bool{}
	for i := range rs {
		boxes[rs[i].Box] = true
		end = max(end, slices.Max(rs[i].At[:]))
	}
	h := api.TraceHead{
		ID: f.Trace, Start: time.Unix(0, start), Duration: f.Duration(), Reasons: reasons(rs).Names(), Author: f.Author, AuthorName: n.of(f.Author),
		Leader: f.Leader, LeaderName: n.of(f.Leader), Batch: f.Batch.String(), Height: f.Height, Round: f.Round, Epoch: f.Epoch,
		Messages: f.Messages, Bytes: f.Bytes, Boxes: len(boxes),
	}
	if h.Duration == 0 {
		h.Duration = end - start
	}
	if f.Code != coord.CodeOK {
		h.Error = f.Code.String()
	}
	return h
}

// Show is one trace, with what the other boxes know of it. Errors: console.ErrNoTrace, ctx's.
func (k *Keeper) Show(ctx context.Context, id trace.ID) (*api.Trace, error) {
	rs, err := k.records(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(rs) == 0 {
		return nil, fmt.Errorf("trace %v: %w to this box or the others; traces that are not kept are forgotten soon", id, console.ErrNoTrace)
	}
	n := k.names()
	t := &api.Trace{TraceHead: head(rs, n)}
	var spans []trace.Span
	for i := range rs {
		spans = rs[i].Spans(spans)
	}
	t.Spans = waterfall(spans, begin(rs), n)
	return t, nil
}

// records gathers a trace. The others are asked when the disk has not all boxes' parts.
func (k *Keeper) records(ctx context.Context, id trace.ID) (rs []trace.Record, err error) {
	if old, err := k.stored(id); err == nil {
		rs = old
	}
	k.mu.Lock()
	for _, r := range k.fresh[id] {
		rs = merged(rs, &r)
	}
	k.mu.Unlock()
	for _, r := range k.cfg.Ring.Find(nil, id, k.site.Clock()) {
		rs = merged(rs, &r)
	}
	boxes := map[coord.BoxID]bool{}
	for i := range rs {
		boxes[rs[i].Box] = true
	}
	v := k.site.View()
	if len(boxes) >= v.N || v.N == 1 {
		return rs, nil
	}
	g := k.open(id, false)
	if g == nil {
		return rs, nil
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range g.records {
		r := g.records[i]
		rs = merged(rs, &r)
	}
	return rs, nil
}

// waterfall orders spans as a tree: each after its parent, those of one parent by their begin.
func waterfall(spans []trace.Span, start int64, n names) []api.Span {
	slices.SortStableFunc(spans, func(a, b trace.Span) int { return cmp.Compare(a.Start, b.Start) })
	byID := map[trace.SpanID]bool{}
	for i := range spans {
		byID[spans[i].ID] = true
	}
	out := make([]api.Span, 0, len(spans))
	used := make([]bool, len(spans))
	var below func(parent trace.SpanID, depth int)
	add := func(i, depth int) {
		used[i] = true
		out = append(out, jsonSpan(&spans[i], depth, start, n))
		below(spans[i].ID, depth+1)
	}
	below = func(parent trace.SpanID, depth int) {
		for i := range spans {
			if !used[i] && spans[i].Parent == parent {
				add(i, depth)
			}
		}
	}
	for i := range spans {
		if !used[i] && !byID[spans[i].Parent] {
			add(i, 0)
		}
	}
	return out
}

func jsonSpan(s *trace.Span, depth int, start int64, n names) api.Span {
	j := api.Span{
		ID: s.ID, Parent: s.Parent, Depth: depth, Name: s.Name, Box: s.Box, BoxName: n.of(s.Box), Start: s.Start - start, Duration: s.End - s.Start, Error: s.Error,
	}
	if len(s.Attrs) > 0 {
		j.Attributes = map[string]any{}
	}
	for _, a := range s.Attrs {
		if a.Text != "" {
			j.Attributes[a.Key] = a.Text
		} else {
			j.Attributes[a.Key] = a.Number
		}
	}
	for _, e := range s.Events {
		j.Events = append(j.Events, api.SpanEvent{Name: e.Name, At: e.At - start})
	}
	for _, l := range s.Links {
		j.Links = append(j.Links, api.SpanLink(l))
	}
	return j
}
