package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/tools/bench/load"
	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

// untraced switches the traces off.
func untraced(c *site.BoxConfig) { c.Ring = nil }

// traces measures what tracing costs: two sites run at a time, and each round loads one and then the other, in turn first, so that what
// the machine does beside hits both.
func traces(ctx context.Context, rounds int) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	kinds := []string{"after", "untraced"}
	sites := map[string]*load.Site{}
	for _, kind := range kinds {
		dir, err := os.MkdirTemp("", "holdfast-traces-")
		if err != nil {
			return err
		}
		s, err := load.StartSite(ctx, load.SiteOptions{Program: self, Args: []string{"box", kind}, Dir: dir, Boxes: boxes})
		if err != nil {
			return fmt.Errorf("%s: %w (the boxes' logs are in %s)", kind, err, dir)
		}
		defer func() { s.Stop(); err = errors.Join(err, os.RemoveAll(dir)) }()
		sites[kind] = s
	}
	rate, cpu := map[string][]float64{}, map[string][]float64{}
	var ratio, more []float64
	for round := range rounds + 1 {
		now := map[string]result.Row{}
		for i := range kinds {
			kind := kinds[(i+round)%2]
			row, err := run(ctx, sites[kind], kind, load.Load{Clients: 64, Text: true})
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			now[kind] = row
		}
		if round == 0 {
			continue // both warm up
		}
		for _, kind := range kinds {
			rate[kind], cpu[kind] = append(rate[kind], now[kind].Rate), append(cpu[kind], now[kind].CPU)
		}
		ratio = append(ratio, now["after"].Rate/now["untraced"].Rate)
		more = append(more, now["after"].CPU/now["untraced"].CPU)
		fmt.Fprintf(os.Stderr, "targets: round %d: %.0f messages a second with traces, %.0f without\n", round, now["after"].Rate, now["untraced"].Rate)
	}
	show := func(what string, v []float64, digits int) {
		s := result.SpanOf(v)
		fmt.Printf("%-58s %.*f (%.*f to %.*f)\n", what, digits, s.Median, digits, s.Low, digits, s.High)
	}
	for _, kind := range kinds {
		show("messages a second, "+kind, rate[kind], 0)
		show("CPU-seconds of all boxes for a million messages, "+kind, cpu[kind], 1)
	}
	show("throughput with traces over that without, by round", ratio, 3)
	show("CPU with traces over that without, by round", more, 3)
	return nil
}
