package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/store"
)

// sink is a disk of a millisecond a group that may be full or broken.
type sink struct {
	mu     sync.Mutex
	err    error
	got    []audit.Record
	groups int
}

func (s *sink) Append(rs []audit.Record) (int64, error) {
	time.Sleep(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.got = append(s.got, rs...)
	s.groups++
	return 0, nil
}

func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *sink) check(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) != n {
		t.Errorf("%d records on the disk, want %d", len(s.got), n)
	}
	for i := range s.got {
		if s.got[i].TimeMs != int64(i) {
			t.Fatalf("at %d stands record %d", i, s.got[i].TimeMs)
		}
	}
}

func queued(i int) audit.Record {
	return audit.Record{TimeMs: int64(i), Outcome: audit.Denied, Reason: strings.Repeat("x", 1000)}
}

func TestTheQueueGathersGroupsAndKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		q := store.NewAuditQueue(s, nil)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		for i := range 3000 {
			must(t, q.Put(t.Context(), queued(i)))
		}
		must(t, q.Flush(t.Context()))
		s.check(t, 3000)
		if s.groups > 10 {
			t.Errorf("%d groups", s.groups)
		}
		for i := range 10 {
			must(t, q.Offer(queued(3000+i)))
		}
		stop() // what was taken is written before the end
		must(t, <-ended)
		s.check(t, 3010)
		want(t, q.Offer(queued(1)), store.ErrClosed)
		want(t, q.Put(t.Context(), queued(1)), store.ErrClosed)
	})
}

func TestAFullQueueRefusesOrWaitsAndDropsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{err: fmt.Errorf("disk: %w", store.ErrFull)}
		q := store.NewAuditQueue(s, nil)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		n := 0
		for ; q.Offer(queued(n)) == nil; n++ {
		}
		if n != store.AuditQueueMax {
			t.Errorf("%d records wait, want %d", n, store.AuditQueueMax)
		}
		want(t, q.Offer(queued(n)), store.ErrFull)
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := q.Put(short, queued(n))
		want(t, err, store.ErrFull)
		want(t, err, context.DeadlineExceeded)
		put := make(chan error, 1)
		go func() { put <- q.Put(t.Context(), queued(n)) }()
		synctest.Wait()
		s.fail(nil) // somebody exported
		must(t, <-put)
		must(t, q.Flush(t.Context()))
		s.check(t, n+1)
		stop()
		must(t, <-ended)
	})
}

func TestABrokenDiskIsSaidWithWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		q := store.NewAuditQueue(s, nil)
		ended := make(chan error, 1)
		go func() { ended <- q.Run(t.Context()) }()
		must(t, q.Put(t.Context(), queued(0)))
		must(t, q.Flush(t.Context()))
		s.fail(store.ErrFailed)
		must(t, q.Offer(queued(1)))
		must(t, q.Offer(queued(2)))
		want(t, q.Flush(t.Context()), store.ErrFailed)
		if err := <-ended; !errors.Is(err, store.ErrFailed) || !strings.Contains(err.Error(), "2 records") {
			t.Errorf("%v", err)
		}
		want(t, q.Offer(queued(3)), store.ErrFailed)
		s.check(t, 1)
	})
}
