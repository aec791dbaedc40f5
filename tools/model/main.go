// Command model checks the ordering protocol of coord/bft as a model: agreement and bounded liveness at n=4 with
// spin, agreement for any n with z3, and that every rule is needed: a mutant that drops one must be caught, one that is
// equivalent must not. It needs Debian's spin, z3 and gcc, prints one table and fails when a verdict is not the
// expected one. The models are safety.h, live.h and agree.smt2; docs/model.md says what they cover.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

//go:embed safety.h
var safetyRules string

//go:embed live.h
var liveRules string

//go:embed agree.smt2
var agreement string

const (
	holds    = "holds"
	violated = "violated"
)

// check is one run of a model.
type check struct {
	name, want string
	spin       *spinModel
	smt        string
}

// spinModel is a set of rules, its actions unrolled, and the constants that choose a variant.
type spinModel struct {
	rules, proc string
	actions     []string
	invariant   string
	defines     []string
	depthMax    int
}

// outcome is what a check found.
type outcome struct {
	got, states string
	took        time.Duration
	err         error
}

func main() {
	long := flag.Bool("long", false, "the larger bounds")
	only := flag.String("only", "", "only checks whose name contains this")
	jobs := flag.Int("jobs", 2, "checks at once")
	limit := flag.Duration("limit", 30*time.Minute, "time for one check")
	flag.Parse()
	if err := run(*long, *only, *jobs, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		os.Exit(1)
	}
}

func run(long bool, only string, jobs int, limit time.Duration) error {
	dir, err := os.MkdirTemp("", "holdfast-model-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var checks []check
	for _, c := range list(long) {
		if strings.Contains(c.name, only) {
			checks = append(checks, c)
		}
	}
	if len(checks) == 0 {
		return fmt.Errorf("no check's name contains %q", only)
	}
	results := make([]chan outcome, len(checks))
	slots := make(chan struct{}, jobs)
	var wg sync.WaitGroup
	for i := range results {
		results[i] = make(chan outcome, 1)
	}
	wg.Go(func() {
		for i := range checks {
			slots <- struct{}{}
			wg.Go(func() {
				results[i] <- checks[i].run(filepath.Join(dir, fmt.Sprint(i)), limit)
				<-slots
			})
		}
	})
	fmt.Printf("%-72s %12s %8s  %-9s %s\n", "check", "states", "seconds", "expected", "seen")
	wrong := 0
	for i, c := range checks {
		o := <-results[i]
		seen := o.got
		if o.err != nil {
			seen = o.err.Error()
		}
		if seen != c.want {
			seen += "  <- WRONG"
			wrong++
		}
		fmt.Printf("%-72s %12s %8.1f  %-9s %s\n", c.name, o.states, o.took.Seconds(), c.want, seen)
	}
	wg.Wait()
	if wrong > 0 {
		return fmt.Errorf("%d of %d verdicts are not the expected ones", wrong, len(checks))
	}
	fmt.Printf("%d verdicts, all as expected\n", len(checks))
	return nil
}

func (c *check) run(dir string, limit time.Duration) (o outcome) {
	begin := time.Now()
	defer func() { o.took = time.Since(begin) }()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if o.err = os.Mkdir(dir, 0o700); o.err != nil {
		return o
	}
	if c.spin != nil {
		return c.spin.run(ctx, dir)
	}
	file := filepath.Join(dir, "a.smt2")
	if o.err = os.WriteFile(file, []byte(c.smt), 0o600); o.err != nil {
		return o
	}
	out, err := exec.CommandContext(ctx, "z3", file).CombinedOutput()
	o.states = "any n"
	switch strings.TrimSpace(string(out)) {
	case "unsat":
		o.got = holds
	case "sat":
		o.got = violated
	default:
		o.err = fmt.Errorf("z3: %.200s %w", out, err)
	}
	return o
}

var (
	statesLine = regexp.MustCompile(`(?m)^\s*([0-9.e+]+) states, stored`)
	errorsLine = regexp.MustCompile(`errors: (\d+)`)
)

// run writes the model, has spin make the checker and gcc build it, and runs that.
func (m *spinModel) run(ctx context.Context, dir string) (o outcome) {
	var h, p strings.Builder
	for _, d := range m.defines {
		name, value, _ := strings.Cut(d, "=")
		fmt.Fprintf(&h, "#define %s %s\n", name, value)
	}
	h.WriteString(m.rules)
	p.WriteString(m.proc)
	for i, a := range m.actions {
		guard, effect, _ := strings.Cut(a, " -> ")
		// spin refuses calls in an expression, hence a macro for each guard
		fmt.Fprintf(&h, "#define G%d (%s)\n", i, guard)
		fmt.Fprintf(&p, ":: atomic { c_expr { G%d } -> c_code { %s; }; assert(c_expr { AG }) }\n", i, effect)
	}
	fmt.Fprintf(&h, "#define AG (%s)\n", m.invariant)
	p.WriteString(":: else -> break\nod }\n")
	for name, text := range map[string]string{"m.h": h.String(), "m.pml": p.String()} {
		if o.err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); o.err != nil {
			return o
		}
	}
	var out []byte
	for _, argv := range [][]string{
		{"spin", "-a", "m.pml"},
		{"gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=6000", "-o", "pan", "pan.c"},
		{"./pan", fmt.Sprintf("-m%d", m.depthMax)},
	} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir = dir
		var err error
		if out, err = cmd.CombinedOutput(); err != nil && argv[0] != "./pan" {
			o.err = fmt.Errorf("%s: %.300s %w", argv[0], out, err)
			return o
		}
	}
	text := string(out)
	if s := statesLine.FindStringSubmatch(text); s != nil {
		o.states = s[1]
	}
	e := errorsLine.FindStringSubmatch(text)
	switch {
	case e == nil || strings.Contains(text, "max search depth too small") || strings.Contains(text, "out of memory") ||
		strings.Contains(text, "Search not completed") && e[1] == "0":
		o.err = fmt.Errorf("search did not end: %.200s", text)
	case e[1] == "0":
		o.got = holds
	case strings.Contains(text, "assertion violated"):
		o.got = violated
	default:
		o.err = fmt.Errorf("pan: %.200s", text)
	}
	return o
}
