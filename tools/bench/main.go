package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	binary  string
	out     string
	boxes   int
	seconds time.Duration
	kills   int
	skip    string
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/holdfast", "the program to measure")
	flag.StringVar(&o.out, "out", "", "also write the table to this file")
	flag.IntVar(&o.boxes, "boxes", 4, "boxes of the site")
	flag.DurationVar(&o.seconds, "time", 8*time.Second, "length of each load")
	flag.IntVar(&o.kills, "kills", 20, "how often the leader is killed")
	flag.StringVar(&o.skip, "skip", "", "comma-separated parts to leave out: load,kill,codec,size")
	flag.Parse()
	var err error
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	t := newTable(o)
	skip := func(part string) bool { return strings.Contains(","+o.skip+",", ","+part+",") }
	if !skip("load") {
		if err := loads(ctx, o, t); err != nil {
			return err
		}
	}
	if !skip("kill") {
		if err := kills(ctx, o, t); err != nil {
			return err
		}
	}
	if !skip("codec") {
		if err := codec(ctx, t); err != nil {
			return err
		}
	}
	if !skip("size") {
		if err := size(ctx, t); err != nil {
			return err
		}
	}
	text := t.String()
	fmt.Print(text)
	if o.out != "" {
		return os.WriteFile(o.out, []byte(text), 0o644)
	}
	return nil
}

// loads runs the loads against one fresh site.
func loads(ctx context.Context, o options, t *table) error {
	s, err := startSite(ctx, o)
	if err != nil {
		return err
	}
	defer s.stop()
	idle, err := s.idleCPU(ctx, 10*time.Second)
	if err != nil {
		return err
	}
	t.add("idle CPU of a box", "<= 1 % of a core", "%.2f %%", 100*idle, 100*idle <= 1)

	for _, l := range []load{
		{name: "1 client, 100 B puts", clients: 1, each: 1, batch: 1},
		{name: "64 clients, 100 B puts", clients: 64, each: 1, batch: 1},
		{name: "256 clients, 100 B puts", clients: 256, each: 1, batch: 1},
		{name: "batches of 100x100 B", clients: 16, each: 4, batch: 100},
	} {
		progress("%s, %v", l.name, o.seconds)
		before, err := s.cpu()
		if err != nil {
			return err
		}
		r, err := s.drive(ctx, l, o.seconds)
		if err != nil {
			return err
		}
		after, err := s.cpu()
		if err != nil {
			return err
		}
		detail := fmt.Sprintf("p50 %v p90 %v p99 %v max %v, %.0f messages/s, boxes %.0f CPU-s per million messages",
			round(r.percentile(50)), round(r.percentile(90)), round(r.percentile(99)), round(r.percentile(100)), r.rate(),
			(after-before).Seconds()/float64(r.messages)*1e6)
		switch {
		case l.clients == 1:
			p := r.percentile(50)
			t.addText(l.name, "p50 <= 4 ms", detail, p <= 4*time.Millisecond)
		case l.batch > 1:
			t.addText(l.name, ">= 150,000 messages/s", detail, r.rate() >= 150_000)
			rss, err := s.rss()
			if err != nil {
				return err
			}
			t.add("memory of the largest box at saturation", "<= 64 MiB", "%.1f MiB", float64(rss)/(1<<20), rss <= 64<<20)
		case l.clients == 64:
			t.addText(l.name, ">= 10,000 writes/s", detail, r.rate() >= 10_000)
		default:
			t.addText(l.name, "", detail, true)
		}
	}
	return nil
}

func round(d time.Duration) time.Duration {
	if d > 100*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

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
