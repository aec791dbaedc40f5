package site

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// A linearizable read needs no block of its own. What a client was told is final, so that n-f boxes voted to finalize it, f+1
// honest ones at least, before it was told. Of any n-f boxes that are asked later, one of those is honest and says a round at
// or above it (bft.Core.Claim). So a box that waits until it has applied the highest round that n-f boxes claim has
// everything that anybody was told before it asked. A liar can only make it wait; then the read is ordered after all.

const (
	// indexesMax bounds the questions under way.
	indexesMax = 64
	// claimTime is when a claimed round must have been ordered on a site that goes on.
	claimTime = 2 * time.Second
	// doubtTime is how long a member that claimed what never came is not asked.
	doubtTime = 10 * time.Second
)

// indexer asks the others how far they are.
type indexer struct {
	mu      sync.Mutex
	nonce   uint64
	asks    map[uint64]*indexAsk
	claimed []claimed   // by member: the oldest claim that has not come
	doubted []time.Time // by member: until when its claims do not count
}

type indexAsk struct {
	has   []bool
	n     int
	round uint64
	done  chan struct{} // closed when a quorum has answered
}

type claimed struct {
	round uint64
	at    time.Time
}

// Index asks the site for a round: when this box has applied it (Reached), it has all that anybody was told before Index was
// called. Errors: ErrBusy, ErrStopped, ctx's (fewer than a quorum of boxes answer).
func (s *Site) Index(ctx context.Context) (round uint64, err error) {
	x, self := &s.index, s.o.Box.Self
	n := s.o.Box.Members.N()
	a := &indexAsk{has: make([]bool, n), done: make(chan struct{})}
	x.mu.Lock()
	if len(x.asks) >= indexesMax {
		x.mu.Unlock()
		return 0, fmt.Errorf("site: index: %w", ErrBusy)
	}
	x.nonce++
	nonce := x.nonce
	x.asks[nonce] = a
	if own := s.claim.Load(); own > 0 {
		x.count(a, self, own-1, n)
	}
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.asks, nonce)
		x.mu.Unlock()
	}()
	if n > 1 {
		s.send(coord.Out{To: coord.ToAll, Msg: &coord.PeerMsg{IndexAsk: &nonce}})
	}
	select {
	case <-a.done:
		return a.round, nil
	case <-s.stopped:
		return 0, fmt.Errorf("site: index: %w", ErrStopped)
	case <-ctx.Done():
		return 0, fmt.Errorf("site: index: no quorum of boxes answered in time: %w", ctx.Err())
	}
}

// onIndexAsk answers another box, on its link's goroutine. A box that does not know what it signed says nothing.
func (s *Site) onIndexAsk(from int, nonce uint64) {
	if own := s.claim.Load(); own > 0 {
		s.send(coord.Out{To: from, Msg: &coord.PeerMsg{Index: &coord.Index{Nonce: nonce, Round: own - 1}}})
	}
}

// onIndex takes an answer, on its link's goroutine.
func (s *Site) onIndex(from int, i *coord.Index) {
	x := &s.index
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.claimed[from].round <= s.seen.at.Load() {
		x.claimed[from] = claimed{i.Round, time.Now()}
	}
	if a := x.asks[i.Nonce]; a != nil && time.Now().After(x.doubted[from]) {
		x.count(a, from, i.Round, s.o.Box.Members.N())
	}
}

// count adds one member's claim; mu is held.
func (x *indexer) count(a *indexAsk, from int, round uint64, n int) {
	if a.has[from] || a.n >= coord.Quorum(n) {
		return
	}
	a.has[from] = true
	a.n++
	a.round = max(a.round, round)
	if a.n == coord.Quorum(n) {
		close(a.done)
	}
}

// Reached waits until this box has applied a round, or one after it. Errors: ErrStopped, ctx's.
func (s *Site) Reached(ctx context.Context, round uint64) error {
	if err := s.seen.wait(ctx, round, s.stopped); err != nil {
		return fmt.Errorf("site: round %d is not here yet: %w", round, err)
	}
	return nil
}

// Settled waits until all that State may show now is durable here: a state is applied before the log has it, and what a read
// gave must not be lost. Errors: ErrStopped, ErrLog, ctx's, and its deadline's after limit.
func (s *Site) Settled(ctx context.Context, limit time.Duration) error {
	if at := s.begun.Load(); s.shown.at.Load() < at {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if err := s.shown.wait(ctx, at, s.stopped); err != nil {
			return fmt.Errorf("site: what was read is not durable yet: %w", err)
		}
	}
	if f := s.fault.Load(); f != nil {
		return fmt.Errorf("%w: %s", ErrLog, *f)
	}
	return nil
}

// Doubt says that the site goes on and a claim was waited for in vain: who claimed, long enough ago, more than there is is
// not listened to for a while.
func (s *Site) Doubt() {
	x := &s.index
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, c := range x.claimed {
		if c.round > s.seen.at.Load() && time.Since(c.at) > claimTime {
			x.doubted[i], x.claimed[i] = time.Now().Add(doubtTime), claimed{}
		}
	}
}

// tellReaders is called by the owner after each Step: what the box claims, before anything that it says leaves, and what
// it has applied.
func (s *Site) tellReaders() {
	claim, ok := s.box.core.Claim()
	if ok {
		claim++
	}
	s.claim.Store(claim)
	if r := s.box.lastFinal.Header.Round; r != s.seen.at.Load() {
		s.seen.reach(r)
	}
}
