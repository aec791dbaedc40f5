package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// rowTimeMax bounds one row, unless -time says otherwise; the slowest, check perf, puts load for a minute by itself.
const rowTimeMax = 110 * time.Second

// env is what a row has to work with.
type env struct {
	endpoints []string
	http      []string // base addresses of the JSON gateway, one for each endpoint or fewer
	killer    killer   // nil when nothing can be killed
	dir       string   // removed at the end
	prefix    string   // of every key of this run
	basePort  int
	seed      int64
}

// suite is a group of rows that share a client or a state.
type suite struct {
	name string
	run  func(ctx context.Context, e *env, r *report)
}

func suites() []suite {
	return []suite{
		{"ctl3.4", func(ctx context.Context, e *env, r *report) { ctlSuite(ctx, e, r, "ctl3.4") }},
		{"ctl3.6", func(ctx context.Context, e *env, r *report) { ctlSuite(ctx, e, r, "ctl3.6") }},
		{"http", httpSuite},
		{"conc", concSuite},
		{"patroni", patroniSuite},
	}
}

// errSkip is what a row gives that cannot be tried.
var errSkip = errors.New("nothing can be killed; see -kill")

// report collects what became of each row.
type report struct {
	out           io.Writer
	only, differs []string
	list          bool
	timeMax       time.Duration // of one row
	seen          []string
	passed, bad   int
	skipped       int
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		return name == p || strings.HasPrefix(name, strings.TrimSuffix(p, "/")+"/")
	})
}

func (r *report) wants(name string) bool {
	return len(r.only) == 0 || matches(r.only, name)
}

// wantsSuite says whether any row of a suite may have been asked for.
func (r *report) wantsSuite(name string) bool {
	return r.wants(name) || slices.ContainsFunc(r.only, func(p string) bool { return strings.HasPrefix(p, name+"/") })
}

// row runs one row, if it was asked for, and says whether it passed. The note goes beside a pass.
func (r *report) row(ctx context.Context, name string, f func(ctx context.Context) (note string, err error)) bool {
	return !r.wants(name) || r.step(ctx, name, f)
}

// step is a row that others build upon: it runs whether it was asked for or not.
func (r *report) step(ctx context.Context, name string, f func(ctx context.Context) (note string, err error)) bool {
	r.seen = append(r.seen, name)
	if r.list {
		fmt.Fprintln(r.out, name)
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeMax)
	defer cancel()
	start := time.Now()
	note, err := f(ctx)
	verdict, ok := "pass", true
	switch expected := matches(r.differs, name); {
	case errors.Is(err, errSkip):
		verdict, note = "skip", err.Error()
		r.skipped++
		r.passed--
	case err == nil && expected:
		verdict, ok, note = "FAIL", false, "passed, but is said to differ. "+note
	case err != nil && expected:
		verdict, note = "diff", err.Error()
	case err != nil:
		verdict, ok, note = "FAIL", false, err.Error()
	}
	if ok {
		r.passed++
	} else {
		r.bad++
	}
	fmt.Fprintf(r.out, "%s  %-26s %6.1fs  %s\n", verdict, name, time.Since(start).Seconds(), strings.ReplaceAll(strings.TrimSpace(note), "\n", "\n        "))
	return ok
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcdclients:", err)
		os.Exit(1)
	}
}

type options struct {
	endpoints, http, only, differs []string
	kill                           string
	own, port                      int
	list, keep                     bool
	seed                           int64
	timeMax                        time.Duration
}

func parse() (o options, err error) {
	list := func(to *[]string) func(string) error {
		return func(s string) error {
			*to = words(s)
			return nil
		}
	}
	flag.Func("endpoints", "gRPC `addresses`, with commas between", list(&o.endpoints))
	flag.Func("http", "base `URLs` of the JSON gateway, with commas between; http:// and the endpoints by default", list(&o.http))
	flag.Func("only", "`rows` to run, by name or by what stands before the slash, with commas between", list(&o.only))
	flag.Func("differs", "`rows` that must fail, because the site refuses them on purpose", list(&o.differs))
	flag.IntVar(&o.own, "own-etcd", 0, "start a real etcd of so `many` members and use that")
	flag.StringVar(&o.kill, "kill", "", "`command` that is run as CMD down I and CMD up I")
	flag.BoolVar(&o.list, "list", false, "list the rows and end")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory with logs and data")
	flag.IntVar(&o.port, "port", 23000, "first `port` of what the tool starts itself, on loopback")
	flag.Int64Var(&o.seed, "seed", time.Now().UnixNano(), "`number` that decides which box is killed when")
	flag.DurationVar(&o.timeMax, "time", rowTimeMax, "`time` that one row may take")
	flag.Parse()
	if flag.NArg() > 0 || !o.list && (len(o.endpoints) == 0) == (o.own == 0) || o.own > 0 && o.kill != "" {
		return o, errors.New("give either -endpoints or -own-etcd; -kill only with -endpoints; see -help")
	}
	return o, nil
}

// judge runs the suites, or lists their rows.
func (r *report) judge(ctx context.Context, e *env) {
	for _, s := range suites() {
		if r.wantsSuite(s.name) && ctx.Err() == nil {
			s.run(ctx, e, r)
		}
	}
}

func run(ctx context.Context) (err error) {
	o, err := parse()
	if err != nil {
		return err
	}
	var names strings.Builder
	rows := &report{out: &names, only: o.only, list: true}
	rows.judge(ctx, &env{})
	for _, p := range slices.Concat(o.only, o.differs) {
		if !slices.ContainsFunc(rows.seen, func(name string) bool { return matches([]string{p}, name) }) {
			return fmt.Errorf("no row is named %q among those to run; see -list", p)
		}
	}
	if o.list {
		fmt.Print(names.String())
		return nil
	}
	e := &env{endpoints: o.endpoints, http: o.http, basePort: o.port, seed: o.seed, prefix: fmt.Sprintf("etcdclients-%x/", time.Now().UnixNano())}
	if e.dir, err = os.MkdirTemp("", "etcdclients-"); err != nil {
		return err
	}
	fmt.Printf("seed %d, directory %s\n", e.seed, e.dir)
	if !o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(e.dir)) }()
	}
	// PostgreSQL runs as another user and has to get through.
	if err := os.Chmod(e.dir, 0o755); err != nil {
		return err
	}
	if o.kill != "" {
		e.killer = command(o.kill)
	}
	if o.own > 0 {
		own, err := startOwnEtcd(ctx, e, o.own)
		if own != nil {
			defer own.close()
		}
		if err != nil {
			return err
		}
		e.endpoints, e.killer = own.endpoints(), own
	}
	if len(e.http) == 0 {
		for _, ep := range e.endpoints {
			e.http = append(e.http, "http://"+ep)
		}
	}
	r := &report{out: os.Stdout, only: o.only, differs: o.differs, timeMax: o.timeMax}
	r.judge(ctx, e)
	fmt.Printf("%d passed, %d failed, %d skipped\n", r.passed, r.bad, r.skipped)
	if r.bad > 0 || ctx.Err() != nil {
		return errors.Join(fmt.Errorf("%d rows failed", r.bad), ctx.Err())
	}
	return nil
}

func words(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == ',' || c == ' ' })
}

// tool builds a program that go.mod names and gives its path.
func tool(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "tool", "-n", name).Output()
	if err != nil {
		return "", fmt.Errorf("go tool -n %s (the working directory has to be the tool's own): %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
