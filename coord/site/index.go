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
	// askAgain is after how long the others are asked once more: a question that is lost with its link, or comes to a box that is not in the
	// epoch yet or does not know yet what it signed, has no answer. Some round trips of a site.
	askAgain = 50 * time.Millisecond
)

// indexer asks the others how far they are.
type indexer struct {
	mu      sync.Mutex
	nonce   uint64
	asks    map[uint64]*indexAsk
	claimed map[coord.BoxID]claimed   // the oldest claim that has not come
	doubted map[coord.BoxID]time.Time // until when its claims do not count
}

type indexAsk struct {
	ep   *Epoch // whose members are asked: what others claim does not count
	has  []bool
	n    int
	at   uint64        // the highest place claimed
	done chan struct{} // closed when a quorum has answered
}

type claimed struct {
	place uint64
	at    time.Time
}

// placeRoundBits is how many bits of a place are the round: a thousand rounds a second for 500 years. The rest is the epoch.
const placeRoundBits = 44

// placeOf is an epoch and a round in it as one number, which never goes back on a box.
func placeOf(epoch, round uint64) uint64 {
	return epoch<<placeRoundBits | min(round, 1<<placeRoundBits-1)
}

// Index asks the site for a place in its order: when this box has applied it (Reached), it has all that anybody was told before
// Index was called. Errors: ErrBusy, ErrStopped, ErrRemoved, ctx's (fewer than a quorum of boxes answer).
func (s *Site) Index(ctx context.Context) (place uint64, err error) {
	// Who has applied the end of an epoch asks the next one's members, once it is among them.
	if err := s.entered.wait(ctx, s.seen.at.Load()>>placeRoundBits, s.stopped); err != nil {
		return 0, fmt.Errorf("site: index: %w", err)
	}
	x, ep := &s.index, s.ep.Load()
	if ep.Self < 0 {
		return 0, fmt.Errorf("site: index: %w", ErrRemoved)
	}
	n, epoch := ep.Members.N(), ep.Members.Epoch
	a := &indexAsk{ep: ep, has: make([]bool, n), done: make(chan struct{})}
	x.mu.Lock()
	if len(x.asks) >= indexesMax {
		x.mu.Unlock()
		return 0, fmt.Errorf("site: index: %w", ErrBusy)
	}
	x.nonce++
	nonce := x.nonce
	x.asks[nonce] = a
	if own := s.claim.Load(); own>>placeRoundBits == epoch {
		x.count(a, ep.Self, own)
	}
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.asks, nonce)
		x.mu.Unlock()
	}()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		if n > 1 {
			s.send(coord.Parcel{Msg: &coord.PeerMsg{Epoch: epoch, IndexAsk: &nonce}})
		}
		select {
		case <-a.done:
			return a.at, nil
		case <-again.C:
		case <-s.stopped:
			return 0, fmt.Errorf("site: index: %w", ErrStopped)
		case <-ctx.Done():
			return 0, fmt.Errorf("site: index: no quorum of boxes answered in time: %w", ctx.Err())
		}
	}
}

// onIndexAsk answers another box, on its link's goroutine. A box that does not know what it signed says nothing, nor does one in
// another epoch.
func (s *Site) onIndexAsk(from coord.BoxID, epoch, nonce uint64) {
	if own := s.claim.Load(); own > 0 && own>>placeRoundBits == epoch {
		round := own & (1<<placeRoundBits - 1)
		s.send(coord.Parcel{To: from, Msg: &coord.PeerMsg{Epoch: epoch, Index: &coord.Index{Nonce: nonce, Round: round}}})
	}
}

// onIndex takes an answer, on its link's goroutine.
func (s *Site) onIndex(from coord.BoxID, epoch uint64, i *coord.Index) {
	x := &s.index
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.asks[i.Nonce]
	if a == nil || a.ep.Members.Epoch != epoch {
		return
	}
	member := a.ep.Members.Index(from)
	if member < 0 {
		return
	}
	place := placeOf(epoch, i.Round)
	if x.claimed[from].place <= s.seen.at.Load() {
		x.claimed[from] = claimed{place, time.Now()}
	}
	if time.Now().After(x.doubted[from]) {
		x.count(a, member, place)
	}
}

// count adds one member's claim; mu is held.
func (x *indexer) count(a *indexAsk, from int, place uint64) {
	q := coord.Quorum(len(a.has))
	if a.has[from] || a.n >= q {
		return
	}
	a.has[from] = true
	a.n++
	a.at = max(a.at, place)
	if a.n == q {
		close(a.done)
	}
}

// Reached waits until this box has applied what Index named. When the site's members changed meanwhile, those of then are asked
// again: others may have gone on with them before Index was called. Errors: ErrStopped, ErrRemoved, ctx's.
func (s *Site) Reached(ctx context.Context, place uint64) error {
	for {
		if err := s.seen.wait(ctx, place, s.stopped); err != nil {
			return fmt.Errorf("site: round %d is not here yet: %w", place&(1<<placeRoundBits-1), err)
		}
		if s.seen.at.Load()>>placeRoundBits == place>>placeRoundBits {
			return nil
		}
		next, err := s.Index(ctx)
		if err != nil {
			return err
		}
		place = next
	}
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
	for id, c := range x.claimed {
		if c.place > s.seen.at.Load() && time.Since(c.at) > claimTime {
			x.doubted[id] = time.Now().Add(doubtTime)
			delete(x.claimed, id)
		}
	}
}

// tellReaders is called by the owner after each Step: what the box claims, before anything that it says leaves, and what
// it has applied.
func (s *Site) tellReaders() {
	place, claim := s.box.places()
	s.claim.Store(claim)
	if place != s.seen.at.Load() {
		s.seen.reach(place)
	}
}
