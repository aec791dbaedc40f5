// Command sim runs whole simulated sites from seeds (coord/sim): crashes, partitions, bad disks and clocks, liars. It
// says what was covered, and for a seed that breaks a promise prints the command that replays it, a smaller
// scenario that breaks the same promise, and a timeline; the timeline is also drawn as a page.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/coord/liar"
	"github.com/holdfast-edge/holdfast/coord/sim"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

type options struct {
	seeds, seed0 uint64
	n, faulty    int
	failures     int
	realKeys     bool
	shrink       time.Duration
	dir          string
	quiet        bool
	asJSON       bool
	coverage     string
	liar         string
	epochs       bool
	uncovered    bool
	replay       uint64
	replays      bool // of any seed, 0 too
}

func main() {
	var o options
	flag.Uint64Var(&o.seeds, "seeds", 2000, "run this `many` seeds")
	flag.Uint64Var(&o.seed0, "seed0", 1, "the first `seed`")
	flag.IntVar(&o.n, "n", 0, "`boxes` of each site; 0: by the seed")
	flag.IntVar(&o.faulty, "faulty", -1, "`boxes` that lie or forget; -1: up to f by the seed; more than f breaks the promises")
	flag.StringVar(&o.liar, "liar", "", "all boxes that lie do it this `way` ("+kinds()+")")
	flag.BoolVar(&o.epochs, "epochs", false, "the members of each site change in the midst of everything else")
	flag.IntVar(&o.failures, "max-failures", 3, "stop after this `many` failing seeds")
	flag.BoolVar(&o.realKeys, "real-keys", false, "sign with ECDSA P-256 instead of keyed hashes; keys and signatures are new each time, so a run cannot be replayed")
	flag.DurationVar(&o.shrink, "shrink", 20*time.Second, "`time` to look for a smaller scenario, for each failing seed; 0: do not")
	flag.StringVar(&o.dir, "dir", "bin", "the pages of failing seeds go to this `directory`")
	flag.BoolVar(&o.quiet, "quiet", false, "the verdict only")
	flag.BoolVar(&o.asJSON, "json", false, "the summary as JSON")
	flag.StringVar(&o.coverage, "coverage", "", "run nothing: print which statements of coord/bft ran, from this GOCOVERDIR `directory`")
	flag.BoolVar(&o.uncovered, "uncovered", false, "with -coverage: list those that did not")
	flag.Uint64Var(&o.replay, "replay", 0, "print the scenario and the timeline of one `seed`, and draw it")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), `Usage: sim [flags]

Runs simulated sites from seeds and says whether every promise held (they are listed in
coord/sim/invariants.go). Exit status 1: a seed failed.

  sim -seeds 5000            seeds 1 to 5000
  sim -epochs -seeds 1000    the same of sites whose members change
  sim -replay 4711           what happened in seed 4711

`)
		flag.PrintDefaults()
	}
	flag.Parse()
	flag.Visit(func(f *flag.Flag) { o.replays = o.replays || f.Name == "replay" })
	if flag.NArg() > 0 || o.seeds == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if o.liar != "" && !slices.Contains(liar.Kinds(), liar.Kind(o.liar)) {
		fmt.Fprintf(os.Stderr, "sim: -liar %q; it is one of %s\n", o.liar, kinds())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// kinds lists the liars.
func kinds() string {
	var names []string
	for _, k := range liar.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// maker makes the options of seeds.
func maker(o *options) (func(seed uint64) sim.Options, error) {
	var ids []sim.Identity
	if o.realKeys {
		dir, err := os.MkdirTemp("", "holdfast-sim-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		for i := range max(o.n, 10) {
			box := filepath.Join(dir, fmt.Sprint(i))
			if err := os.Mkdir(box, 0o700); err != nil {
				return nil, err
			}
			id, err := trust.LoadOrCreate(box)
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
	}
	return func(seed uint64) sim.Options {
		s := sim.OptionsFor(seed)
		if o.epochs {
			s = sim.EpochsFor(seed)
		}
		if o.n > 0 {
			s.N = o.n
		}
		s.Faulty, s.Identities, s.Liar = o.faulty, ids, liar.Kind(o.liar)
		return s
	}, nil
}

func run(ctx context.Context, o options, w io.Writer) (bool, error) {
	if o.coverage != "" {
		return true, statements(w, o.coverage, o.uncovered)
	}
	make, err := maker(&o)
	if err != nil {
		return false, err
	}
	if o.replays {
		return replay(o, make(o.replay), w)
	}
	debug.SetGCPercent(800) // small heaps, and much garbage
	t := &tally{start: time.Now(), Faults: map[sim.FaultKind]int{}, Liars: map[string]int{}}
	t.sweep(ctx, o, make, w)
	t.finish()
	for i := range t.Failures {
		if err := explain(o, make(t.Failures[i].Seed), &t.Failures[i], w); err != nil {
			return false, err
		}
	}
	if o.asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return len(t.Failures) == 0, e.Encode(t)
	}
	t.print(w)
	return len(t.Failures) == 0, nil
}

// Failure is a seed that broke a promise.
type Failure struct {
	Seed uint64 `json:"seed"`
	What string `json:"what"`
	Page string `json:"page,omitempty"`
}

// tally is what the seeds did together.
type tally struct {
	Seeds    uint64                `json:"seeds"`
	Seed0    uint64                `json:"seed0"`
	Events   uint64                `json:"events"`
	Heights  uint64                `json:"heights"`
	Acked    uint64                `json:"acked"`
	Took     time.Duration         `json:"took"`
	Cores    int                   `json:"cores"`
	Faults   map[sim.FaultKind]int `json:"faults"`
	Liars    map[string]int        `json:"liars"`
	Weak     int                   `json:"weak"`
	Heal     [4]time.Duration      `json:"heal"` // median, 90th, 99th percentile, worst
	Failures []Failure             `json:"failures"`

	start time.Time
	heals []time.Duration
	mu    sync.Mutex
}

func (t *tally) sweep(ctx context.Context, o options, make func(uint64) sim.Options, w io.Writer) {
	next := o.seed0
	t.Seed0, t.Cores = o.seed0, runtime.GOMAXPROCS(0)
	lastLine := time.Now()
	take := func() (uint64, bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if next >= o.seed0+o.seeds || len(t.Failures) >= o.failures || ctx.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var wg sync.WaitGroup
	for range t.Cores {
		wg.Go(func() {
			for {
				seed, ok := take()
				if !ok {
					return
				}
				r := sim.Trial(make(seed))
				t.mu.Lock()
				t.add(&r)
				if !o.quiet && !o.asJSON && time.Since(lastLine) > 10*time.Second {
					lastLine = time.Now()
					fmt.Fprintf(w, "%d of %d seeds, %.0f seeds/s, %d failed\n", t.Seeds, o.seeds,
						float64(t.Seeds)/time.Since(t.start).Seconds(), len(t.Failures))
				}
				t.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// add counts one trial; the lock is held.
func (t *tally) add(r *sim.Report) {
	t.Seeds++
	t.Events += r.Events
	t.Heights += r.Heights
	t.Acked += r.Acked
	t.heals = append(t.heals, r.Healed)
	for k, n := range r.Faults {
		t.Faults[k] += n
	}
	for _, l := range r.Options.Plan.Liars {
		t.Liars[string(l.Kind)]++
	}
	t.Weak += len(r.Options.Plan.Weak)
	if r.Fail != "" {
		t.Failures = append(t.Failures, Failure{Seed: r.Options.Seed, What: r.Fail})
	}
}

func (t *tally) finish() {
	t.Took = time.Since(t.start)
	slices.Sort(t.heals)
	if n := len(t.heals); n > 0 {
		t.Heal = [4]time.Duration{t.heals[n/2], t.heals[n*9/10], t.heals[n*99/100], t.heals[n-1]}
	}
	slices.SortFunc(t.Failures, func(a, b Failure) int { return cmp.Compare(a.Seed, b.Seed) })
}

func (t *tally) print(w io.Writer) {
	secs := t.Took.Seconds()
	fmt.Fprintf(w, "%d seeds (%d to %d): %d failed\n", t.Seeds, t.Seed0, t.Seed0+t.Seeds-1, len(t.Failures))
	if len(t.Failures) > 0 {
		words := map[string]int{}
		for i := range t.Failures {
			word, _, _ := strings.Cut(t.Failures[i].What, ":")
			words[word]++
		}
		fmt.Fprintf(w, "  %s; it stops after -max-failures\n", counts(words))
	}
	fmt.Fprintf(w, "  %d events, %d blocks, %d messages acknowledged, in %v\n", t.Events, t.Heights, t.Acked, t.Took.Round(100*time.Millisecond))
	fmt.Fprintf(w, "  %.0f seeds a minute, %.0f events a second and core on %d cores\n", float64(t.Seeds)/secs*60,
		float64(t.Events)/secs/float64(t.Cores), t.Cores)
	fmt.Fprintf(w, "  everything done after the faults ended: median %v, 90th %v, 99th %v, worst %v\n",
		ms(t.Heal[0]), ms(t.Heal[1]), ms(t.Heal[2]), ms(t.Heal[3]))
	fmt.Fprintf(w, "  faults: %s\n", counts(t.Faults))
	fmt.Fprintf(w, "  liars: %s; boxes with a disk that forgets: %d\n", counts(t.Liars), t.Weak)
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// counts lists a map by name.
func counts[K ~string](m map[K]int) string {
	var out []string
	for k, n := range m {
		out = append(out, fmt.Sprintf("%s %d", string(k), n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// explain says what happened in a failing seed.
func explain(o options, s sim.Options, f *Failure, w io.Writer) error {
	if o.quiet {
		fmt.Fprintf(w, "seed %d: %s\n", f.Seed, f.What)
		return nil
	}
	if o.asJSON {
		return nil
	}
	fmt.Fprintf(w, "\nseed %d: %s\n  replay: go run ./tools/sim -replay %d", f.Seed, f.What, f.Seed)
	if o.n > 0 {
		fmt.Fprintf(w, " -n %d", o.n)
	}
	if o.faulty >= 0 {
		fmt.Fprintf(w, " -faulty %d", o.faulty)
	}
	if o.liar != "" {
		fmt.Fprintf(w, " -liar %s", o.liar)
	}
	fmt.Fprintln(w)
	if o.shrink > 0 {
		s = sim.Shrink(s, o.shrink)
	}
	lines, r := timeline(s)
	fmt.Fprintf(w, "shrunk scenario, %s:\n%s", r.Fail, indent(r.Options.Plan.String()))
	const tail = 60
	if len(lines) > tail {
		fmt.Fprintf(w, "the last %d of %d lines of its timeline:\n", tail, len(lines))
	}
	for _, e := range lines[max(0, len(lines)-tail):] {
		fmt.Fprintf(w, "  %v\n", e)
	}
	var err error
	f.Page, err = draw(o.dir, r.Options, r, lines)
	if err == nil {
		fmt.Fprintf(w, "drawn in %s\n\n", f.Page)
	}
	return err
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
}

// timeline runs a trial and keeps what happened.
func timeline(s sim.Options) (lines []sim.Entry, r sim.Report) {
	s.Log = func(e sim.Entry) { lines = append(lines, e) }
	r = sim.Trial(s)
	return lines, r
}

func replay(o options, s sim.Options, w io.Writer) (bool, error) {
	lines, r := timeline(s)
	fmt.Fprintf(w, "%v\n%s\n", &r, r.Options.Plan)
	for _, e := range lines {
		fmt.Fprintln(w, e)
	}
	page, err := draw(o.dir, r.Options, r, lines)
	if err != nil {
		return false, err
	}
	verdict := "every promise held"
	if r.Fail != "" {
		verdict = r.Fail
	}
	fmt.Fprintf(w, "\n%s\ndrawn in %s\n", verdict, page)
	return r.Fail == "", nil
}
