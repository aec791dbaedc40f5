// Command e2eimage shows that the image boots, joins a site, takes updates, and comes back by itself from what goes wrong: it builds releases,
// starts machines of QEMU with their disks on a bridge in a network of its own, beside boxes that are processes, and prints what it has
// seen. It needs root, or user namespaces; tools/deps.sh e2e-image installs the rest. docs/image.md has its figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/holdfast-edge/holdfast/tools/netns"
)

func main() {
	// Pdeathsig counts from the thread that started a process: it has to stay.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := e2eimage(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2eimage:", err)
		os.Exit(1)
	}
}

// flags are what the program was asked for.
type flags struct {
	short  bool
	arch   string
	pi     bool
	kvm    bool
	work   string
	inside bool
	reuse  bool
	cuts   int
	images int
	seed   uint64
	only   string
}

func e2eimage(ctx context.Context) error {
	var f flags
	flag.BoolVar(&f.short, "short", false, "one machine beside three processes, for CI")
	flag.StringVar(&f.arch, "arch", "amd64", "the machines' processor: amd64 or arm64")
	flag.BoolVar(&f.pi, "raspberry", false, "a Raspberry Pi 3 with this program in place of its EEPROM")
	flag.BoolVar(&f.kvm, "kvm", false, "use /dev/kvm")
	flag.StringVar(&f.work, "work", "bin/e2eimage", "what is built, disks, and the machines' consoles")
	flag.BoolVar(&f.inside, "inside", false, "in a network of its own already")
	flag.BoolVar(&f.reuse, "reuse", false, "the releases that the last run built")
	flag.IntVar(&f.cuts, "cuts", 20, "power cuts during an update")
	flag.Uint64Var(&f.seed, "seed", 1, "of the power cuts' moments and of what is lost")
	flag.IntVar(&f.images, "machines", 0, "machines of QEMU, beside processes that make it a site of four; 0: four, and with -short one")
	flag.StringVar(&f.only, "only", "", "of what follows the first writes only the checks whose names begin like this")
	flag.Parse()
	if f.images <= 0 {
		f.images = machinesMin
		if f.short {
			f.images = 1
		}
	}
	kind, err := kindOf(f)
	if err != nil {
		return err
	}
	if f.work, err = filepath.Abs(f.work); err != nil {
		return err
	}
	if !f.inside {
		if began := time.Now(); !f.reuse {
			if err := prepare(ctx, f.work, kind); err != nil {
				return err
			}
			fmt.Printf("two releases for %s built in %v\n", kind.profile, time.Since(began).Round(time.Second))
		}
		return netns.Again(ctx, 20*time.Second)
	}
	r := newRunner(f, kind)
	err = r.all(ctx)
	return errors.Join(err, r.summary())
}

// outcome is one check.
type outcome struct {
	name, detail string
	pass         bool
	took         time.Duration
}

func (r *runner) summary() error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\ncheck\tresult\ttook\tseen")
	failed := 0
	for _, o := range r.outcomes {
		result := "pass"
		if !o.pass {
			result = "FAIL"
			failed++
		}
		fmt.Fprintf(t, "%s\t%s\t%v\t%s\n", o.name, result, o.took.Round(100*time.Millisecond), o.detail)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Printf("\n%d checks, %d failed; logs are in %s\n", len(r.outcomes), failed, r.f.work)
	if failed > 0 || len(r.outcomes) == 0 {
		return errors.New("some checks failed")
	}
	return nil
}
