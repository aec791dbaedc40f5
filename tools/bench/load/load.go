// Package load drives systems with closed loops of clients and measures what they answer and what that costs. The same loader
// drives a Holdfast site and what it is compared with.
package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

// Client is one client's connection, used by Load.Each loops at a time.
type Client interface {
	// Do does the load's operation on 1 or more keys and returns when all are answered, durably where it writes. The slices are the
	// caller's again when it returns.
	Do(ctx context.Context, keys, values [][]byte) error
	Close() error
}

// Counts are what a system has counted so far; -1 is not known.
type Counts struct {
	// Wire is the bytes that its servers sent each other, Syncs how often one of them made its log durable, Blocks and Messages
	// what one of them ordered.
	Wire, Syncs, Blocks, Messages float64
}

// Target is a running system.
type Target struct {
	Name  string
	Delay time.Duration // one way, between its servers
	// PIDs are its servers' processes, Dir a directory on the disk that they write to.
	PIDs []int
	Dir  string
	// Open connects the i-th client for a kind of operation: "put", "get", or one that this target has beside them.
	Open func(ctx context.Context, op string, i int) (Client, error)
	// Counts, if not nil, asks the servers.
	Counts func(ctx context.Context) (Counts, error)
}

// Load is closed loops: each waits for its answer before the next request.
type Load struct {
	Name    string
	Op      string // "put", "get", "watch", "telemetry"
	Clients int    // connections
	Each    int    // loops on each, at least 1
	Batch   int    // messages of a request, at least 1
	Value   int    // bytes
	Text    bool   // values are status records as text; otherwise random bytes
	// Pace, if not 0, is how many messages a second all loops together send at most, evenly.
	Pace float64
	Warm time.Duration
	For  time.Duration
}

// Loads are the loads by name.
func Loads(name string) (Load, error) {
	l := Load{Name: name, Op: "put", Each: 1, Batch: 1, Value: 100}
	if name == "batches" || name == "batches-random" {
		l.Clients, l.Each, l.Batch, l.Text = 16, 4, 100, name == "batches"
		return l, nil
	}
	op, n, _ := strings.Cut(name, "-")
	n, over, shared := strings.Cut(n, "/")
	clients, err := strconv.Atoi(n)
	conns := clients
	if shared && err == nil {
		conns, err = strconv.Atoi(over)
	}
	if err != nil || clients < 1 || clients > clientsMax || conns < 1 || clients%conns != 0 {
		return l, fmt.Errorf("load %q: it is an operation and how many clients, such as put-64, and over how many connections they come when they share them, such as put-64/16; or batches, or batches-random", name)
	}
	l.Op, l.Clients, l.Each = op, conns, clients/conns
	if op == "telemetry" {
		l.Batch, l.Value = 100, 0
	}
	return l, nil
}

const (
	// clientsMax is more than a load needs.
	clientsMax = 10_000
	// keysEach is how many keys a loop uses in turn, so that a long run does not only make the state larger.
	keysEach = 200
	// closeMax is how long clients may take to end after the figures are taken.
	closeMax = 5 * time.Second
)

// Run opens the clients, warms up, measures for Load.For, and closes them. Requests that fail are counted; the
// error is that of a load that could not be run at all.
func Run(ctx context.Context, t *Target, l Load) (row result.Row, err error) {
	l.Each, l.Batch = max(1, l.Each), max(1, l.Batch)
	clients, err := open(ctx, t, &l)
	defer closeAll(clients)
	if err != nil {
		return row, fmt.Errorf("%s: %s: %w", t.Name, l.Name, err)
	}
	var (
		phase  atomic.Int32 // 0 warms up, 1 measures, 2 ends
		failed atomic.Int64
		count  atomic.Int64 // requests of phase 1
		wg     sync.WaitGroup
		mu     sync.Mutex
		all    histogram
	)
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, c := range clients {
		for k := range l.Each {
			wg.Go(func() {
				w := newWriter(&l, i*l.Each+k)
				var mine histogram
				tick := time.Now()
				for phase.Load() < 2 && run.Err() == nil {
					if l.Pace > 0 {
						tick = tick.Add(time.Duration(float64(l.Clients*l.Each*l.Batch) / l.Pace * float64(time.Second)))
						pause(run, time.Until(tick))
					}
					w.next()
					at, measured := time.Now(), phase.Load() == 1
					err := c.Do(run, w.keys, w.values)
					switch {
					case !measured || phase.Load() != 1:
					case err != nil:
						failed.Add(1)
					default:
						mine.add(time.Since(at))
						count.Add(1)
					}
					if err != nil {
						pause(run, failurePause)
					}
				}
				mu.Lock()
				all.merge(&mine)
				mu.Unlock()
			})
		}
	}
	pause(run, l.Warm)
	before, err := take(run, t)
	phase.Store(1)
	began := time.Now()
	if err == nil {
		pause(run, l.For)
	}
	took := time.Since(began)
	phase.Store(2)
	n := count.Load()
	after, err2 := take(ctx, t)
	// A loop that does not get an answer any more is ended.
	end := time.AfterFunc(closeMax, cancel)
	defer end.Stop()
	wg.Wait()
	for _, e := range []error{ctx.Err(), err, err2} {
		if e != nil {
			return row, fmt.Errorf("%s: %s: %w", t.Name, l.Name, e)
		}
	}
	row = result.Row{
		System: t.Name, Load: l.Name, Delay: ms(t.Delay), Clients: l.Clients * l.Each, Failed: failed.Load(),
		Rate: float64(n) * float64(l.Batch) / took.Seconds(),
		P50:  ms(all.quantile(0.5)), P90: ms(all.quantile(0.9)), P99: ms(all.quantile(0.99)), Max: ms(all.quantile(1)),
		Memory: after.memory,
	}
	before.cost(&after, &l, float64(n)*float64(l.Batch), len(t.PIDs), &row)
	if n == 0 {
		return row, fmt.Errorf("%s: %s: no request was answered in %v, %d failed", t.Name, l.Name, took.Round(time.Millisecond), row.Failed)
	}
	return row, nil
}

// failurePause keeps a loop whose requests fail at once from being the load.
const failurePause = 10 * time.Millisecond

// openAtOnce is how many clients connect at a time.
const openAtOnce = 16

func open(ctx context.Context, t *Target, l *Load) ([]Client, error) {
	clients := make([]Client, l.Clients)
	var first error
	var mu sync.Mutex
	var wg sync.WaitGroup
	turn := make(chan struct{}, openAtOnce)
	for i := range clients {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			c, err := t.Open(ctx, l.Op, i)
			mu.Lock()
			defer mu.Unlock()
			clients[i] = c
			if err != nil {
				clients[i] = nil
				if first == nil {
					first = fmt.Errorf("client %d: %w", i, err)
				}
			}
		})
	}
	wg.Wait()
	return clients, first
}

func closeAll(clients []Client) {
	var wg sync.WaitGroup
	for _, c := range clients {
		if c != nil {
			wg.Go(func() { _ = c.Close() }) // the figures are taken
		}
	}
	wg.Wait()
}

// writer makes a loop's requests.
type writer struct {
	l            *Load
	id, n        int
	rng          *rand.Rand
	keys, values [][]byte
}

func newWriter(l *Load, id int) *writer {
	w := &writer{l: l, id: id, rng: rand.New(rand.NewPCG(uint64(id), 1))}
	for range l.Batch {
		w.keys, w.values = append(w.keys, nil), append(w.values, make([]byte, 0, l.Value+8))
	}
	return w
}

// next fills keys and values for the next request.
func (w *writer) next() {
	for i := range w.keys {
		w.keys[i] = fmt.Appendf(w.keys[i][:0], "b%05d/%09d", w.id, w.n%keysEach)
		if w.l.Text {
			w.values[i] = statusRecord(w.values[i][:0], w.rng, w.id, w.n, w.l.Value)
		} else {
			w.values[i] = randomBytes(w.values[i][:0], w.rng, w.l.Value)
		}
		w.n++
	}
}

func randomBytes(b []byte, r *rand.Rand, n int) []byte {
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

// statusRecord is what a device says of itself, as text of n bytes.
func statusRecord(b []byte, r *rand.Rand, id, seq, n int) []byte {
	b = fmt.Appendf(b, "dev=%05d seq=%09d state=running temp=%d.%d load=%d.%02d fan=%d volts=11.%d",
		id, seq, 40+r.IntN(20), r.IntN(10), r.IntN(4), r.IntN(100), 1200+r.IntN(300), 80+r.IntN(20))
	for len(b) < n {
		b = append(b, " ok"...)
	}
	return b[:n]
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
