// Peers measures a Holdfast site beside what its users would otherwise take: etcd, NATS JetStream, CometBFT and SmartBFT, each a
// cluster of real processes on this machine (SmartBFT is a library: its replicas share a process), through the loader of
// tools/bench, the systems in turn. It is a module of its own, so that none of them is in the product's go.mod.
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
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

func main() {
	var err error
	if len(os.Args) > 2 && os.Args[1] == "node" {
		err = node(os.Args[2], os.Args[3:])
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = measure(ctx)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// node is one server; this program starts itself for each.
func node(kind string, args []string) error {
	switch kind {
	case "etcd":
		return etcdNode(args)
	case "nats":
		return natsNode(args)
	case "comet":
		return cometNode(args)
	case "smart":
		return smartNode(args)
	}
	return fmt.Errorf("there is no node %q", kind)
}

// system is a way to start a cluster below a directory.
type system struct {
	name  string
	loads []string
	start func(ctx context.Context, o *options, dir string) (*load.Target, func(), error)
}

type options struct {
	holdfast, out, json, only, loads string
	rounds                           int
	each, warm, idle                 time.Duration
}

var puts = []string{"put-1", "put-64", "put-256"}

func systems() []system {
	withBatches := append(slices.Clone(puts), "batches", "batches-random")
	shared := append(slices.Clone(puts), "put-256/16") // for clients that send requests of several callers over one connection
	watched := append(slices.Clone(shared), "watch-64")
	sharedWithBatches := append(slices.Clone(shared), "batches", "batches-random")
	return []system{
		{"holdfast-4", sharedWithBatches, startHoldfast},
		{"holdfast-4-etcd-api", watched, startHoldfastAPI},
		{"etcd-3", watched, etcdOf(3)},
		{"etcd-5", watched, etcdOf(5)},
		{"jetstream-3-sync-always", sharedWithBatches, natsOf(true)},
		{"jetstream-3-sync-2min", sharedWithBatches, natsOf(false)},
		{"cometbft-4", puts, startComet},
		{"smartbft-4-one-process", withBatches, startSmart},
	}
}

func measure(ctx context.Context) error {
	var o options
	flag.StringVar(&o.holdfast, "holdfast", "bin/holdfast", "the product's `program`")
	flag.StringVar(&o.out, "out", "", "also write the table to this `file`")
	flag.StringVar(&o.json, "json", "", "write the rows to this `file`")
	flag.StringVar(&o.only, "only", "", "only systems whose name begins with one of `these`")
	flag.StringVar(&o.loads, "loads", "", "only `these` loads")
	flag.IntVar(&o.rounds, "rounds", 3, "`how often` each system is started and measured, in turn")
	flag.DurationVar(&o.each, "time", 3*time.Second, "`length` of each load")
	flag.DurationVar(&o.warm, "warm", time.Second, "`how long` a load runs before it is measured")
	flag.DurationVar(&o.idle, "idle", 15*time.Second, "`how long` each system is measured with nothing to do, in the first round; 0: not")
	flag.Parse()
	var err error
	if o.holdfast, err = filepath.Abs(o.holdfast); err != nil {
		return err
	}
	all := slices.DeleteFunc(systems(), func(s system) bool {
		return o.only != "" && !slices.ContainsFunc(strings.Split(o.only, ","), func(p string) bool { return strings.HasPrefix(s.name, p) })
	})
	if len(all) == 0 {
		return fmt.Errorf("no system is called %q", o.only)
	}
	f := result.New(commit(), fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()))
	f.Rounds, f.Seconds = o.rounds, o.each.Seconds()
	stolen, ticks := load.Steal()
	missing := map[string]string{}
	for round := range o.rounds {
		for i := range all {
			s := &all[(i+round)%len(all)] // none is always first
			if missing[s.name] != "" {
				continue
			}
			if err := one(ctx, &o, s, round, f); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				missing[s.name] = err.Error()
				progress("%s: %v", s.name, err)
			}
		}
	}
	st, tk := load.Steal()
	f.Steal = (st - stolen) / max(1, tk-ticks)
	for name, why := range missing {
		f.Notes = append(f.Notes, name+": "+why)
	}
	slices.Sort(f.Notes)
	return report(&o, f)
}

// one measures one system once.
func one(ctx context.Context, o *options, s *system, round int, f *result.File) (err error) {
	dir, err := os.MkdirTemp("", "holdfast-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	speed, err := load.Reference(ctx, dir, time.Second)
	if err != nil {
		return err
	}
	f.Reference = append(f.Reference, speed)
	t, stop, err := s.start(ctx, o, dir)
	if err != nil {
		return err
	}
	defer stop()
	t.Name, t.Dir = s.name, dir
	if round == 0 && o.idle > 0 {
		if err := rest(ctx, restBefore); err != nil {
			return err
		}
		row, err := load.Idle(ctx, t, o.idle)
		if err != nil {
			return err
		}
		f.Rows = append(f.Rows, row)
		progress("%-26s idle %.2f %% of a core, %.0f MiB, %.1f MiB written an hour, a server", s.name, row.IdleCPU, row.Memory, row.IdleWritten)
	}
	for _, name := range s.loads {
		if o.loads != "" && !slices.Contains(strings.Split(o.loads, ","), name) {
			continue
		}
		l, err := load.Loads(name)
		if err != nil {
			return err
		}
		l.For, l.Warm = o.each, o.warm
		row, err := load.Run(ctx, t, l)
		if err != nil {
			return err
		}
		row.Round = round
		f.Rows = append(f.Rows, row)
		progress("%-26s %-14s %8.0f/s  p50 %8.2f  p99 %8.2f ms  %8.1f CPU-s/M  %4.0f MiB  disk %5.1f B/B  %d failed",
			row.System, row.Load, row.Rate, row.P50, row.P99, row.CPU, row.Memory, row.DiskPayload, row.Failed)
	}
	return nil
}

// restBefore is what follows a start.
const restBefore = 5 * time.Second

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func report(o *options, f *result.File) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# Beside others

`+"`make bench-peers`"+` on %s, commit %s, %s. All servers, and the loader with its clients, share the machine. Values of 100 bytes; each client waits
for its answer; "batches" are requests of 100 messages, 64 of them under way (100 single messages under way at a time where a system has
no batches). Every process has GOMAXPROCS = CPUs / processes, at least 1. Disk bytes are a server's; CPU is of all servers.

`, f.Made, f.Commit, f.Machine)
	if err := f.Table(&b, true); err != nil {
		return err
	}
	r := result.SpanOf(f.Reference)
	fmt.Fprintf(&b, "\nMedians of %d rounds of %g s, the systems in turn, each round on new clusters. %.1f %% of the machine's time was stolen; its speed was %.0f pieces\nof the reference a second (%.0f to %.0f).\n",
		f.Rounds, f.Seconds, 100*f.Steal, r.Median, r.Low, r.High)
	for _, n := range f.Notes {
		fmt.Fprintf(&b, "\n- Not measured to the end: %s\n", n)
	}
	ratios(&b, f)
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

// ratios are of each system to etcd-3, round by round.
func ratios(b *strings.Builder, f *result.File) {
	fmt.Fprintf(b, "\n## Ratios to etcd of three, medians of the rounds' ratios\n\n| load | system | rate | p50 | p99 | CPU |\n|---|---|---|---|---|---|\n")
	for _, name := range puts {
		base := f.Find(result.Key{System: "etcd-3", Load: name})
		if base == nil {
			continue
		}
		for _, s := range f.Series() {
			if s.Load != name || s.System == "etcd-3" {
				continue
			}
			row := fmt.Sprintf("| %s | %s |", name, s.System)
			for _, g := range []result.Figure{result.Rate, result.P50, result.P99, result.CPU} {
				var v []float64
				for i := range s.Rows {
					for k := range base.Rows {
						if base.Rows[k].Round == s.Rows[i].Round && g.Of(&base.Rows[k]) > 0 {
							v = append(v, g.Of(&s.Rows[i])/g.Of(&base.Rows[k]))
						}
					}
				}
				row += fmt.Sprintf(" %.2f |", result.SpanOf(v).Median)
			}
			fmt.Fprintln(b, row)
		}
	}
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "peers: "+format+"\n", args...) }

func commit() string {
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		return strings.TrimSpace(string(b))
	}
	return "unknown"
}
