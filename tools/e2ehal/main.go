// Command e2ehal shows the hardware layer on a real arm64 kernel: it boots Debian's in QEMU, as a
// machine that calls itself a ROCK 5B and as a Raspberry Pi 3, with the program of folder guest as
// the only one in it, and prints what that has checked. It needs root, or user namespaces, for a
// network of its own; tools/deps.sh e2e-hal installs the rest.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/holdfast-edge/holdfast/tools/netns"
)

func main() {
	// Pdeathsig counts from the thread that started a process: it has to stay.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := e2ehal(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2ehal:", err)
		os.Exit(1)
	}
}

func e2ehal(ctx context.Context) error {
	short := flag.Bool("short", false, "one machine, for CI")
	only := flag.String("only", "", "one machine: rock-5b or raspi3b")
	work := flag.String("work", "bin/e2ehal", "what is built, and the machines' consoles")
	inside := flag.Bool("inside", false, "in a network of its own already")
	flag.Parse()
	dir, err := filepath.Abs(*work)
	if err != nil {
		return err
	}
	k, err := getKernel(ctx)
	if err != nil {
		return err
	}
	if !*inside {
		if err := build(ctx, k, dir); err != nil {
			return err
		}
		return netns.Again(ctx, 10*time.Second)
	}
	if err := network(ctx); err != nil {
		return err
	}
	var all []outcome
	for _, m := range machines {
		if *only != "" && m.name != *only || *only == "" && *short && !m.short {
			continue
		}
		all = append(all, m.boot(ctx, k, dir)...)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return summary(all)
}

// build makes what the machines boot: the guest and an initramfs for each.
func build(ctx context.Context, k kernel, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	guest := filepath.Join(dir, "guest")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "./tools/e2ehal/guest")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the guest: %w\n%s", err, out)
	}
	program, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	for _, m := range machines {
		files := []file{{"init", 0o755, program}}
		for _, mount := range []string{"dev", "proc", "sys", "run", "tmp"} {
			files = append(files, file{mount + "/.keep", 0o644, nil})
		}
		order, err := k.loadOrder(m.modules)
		if err != nil {
			return err
		}
		var names strings.Builder
		for _, f := range order {
			body, err := os.ReadFile(filepath.Join(k.modules(), f))
			if err != nil {
				return err
			}
			files = append(files, file{"modules/" + filepath.Base(f), 0o644, body})
			fmt.Fprintln(&names, filepath.Base(f))
		}
		files = append(files, file{"modules/order", 0o644, []byte(names.String())})
		var b bytes.Buffer
		if err := writeInitramfs(&b, files); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, m.name+".initrd"), b.Bytes(), 0o644); err != nil {
			return err
		}
		if m.prepare != nil {
			if err := m.prepare(ctx, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func summary(all []outcome) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	var failed []outcome
	fmt.Fprintln(t, "\nmachine\tcheck\tresult")
	for _, o := range all {
		result := "pass"
		if !o.pass {
			result = "FAIL"
			failed = append(failed, o)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", o.machine, o.name, result)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Printf("\n%d checks, %d failed\n", len(all), len(failed))
	for _, o := range failed {
		fmt.Printf("%s %s: %s\n", o.machine, o.name, o.detail)
	}
	if len(failed) > 0 || len(all) == 0 {
		return errors.New("some checks failed")
	}
	return nil
}
