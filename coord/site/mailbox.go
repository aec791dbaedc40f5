package site

import "sync"

// mailbox hands values to one taker, who takes all that have gathered: natural batching. It is
// unbounded; who puts into it is bounded by other means, which each use names.
type mailbox[T any] struct {
	mu     sync.Mutex
	items  []T
	spare  []T
	signal chan struct{}
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{signal: make(chan struct{}, 1)} }

func (m *mailbox[T]) put(v T) {
	m.mu.Lock()
	m.items = append(m.items, v)
	m.mu.Unlock()
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

// take is all values so far, which stay valid until the next take.
func (m *mailbox[T]) take() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.spare)
	out := m.items
	m.items, m.spare = m.spare[:0], out
	return out
}

func (m *mailbox[T]) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)
}
