package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "box" {
		err = runBox(ctx, os.Args[2:])
	} else {
		err = measure(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "targets:", err)
		stop()
		os.Exit(1)
	}
}

const (
	boxes = 4
	// delay is one way, for the latency over a network.
	delay = 5 * time.Millisecond
	// slow and fast are messages a second, for the CPU: what "before" takes with ease, and half of the least that it was seen to take
	// at most (1,100 to 2,700 with 64 clients; at 1,200 it sometimes fell behind).
	slow, fast = 300, 600
	// warm, each: of a load. idle is how long nothing is sent, to know what the boxes say to each other then.
	warm, each, idle = 500 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second
	// lookEvery is how often the others are asked who is away.
	lookEvery = 5 * time.Millisecond
	// The payload of a message: the loader's keys, and values.
	keyBytes, valueBytes = 16, 100
	// needed is what of a message must reach the other boxes.
	needed = (boxes - 1) * (keyBytes + valueBytes)
)

// wire is what one load put between the boxes, without what they say to each other at idle.
type wire struct {
	message  float64 // bytes of all boxes together for a message
	overhead float64 // bytes beyond the keys and values that each other box must get, over those, as a share
	fill     float64 // messages in a block
	cpu      float64 // CPU-seconds of all boxes for a million messages
}

// figures are what one round gave for one site.
type figures struct {
	few, many        wire       // 64 and 256 clients of status records
	noise, crowd     wire       // the same of random values
	rate             float64    // messages a second, 64 clients
	near, far, alone [2]float64 // p50 and p99, ms: 64 clients at no delay, at delay, and 1 client at delay
	cpu, fill        [2]float64 // percent of a core, a box, and messages in a block, at slow and fast
	nothing          float64    // the same at idle
	again            float64    // times that a pace was measured again, as the site had fallen behind
	killed, stopped  float64    // ms until all others say that it is away
}

func measure(ctx context.Context) error {
	rounds := flag.Int("rounds", 3, "`how often` each site is started and measured, in turn")
	out := flag.String("out", "", "also write the table to this `file`")
	ofSight := flag.Int("observed", 0, "measure what metrics, history and traces cost instead, in so many `rounds`")
	flag.Parse()
	if *ofSight > 0 {
		return observed(ctx, *ofSight)
	}
	got := map[string][]figures{}
	stolen, all := load.Steal()
	for round := range *rounds {
		kinds := []string{"before", "after"}
		if round%2 == 1 {
			kinds[0], kinds[1] = kinds[1], kinds[0]
		}
		for _, kind := range kinds {
			f, err := one(ctx, kind)
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			fmt.Fprintf(os.Stderr, "targets: round %d %s: %+v\n", round+1, kind, f)
			got[kind] = append(got[kind], f)
		}
	}
	stolen2, all2 := load.Steal()
	text := table(got, *rounds, (stolen2-stolen)/max(1, all2-all))
	fmt.Print(text)
	if *out == "" {
		return nil
	}
	return os.WriteFile(*out, []byte(text), 0o644)
}

// table is the page, of the medians; steal is the share of the machine's time that its host took.
func table(got map[string][]figures, rounds int, steal float64) string {
	commit := "unknown"
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = strings.TrimSpace(string(b))
	}
	var b strings.Builder
	fmt.Fprintf(&b, intro, time.Now().UTC().Format(time.DateOnly), commit, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, rounds, 100*steal, detectBefore)
	for _, x := range []struct {
		what, asked, unit string
		of                func(*figures) float64
		goal              float64 // 0: none
	}{
		{"**message overhead**, 64 clients of status records", "30 % -> 10 %", "%", func(f *figures) float64 { return 100 * f.few.overhead }, 10},
		{"256 clients", "30 % -> 10 %", "%", func(f *figures) float64 { return 100 * f.many.overhead }, 10},
		{"64 clients of random values, which nothing compresses", "30 % -> 10 %", "%", func(f *figures) float64 { return 100 * f.noise.overhead }, 10},
		{"256 clients of random values", "30 % -> 10 %", "%", func(f *figures) float64 { return 100 * f.crowd.overhead }, 10},
		{"bytes for a message, all boxes, 64 clients of status records", "", "B", func(f *figures) float64 { return f.few.message }, 0},
		{"256 clients", "", "B", func(f *figures) float64 { return f.many.message }, 0},
		{"64 clients of random values", "", "B", func(f *figures) float64 { return f.noise.message }, 0},
		{"256 clients of random values", "", "B", func(f *figures) float64 { return f.crowd.message }, 0},
		{"messages in a block, 64 clients of random values", "", "", func(f *figures) float64 { return f.noise.fill }, 0},
		{"256 clients of random values", "", "", func(f *figures) float64 { return f.crowd.fill }, 0},
		{"bytes for a block beyond its messages' keys and values, 64 clients of random values", "", "B", func(f *figures) float64 { return f.noise.fill * f.noise.overhead * needed }, 0},
		{"**coordination latency**, 64 clients, no delay, p50", "100 -> 30 ms", "ms", func(f *figures) float64 { return f.near[0] }, 30},
		{"p99", "", "ms", func(f *figures) float64 { return f.near[1] }, 0},
		{"64 clients, 5 ms one way, p50", "100 -> 30 ms", "ms", func(f *figures) float64 { return f.far[0] }, 30},
		{"p99", "", "ms", func(f *figures) float64 { return f.far[1] }, 0},
		{"1 client, 5 ms one way, p50", "100 -> 30 ms", "ms", func(f *figures) float64 { return f.alone[0] }, 30},
		{"p99", "", "ms", func(f *figures) float64 { return f.alone[1] }, 0},
		{"**failure detection**, a box is stopped (SIGSTOP)", "10 -> 2 s", "ms", func(f *figures) float64 { return f.stopped }, 2000},
		{"a box is killed (SIGKILL)", "10 -> 2 s", "ms", func(f *figures) float64 { return f.killed }, 2000},
		{fmt.Sprintf("**CPU** of a box at %d messages a second", fast), "40 % -> 15 % of a core", "%", func(f *figures) float64 { return f.cpu[1] }, 15},
		{fmt.Sprintf("at %d messages a second", slow), "40 % -> 15 % of a core", "%", func(f *figures) float64 { return f.cpu[0] }, 15},
		{fmt.Sprintf("messages in a block at %d messages a second", fast), "", "", func(f *figures) float64 { return f.fill[1] }, 0},
		{fmt.Sprintf("at %d messages a second", slow), "", "", func(f *figures) float64 { return f.fill[0] }, 0},
		{"times in a round that a pace was measured again, as the site had fallen behind", "", "", func(f *figures) float64 { return f.again }, 0},
		{"CPU-seconds of all boxes for a million messages, 64 clients", "", "s", func(f *figures) float64 { return f.few.cpu }, 0},
		{"256 clients", "", "s", func(f *figures) float64 { return f.many.cpu }, 0},
		{"CPU of a box at idle", "", "%", func(f *figures) float64 { return f.nothing }, 0},
		{"messages a second, 64 clients, no delay", "", "/s", func(f *figures) float64 { return f.rate }, 0},
	} {
		span := func(kind string) result.Span {
			var v []float64
			for i := range got[kind] {
				v = append(v, x.of(&got[kind][i]))
			}
			return result.SpanOf(v)
		}
		form := func(s result.Span) string {
			return fmt.Sprintf("%s (%.1f to %.1f)", strings.TrimSpace(fmt.Sprintf("%.1f %s", s.Median, x.unit)), s.Low, s.High)
		}
		was, is := span("before"), span("after")
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", x.what, x.asked, form(was), form(is), verdict(is.Median, x.goal))
	}
	b.WriteString(reading)
	return b.String()
}

func verdict(got, goal float64) string {
	switch {
	case goal == 0:
		return ""
	case got <= goal:
		return "met"
	}
	return "**missed**"
}

const intro = `# Before and after

` + "`make bench-targets`" + ` on %s, commit %s, %d CPUs, %s/%s: medians (and ranges) of %d rounds, the two sites in turn. The machine's host took
%.1f %% of its time away. Both sites are four processes of one program on one machine, fsync on, the clients beside them.

"After" is the product. "Before" is the same with six things switched off (tools/targets/before.go): each message is a batch of its
own; bodies are JSON, with keys and values as base64, in place of columns; they are not compressed; neither batches nor blocks
wait for others to come; the signature of each vote and batch is checked once by each box as it arrives (the product takes votes at
their link's word, and only a leader checks batches, in the background); a silent box is away after %v. All else is the same in
both: the log, the state, TLS, the pipeline of blocks, and that a closed connection is noticed at once.

**Overhead** counts what the boxes write into their TLS connections (so without TLS records and TCP headers), less what they write at idle.
Four boxes have three others each: a key of 16 bytes and a value of 100 must reach three boxes, and what is more than those 348 bytes
is overhead. Below 0 means that compression saves more than votes, blocks, signatures and headers cost. **Latency** is from a request's
sending to its durable answer, closed loop. **Detection** is from the signal until all others' /metrics say that the box is down, asked
every 5 ms. **CPU** is user and system time of the boxes' processes while messages are sent evenly, an open loop; two of its rows
are of the closed loop.

| | asked for | before | after | |
|---|---|---|---|---|
`

const reading = `
What bounds the lines:

- **Overhead**: a block costs its votes, its certificate and the batches' signatures whatever it carries, so the cost of a message
  falls with the messages in a block. Status records hide it, as compression takes more away. Random values show it.
- **Latency**: a message takes four delays: to the leader, as a block to all, a first vote and a second vote of all. At 5 ms
  that is 20 ms, which one client sees before and after: batching gains it nothing. Many clients also wait for the block before.
- **CPU**: work is for each block more than for each message. Messages that come evenly and alone would have a block each; the product
  begins such blocks 3 ms apart (coord/bft/gather.go), and that much later some of them are answered. Under many clients the blocks fill, and
  then a message costs much less.
- **Detection**: a killed process closes its connections, which both know at once. The patience counts for a box that only falls silent.
`

// one measures one site without and one with delay, once.
func one(ctx context.Context, kind string) (f figures, err error) {
	err = onSite(ctx, kind, 0, func(s *load.Site) error { return near(ctx, s, kind, &f) })
	if err != nil {
		return f, err
	}
	return f, onSite(ctx, kind, delay, func(s *load.Site) error {
		row, err := run(ctx, s, kind, load.Load{Clients: 64, Text: true})
		if err != nil {
			return err
		}
		f.far = [2]float64{row.P50, row.P99}
		row, err = run(ctx, s, kind, load.Load{Clients: 1, Text: true})
		f.alone = [2]float64{row.P50, row.P99}
		return err
	})
}

// run fills in what all loads have in common. A request that failed is an error: the figures are those of a site that works.
func run(ctx context.Context, s *load.Site, kind string, l load.Load) (result.Row, error) {
	l.Name, l.Op, l.Value, l.Warm, l.For = fmt.Sprintf("put-%d", l.Clients), "put", valueBytes, warm, each
	row, err := load.Run(ctx, s.Target(kind), l)
	if err == nil && row.Failed > 0 {
		err = fmt.Errorf("%s: %d requests failed", l.Name, row.Failed)
	}
	return row, err
}

// near measures what needs no delay.
func near(ctx context.Context, s *load.Site, kind string, f *figures) error {
	quiet, cpu, err := rest(ctx, s)
	if err != nil {
		return err
	}
	f.nothing = cpu / boxes * 100
	for _, x := range []struct {
		load load.Load
		into *wire
	}{
		{load.Load{Clients: 64, Text: true}, &f.few},
		{load.Load{Clients: 256, Text: true}, &f.many},
		{load.Load{Clients: 64}, &f.noise},
		{load.Load{Clients: 256}, &f.crowd},
	} {
		row, err := run(ctx, s, kind, x.load)
		if err != nil {
			return err
		}
		*x.into = wireOf(&row, quiet)
		if x.into == &f.few {
			f.near, f.rate = [2]float64{row.P50, row.P99}, row.Rate
		}
	}
	for i, pace := range []float64{slow, fast} {
		if f.cpu[i], f.fill[i], err = keepsUp(ctx, s, kind, pace, &f.again); err != nil {
			return err
		}
	}
	if f.stopped, err = away(ctx, s, syscall.SIGSTOP); err != nil {
		return err
	}
	f.killed, err = away(ctx, s, syscall.SIGKILL)
	return err
}

// rest is what the boxes together do each second while nobody asks: bytes to each other, seconds of CPU.
func rest(ctx context.Context, s *load.Site) (bytes, cpu float64, err error) {
	take := func(sign float64) error {
		c, err := s.Counts(ctx)
		bytes += sign * c.Wire
		for _, b := range s.Boxes {
			used, e := load.CPUSeconds(b.PID())
			cpu, err = cpu+sign*used, errors.Join(err, e)
		}
		return err
	}
	if err := take(-1); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	select {
	case <-time.After(idle):
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	took := time.Since(began).Seconds()
	err = take(1)
	return bytes / took, cpu / took, err
}

// wireOf is a load's, less quiet bytes a second.
func wireOf(row *result.Row, quiet float64) wire {
	message := row.WireMessage - quiet/row.Rate
	return wire{message, message/needed - 1, row.Fill, row.CPU}
}

func onSite(ctx context.Context, kind string, delay time.Duration, fn func(*load.Site) error) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "holdfast-targets-")
	if err != nil {
		return err
	}
	o := load.SiteOptions{Program: self, Args: []string{"box", kind}, Dir: dir, Boxes: boxes, Delay: delay}
	if kind == "before" {
		o.Edit = detectLate
	}
	s, err := load.StartSite(ctx, o)
	if err != nil {
		return err
	}
	err = fn(s)
	s.Stop()
	if err != nil {
		return fmt.Errorf("%w (the boxes' logs are in %s)", err, dir)
	}
	return os.RemoveAll(dir)
}

// away signals the last box and says how many milliseconds passed until all others say that it is away. A stopped one goes on
// afterwards, and they see it again.
func away(ctx context.Context, s *load.Site, sig syscall.Signal) (float64, error) {
	last := len(s.Boxes) - 1
	if err := syscall.Kill(s.Boxes[last].PID(), sig); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := s.Await(ctx, last, false, 3*detectBefore, lookEvery); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if sig == syscall.SIGSTOP {
		if err := syscall.Kill(s.Boxes[last].PID(), syscall.SIGCONT); err != nil {
			return 0, err
		}
		if err := s.Await(ctx, last, true, 3*detectBefore, lookEvery); err != nil {
			return 0, err
		}
	}
	return float64(took) / float64(time.Millisecond), nil
}
