// Etcddiff sends the same seeded random requests to a real etcd, which it runs itself, and to another endpoint, and compares every
// answer field by field: headers' revisions, keys, counts, errors with their codes and words, and what watchers are given.
//
// It is a module of its own, so that etcd's server is no dependency of the product. Differences that are meant are in
// known.go, each with its reason; all else is printed with the seed and the number of the request, and ends the program with
// exit status 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	other := flag.String("endpoint", "", "the `host:port` to compare with etcd; empty: a second etcd")
	seed := flag.Uint64("seed", 1, "first `seed`")
	seeds := flag.Int("seeds", 1, "`how many` seeds")
	n := flag.Int("n", 1000, "requests a seed")
	verbose := flag.Bool("v", false, "print every request")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *other, *seed, *seeds, *n, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "etcddiff:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, other string, seed uint64, seeds, n int, verbose bool) error {
	dir, err := os.MkdirTemp("", "etcddiff-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, stop, err := startEtcd(dir + "/a")
	if err != nil {
		return err
	}
	defer stop()
	if other == "" {
		b, stop, err := startEtcd(dir + "/b")
		if err != nil {
			return err
		}
		defer stop()
		other = b
	}
	left, err := connect(a)
	if err != nil {
		return err
	}
	defer left.close()
	right, err := connect(other)
	if err != nil {
		return err
	}
	defer right.close()
	c := &comparison{left: left, right: right, verbose: verbose, known: map[string]int{}}
	began := time.Now()
	for s := seed; s < seed+uint64(seeds); s++ {
		if err := c.run(ctx, s, n); err != nil {
			return fmt.Errorf("seed %d: %w", s, err)
		}
	}
	fmt.Printf("%d requests, %d events watched, in %v: %d differences", c.requests, c.events, time.Since(began).Round(time.Millisecond), c.different)
	for _, k := range known {
		if c.known[k.name] > 0 {
			fmt.Printf("; %d known: %s", c.known[k.name], k.name)
		}
	}
	fmt.Println()
	var kinds []string
	for k, n := range c.kinds {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	fmt.Println(strings.Join(sorted(kinds), ", "))
	if c.different > 0 {
		return fmt.Errorf("%d answers differ", c.different)
	}
	return nil
}
