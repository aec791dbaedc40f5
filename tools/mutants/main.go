// Command mutants breaks the core on purpose, one fault at a time, and runs the simulator until it notices:
// a simulator that cannot see a fault is worth nothing where it sees none. The tree is not touched: the
// changed file is laid over it with `go build -overlay`.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	budget uint64
	only   string
	out    string
	list   bool
	fresh  bool
	root   string
}

func main() {
	var o options
	flag.Uint64Var(&o.budget, "seeds", 20000, "give a mutant up for a survivor after this `many` seeds")
	flag.StringVar(&o.only, "only", "", "run those whose name contains one of these `words`, separated by commas")
	flag.StringVar(&o.out, "out", "", "write the table to this `file` as Markdown")
	flag.BoolVar(&o.list, "list", false, "list the mutants and run none")
	flag.BoolVar(&o.fresh, "fresh", false, "do not try the known seeds first")
	flag.StringVar(&o.root, "root", ".", "the `directory` of the module")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), `Usage: mutants [flags]

Applies each deliberate fault of tools/mutants/list.go to a copy of one file, builds the simulator with it
and runs seeds until a promise breaks. Exit status 1: a mutant survived.

`)
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	alive, err := run(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	if alive > 0 {
		os.Exit(1)
	}
}

// result is what became of one mutant.
type result struct {
	*Mutant
	seeds uint64 // run until it was noticed
	seed  uint64 // the one that did
	what  string // empty: it survived
	took  time.Duration
}

func run(ctx context.Context, o options, w io.Writer) (alive int, err error) {
	dir, err := os.MkdirTemp("", "holdfast-mutants-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	var results []result
	for i := range mutants {
		m := &mutants[i]
		if !chosen(m.Name, o.only) {
			continue
		}
		if o.list {
			fmt.Fprintf(w, "%-28s %s\n", m.Name, m.What)
			continue
		}
		r, err := try(ctx, o, dir, m)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", m.Name, err)
		}
		what := r.what
		if what == "" {
			what, alive = "SURVIVED", alive+1
		}
		fmt.Fprintf(w, "%-28s %6d seeds %6.1fs  %s\n", m.Name, r.seeds, r.took.Seconds(), what)
		results = append(results, r)
	}
	if o.list {
		return 0, nil
	}
	if len(results) == 0 {
		return 0, fmt.Errorf("no mutant's name contains %q; -list lists them", o.only)
	}
	fmt.Fprintf(w, "%d of %d mutants noticed, after %d seeds in the median\n", len(results)-alive, len(results), median(results))
	if o.out != "" {
		return alive, os.WriteFile(o.out, []byte(markdown(results)), 0o644)
	}
	return alive, nil
}

func chosen(name, only string) bool {
	if only == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(only, ","), func(w string) bool { return strings.Contains(name, w) })
}

// mutate is the text of the file with the fault in it.
func mutate(root string, m *Mutant) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return nil, err
	}
	text := string(b)
	for _, e := range append([]edit{{m.Old, m.New}}, m.Also...) {
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s has the text to be changed %d times, want once: mend list.go: %q", m.File, n, e.old)
		}
		text = strings.Replace(text, e.old, e.new, 1)
	}
	return []byte(text), nil
}

// build makes the simulator with a mutant, without touching the tree.
func build(ctx context.Context, root, dir string, m *Mutant) (program string, err error) {
	text, err := mutate(root, m)
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(filepath.Join(root, m.File))
	if err != nil {
		return "", err
	}
	changed := filepath.Join(dir, filepath.Base(m.File))
	if err := os.WriteFile(changed, text, 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {abs: changed}})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "sim")
	c := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", program, "./tools/sim")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not build: %w\n%s", err, out)
	}
	return program, nil
}

// buildClean makes the simulator without a fault, once.
func buildClean(ctx context.Context, root, dir string) error {
	program := filepath.Join(dir, "clean")
	if _, err := os.Stat(program); err == nil {
		return nil
	}
	c := exec.CommandContext(ctx, "go", "build", "-o", program, "./tools/sim")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// try runs a mutant's known seed, then seeds from 1.
func try(ctx context.Context, o options, dir string, m *Mutant) (result, error) {
	start := time.Now()
	r := result{Mutant: m}
	if err := buildClean(ctx, o.root, dir); err != nil {
		return r, err
	}
	program, err := build(ctx, o.root, dir, m)
	if err != nil {
		return r, err
	}
	if m.Seed > 0 && !o.fresh {
		if err := r.sweep(ctx, program, m.Seed, 1); err != nil {
			return r, err
		}
	}
	if r.what == "" {
		if err := r.sweep(ctx, program, 1, o.budget); err != nil {
			return r, err
		}
	}
	if r.what != "" && r.seed > 0 { // what fails without the fault says nothing of it
		clean := result{Mutant: m}
		if err := clean.sweep(ctx, filepath.Join(dir, "clean"), r.seed, 1); err != nil {
			return r, err
		}
		if clean.what != "" {
			return r, fmt.Errorf("seed %d fails without the fault too: %s", r.seed, clean.what)
		}
	}
	r.took = time.Since(start)
	return r, nil
}

func (r *result) sweep(ctx context.Context, program string, from, count uint64) error {
	c := exec.CommandContext(ctx, program, "-json", "-shrink", "0", "-max-failures", "1",
		"-seed0", fmt.Sprint(from), "-seeds", fmt.Sprint(count), "-liar", r.Liar, "-epochs="+strconv.FormatBool(r.Epochs))
	out, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 && !bytes.Contains(exit.Stderr, []byte("\ngoroutine ")) {
		return fmt.Errorf("the simulator: %w: %s", err, exit.Stderr)
	}
	if errors.As(err, &exit) && exit.ExitCode() == 2 { // a panic is noticed too
		r.seeds += count
		r.what = "panic: " + firstLine(exit.Stderr)
		return nil
	}
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var t struct {
		Seeds    uint64
		Failures []struct {
			Seed uint64
			What string
		}
	}
	if err := json.Unmarshal(out, &t); err != nil {
		return fmt.Errorf("the simulator's summary: %w", err)
	}
	r.seeds += t.Seeds
	if len(t.Failures) > 0 {
		f := slices.MinFunc(t.Failures, func(a, b struct {
			Seed uint64
			What string
		},
		) int {
			return cmp.Compare(a.Seed, b.Seed)
		})
		r.seed, r.what = f.Seed, f.What
	}
	return nil
}

func firstLine(b []byte) string {
	for l := range strings.Lines(string(b)) {
		if after, ok := strings.CutPrefix(l, "panic: "); ok {
			return strings.TrimSpace(after)
		}
	}
	return "the simulator ended"
}

// median is that of the seeds that it took, of the mutants that were noticed.
func median(rs []result) uint64 {
	var n []uint64
	for i := range rs {
		if rs[i].what != "" {
			n = append(n, rs[i].seeds)
		}
	}
	if len(n) == 0 {
		return 0
	}
	slices.Sort(n)
	return n[len(n)/2]
}

func markdown(rs []result) string {
	var s strings.Builder
	noticed := 0
	for i := range rs {
		if rs[i].what != "" {
			noticed++
		}
	}
	fmt.Fprintf(&s, `# Mutants

Written by `+"`make mutants-long`"+`. Each line is a fault that tools/mutants put into a copy of the core, and how many seeds
of tools/sim it took until a promise broke: %d of the %d on the list were noticed, after %d seeds in the median. Fourteen more were tried,
not noticed and taken off the list; they are below. With a liar named, all boxes that lie did so in that way (-liar). "Seed" is
the one that failed; without the fault it holds. The first seeds come in an order that depends on the cores. A vote that is not written
shows as a stall, because a box that starts asks the others, learns that it forgot, and is silent.

| mutant | the fault | liar | seeds | seed | what was seen |
|---|---|---|---|---|---|
`, noticed, len(rs), median(rs))
	for i := range rs {
		r := &rs[i]
		what := r.what
		if what == "" {
			what = "**not noticed**"
		}
		if len(what) > 110 {
			what = what[:110] + "..."
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %d | %d | %s |\n", r.Name, r.What, r.Liar, r.seeds, r.seed, strings.ReplaceAll(what, "|", "/"))
	}
	s.WriteString(leftOut)
	return s.String()
}

const leftOut = `
## Tried, not noticed, and left out

These change how fast or by which of two ways a site comes back, so no promise breaks, or only when several rare things
meet. The code stays, each for the reason given.

| the fault | why nothing is seen |
|---|---|
| a timer per round | with two blocks in the pipeline at most, rounds do not go on without finality |
| f+1 empty votes of others are not joined | every box that has work gives the leader up by itself, later |
| blocks that are not final do not count as work | their batches stay pending until they are final, and count |
| a box binds itself to what it only counted (prove.go) | retransmission, f+1 words and the votes of a certificate in the log bring the others after it now; the stall that made the rule (decision 0001) has not come back in 20,000 seeds against the liar that causes it |
| late empty votes are not cast; signatures of a certificate in the log are not used after a restart | each needs a lost log at the one wrong moment: one seed in 25,000 needed both; a generator for that moment is missing |
| a proposal that came too late is dropped | the block is fetched |
| a box that does not know what it signed is silent for one term less; that it does not know is not replayed | the bound is of the worst case; the question at the next start finds it again |
| numbers of batches are used again | sessions keep messages from taking effect twice; the client tries again |
| blocks are applied on while a checkpoint is due | the next block's verdict replaces it: it is forgotten, not wrong, and the next one comes |
| a box that has come to the end of an epoch does not vote in it any more (members change) | the others come there by what it gives them; it needs a liar whose bad vote made the end final for one box alone: one seed in 5,000 |
| the rounds of an epoch begin in the middle of a term (members change) | which round comes first matters to nothing, if all agree |
`
