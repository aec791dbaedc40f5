package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

const (
	stopTimeMax = 5 * time.Second
	// rowTimeMax bounds one run of one row, whatever happens in it.
	rowTimeMax = 4 * time.Minute
	repeatFull = 3
)

type options struct {
	binary, only, out, dir string
	list, short, keep      bool
	beside                 bool
	tell                   string
	asJSON                 bool
	boxes, repeat          int
	timeMax                time.Duration
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		cancel()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/holdfast", "the `program` under test")
	flag.StringVar(&o.only, "only", "", "`rows` to run, as 2,13")
	flag.StringVar(&o.out, "out", "", "write the table as markdown to a `file`")
	flag.StringVar(&o.dir, "dir", "", "where sites are made; a new `directory` under the system's temporary one by default")
	flag.BoolVar(&o.list, "list", false, "list the rows and end")
	flag.BoolVar(&o.short, "short", false, "the rows that need no root, once each, in about three minutes")
	flag.BoolVar(&o.keep, "keep", false, "keep the directories of failures")
	flag.BoolVar(&o.asJSON, "json", false, "print JSON")
	flag.IntVar(&o.boxes, "boxes", 4, "`number` of boxes, 4 or more")
	flag.IntVar(&o.repeat, "repeat", 0, "run each row so many `times` and give the median; 3 by default, 1 with -short")
	flag.DurationVar(&o.timeMax, "time", 90*time.Minute, "end after this `duration`, whatever is left to do")
	flag.BoolVar(&o.beside, "beside", false, "run no rows, but the command that follows, beside a site: in its words ALL and FIRST become endpoints of the etcd API, HOOK a command that breaks boxes")
	flag.StringVar(&o.tell, "tell", "", "send what follows (kill 1) to the site of this `socket`: what HOOK does")
	flag.Parse()
	if o.tell != "" {
		return tell(o.tell, flag.Args())
	}
	if o.beside != (flag.NArg() > 0) || o.boxes < 4 || o.repeat < 0 {
		return errors.New("wrong usage; see -help")
	}
	if o.repeat == 0 {
		o.repeat = repeatFull
		if o.short {
			o.repeat = 1
		}
	}
	chosen, err := choose(&o)
	if err != nil {
		return err
	}
	if o.list {
		for _, r := range chosen {
			fmt.Printf("%3d  %s: %s\n     by %s\n", r.number, r.fault, r.promise, r.how)
		}
		return nil
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if _, err := os.Stat(o.binary); err != nil {
		return fmt.Errorf("%w; make build makes it", err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeMax)
	defer cancel()
	if o.beside {
		return beside(ctx, &o, flag.Args())
	}
	root := os.Geteuid() == 0 && !o.short
	if root && os.Getenv(insideEnv) == "" {
		return enterNamespaces(ctx)
	}
	if root {
		if err := settle(); err != nil {
			return err
		}
	}
	return runRows(ctx, &o, chosen, root)
}

func choose(o *options) ([]*row, error) {
	all := rows()
	if o.only == "" {
		return slices.DeleteFunc(all, func(r *row) bool { return o.short && !r.short }), nil
	}
	var chosen []*row
	for word := range strings.SplitSeq(o.only, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		i := slices.IndexFunc(all, func(r *row) bool { return r.number == n })
		if err != nil || i < 0 {
			return nil, fmt.Errorf("-only %s: there is no row %q; -list lists them", o.only, word)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// result is one row's line of the table. Recovery is in seconds, one for each run that got so far.
type result struct {
	Row      int       `json:"row"`
	Fault    string    `json:"fault"`
	Promise  string    `json:"promise"`
	How      string    `json:"how"`
	Measured string    `json:"measured"`
	Verdict  string    `json:"verdict"`
	Recovery []float64 `json:"recovery_s"`
	Calls    int       `json:"calls"`
	Notes    []string  `json:"notes,omitempty"`
	Failures []string  `json:"failures,omitempty"`
}

func runRows(ctx context.Context, o *options, chosen []*row, root bool) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-chaos-")
		if err != nil {
			return err
		}
		o.dir = dir
		defer func() { _ = os.Remove(dir) }() // unless failures were kept in it
	}
	var results []*result
	failed := 0
	for _, r := range chosen {
		res := &result{Row: r.number, Fault: r.fault, Promise: r.promise, How: r.how, Measured: r.measured, Verdict: "PASS"}
		results = append(results, res)
		if r.root && !root {
			res.Verdict = "SKIP"
			res.Notes = append(res.Notes, "needs root")
			continue
		}
		for n := range o.repeat {
			if ctx.Err() != nil {
				break
			}
			oneRun(ctx, o, r, res, filepath.Join(o.dir, fmt.Sprintf("row%d-%d", r.number, n)))
		}
		if len(res.Failures) > 0 {
			res.Verdict = "FAIL"
			failed++
		} else if ctx.Err() != nil {
			res.Verdict = "CUT"
		}
		fmt.Fprintf(os.Stderr, "row %2d %s  %s  %s\n", r.number, res.Verdict, median(res.Recovery), r.fault)
		for _, f := range res.Failures {
			fmt.Fprintf(os.Stderr, "       %s\n       again: go run ./tools/chaos -only %d -keep -binary %s\n", f, r.number, o.binary)
		}
	}
	if err := report(o, results); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped before all was run: %w", context.Cause(ctx))
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d rows do not keep their promise", failed, len(chosen))
	}
	return nil
}

func oneRun(ctx context.Context, o *options, r *row, res *result, dir string) {
	ctx, cancel := context.WithTimeout(ctx, rowTimeMax)
	defer cancel()
	t := &trial{options: o, row: r, dir: dir}
	err := t.run(ctx)
	res.Calls += t.calls
	for _, n := range t.notes {
		if !slices.Contains(res.Notes, n) {
			res.Notes = append(res.Notes, n)
		}
	}
	if t.measured {
		res.Recovery = append(res.Recovery, t.recovery.Seconds())
	}
	if err == nil || !o.keep {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		if o.keep {
			text += "; logs in " + dir
		}
		res.Failures = append(res.Failures, text)
	}
}

func median(xs []float64) string {
	if len(xs) == 0 {
		return "-"
	}
	s := slices.Sorted(slices.Values(xs))
	return strconv.FormatFloat(s[len(s)/2], 'f', 2, 64) + " s"
}

func report(o *options, results []*result) error {
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(markdown(o, results)), 0o644); err != nil {
			return err
		}
	}
	if o.asJSON {
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROW\tFAULT\tPROMISE\tMEDIAN\tCALLS\tVERDICT\tNOTES")
	for _, r := range results {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%s\t%s\n", r.Row, r.Fault, r.Promise, median(r.Recovery), r.Calls, r.Verdict, strings.Join(append(r.Notes, r.Failures...), "; "))
	}
	return t.Flush()
}

func markdown(o *options, results []*result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The real binary under fire\n\nMade by `make chaos` (tools/chaos): %d boxes, %d runs of each row, %s/%s, %d cores, %s.\n",
		o.boxes, o.repeat, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	if out, err := exec.Command(o.binary, "version").Output(); err == nil {
		fmt.Fprintf(&b, "Program: `%s`.\n", strings.TrimSpace(string(out)))
	}
	b.WriteString(`
Every run: clients write, read and delete five keys through all boxes. Afterwards their history is checked with
porcupine (linearizable, no stale read), revisions, the log dumps and the states of all boxes are compared, every
acknowledged write is looked for in the log, and no honest box may be accused. "Pause" is the longest time in which
nobody's write was acknowledged. One row again: ` + "`go run ./tools/chaos -only 2 -keep`" + `.

| # | fault | by | promise | what is measured | median | worst | calls | verdict |
|---|---|---|---|---|---|---|---|---|
`)
	var below []string
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, r := range results {
		worst := "-"
		if len(r.Recovery) > 0 {
			worst = median([]float64{slices.Max(r.Recovery)})
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s | %d | %s |\n", r.Row, cell.Replace(r.Fault), cell.Replace(r.How), cell.Replace(r.Promise),
			cell.Replace(r.Measured), median(r.Recovery), worst, r.Calls, r.Verdict)
		if text := append(r.Notes, r.Failures...); len(text) > 0 {
			below = append(below, fmt.Sprintf("- Row %d: %s.", r.Row, cell.Replace(strings.Join(text, "; "))))
		}
	}
	if len(below) > 0 {
		fmt.Fprintf(&b, "\n%s\n", strings.Join(below, "\n"))
	}
	return b.String()
}
