package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheHistogramIsRightToTwoPercent(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h, other histogram
	var all []time.Duration
	for i := range 100_000 {
		d := time.Duration(rng.ExpFloat64() * float64(3*time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			h.add(d)
		} else {
			other.add(d)
		}
	}
	h.merge(&other)
	slices.Sort(all)
	for _, q := range []float64{0, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[min(len(all)-1, int(q*float64(len(all))))]
		if got := h.quantile(q); float64(got) < 0.98*float64(want) || float64(got) > 1.02*float64(want)+2 {
			t.Errorf("quantile %g is %v, want %v", q, got, want)
		}
	}
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 1e6, 1<<63 - 1, 1 << 63, ^uint64(0)} {
		i := bucket(v)
		if i >= bucketsMax || upper(i) < v || i > 0 && upper(i-1) >= v {
			t.Errorf("%d is in bucket %d, up to %d", v, i, upper(i))
		}
	}
}

func TestLoadsAreNamed(t *testing.T) {
	if l, err := Loads("put-64"); err != nil || l.Op != "put" || l.Clients != 64 || l.Batch != 1 {
		t.Error(l, err)
	}
	if l, err := Loads("batches-random"); err != nil || l.Batch != 100 || l.Text {
		t.Error(l, err)
	}
	for _, name := range []string{"", "put", "put-", "put-0", "put--1", "put-x", "put-99999999", "batches-2x"} {
		if l, err := Loads(name); err == nil {
			t.Errorf("%q is %+v", name, l)
		}
	}
}

// slow answers after a time, and fails every tenth request.
type slow struct {
	takes time.Duration
	n     *atomic.Int64
}

func (s slow) Do(ctx context.Context, keys, _ [][]byte) error {
	if s.n.Add(1)%10 == 0 {
		return errors.New("no")
	}
	pause(ctx, s.takes)
	return ctx.Err()
}

func (s slow) Close() error { return nil }

func TestRunCountsWhatIsAnsweredAndWhatFails(t *testing.T) {
	var n atomic.Int64
	target := &Target{
		Name: "fake", PIDs: []int{os.Getpid()}, Dir: t.TempDir(),
		Open: func(context.Context, string, int) (Client, error) { return slow{2 * time.Millisecond, &n}, nil },
	}
	l := Load{Name: "put-4", Op: "put", Clients: 4, Batch: 3, Value: 10, Warm: 20 * time.Millisecond, For: 300 * time.Millisecond}
	row, err := Run(t.Context(), target, l)
	if err != nil {
		t.Fatal(err)
	}
	if row.Failed == 0 || row.Rate == 0 || row.P50 < 1.9 || row.Memory == 0 || row.Clients != 4 || row.WireMessage != 0 {
		t.Errorf("%+v", row)
	}
	target.Open = func(_ context.Context, _ string, i int) (Client, error) {
		if i == 2 {
			return nil, errors.New("not there")
		}
		return slow{0, &n}, nil
	}
	if _, err := Run(t.Context(), target, l); err == nil {
		t.Error("a client that could not connect is no error")
	}
}

func TestStatusRecordsAndRandomBytesAreAsLongAsAsked(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 20, 100, 1000} {
		if a, b := len(statusRecord(nil, r, 1, 2, n)), len(randomBytes(nil, r, n)); a != n || b != n {
			t.Errorf("%d: %d, %d", n, a, b)
		}
	}
}

func TestLoadsAreReadFromTheirNames(t *testing.T) {
	for name, want := range map[string][2]int{"put-1": {1, 1}, "put-64": {64, 1}, "get-256/16": {16, 16}, "put-4/4": {4, 1}, "batches": {16, 4}} {
		if l, err := Loads(name); err != nil || [2]int{l.Clients, max(1, l.Each)} != want {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for _, name := range []string{"put", "put-", "put-0", "put-x", "put-64/", "put-64/0", "put-64/-4", "put-64/7", "put-4/8", "put-99999"} {
		if l, err := Loads(name); err == nil {
			t.Errorf("%q is %+v", name, l)
		}
	}
}
