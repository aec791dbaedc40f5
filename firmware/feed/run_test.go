package feed

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeSite counts what it is told; a test sets what happens first.
type fakeSite struct {
	boxes  int
	before func(ctx context.Context, call uint64) error

	calls  atomic.Uint64
	mu     sync.Mutex
	counts map[uint32]uint64
	perBox map[int]int
}

func newFakeSite(boxes int) *fakeSite {
	return &fakeSite{boxes: boxes, counts: map[uint32]uint64{}, perBox: map[int]int{}, before: func(context.Context, uint64) error { return nil }}
}

func (f *fakeSite) Boxes() int      { return f.boxes }
func (f *fakeSite) Retried() uint64 { return 0 }

func (f *fakeSite) Observe(ctx context.Context, box int, objects []uint32) error {
	if err := f.before(ctx, f.calls.Add(1)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range objects {
		f.counts[o]++
	}
	f.perBox[box] += len(objects)
	return nil
}

func trace(t *testing.T, n int) *Trace {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.trace")
	if err := os.WriteFile(path, raw(n), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func TestEveryAccessIsSentOnceToTheBoxesInTurn(t *testing.T) {
	tr, err := Open(web07)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	site, want := newFakeSite(4), map[uint32]uint64{}
	s, err := Run(t.Context(), tr, site, Options{})
	if err != nil || s.Sent != 76118 || s.Acknowledged != 76118 {
		t.Fatalf("%+v %v", s, err)
	}
	if err := tr.Each(func(objects []uint32) error {
		for _, o := range objects {
			want[o]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for o, n := range want {
		if site.counts[o] != n {
			t.Errorf("object %d counted %d times, want %d", o, site.counts[o], n)
		}
	}
	for box := range 4 {
		if n := site.perBox[box]; n < 76118/4 || n > 76118/4+1 {
			t.Errorf("box %d got %d of 76118", box, n)
		}
	}
}

func TestTheLimitIsExact(t *testing.T) {
	for _, limit := range []uint64{1, 3, 64, 1000, 5000} {
		site := newFakeSite(3)
		s, err := Run(t.Context(), trace(t, 1000), site, Options{Limit: limit})
		if want := min(limit, 1000); err != nil || s.Acknowledged != want || s.Total != want {
			t.Errorf("limit %d: %+v %v", limit, s, err)
		}
	}
}

func TestTheRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []float64{1, 100, 5000} {
			start := time.Now()
			if _, err := Run(t.Context(), trace(t, int(rate)*3), newFakeSite(4), Options{Rate: rate, InFlight: 1}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < 2*time.Second || took > 3500*time.Millisecond {
				t.Errorf("%v accesses at %v a second took %v", rate*3, rate, took)
			}
		}
	})
}

func TestASilentSiteIsWaitedForAndThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := newFakeSite(4)
		site.before = func(ctx context.Context, call uint64) error {
			if call == 5 {
				time.Sleep(50 * time.Second) // all boxes are down and come back
			}
			if call < 10 {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		start := time.Now()
		s, err := Run(t.Context(), trace(t, 10*requestObjectsMax*4), site, Options{InFlight: 1})
		if !errors.Is(err, ErrGaveUp) || !errors.Is(err, ErrUnacknowledged) || s.Acknowledged != 9*requestObjectsMax {
			t.Errorf("%+v %v", s, err)
		}
		if took := time.Since(start); took < 110*time.Second || took > 112*time.Second {
			t.Errorf("gave up after %v, want 50 s of patience and 60 s of silence", took)
		}
	})
}

func TestAnInterruptReportsWhatWasAcknowledged(t *testing.T) {
	site := newFakeSite(4)
	ctx, interrupt := context.WithCancel(t.Context())
	site.before = func(ctx context.Context, call uint64) error {
		if call < 6 {
			return nil
		}
		interrupt()
		<-ctx.Done()
		return ctx.Err()
	}
	s, err := Run(ctx, trace(t, 5000), site, Options{InFlight: 1})
	if !errors.Is(err, context.Canceled) || s.Acknowledged != 5*requestObjectsMax || s.Sent != 6*requestObjectsMax {
		t.Errorf("%+v %v", s, err)
	}
}

func TestASinkThatFailsEndsTheFeed(t *testing.T) {
	site, lost := newFakeSite(4), errors.New("session lost")
	site.before = func(_ context.Context, call uint64) error {
		if call == 3 {
			return lost
		}
		return nil
	}
	if s, err := Run(t.Context(), trace(t, 5000), site, Options{InFlight: 2}); !errors.Is(err, lost) || s.Acknowledged >= 5000 {
		t.Errorf("%+v %v", s, err)
	}
}
