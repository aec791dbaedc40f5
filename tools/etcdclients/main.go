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

// rowTimeMax bounds one row; the slowest, check perf, puts load for a minute by itself.
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

// report collects what became of each row.
type report struct {
	out           io.Writer
	only, differs []string
	list          bool
	seen          []string
	passed, bad   int
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
	ctx, cancel := context.WithTimeout(ctx, rowTimeMax)
	defer cancel()
	start := time.Now()
	note, err := f(ctx)
	verdict, ok := "pass", true
	switch expected := matches(r.differs, name); {
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

func run(ctx context.Context) (err error) {
	endpoints := flag.String("endpoints", "", "gRPC `addresses`, with commas between")
	httpURLs := flag.String("http", "", "base `URLs` of the JSON gateway, with commas between; http:// and the endpoints by default")
	own := flag.Int("own-etcd", 0, "start a real etcd of so `many` members and use that")
	kill := flag.String("kill", "", "`command` that is run as CMD down I and CMD up I")
	only := flag.String("only", "", "`rows` to run, by name or by what stands before the slash, with commas between")
	differs := flag.String("differs", "", "`rows` that must fail, because the site refuses them on purpose")
	list := flag.Bool("list", false, "list the rows and end")
	keep := flag.Bool("keep", false, "keep the directory with logs and data")
	port := flag.Int("port", 23000, "first `port` of what the tool starts itself, on loopback")
	seed := flag.Int64("seed", time.Now().UnixNano(), "`number` that decides which box is killed when")
	flag.Parse()
	if flag.NArg() > 0 || !*list && (*endpoints == "") == (*own == 0) || *own > 0 && *kill != "" {
		return errors.New("give either -endpoints or -own-etcd; -kill only with -endpoints; see -help")
	}
	r := &report{out: os.Stdout, only: words(*only), differs: words(*differs), list: *list}
	e := &env{basePort: *port, seed: *seed, prefix: fmt.Sprintf("etcdclients-%x/", time.Now().UnixNano())}
	if !*list {
		if e.dir, err = os.MkdirTemp("", "etcdclients-"); err != nil {
			return err
		}
		fmt.Printf("seed %d, directory %s\n", e.seed, e.dir)
		if !*keep {
			defer func() { err = errors.Join(err, os.RemoveAll(e.dir)) }()
		}
		// PostgreSQL runs as another user and has to get through.
		if err := os.Chmod(e.dir, 0o755); err != nil {
			return err
		}
	}
	e.endpoints, e.http = words(*endpoints), words(*httpURLs)
	if *kill != "" {
		e.killer = command(*kill)
	}
	if *own > 0 && !*list {
		o, err := startOwnEtcd(ctx, e, *own)
		if o != nil {
			defer o.close()
		}
		if err != nil {
			return err
		}
		e.endpoints, e.killer = o.endpoints(), o
	}
	if len(e.http) == 0 {
		for _, ep := range e.endpoints {
			e.http = append(e.http, "http://"+ep)
		}
	}
	for _, s := range suites() {
		if r.wantsSuite(s.name) && ctx.Err() == nil {
			s.run(ctx, e, r)
		}
	}
	for _, p := range slices.Concat(r.only, r.differs) {
		if !slices.ContainsFunc(r.seen, func(name string) bool { return matches([]string{p}, name) }) && ctx.Err() == nil {
			return fmt.Errorf("no row is named %q; see -list", p)
		}
	}
	if *list {
		return nil
	}
	fmt.Printf("%d passed, %d failed\n", r.passed, r.bad)
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
