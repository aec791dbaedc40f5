package site

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/state"
)

const (
	tickEvery = state.TickSeconds * time.Second
	// tickGrace is how long a box that is not among the f+1 whose turn it is waits for them.
	tickGrace = 400 * time.Millisecond
	// tickAgain is when a tick that had no effect is said again.
	tickAgain = 3 * time.Second
)

// clock is what a box does for the site's clock (coord/state, lease.go).
type clock struct {
	at     uint64 // the site's clock as we saw it last
	since  int64  // when that was, or since when it must go on; 0: it stands
	said   uint64 // the tick that we asked for
	saidAt int64
}

// tick orders a tick when a second has passed since the last one took effect here. f+1 boxes are enough, so each time
// others go first.
func (b *Box) tick() {
	now, runs := b.st.Clock()
	c := &b.clock
	switch {
	case !runs || b.draining || b.fault != "" || b.out || b.ends != nil || b.core.Blank():
		c.since = 0
		return
	case c.since == 0 || now != c.at:
		c.at, c.since = now, b.now
	}
	n := b.ep.Members.N()
	due := c.since + int64(tickEvery)
	if turn := (uint64(b.ep.Self) + now) % uint64(n); turn > uint64(coord.MaxFaulty(n)) {
		due += int64(tickGrace)
	}
	if c.said == now+1 {
		due = max(due, c.saidAt+int64(tickAgain))
	}
	if b.now < due {
		b.wake(due)
		return
	}
	c.said, c.saidAt = now+1, b.now
	cols := new(coord.Columns)
	cols.Add(coord.KindTick, 0, 0, 0, nil, kv.AppendNumber(nil, now+1))
	b.onRequest(&Request{Cols: cols, Done: func(coord.Reply) {}})
	b.wake(b.now + int64(tickAgain))
}
