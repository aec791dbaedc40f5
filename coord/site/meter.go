package site

import "time"

// blocksShown is how many of the last blocks a View has.
const blocksShown = 32

// rateWindow is the time over which the rate is averaged, in slots of rateSlot.
const (
	rateWindow = 5 * time.Second
	rateSlot   = 250 * time.Millisecond
	rateSlots  = int(rateWindow / rateSlot)
)

// meter keeps the last blocks and the rate of messages, in fixed memory.
type meter struct {
	ring [blocksShown]BlockView
	at   [blocksShown]int64 // when applied, monotonic
	n    int
	slot [rateSlots]uint64
	cur  int64 // the slot that counts now, in units of rateSlot
}

func (m *meter) block(v BlockView, now int64) {
	m.ring[m.n%blocksShown], m.at[m.n%blocksShown] = v, now
	m.n++
	m.advance(now)
	m.slot[m.cur%int64(rateSlots)] += uint64(v.Messages)
}

func (m *meter) advance(now int64) {
	s := now / int64(rateSlot)
	for ; m.cur < s; m.cur++ {
		if s-m.cur > int64(rateSlots) {
			m.cur = s - int64(rateSlots)
		}
		m.slot[(m.cur+1)%int64(rateSlots)] = 0
	}
}

// rate is messages a second over the window.
func (m *meter) rate(now int64) float64 {
	m.advance(now)
	sum := uint64(0)
	for _, n := range m.slot {
		sum += n
	}
	return float64(sum) / rateWindow.Seconds()
}

// blocks is the last blocks, newest first; wall is the wall clock at now.
func (m *meter) blocks(now int64, wall time.Time) []BlockView {
	k := min(m.n, blocksShown)
	out := make([]BlockView, 0, k)
	for i := range k {
		j := (m.n - 1 - i) % blocksShown
		v := m.ring[j]
		v.Time = wall.Add(-time.Duration(now - m.at[j]))
		out = append(out, v)
	}
	return out
}

func (c *Counters) latency(d time.Duration) {
	c.LatencySum += d
	c.LatencyCount++
	i := 0
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	c.LatencyBuckets[i]++
}
