package state

import "github.com/holdfast-edge/holdfast/coord"

// Height is that of the last block begun.
func (m *Machine) Height() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta.height
}

// Revision is that of the last change of a key, 0 before the first.
func (m *Machine) Revision() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta.revision
}

// Keys is the number of keys that exist.
func (m *Machine) Keys() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta.keys
}

// StateBytes is about what the state takes in storage, the same on every box.
func (m *Machine) StateBytes() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.stateBytes()
}

// Pending is the number of writes that are not yet durable; whoever applies blocks waits
// for a commit when it grows too large.
func (m *Machine) Pending() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := len(m.keys.dirty) + len(m.counters.dirty) + len(m.sessions.dirty) + len(m.boxes.dirty)
	for i := range m.keys.taken {
		n += len(m.keys.taken[i]) + len(m.counters.taken[i])
	}
	return n
}

// BatchDone says whether a batch need not be ordered any more: it took effect, or its
// author gave it up, or it can never take effect.
func (m *Machine) BatchDone(author coord.BoxID, seq uint64) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.boxes.done(author, seq)
}

// Top gives the sum of all counters, how many there are, and the n highest (at most
// TopMax), the highest first and of equal ones the lower object first. It costs a copy
// when nothing was observed since the last call, else a sort of TopMax counts.
func (m *Machine) Top(n int) (total, distinct uint64, top []Count) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta.total, m.meta.distinct, m.top.first(n)
}

// Sessions lists the open client sessions by ascending id.
func (m *Machine) Sessions() []SessionView {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.sessions.view()
}
