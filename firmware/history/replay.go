package history

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord/observe"
)

// Replay gives fn, oldest first, what earlier starts of the box sampled in full resolution, as far as it is kept (a day), of the series
// that want is true of: what an observer would have seen, but for what a power cut took. It may run beside Run, once or several times. It
// reads a block at a time, and ends early when ctx does, with its error. Other errors: store.ErrDamaged, observe.ErrFormat.
func (h *History) Replay(ctx context.Context, want func(*Info) bool, fn Observer) error {
	var found []*entry
	h.mu.RLock()
	for _, e := range h.series.list {
		if want(&e.Info) {
			found = append(found, e)
		}
	}
	var earlier []piece
	for _, b := range h.blocks[0] {
		if b.id.Number <= h.before && b.segment == nil {
			// Of blocks that the sampling goroutine drops meanwhile nothing is found.
			earlier = append(earlier, piece{block: b, times: slices.Clone(b.times)})
		}
	}
	h.mu.RUnlock()
	// A clock that was wrong wrote blocks out of order, or over each other: times go on only.
	slices.SortStableFunc(earlier, func(a, b piece) int { return cmp.Compare(a.times[0], b.times[0]) })
	last := int64(-1 << 62)
	for i := range earlier {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := &earlier[i]
		g, err := h.read(p, found)
		if err != nil {
			return err
		}
		scrapes := make([][]Scraped, len(p.times))
		for _, e := range found {
			k := 0
			g.Points(e.ID, p.times[0], p.times[len(p.times)-1], func(_ int64, v float64) {
				if !observe.IsStale(v) {
					scrapes[k] = append(scrapes[k], Scraped{&e.Info, v})
				}
				k++
			})
		}
		for k, at := range p.times {
			if at > last && len(scrapes[k]) > 0 {
				fn(time.UnixMilli(at), scrapes[k])
				last = at
			}
		}
		earlier[i] = piece{}
	}
	return nil
}
