package state

import (
	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// Height is that of the last block begun.
func (m *Machine) Height() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta.height
}

// Revision is that of the last change of a key, 1 before the first (as in etcd).
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
	n := len(m.keys.dirty) + len(m.counters.dirty) + len(m.sessions.dirty) + len(m.boxes.dirty) + len(m.history.dirty) + len(m.revs.dirty) +
		len(m.leases.dirty) + len(m.leaseKeys.dirty) + len(m.site.dirty)
	for i := range m.keys.taken {
		n += len(m.keys.taken[i]) + len(m.counters.taken[i]) + len(m.history.taken[i]) + len(m.revs.taken[i]) + len(m.leaseKeys.taken[i])
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

// Compacted is the revision of the last compaction, 0 before the first: what was before cannot be read.
func (m *Machine) Compacted() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return uint64(max(m.compacted(), 0))
}

// HistoryBytes is about what is kept of old revisions takes in storage.
func (m *Machine) HistoryBytes() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta.histBytes
}

// Cleaning says whether compacted history is still being taken away.
func (m *Machine) Cleaning() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta.compact > 0 && m.meta.cleaned < m.meta.compact-1
}

// SetSite says whose ticks and words count until a decision has written a member set and, with self, whose messages alone need
// answers; zero: everybody's. Before the first block. members is not changed afterwards.
func (m *Machine) SetSite(members *coord.Members, self coord.BoxID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.founders, m.self = members, self
}

func (m *Machine) isMember(id coord.BoxID) bool {
	ms := m.memberSet()
	return ms != nil && ms.Index(id) >= 0
}

// size is n.
func (m *Machine) size() int {
	if ms := m.memberSet(); ms != nil {
		return ms.N()
	}
	return 0
}

// Watch says whether TakeEvents is called; without, what blocks change is not gathered for it.
func (m *Machine) Watch(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched = on
}

// TakeEvents gives what changed since the last call. It is immutable.
func (m *Machine) TakeEvents() []kv.Revision {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.events
	m.events = nil
	return e
}

// TakeLead gives who was asked to lead since the last call, and whether anybody was. It is no part of the state.
func (m *Machine) TakeLead() (id coord.BoxID, asked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id, m.lead = m.lead, coord.BoxID{}
	return id, id != coord.BoxID{}
}

// TakeAsked gives what is to be signed since the last call. It is immutable.
func (m *Machine) TakeAsked() []Asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.asked
	m.asked = nil
	return a
}
