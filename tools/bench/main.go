package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := measure
	if len(os.Args) > 1 && os.Args[1] == "plot" {
		os.Args = slices.Delete(os.Args, 1, 2)
		run = func(context.Context) error { return plot() }
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	binary, out, json, compare string
	boxes, delays, loads       string
	parts                      string
	rounds, kills              int
	each, warm                 time.Duration
	check                      bool
}

func measure(ctx context.Context) error {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/holdfast", "the `program` to measure")
	flag.StringVar(&o.out, "out", "", "also write the tables to this `file`")
	flag.StringVar(&o.json, "json", "", "write the rows to this `file`")
	flag.StringVar(&o.compare, "compare", "", "an earlier `file` of rows: print how the figures have changed")
	flag.BoolVar(&o.check, "check", false, "with -compare: end with an error when a figure is worse beyond noise")
	flag.StringVar(&o.boxes, "boxes", "4", "`sizes` of the site, such as 1,4,7,10")
	flag.StringVar(&o.delays, "delays", "0", "one-way `delays` between boxes in milliseconds, such as 0,5,20")
	flag.StringVar(&o.loads, "loads", "put-1,put-16,put-64,put-256,put-64/4,put-256/16,batches,batches-random,telemetry-16,get-64,watch-64", "`which`: an operation (put, get, telemetry, watch: each client is told of all puts, through the etcd API) and how many clients, and over how many connections when they share them (put-256/16); or batches, batches-random")
	flag.StringVar(&o.parts, "parts", "load,idle,kill,codec,size", "`which` parts to run")
	flag.IntVar(&o.rounds, "rounds", 3, "`how often` each site is started and measured, in turn")
	flag.DurationVar(&o.each, "time", 4*time.Second, "`length` of each load")
	flag.DurationVar(&o.warm, "warm", time.Second, "`how long` a load runs before it is measured")
	flag.IntVar(&o.kills, "kills", 20, "`how often` the leader is killed")
	flag.Parse()
	var err error
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if o.check && o.compare == "" {
		return errors.New("-check wants -compare FILE")
	}
	var old *result.File
	if o.compare != "" {
		if old, err = result.Read(o.compare); err != nil {
			return err
		}
	}
	f := result.New(commit(), machine())
	f.Rounds, f.Seconds = o.rounds, o.each.Seconds()
	goals := new(goals)
	stolen, all := load.Steal()
	for part := range strings.SplitSeq(o.parts, ",") {
		var err error
		switch part {
		case "load":
			err = loads(ctx, &o, f)
		case "idle":
			err = idle(ctx, &o, goals)
		case "kill":
			err = kills(ctx, &o, goals)
		case "codec":
			err = codec(ctx, goals)
		case "size":
			err = size(ctx, goals)
		default:
			err = fmt.Errorf("there is no part %q: load, idle, kill, codec, size", part)
		}
		if err != nil {
			return err
		}
	}
	s, a := load.Steal()
	f.Steal = (s - stolen) / max(1, a-all)
	if err := report(&o, f, goals); err != nil {
		return err
	}
	if old == nil {
		return nil
	}
	return compare(&o, old, f)
}

// loads runs the matrix of loads: sites in turn, each round from a new one.
func loads(ctx context.Context, o *options, f *result.File) error {
	sizes, err := numbers(o.boxes)
	if err != nil {
		return err
	}
	delays, err := numbers(o.delays)
	if err != nil {
		return err
	}
	var ls []load.Load
	for name := range strings.SplitSeq(o.loads, ",") {
		l, err := load.Loads(name)
		if err != nil {
			return err
		}
		l.For, l.Warm = o.each, o.warm
		ls = append(ls, l)
	}
	cells := o.rounds * len(sizes) * len(delays)
	progress("%d sites of %d loads: about %v", cells, len(ls), (time.Duration(cells*len(ls)) * (o.each + o.warm + time.Second)).Round(time.Minute))
	for round := range o.rounds {
		for i := range sizes {
			n := sizes[(i+round)%len(sizes)] // none is always first
			for _, delay := range delays {
				if err := cell(ctx, o, f, ls, round, n, time.Duration(delay)*time.Millisecond); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// cell measures the loads on one new site.
func cell(ctx context.Context, o *options, f *result.File, ls []load.Load, round, n int, delay time.Duration) error {
	return onSite(ctx, o, n, delay, func(s *load.Site, dir string) error {
		speed, err := load.Reference(ctx, dir, time.Second)
		if err != nil {
			return err
		}
		f.Reference = append(f.Reference, speed)
		t := s.Target("holdfast-" + strconv.Itoa(n))
		for _, l := range ls {
			row, err := load.Run(ctx, t, l)
			if err != nil {
				return err
			}
			row.Round = round
			f.Rows = append(f.Rows, row)
			progress("%-11s %2.0f ms %-14s %8.0f/s  p50 %7.2f  p99 %7.2f ms  %7.1f CPU-s/M  %4.0f MiB  %d failed",
				row.System, row.Delay, row.Load, row.Rate, row.P50, row.P99, row.CPU, row.Memory, row.Failed)
		}
		return nil
	})
}

// onSite runs fn with a new site, and gives what the boxes said if it fails.
func onSite(ctx context.Context, o *options, n int, delay time.Duration, fn func(s *load.Site, dir string) error) error {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return err
	}
	s, err := load.StartSite(ctx, load.SiteOptions{Program: o.binary, Dir: dir, Boxes: n, Delay: delay})
	if err != nil {
		return fmt.Errorf("%w (the boxes' logs are in %s)", err, dir)
	}
	err = fn(s, dir)
	s.Stop()
	if err != nil {
		return fmt.Errorf("%w (the boxes' logs are in %s)", err, dir)
	}
	return os.RemoveAll(dir)
}

func numbers(list string) (all []int, err error) {
	for v := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < 0 || n > 1000 {
			return nil, fmt.Errorf("%q is no list of numbers", list)
		}
		all = append(all, n)
	}
	return all, nil
}

// idle measures what boxes cost that have nothing to do.
func idle(ctx context.Context, o *options, g *goals) error {
	const wait, long = 8 * time.Second, 20 * time.Second // what follows the start; the measurement
	return onSite(ctx, o, 4, 0, func(s *load.Site, _ string) error {
		progress("idle, %v", wait+long)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		row, err := load.Idle(ctx, s.Target("holdfast-4"), long)
		if err != nil {
			return err
		}
		g.add("idle: CPU of a box", "<= 0.5 % of a core", fmt.Sprintf("%.2f %%", row.IdleCPU), row.IdleCPU <= 0.5)
		g.add("idle: memory of the largest box", "<= 30 MiB", fmt.Sprintf("%.0f MiB", row.Memory), row.Memory <= 30)
		g.add("idle: written by a box", "<= 1 MiB an hour", fmt.Sprintf("%.2f MiB an hour", row.IdleWritten), row.IdleWritten <= 1)
		return nil
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// report writes the tables and the rows.
func report(o *options, f *result.File, g *goals) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Figures\n\n`make bench` on %s, commit %s, %s. The boxes are processes on one machine, with the clients on the same\ncores; every sync is real.\n\n",
		f.Made, f.Commit, f.Machine)
	if len(f.Rows) > 0 {
		if err := f.Table(&b, true); err != nil {
			return err
		}
		r := result.SpanOf(f.Reference)
		fmt.Fprintf(&b, "\nMedians of %d rounds of %g s each, the sites in turn, each round on new ones. %.1f %% of the machine's time was stolen; its speed was %.0f pieces of\nthe reference a second (%.0f to %.0f).\n",
			f.Rounds, f.Seconds, 100*f.Steal, r.Median, r.Low, r.High)
		if o.delays == "0" && strings.Contains(","+o.boxes+",", ",4,") {
			g.loads(f)
		}
	}
	b.WriteString(g.table())
	fmt.Print(b.String())
	if o.json != "" {
		if err := f.Write(o.json); err != nil {
			return err
		}
	}
	if o.out == "" {
		return nil
	}
	return os.WriteFile(o.out, []byte(b.String()), 0o644)
}

// checked are the figures that bench-check looks at: those of the middle of the distribution, which a quarter of a minute can show.
var checked = []result.Figure{result.Rate, result.P50, result.CPU, result.Wire, result.Syncs}

func compare(o *options, old, f *result.File) error {
	figures := result.Figures
	if o.check {
		figures = checked
	}
	all := result.Compare(old, f, figures)
	if len(all) == 0 {
		return fmt.Errorf("%s has nothing that was measured now", o.compare)
	}
	fmt.Printf("\n# Beside %s (%s, %s)\n\n", o.compare, old.Commit, old.Made)
	worse, err := result.PrintChanges(os.Stdout, all)
	if err == nil && o.check && worse > 0 {
		err = fmt.Errorf("%d figures are worse than in %s beyond noise; if that is meant, write it anew with `make bench-baseline`", worse, o.compare)
	}
	return err
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

func commit() string {
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		return strings.TrimSpace(string(b))
	}
	return "unknown"
}

func machine() string {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%d x %s, %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
