package client

import (
	"context"
	"sync"
)

// session numbers messages, and holds calls back that would run too far ahead of the
// oldest unanswered one.
type session struct {
	id      uint64
	callMax int

	mu   sync.Mutex
	next uint64
	// flight are the calls under way by ascending number; a finished one leaves when all
	// before it have.
	flight []*ticket
	calls  int // those of flight that are not finished
	lost   bool
	// wake, if not nil, is closed when a call that waits may have become able to go on.
	wake chan struct{}
}

// ticket is a run of numbers that one call has.
type ticket struct {
	first uint64
	done  bool
}

func newSession(id uint64, callMax int) *session {
	return &session{id: id, callMax: callMax, next: 1}
}

// reserve gives n numbers, waiting until the window has room. It gives nil, without an
// error, when the session is lost. It gives up when ctx or life ends.
func (s *session) reserve(ctx, life context.Context, n int) (*ticket, error) {
	for {
		s.mu.Lock()
		if s.lost {
			s.mu.Unlock()
			return nil, nil
		}
		if s.roomFor(n) {
			t := &ticket{first: s.next}
			s.next += uint64(n)
			s.flight = append(s.flight, t)
			s.calls++
			s.mu.Unlock()
			return t, nil
		}
		if s.wake == nil {
			s.wake = make(chan struct{})
		}
		wake := s.wake
		s.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-life.Done():
			return nil, life.Err()
		}
	}
}

func (s *session) roomFor(n int) bool {
	if len(s.flight) == 0 {
		return true
	}
	return s.calls < s.callMax && s.next+uint64(n)-s.flight[0].first <= windowMessages
}

// finish says that the numbers of t are used up, or the session is lost.
func (s *session) finish(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.done = true
	s.calls--
	i := 0
	for i < len(s.flight) && s.flight[i].done {
		s.flight[i] = nil
		i++
	}
	s.flight = s.flight[i:]
	s.wakeAll()
}

// lose makes every later reserve give nil.
func (s *session) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
	s.wakeAll()
}

func (s *session) isLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

func (s *session) wakeAll() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}
