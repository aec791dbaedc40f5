package link

import (
	"encoding/binary"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// Clock is a peer's clock beside ours.
type Clock struct {
	// Ahead is how far it is ahead of ours, wrong by at most half of RoundTrip (RFC 5905, 11.1).
	Ahead, RoundTrip time.Duration
	Taken            time.Time
}

// controlBytes is what a message that is not bulk takes at most when the boxes are well: a certificate of 16 boxes has 1.1 KiB.
const controlBytes = 4 << 10

// load counts a message by what a peer may send how much of.
func (c *counters) load(m *coord.PeerMsg, bytes int) {
	if ClassOf(m) == ClassBulk {
		c.bulk.Add(uint64(bytes))
		return
	}
	c.control.Add(uint64(1 + bytes/controlBytes))
}

// pongBytes is how long a pong's body is.
func pongBytes(version uint16) int {
	if version >= versionWall {
		return stampBytes + wallBytes
	}
	return stampBytes
}

// appendWall appends our clock.
func (l *Link) appendWall(dst []byte) []byte {
	wall := uint64(0)
	if l.cfg.Clock != nil {
		if now, set := l.cfg.Clock(); set {
			wall = uint64(now.UnixNano())
		}
	}
	return binary.BigEndian.AppendUint64(dst, wall)
}

// farMax bounds an offset, so that sums of them do not overflow: whoever is a day off may as well be a century off.
const farMax = 24 * time.Hour

// compared notes the peer's clock as a pong has it, which took rtt and came at now.
func (p *peer) compared(wall []byte, rtt time.Duration, now time.Time) {
	if len(wall) != wallBytes || p.link.cfg.Clock == nil {
		return
	}
	theirs := int64(binary.BigEndian.Uint64(wall))
	ours, set := p.link.cfg.Clock()
	if theirs == 0 || !set {
		p.counters.clock.Store(nil)
		return
	}
	ahead := min(max(time.Unix(0, theirs).Sub(ours.Add(-rtt/2)), -farMax), farMax)
	p.counters.clock.Store(&Clock{Ahead: ahead, RoundTrip: rtt, Taken: now})
}
