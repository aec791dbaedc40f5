package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/tools/bench/load"
)

const (
	// slice is how long a site is loaded in a round: the machine changes its pace within seconds, so the sites take turns in less.
	slice, sliceWarm = 400 * time.Millisecond, 100 * time.Millisecond
	// scrapeEvery is how often each box's metrics are asked for, as a Prometheus beside it might.
	scrapeEvery = 5 * time.Second
	// sampleSeldom is the longest time between two samples of the history that a box's configuration takes.
	sampleSeldom = 30 * time.Second
)

// untraced switches the traces off, and with them the histograms of a decision's parts, which are read off them.
func untraced(c *site.BoxConfig) { c.Ring = nil }

// observed measures what it costs to see a site: three run at a time, one as it is, one without traces and the histograms
// of decisions, both scraped, and one also with hardly a history and not scraped. Each round loads all three in an order by chance.
func observed(ctx context.Context, rounds int) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	kinds := []string{"after", "untraced", "bare"}
	sites := map[string]*load.Site{}
	for _, kind := range kinds {
		dir, err := os.MkdirTemp("", "holdfast-observed-")
		if err != nil {
			return err
		}
		o := load.SiteOptions{Program: self, Args: []string{"box", kind}, Dir: dir, Boxes: boxes}
		if kind == "bare" {
			o.Args[1] = "untraced"
			o.Edit = func(c *config.Config) { c.Metrics.Interval = config.Duration(sampleSeldom) }
		}
		s, err := load.StartSite(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w (the boxes' logs are in %s)", kind, err, dir)
		}
		defer func() { s.Stop(); err = errors.Join(err, os.RemoveAll(dir)) }()
		sites[kind] = s
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	beside.Go(func() {
		if err := scrape(ctx, sites["after"], sites["untraced"]); err != nil {
			cancel(err)
		}
	})
	defer beside.Wait()
	defer cancel(nil)
	rate, cpu := map[string][]float64{}, map[string][]float64{}
	for round := range rounds + 1 {
		for _, i := range rand.Perm(len(kinds)) {
			kind := kinds[i]
			l := load.Load{Name: "put-64", Op: "put", Clients: 64, Text: true, Value: valueBytes, Warm: sliceWarm, For: slice}
			row, err := load.Run(ctx, sites[kind].Target(kind), l)
			if err == nil && row.Failed > 0 {
				err = fmt.Errorf("%d requests failed", row.Failed)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", kind, errors.Join(err, context.Cause(ctx)))
			}
			if round > 0 { // before, all warm up
				rate[kind], cpu[kind] = append(rate[kind], row.Rate), append(cpu[kind], row.CPU)
			}
		}
		if round%20 == 0 {
			fmt.Fprintf(os.Stderr, "targets: %d of %d rounds\n", round, rounds)
		}
	}
	for _, x := range []struct{ what, of, over string }{
		{"traces and the histograms of decisions", "after", "untraced"},
		{"history and scrapes", "untraced", "bare"},
		{"all of it", "after", "bare"},
	} {
		r, rErr := ratio(rate[x.of], rate[x.over])
		c, cErr := ratio(cpu[x.of], cpu[x.over])
		fmt.Printf("%-40s throughput x %.3f ± %.3f   CPU x %.3f ± %.3f\n", x.what, r, rErr, c, cErr)
	}
	return nil
}

// ratio is the geometric mean of a[i]/b[i], and half of its 95% interval.
func ratio(a, b []float64) (mean, half float64) {
	var sum, squares float64
	n := float64(len(a))
	for i := range a {
		d := math.Log(a[i] / b[i])
		sum += d
		squares += d * d
	}
	m := sum / n
	return math.Exp(m), 1.96 * math.Exp(m) * math.Sqrt(max(0, squares/n-m*m)/n)
}

// scrape asks each box of the sites for all its metrics until ctx ends.
func scrape(ctx context.Context, sites ...*load.Site) error {
	t := time.NewTicker(scrapeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for _, s := range sites {
			if _, err := s.Counts(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}
