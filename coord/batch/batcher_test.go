package batch

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

const ms = int64(time.Millisecond)

// messages are n of one session, numbered from first, with values of valueBytes.
func messages(first, n, valueBytes int) *coord.Columns {
	c, v := new(coord.Columns), make([]byte, valueBytes)
	for i := range n {
		c.Add(coord.KindPut, 1, uint64(first+i), 0, nil, v)
	}
	return c
}

func add(t *testing.T, b *Batcher, n int, now int64) {
	t.Helper()
	if !b.Add(messages(1, n, 0), now) {
		t.Fatalf("%d messages refused", n)
	}
}

// take takes what must be ready.
func take(t *testing.T, b *Batcher, now int64) (n int) {
	t.Helper()
	if !b.Ready(now) {
		t.Fatalf("not ready at %v with %d open", time.Duration(now), b.Open())
	}
	var c coord.Columns
	b.Take(&c)
	return c.Len()
}

func TestALoneMessageLeavesAtOnce(t *testing.T) {
	b := New(Policy{})
	now := 1000 * ms
	for range 100 {
		add(t, b, 1, now)
		if n := take(t, b, now); n != 1 {
			t.Fatalf("took %d", n)
		}
		if b.Ready(now) || b.Deadline() != 0 {
			t.Fatal("there is more to do with nothing open")
		}
		now += 3 * ms
		b.Done(3 * time.Millisecond)
	}
}

func TestWhatGathersLeavesWhenABatchReturns(t *testing.T) {
	b := New(Policy{})
	add(t, b, 1, ms)
	take(t, b, ms)
	add(t, b, 3, ms+1)
	if b.Ready(ms + 1) {
		t.Fatal("3 messages did not wait for the batch on its way")
	}
	b.Done(time.Millisecond)
	if n := take(t, b, ms+2); n != 3 {
		t.Fatalf("took %d", n)
	}
}

func TestABatchThatReturnedBeforeAMessageCameDoesNotHurryIt(t *testing.T) {
	b := New(Policy{})
	for range 3 {
		add(t, b, 10, ms)
		take(t, b, ms)
	}
	b.Done(time.Millisecond)
	add(t, b, 1, ms)
	if b.Ready(ms) {
		t.Fatal("one message left by itself while two batches were on their way")
	}
}

func TestTheTargetClosesABatch(t *testing.T) {
	b := New(Policy{})
	add(t, b, 1, ms)
	take(t, b, ms)
	add(t, b, 9, ms)
	if b.Ready(ms) {
		t.Fatal("closed below the target")
	}
	add(t, b, 1, ms)
	if n := take(t, b, ms); n != 10 {
		t.Fatalf("took %d", n)
	}
}

func TestManyBytesCloseABatch(t *testing.T) {
	b := New(Policy{})
	add(t, b, 1, ms)
	take(t, b, ms)
	if !b.Add(messages(1, 2, 64<<10), ms) || !b.Ready(ms) {
		t.Fatal("128 KiB wait for more messages")
	}
}

func TestTheOldestMessageWaitsForTheLingerAndTheDeadlineTellsWhen(t *testing.T) {
	b := New(Policy{})
	add(t, b, 1, ms)
	take(t, b, ms)
	if b.Deadline() != 0 {
		t.Fatal("a deadline with nothing open")
	}
	add(t, b, 1, 2*ms)
	add(t, b, 1, 2*ms+10) // the later message does not move it
	at := b.Deadline()
	if want := 2*ms + int64(b.Linger()); at != want {
		t.Fatalf("deadline %d, want %d", at, want)
	}
	if b.Ready(at - 1) {
		t.Fatal("ready before the deadline")
	}
	if n := take(t, b, at); n != 2 {
		t.Fatalf("took %d", n)
	}
}

func TestTheLingerFollowsTheRoundTripAndNeverExceeds50Milliseconds(t *testing.T) {
	for _, x := range []struct {
		latency time.Duration
		waiting int // messages on their way all the time
		want    time.Duration
	}{
		{time.Millisecond, 10, time.Millisecond / 4},
		{8 * time.Millisecond, 10, 2 * time.Millisecond},
		{8 * time.Millisecond, 80, 2400 * time.Microsecond},
		{8 * time.Millisecond, 1000, 8 * time.Millisecond},
		{40 * time.Millisecond, 1000, 40 * time.Millisecond},
		{time.Second, 10, 50 * time.Millisecond},
		{time.Minute, 1000, 50 * time.Millisecond},
	} {
		b := New(Policy{})
		now := int64(0)
		for range 100 {
			add(t, b, x.waiting, now)
			take(t, b, now)
			now += int64(max(x.latency, 10*time.Millisecond))
			b.Ready(now)
			b.Done(x.latency)
			now += int64(b.latency)*6/10 + 1 // nobody comes back at once
			if b.Linger() > 50*time.Millisecond {
				t.Fatalf("a linger of %v", b.Linger())
			}
		}
		if got := b.Linger(); got < x.want*99/100 || got > x.want*101/100 {
			t.Errorf("round trip %v, %d on their way: linger %v, want %v", x.latency, x.waiting, got, x.want)
		}
	}
}

func TestALostBatchSaysNothingOfTheRoundTrip(t *testing.T) {
	b := New(Policy{})
	before := b.Linger()
	add(t, b, 1, ms)
	take(t, b, ms)
	b.Done(0)
	if b.Linger() != before || b.Inflight() != 0 {
		t.Fatalf("linger %v was %v, %d on their way", b.Linger(), before, b.Inflight())
	}
}

// rides plays clients of one box against a site that takes latency for a batch: arrive says how long after its answer (first:
// its start) a message comes. It gives the sizes of the batches of the last tenth of the time.
func rides(clients int, latency, length int64, arrive func(client int) int64) (sizes []int) {
	b := New(Policy{})
	type flight struct{ at, n int64 }
	var fly []flight
	next, order := make([]int64, clients), []int{}
	for i := range next {
		next[i] = arrive(i)
	}
	var on [][]int // who is in each flight
	for now := int64(0); now < length; now += ms / 20 {
		for len(fly) > 0 && fly[0].at <= now {
			b.Ready(now)
			b.Done(time.Duration(latency))
			for _, i := range on[0] {
				next[i] = now + arrive(i)
			}
			fly, on = fly[1:], on[1:]
		}
		for i := range next {
			if next[i] > 0 && next[i] <= now {
				b.Add(messages(1, 1, 0), now)
				order, next[i] = append(order, i), 0
			}
		}
		if b.Ready(now) {
			var c coord.Columns
			b.Take(&c)
			if now > length*9/10 {
				sizes = append(sizes, c.Len())
			}
			fly, on = append(fly, flight{now + latency, int64(c.Len())}), append(on, order)
			order = nil
		}
	}
	return sizes
}

func TestClientsThatWaitForEachAnswerRideTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := rides(16, 4*ms, 1000*ms, func(int) int64 { return 1 + rng.Int64N(ms) })
	for _, n := range sizes {
		if n != 16 {
			t.Fatalf("16 clients ride in batches of %v", sizes)
		}
	}
	if len(sizes) < 15 {
		t.Errorf("%d batches in 100 ms", len(sizes))
	}
}

// One of them thinks: the others wait for it no longer than lately it was worth.
func TestWhoDoesNotComeBackIsNotWaitedFor(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := rides(16, 4*ms, 2000*ms, func(i int) int64 {
		if i == 0 {
			return 1000 * ms
		}
		return 1 + rng.Int64N(ms/4)
	})
	if len(sizes) < 43 { // of 4 ms and a little each: 200 ms
		t.Errorf("%d batches in 200 ms: %v", len(sizes), sizes)
	}
}

// What comes at times of its own nearly always leaves when a batch returns, as ever.
func TestMessagesThatNobodySendsInAnswerHardlyEverWait(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := New(Policy{})
	latency := 4 * ms
	var fly []int64
	coming, waited, returns := int64(0), 0, 0
	for now := int64(0); now < 4000*ms; now += ms / 20 {
		for coming <= now {
			b.Add(messages(1, 1, 0), now)
			coming += int64(rng.ExpFloat64() * float64(latency) / 20)
		}
		for len(fly) > 0 && fly[0] <= now {
			b.Ready(now)
			b.Done(time.Duration(latency))
			fly = fly[1:]
			if now > 1000*ms && b.Open() > 0 {
				returns++
				if !b.Ready(now) {
					waited++
				}
			}
		}
		if b.Ready(now) {
			b.Take(new(coord.Columns))
			fly = append(fly, now+latency)
		}
	}
	if returns < 100 || waited*10 > returns {
		t.Errorf("after %d of %d returns what had gathered waited", waited, returns)
	}
}

// The corners that the operator knows: 10 messages below 30% load, 200 above 80%, 100 between.
func TestTheTargetFollowsTheLoad(t *testing.T) {
	for _, x := range []struct {
		waiting, want int
	}{{0, 10}, {1, 10}, {29, 10}, {32, 100}, {50, 100}, {79, 100}, {83, 200}, {10000, 200}} {
		b := New(Policy{InflightMax: 100})
		for left := x.waiting; left > 0; {
			n := min(left, 1000)
			add(t, b, n, 0)
			var c coord.Columns
			b.Take(&c)
			left -= n
		}
		for now := int64(0); now < 3000*ms; now += 10 * ms {
			b.Ready(now)
		}
		if b.Target() != x.want {
			t.Errorf("%d messages on their way: load %.2f, target %d, want %d", x.waiting, b.Load(), b.Target(), x.want)
		}
	}
}

func TestTheTargetDoesNotFlapAtABorder(t *testing.T) {
	for _, border := range []int{30, 80} { // of FullMessages 100
		b, changes, last := New(Policy{}), 0, 0
		now := int64(0)
		for i := range 2000 {
			n := border + i%2*4 - 2 // 1.5% below, 1.5% above, for longer than the window each
			add(t, b, n, now)
			take(t, b, now)
			for range 60 {
				now += 5 * ms
				b.Ready(now)
			}
			b.Done(time.Millisecond)
			now += 2 * ms // nobody comes back at once
			if b.Target() != last {
				changes, last = changes+1, b.Target()
			}
		}
		if changes > 3 {
			t.Errorf("around %d messages the target changed %d times", border, changes)
		}
	}
}

func TestTheLoadFallsAgain(t *testing.T) {
	b := New(Policy{})
	add(t, b, 8000, 0)
	take(t, b, 0)
	b.Ready(1000 * ms)
	if b.Target() != 200 || b.Load() != 1 {
		t.Fatalf("target %d, load %v", b.Target(), b.Load())
	}
	b.Done(time.Second)
	for now := 1000 * ms; now < 3000*ms; now += 100 * ms {
		b.Ready(now)
	}
	if b.Target() != 10 || b.Load() > 0.01 {
		t.Fatalf("2 s later: target %d, load %v", b.Target(), b.Load())
	}
}

func TestWithAllBatchesOnTheirWayItGathersUpToTheLimitsAndThenRefuses(t *testing.T) {
	b := New(Policy{})
	for range 8 {
		add(t, b, 10, ms)
		b.Take(new(coord.Columns))
	}
	add(t, b, coord.BatchMessagesMax, 2*ms)
	if b.Ready(1000*ms) || b.Deadline() != 0 {
		t.Fatal("a ninth batch is let go")
	}
	if b.Add(messages(1, 1, 0), 3*ms) {
		t.Fatal("more than a batch can hold was taken")
	}
	b.Done(time.Millisecond)
	if n := take(t, b, 4*ms); n != coord.BatchMessagesMax {
		t.Fatalf("took %d: something was lost or doubled", n)
	}
	add(t, b, 1, 5*ms)
}

func TestBytesAreLimitedToo(t *testing.T) {
	b := New(Policy{})
	if b.Add(messages(1, 3, 800<<10), ms) {
		t.Fatal("2.4 MiB were taken for one batch")
	}
	if !b.Add(messages(1, 2, 800<<10), ms) || b.Add(messages(1, 1, 800<<10), ms) {
		t.Fatal("the sum is not what is limited")
	}
}

// A request that is large, but within the limits, is not refused for what else is open.
func TestWhatDoesNotFitBesideOthersFitsAfterThem(t *testing.T) {
	b := New(Policy{})
	add(t, b, 1, ms)
	take(t, b, ms)
	add(t, b, 5, ms)
	large := messages(1, coord.BatchMessagesMax, 0)
	if b.Add(large, ms) {
		t.Fatal("too many messages were taken")
	}
	if n := take(t, b, ms); n != 5 {
		t.Fatalf("took %d", n)
	}
	if !b.Add(large, ms) {
		t.Fatal("refused by an empty batch")
	}
}

func TestANumberOfBatchesThatCameFromElsewhereIsCounted(t *testing.T) {
	b := New(Policy{})
	b.Sent()
	add(t, b, 1, ms)
	if b.Ready(ms) {
		t.Fatal("left at once with a batch on its way")
	}
	b.Done(time.Millisecond)
	b.Done(time.Millisecond) // one more than was sent
	if b.Inflight() != 0 || !b.Ready(ms) {
		t.Fatalf("%d on their way", b.Inflight())
	}
}

func TestAnEmptyRequestChangesNothing(t *testing.T) {
	b := New(Policy{})
	if !b.Add(new(coord.Columns), ms) || b.Ready(ms) || b.Deadline() != 0 {
		t.Fatal("an empty request makes a batch")
	}
}

func TestAWarmBatcherAllocatesNothing(t *testing.T) {
	b, into, c := New(Policy{}), new(coord.Columns), messages(1, 20, 88)
	now := int64(0)
	cycle := func() {
		for range 10 {
			b.Add(c, now)
			now += ms / 10
		}
		if b.Ready(now) {
			b.Take(into)
			b.Done(time.Millisecond)
		}
	}
	for range 10 {
		cycle()
	}
	if n := testing.AllocsPerRun(100, cycle); n != 0 {
		t.Errorf("%v allocations for 200 messages", n)
	}
}

// Whatever is asked in whatever order: every message that was taken in comes out once, in order, within the limits of a
// batch, and with a linger of 50 ms at most.
func TestEveryMessageComesOutOnceAndInOrder(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := New(Policy{MessagesMax: 1 + r.IntN(400), BytesMax: 1 + r.IntN(20000), InflightMax: 1 + r.IntN(8)})
		var in, out []uint64
		var into coord.Columns
		now, next, flying := int64(0), 1, 0
		drain := func() {
			for b.Ready(now) {
				b.Take(&into)
				if into.Len() == 0 || into.Len() > b.p.MessagesMax || into.Bytes() > b.p.BytesMax {
					t.Fatalf("seed %d: a batch of %d messages, %d bytes", seed, into.Len(), into.Bytes())
				}
				out = append(out, into.Seqs...)
				if flying++; flying > b.p.InflightMax {
					t.Fatalf("seed %d: %d on their way", seed, flying)
				}
			}
		}
		for range 500 {
			now += int64(r.IntN(int(5 * ms)))
			if r.IntN(3) > 0 {
				n := r.IntN(60)
				if b.Add(messages(next, n, r.IntN(100)), now) {
					for i := range n {
						in = append(in, uint64(next+i))
					}
					next += n
				}
			} else if flying > 0 {
				flying--
				b.Done(time.Duration(r.IntN(int(20 * ms))))
			}
			drain()
			if at := b.Deadline(); at != 0 && (at <= now || at > now+50*ms) {
				t.Fatalf("seed %d: at %d the deadline is %d", seed, now, at)
			}
		}
		for b.Open() > 0 {
			now += 50 * ms
			if flying > 0 {
				flying--
				b.Done(time.Millisecond)
			}
			drain()
		}
		if !slices.Equal(in, out) {
			t.Fatalf("seed %d: %d messages in, %d out", seed, len(in), len(out))
		}
	}
}

func TestEveryFieldOfAPolicyHasItsOwnDefault(t *testing.T) {
	p := Policy{Low: Level{Target: 20}, MessagesMax: 1 << 30, InflightMax: 2}.withDefaults()
	want := Policy{}.withDefaults()
	want.Low.Target, want.InflightMax = 20, 2
	if p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
}
