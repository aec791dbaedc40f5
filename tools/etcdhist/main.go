package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Verdicts that fail the run.
var (
	errViolated  = errors.New("etcdhist: the history is not one of etcd")
	errUndecided = errors.New("etcdhist: the history cannot be decided")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("etcdhist", flag.ContinueOnError)
	endpoints := fs.String("endpoints", "", "host:port of every box, with commas between; plain text")
	check := fs.String("check", "", "judge this saved history and run nothing")
	save := fs.String("o", "", "save the history here; by default only one that is violated is saved, in the temporary folder")
	hook := fs.String("hook", "", "command that breaks and mends boxes: kill I, start I, stop I, cont I, partition I, split I J, heal")
	slack := fs.Duration("lease-slack", 0, "how much before its time a lease may end")
	cfg := Config{}
	fs.DurationVar(&cfg.time, "time", 30*time.Second, "how long there is load")
	fs.Uint64Var(&cfg.seed, "seed", 1, "chooses operations, faults and their moments")
	fs.IntVar(&cfg.workers, "workers", 12, "clients; each has its own connections, every fourth to all endpoints in turn")
	fs.DurationVar(&cfg.pause, "pause", 10*time.Millisecond, "mean pause of a client between operations")
	fs.DurationVar(&cfg.deadline, "deadline", 2*time.Second, "after which an operation's outcome is unknown")
	if err := fs.Parse(args); err != nil {
		return err
	}
	h, err := (*History)(nil), error(nil)
	switch {
	case *check != "":
		h, err = Load(*check)
	case *endpoints != "":
		cfg.endpoints = strings.Split(*endpoints, ",")
		if *hook != "" {
			cfg.hook = shellHook(*hook)
		}
		h, err = Record(ctx, cfg)
	default:
		fs.Usage()
		return errors.New("etcdhist: -endpoints or -check")
	}
	if err != nil {
		return fmt.Errorf("etcdhist: %w", err)
	}
	if *slack > 0 {
		h.Meta.SlackNS = int64(*slack)
	}
	v := Verdict(h)
	v.print(out)
	if *save == "" && !v.ok() && *check == "" {
		*save = filepath.Join(os.TempDir(), fmt.Sprintf("etcdhist-%d.jsonl", h.Meta.Seed))
	}
	if *save != "" {
		if err := h.Save(*save); err != nil {
			return fmt.Errorf("etcdhist: %w", err)
		}
		fmt.Fprintf(out, "history: %s\n", *save)
	}
	switch {
	case v.ok():
		return nil
	case len(v.j.violations) == 0:
		return errUndecided
	}
	return errViolated
}
