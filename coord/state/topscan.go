package state

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// TopScan is Top without its limit: beyond TopMax it reads all counters, which takes about a
// microsecond each and holds up the machine meanwhile. Errors: ErrBackend, ErrDamaged.
func (m *Machine) TopScan(n int) (total, distinct uint64, top []Count, err error) {
	if n <= TopMax {
		total, distinct, top = m.Top(n)
		return total, distinct, top, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Count, 0, m.meta.distinct)
	for object, e := range m.counters.m {
		all = append(all, Count{object, e.val})
	}
	var bad error
	err = m.back.Scan(coord.SpaceCounters, nil, func(k, v []byte) bool {
		if len(k) != 8 {
			bad = damaged(coord.SpaceCounters, k, ErrDamaged)
			return false
		}
		object := binary.BigEndian.Uint64(k)
		if m.counters.m[object] != nil {
			return true // the overlay has a newer value, or the same
		}
		c, e := decodeCounter(v)
		if e != nil {
			bad = damaged(coord.SpaceCounters, k, e)
			return false
		}
		all = append(all, Count{object, c})
		return true
	})
	if err != nil {
		return 0, 0, nil, fmt.Errorf("state: read counters: %w: %w", ErrBackend, err)
	}
	if bad != nil {
		return 0, 0, nil, bad
	}
	slices.SortFunc(all, func(a, b Count) int {
		if less(b, a) {
			return -1
		}
		return 1
	})
	return m.meta.total, m.meta.distinct, all[:min(n, len(all))], nil
}
