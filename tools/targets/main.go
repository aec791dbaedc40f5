package main

import (
	"context"
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
	// delay is one way, for the latency.
	delay = 5 * time.Millisecond
	// pace is what both sites take, for the CPU.
	pace = 300
	// warm, each: of a load.
	warm, each = time.Second, 3 * time.Second
	// lookEvery is how often the others are asked who is away.
	lookEvery = 5 * time.Millisecond
	// The payload of a message: the loader's keys, and values.
	keyBytes, valueBytes = 16, 100
)

// crowds are the clients with which overhead is measured.
var crowds = [2]int{64, 256}

// figures are what one round gave for one site.
type figures struct {
	overhead        [2]float64 // at each of crowds: bytes between the boxes beyond the payload that each other box must get, over that
	p50, p99        float64    // ms, 64 clients, 5 ms one way
	cpu             float64    // percent of a core, a box, at the pace
	killed, stopped float64    // ms until all others say that it is away
}

func measure(ctx context.Context) error {
	rounds := flag.Int("rounds", 3, "`how often` each site is started and measured, in turn")
	out := flag.String("out", "", "also write the table to this `file`")
	flag.Parse()
	got := map[string][]figures{}
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
			fmt.Fprintf(os.Stderr, "targets: round %d %s: overhead %.0f and %.0f %%, p50 %.1f p99 %.1f ms, CPU %.1f %%, killed %.0f ms, stopped %.0f ms\n",
				round+1, kind, 100*f.overhead[0], 100*f.overhead[1], f.p50, f.p99, f.cpu, f.killed, f.stopped)
			got[kind] = append(got[kind], f)
		}
	}
	text := table(got, *rounds)
	fmt.Print(text)
	if *out == "" {
		return nil
	}
	return os.WriteFile(*out, []byte(text), 0o644)
}

func table(got map[string][]figures, rounds int) string {
	span := func(kind string, of func(*figures) float64) result.Span {
		var v []float64
		for i := range got[kind] {
			v = append(v, of(&got[kind][i]))
		}
		return result.SpanOf(v)
	}
	commit := "unknown"
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = strings.TrimSpace(string(b))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Before and after

`+"`make bench-targets`"+` on %s, commit %s, %d CPUs, %s/%s: medians (and ranges) of %d rounds, the two sites in turn. Both are four processes of one
program on one machine. "After" is the product. "Before" has each message in a batch of its own, as JSON and not compressed, waits for nobody,
checks the signature of each vote and batch when it arrives, wakes up as the Go runtime does by itself, and takes a silent box for away after 10 s (tools/targets/before.go).

| | asked for | before | after | |
|---|---|---|---|---|
`, time.Now().UTC().Format(time.DateOnly), commit, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, rounds)
	for _, x := range []struct {
		what, asked, unit string
		of                func(*figures) float64
		goal              float64
	}{
		{"message overhead: bytes between the boxes beyond the keys and values that each must get, 64 clients, status records", "30 % -> 10 %", "%", func(f *figures) float64 { return 100 * f.overhead[0] }, 10},
		{"the same, 256 clients", "30 % -> 10 %", "%", func(f *figures) float64 { return 100 * f.overhead[1] }, 10},
		{"coordination latency, p50, 64 clients, 5 ms one way", "100 -> 30 ms", "ms", func(f *figures) float64 { return f.p50 }, 30},
		{"the same, p99", "", "ms", func(f *figures) float64 { return f.p99 }, 0},
		{"failure detection, a box stops", "10 -> 2 s", "ms", func(f *figures) float64 { return f.stopped }, 2000},
		{"failure detection, a box is killed", "", "ms", func(f *figures) float64 { return f.killed }, 2000},
		{fmt.Sprintf("CPU of a box at %d writes a second", pace), "40 % -> 15 % of a core", "%", func(f *figures) float64 { return f.cpu }, 15},
	} {
		was, is := span("before", x.of), span("after", x.of)
		verdict := ""
		if x.asked != "" {
			verdict = "met"
			if is.Median > x.goal {
				verdict = "**missed**"
			}
		}
		form := func(s result.Span) string {
			return fmt.Sprintf("%.1f %s (%.1f to %.1f)", s.Median, x.unit, s.Low, s.High)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", x.what, x.asked, form(was), form(is), verdict)
	}
	return b.String()
}

// one measures one site of each kind of network, once.
func one(ctx context.Context, kind string) (f figures, err error) {
	err = onSite(ctx, kind, 0, func(s *load.Site) error {
		for i, clients := range crowds {
			row, err := load.Run(ctx, s.Target(kind), load.Load{Name: "records", Op: "put", Clients: clients, Value: valueBytes, Text: true, Warm: warm, For: each})
			if err != nil {
				return err
			}
			f.overhead[i] = row.WireMessage/(boxes-1)/(keyBytes+valueBytes) - 1
		}
		row, err := load.Run(ctx, s.Target(kind), load.Load{Name: "paced", Op: "put", Clients: 16, Value: valueBytes, Text: true, Pace: pace, Warm: warm, For: each})
		if err != nil {
			return err
		}
		if row.Rate < 0.95*pace {
			return fmt.Errorf("it takes only %.0f of %d messages a second", row.Rate, pace)
		}
		f.cpu = row.CPU * row.Rate / 1e6 / boxes * 100
		if f.stopped, err = away(ctx, s, syscall.SIGSTOP); err != nil {
			return err
		}
		f.killed, err = away(ctx, s, syscall.SIGKILL)
		return err
	})
	if err != nil {
		return f, err
	}
	return f, onSite(ctx, kind, delay, func(s *load.Site) error {
		row, err := load.Run(ctx, s.Target(kind), load.Load{Name: "records", Op: "put", Clients: 64, Value: valueBytes, Text: true, Warm: warm, For: each})
		f.p50, f.p99 = row.P50, row.P99
		return err
	})
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
