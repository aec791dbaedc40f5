package batch

import (
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// A site in virtual time: closed-loop clients, and an ordering that makes a block of whatever waits every round trip. Its
// cost is that of the trial in the project's figures: a batch takes its time however full it is.

type outcome struct {
	messages, batches int
	waitMax, waitSum  time.Duration // in the open batch
	target            int
}

func (o outcome) perBatch() float64       { return float64(o.messages) / float64(o.batches) }
func (o outcome) waitMean() time.Duration { return o.waitSum / time.Duration(o.messages) }

// run has clients that each send a request of size messages, wait for its answer, think, and send the next.
func run(clients, size int, think, trip, length time.Duration) (o outcome) {
	type batch struct {
		at      int64
		clients []int
	}
	const (
		step = int64(50 * time.Microsecond)
		warm = int64(2 * time.Second) // until then it learns the load and the round trip: not counted
	)
	b, into, req := New(Policy{}), new(coord.Columns), messages(1, size, 88)
	var flying []batch
	var open []int
	asked := make([]int64, clients) // when the client sends next; -1 while it waits
	since := make([]int64, clients)
	for i := range asked {
		asked[i] = int64(i) * step // they do not start at once
	}
	for now := step; now < int64(length); now += step {
		for len(flying) > 0 && now-flying[0].at >= int64(trip) {
			for _, c := range flying[0].clients {
				asked[c] = now + int64(think)
			}
			b.Done(time.Duration(now - flying[0].at))
			flying = flying[1:]
		}
		for c, at := range asked {
			if at < 0 || at > now {
				continue
			}
			if b.Add(req, now) {
				asked[c], since[c] = -1, now
				open = append(open, c)
			}
		}
		for b.Ready(now) {
			b.Take(into)
			for _, c := range open {
				w := time.Duration(now - since[c])
				if now > warm {
					o.waitMax, o.waitSum = max(o.waitMax, w), o.waitSum+w*time.Duration(size)
				}
			}
			if now > warm {
				o.messages += into.Len()
				o.batches++
			}
			flying = append(flying, batch{now, open})
			open = nil
		}
	}
	o.target = b.Target()
	return o
}

func TestASiteUnderEveryLoad(t *testing.T) {
	const trip = 4 * time.Millisecond
	for _, x := range []struct {
		name          string
		clients, size int
		think, trip   time.Duration
		check         func(o outcome) bool
		promise       string
	}{
		{"one client", 1, 1, 0, trip, func(o outcome) bool { return o.waitMax == 0 && o.perBatch() == 1 && o.target == 10 }, "never waits"},
		{"one client on a slow link", 1, 1, 0, 300 * time.Millisecond, func(o outcome) bool { return o.waitMax == 0 }, "never waits"},
		{"one client with batches", 1, 100, 0, trip, func(o outcome) bool { return o.waitMax == 0 && o.perBatch() == 100 }, "never waits"},
		{"3 clients", 3, 1, 0, trip, func(o outcome) bool { return o.waitMean() <= trip/4 }, "wait a quarter of a round trip at most"},
		{"64 clients", 64, 1, 0, trip, func(o outcome) bool { return o.perBatch() >= 15 && o.waitMean() <= trip/2 }, "share batches and wait half a round trip at most"},
		{"256 clients", 256, 1, 0, trip, func(o outcome) bool { return o.perBatch() >= 60 && o.waitMean() <= trip && o.target == 200 }, "fill batches"},
		{"1000 clients", 1000, 1, 0, trip, func(o outcome) bool { return o.perBatch() >= 150 && o.waitMean() <= trip }, "fill batches"},
		{"16 clients with batches", 16, 100, 0, trip, func(o outcome) bool { return o.perBatch() >= 200 && o.waitMean() <= trip }, "join batches"},
		{"100 clients that think", 100, 1, 100 * time.Millisecond, trip, func(o outcome) bool { return o.target == 10 && o.waitMean() <= trip/4 }, "are low load, for latency"},
		{"256 clients on a slow link", 256, 1, 0, 300 * time.Millisecond, func(o outcome) bool { return o.waitMax <= 51*time.Millisecond }, "wait for the linger at most, which is never above 50 ms"},
	} {
		t.Run(x.name, func(t *testing.T) {
			o := run(x.clients, x.size, x.think, x.trip, 7*time.Second)
			t.Logf("%d messages, %.1f a batch, waited %v on average and %v at most, target %d", o.messages, o.perBatch(), o.waitMean(), o.waitMax, o.target)
			if !x.check(o) {
				t.Errorf("not so: they %s", x.promise)
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	bat, into, c := New(Policy{}), new(coord.Columns), messages(1, 1, 88)
	now := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		addOne(bat, into, c, now)
		now += 10_000
	}
}

//go:noinline
func addOne(b *Batcher, into, c *coord.Columns, now int64) {
	b.Add(c, now)
	if b.Ready(now) {
		b.Take(into)
		b.Done(time.Millisecond)
	}
}
