package state

import "github.com/holdfast-edge/holdfast/coord"

// LastSeq is the highest batch number of an author that took effect, or that it gave up; 0
// if there is none. A starting box counts on from it.
func (m *Machine) LastSeq(author coord.BoxID) uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	b := m.boxes.m[author]
	if b == nil {
		return 0
	}
	if n := len(b.seen.spans); n > 0 {
		return b.seen.spans[n-1].hi
	}
	return b.seen.floor
}
