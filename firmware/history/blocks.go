package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord/observe"
	"github.com/holdfast-edge/holdfast/store"
)

// tier is one resolution.
type tier struct {
	every time.Duration // between samples; 0: all that are taken
	keep  time.Duration
	save  time.Duration // how often the open block is made durable: what a power cut takes at most
	share int64         // hundredths of the budget
}

// tiers, finest first. The day in full is for looking into what just happened; a week by the minute shows each evening; two months by ten
// minutes are twice what was asked for, so that a budget that is short takes from the second month.
var tiers = [...]tier{
	{every: 0, keep: 24 * time.Hour, save: time.Minute, share: 50},
	{every: time.Minute, keep: 7 * 24 * time.Hour, save: 10 * time.Minute, share: 25},
	{every: 10 * time.Minute, keep: 60 * 24 * time.Hour, save: time.Hour, share: 25},
}

const (
	// fillShare is the part of the file, in hundredths, that blocks may take: pages are not full, and what a write replaces is free after it only.
	fillShare = 55
	// hotBlocks is how many sealed blocks of full resolution stay in memory, so that alarms need no disk; withoutStore is how many when
	// there is no disk: an hour.
	hotBlocks    = 1
	withoutStore = 6
	// lateBlocks is how many sealed blocks may wait for a disk that is full.
	lateBlocks = 4
)

// block is samples of a tier. One that is durable and not hot has no segment.
type block struct {
	id      store.BlockID
	times   []int64
	segment *observe.Segment
	bytes   int64 // durable; 0: not yet
	saved   int   // how many of its times are durable
}

func (b *block) at() []int64 {
	if b.segment != nil {
		return b.segment.Times()
	}
	return b.times
}

// span is the first and the last time; of a block without times the last is before the first.
func (b *block) span() (from, to int64) {
	times := b.at()
	if len(times) == 0 {
		return 0, -1
	}
	return times[0], times[len(times)-1]
}

// load reads what the store has.
func (h *History) load() error {
	err := h.cfg.Store.Names(func(id uint32, what []byte) error {
		var i Info
		if err := json.Unmarshal(what, &i); err != nil {
			return fmt.Errorf("history: series %d: %w", id, err)
		}
		i.ID = id
		h.series.restore(i)
		return nil
	})
	if err != nil {
		return err
	}
	return h.cfg.Store.Blocks(func(id store.BlockID, times []byte, size int64) error {
		ts, err := observe.DecodeTimes(times)
		if err != nil || int(id.Tier) >= len(tiers) || len(ts) == 0 {
			return fmt.Errorf("history: block %v: %w", id, observe.ErrFormat)
		}
		h.blocks[id.Tier] = append(h.blocks[id.Tier], &block{id: id, times: ts, bytes: size, saved: len(ts)})
		h.number = max(h.number, id.Number)
		if id.Tier == 0 {
			h.earlier = ts[len(ts)-1] // the newest that was written, whatever its time
		}
		return nil
	})
}

// add puts samples into the open block of a tier; h.mu is held.
func (h *History) add(t int, at int64, samples []observe.Sample) {
	bs := h.blocks[t]
	if len(bs) == 0 || bs[len(bs)-1].segment == nil || bs[len(bs)-1].segment.Len() >= segmentTimes || h.sealed[t] {
		h.number++
		h.sealed[t] = false
		bs = append(bs, &block{id: store.BlockID{Tier: uint8(t), Number: h.number}, segment: observe.NewSegment(segmentTimes)})
		h.blocks[t] = bs
	}
	bs[len(bs)-1].segment.Append(at, samples)
}

// shift moves what was sampled since the start, after the clock was set; h.mu is held.
func (h *History) shift(by int64) {
	for t := range h.blocks {
		for _, b := range h.blocks[t] {
			if b.id.Number <= h.before {
				continue // of an earlier start
			}
			if b.segment != nil {
				b.segment.Shift(by)
			} else {
				for i := range b.times {
					b.times[i] += by
				}
			}
			b.saved = 0
		}
		h.sealed[t] = true // times of one block come from one clock
	}
	for _, t := range h.thin[1:] {
		t.Shift(by)
	}
}

// save makes durable what is due: sealed blocks, and open ones as often as their tier says; everything when all. Only the sampling goroutine
// changes segments, and it runs this.
func (h *History) save(now time.Time, all bool) {
	if h.cfg.Store == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		for t := range h.blocks {
			h.blocks[t] = h.blocks[t][max(0, len(h.blocks[t])-withoutStore-1):]
		}
		return
	}
	write, of, err := h.due(now, all)
	if err == nil && len(write) > 0 {
		err = h.write(now, write)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.failures++
		h.cfg.Logger.Warn("the history of metrics could not be written", "err", err)
	} else {
		for i, b := range of {
			b.saved, b.bytes = len(b.at()), max(b.bytes, size(&write[i]))
		}
	}
	h.cool()
}

// due is what is to be written.
func (h *History) due(now time.Time, all bool) (write []store.SeriesBlock, of []*block, err error) {
	for t := range h.blocks {
		late := all || now.Sub(h.savedAt[t]) >= tiers[t].save
		if late {
			h.savedAt[t] = now
		}
		for i, b := range h.blocks[t] {
			n := len(b.at())
			if b.saved == n || !late && i == len(h.blocks[t])-1 && n < segmentTimes {
				continue
			}
			w := store.SeriesBlock{BlockID: b.id, Times: observe.EncodeTimes(b.at())}
			if b.segment != nil {
				if w.Groups, err = groups(b.segment); err != nil {
					return nil, nil, err
				}
			}
			write, of = append(write, w), append(of, b)
		}
	}
	return write, of, nil
}

func groups(s *observe.Segment) (map[uint32][]byte, error) {
	out := map[uint32][]byte{}
	for _, g := range s.Groups() {
		data, err := s.EncodeGroup(g)
		if err != nil {
			return nil, fmt.Errorf("history: compress: %w", err)
		}
		out[g] = data
	}
	return out, nil
}

func size(b *store.SeriesBlock) int64 {
	n := len(b.Times)
	for _, g := range b.Groups {
		n += len(g)
	}
	return int64(n)
}

// write writes, after room was made for it.
func (h *History) write(now time.Time, blocks []store.SeriesBlock) error {
	names := map[uint32][]byte{}
	for _, e := range h.series.list[h.named:] {
		what, err := json.Marshal(e.Info)
		if err != nil {
			return fmt.Errorf("history: name a series: %w", err)
		}
		names[e.ID] = what
	}
	named := len(h.series.list)
	err := h.cfg.Store.Write(names, blocks, h.drop(now, 0))
	if errors.Is(err, store.ErrFull) { // pages that are free after a write only, or a disk that others have filled
		if err = h.cfg.Store.Write(nil, nil, h.drop(now, 25)); err == nil {
			err = h.cfg.Store.Write(names, blocks, nil)
		}
	}
	if err == nil {
		h.named = named
	}
	return err
}

// drop forgets the durable blocks that are too old, or too many for their tier's share of the budget less so many hundredths of it.
func (h *History) drop(now time.Time, less int64) (ids []store.BlockID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for t := range h.blocks {
		room := h.cfg.Store.BytesMax() * fillShare / 100 * tiers[t].share / 100 * (100 - less) / 100
		total, oldest := int64(0), now.Add(-tiers[t].keep).UnixMilli()
		for _, b := range h.blocks[t] {
			total += b.bytes
		}
		kept := h.blocks[t][:0]
		for i, b := range h.blocks[t] {
			_, to := b.span()
			if b.bytes > 0 && i < len(h.blocks[t])-1 && (total > room || to < oldest) {
				total -= b.bytes
				ids = append(ids, b.id)
				continue
			}
			kept = append(kept, b)
		}
		clear(h.blocks[t][len(kept):])
		h.blocks[t] = kept
	}
	return ids
}

// cool takes from memory what is durable and not hot, and what waits for a disk that is full for too long; h.mu is held.
func (h *History) cool() {
	for t := range h.blocks {
		bs, hot := h.blocks[t], 0
		if t == 0 {
			hot = hotBlocks
		}
		for i, b := range bs {
			if b.segment != nil && b.bytes > 0 && b.saved == len(b.at()) && i < len(bs)-1-hot {
				b.times, b.segment = b.segment.Times(), nil
			}
		}
		for len(bs) > lateBlocks && bs[0].bytes == 0 {
			bs = bs[1:]
		}
		h.blocks[t] = bs
	}
}

// pieces is what of each block counts for times from..to, in order: of blocks that overlap, because the clock was wrong, the one written
// later; of resolutions the finest that reaches back so far. h.mu is held for reading.
func (h *History) pieces(from, to int64) (ps []piece) {
	until := to
	for t := range h.blocks {
		bs, next := h.blocks[t], int64(1<<62)
		first := until + 1
		var of []piece
		for i := len(bs) - 1; i >= 0; i-- {
			b := bs[i]
			lo, hi := b.span()
			if hi = min(hi, next-1); hi < lo {
				continue
			}
			next, first = lo, min(first, lo)
			if lo, hi = max(lo, from), min(hi, until); lo <= hi {
				of = append(of, piece{b, b.segment, b.at(), lo, hi})
			}
		}
		slices.Reverse(of)
		ps = append(of, ps...)
		if until = min(until, first-1); until < from {
			break
		}
	}
	return ps
}

// piece is the part of a block that counts.
type piece struct {
	*block
	live     *observe.Segment
	times    []int64
	from, to int64
}

// coarsest is the interval of the lowest resolution that a question about times from a time on meets; h.mu is held for reading.
func (h *History) coarsest(from int64) time.Duration {
	every := tiers[0].every
	for t := range h.blocks {
		every = tiers[t].every
		if len(h.blocks[t]) > 0 {
			if lo, _ := h.blocks[t][0].span(); lo <= from {
				break
			}
		}
	}
	return every
}
