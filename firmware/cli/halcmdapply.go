package cli

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// confirmMax bounds --confirm: who does not answer in that time is not there.
const confirmMax = time.Hour

// dataFlag is where the journal is.
func dataFlag(f *flag.FlagSet) *string {
	dir := "/var/lib/holdfast"
	if c, err := config.Default(); err == nil {
		dir = c.DataDir
	}
	return f.String("data-dir", dir, "the box's data `directory`, in which the journal is kept")
}

func halApplyCommand() command {
	return command{
		name: "apply", about: "change what the plan says, look at the effect, and keep it or put it back",
		more: `
The old values are on disk before the first write. Every change gets an outcome: applied (its effect was
seen), accepted-unverified (the kernel took it and no effect could be seen), unsupported or failed, with the
reason. A change that fails is put back alone; when a risky one fails, or the command is interrupted or loses
its terminal, everything is. If the machine or the command dies in the middle, the next ` + "`holdfast run`" + ` or
` + "`holdfast hal rollback`" + ` puts it back.

With --confirm you are asked again when all is applied, over the network as it then is; without your yes in
that time everything is put back. Ends with 1 if a change failed.

Examples:
  holdfast hal apply --dry-run
  holdfast hal apply --yes
  holdfast hal apply --confirm 30s --channels
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			o := halFlags{root: "/"}
			o.machine(f)
			o.plan(f)
			data := dataFlag(f)
			yes := f.Bool("yes", false, "do not ask before the first change")
			confirm := f.Duration("confirm", 0, "put everything back unless yes is said again within this `time`")
			dry := f.Bool("dry-run", false, "print the plan and change nothing")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *confirm < 0 || *confirm > confirmMax {
					return fmt.Errorf("%w: --confirm %v; it is from 1s to %v", errUsage, *confirm, confirmMax)
				}
				// A terminal that is lost, or a pipe that nobody reads, must not end the program in
				// the middle: its context ends, and all is put back.
				ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
				defer stop()
				m, err := o.open()
				if err != nil {
					return err
				}
				a := applying{&o, m, newPrompt(s), s.out, *data}
				return errors.Join(a.run(ctx, *yes, *dry, *confirm), m.Close())
			}
		},
	}
}

// applying is one `hal apply`.
type applying struct {
	o    *halFlags
	m    *work.Machine
	ask  *prompt
	out  io.Writer
	data string
}

func (a *applying) run(ctx context.Context, yes, dry bool, confirm time.Duration) error {
	plan, err := a.o.planFor(a.m)
	if err != nil {
		return err
	}
	if !a.o.json {
		if err := printPlan(a.out, &plan); err != nil {
			return err
		}
	}
	if !dry {
		l, err := openLedger(a.data)
		if err != nil {
			return err
		}
		if err := errors.Join(unfinished(l), l.Close()); err != nil {
			return err
		}
	}
	if dry || len(plan.Changes) == 0 {
		if a.o.json {
			return printJSON(a.out, applied{Plan: plan, Report: hal.Report{Outcomes: []hal.Outcome{}}})
		}
		return nil
	}
	if !yes {
		if err := a.ask.yes(ctx, fmt.Sprintf("\nApply %s? Type yes: ", count(len(plan.Changes), "change"))); err != nil {
			return fmt.Errorf("nothing was changed: %w", err)
		}
	}
	l, err := openLedger(a.data)
	if err != nil {
		return err
	}
	report, err := l.Apply(ctx, linux.NewPort(a.m.Root), &plan, a.confirm(confirm))
	if errors.Is(err, hal.ErrPending) {
		err = fmt.Errorf("%w; `holdfast hal rollback` puts it back", err)
	}
	err = errors.Join(err, l.Close())
	var printErr error
	if a.o.json {
		printErr = printJSON(a.out, applied{plan, report})
	} else {
		printErr = printOutcomes(a.out, report.Outcomes)
	}
	return errors.Join(err, printErr, failures(report.Outcomes, nil))
}

// applied is the JSON of `hal apply` and of a step of `hal watch`.
type applied struct {
	Plan hal.Plan `json:"plan"`
	hal.Report
}

func (a *applying) confirm(within time.Duration) *hal.Confirm {
	if within == 0 {
		return nil
	}
	return &hal.Confirm{Within: within, Wait: func(ctx context.Context) error {
		return a.ask.yes(ctx, fmt.Sprintf("\nApplied. Type yes within %v to keep it: ", within))
	}}
}

// unfinished says that an apply was interrupted and is still open.
func unfinished(l *work.Ledger) error {
	pending, err := l.Pending()
	if err == nil && pending != nil {
		err = fmt.Errorf("%w: %s of an apply that was interrupted; `holdfast hal rollback` puts them back, and so does the next `holdfast run`",
			hal.ErrPending, count(len(pending), "value"))
	}
	return err
}

func openLedger(data string) (*work.Ledger, error) {
	l, err := work.OpenLedger(work.LedgerDir(data))
	if err != nil {
		return nil, fmt.Errorf("%w; the journal is in --data-dir, and changes need root", err)
	}
	return l, nil
}

func printOutcomes(w io.Writer, all []hal.Outcome) error {
	var b strings.Builder
	for _, o := range all {
		stands := o.Change.Want
		if o.Result == hal.PutBack {
			stands = o.Change.Old
		}
		fmt.Fprintf(&b, "%-19s %s: %s\n", o.Result, o.Change.Target, orElse(stands, "none"))
		if o.Why != "" {
			fmt.Fprintf(&b, "%-19s   %s\n", "", o.Why)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printInUse prints what a box uses of its own settings.
func printInUse(w io.Writer, all []work.InUse) error {
	if len(all) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString("\nThe box, as it last started:\n")
	for _, u := range all {
		fmt.Fprintf(&b, "%-19s %s: %s\n", u.Result, u.Setting, u.Value)
		if u.Why != "" {
			fmt.Fprintf(&b, "%-19s   %s\n", "", u.Why)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// failures is an error when something failed.
func failures(all []hal.Outcome, box []work.InUse) error {
	n := 0
	for _, o := range all {
		if o.Result == hal.FailedTo {
			n++
		}
	}
	for _, u := range box {
		if u.Result == hal.FailedTo {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %s failed; the reasons are above", n, count(len(all)+len(box), "setting"))
}

// prompt asks questions and reads the answers' lines. Its reader cannot be woken, so it ends
// with the program.
type prompt struct {
	out   io.Writer
	lines chan string // closed at the end of the input
	start func()
}

func newPrompt(s *streams) *prompt {
	p := &prompt{out: s.err, lines: make(chan string)}
	p.start = func() {
		p.start = func() {}
		go func() {
			defer close(p.lines)
			for r := bufio.NewScanner(s.in); r.Scan(); {
				p.lines <- r.Text()
			}
		}()
	}
	return p
}

// errNotYes says that the answer was another.
var errNotYes = errors.New("the answer was not yes")

// yes asks, and returns nil when the answer is yes.
func (p *prompt) yes(ctx context.Context, question string) error {
	p.start()
	if _, err := io.WriteString(p.out, question); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	select {
	case <-ctx.Done():
		_, err := io.WriteString(p.out, "\n")
		return errors.Join(context.Cause(ctx), err)
	case line, ok := <-p.lines:
		if !ok {
			return errors.New("nobody answered (--yes answers the first question)")
		}
		if strings.TrimSpace(line) != "yes" {
			return errNotYes
		}
		return nil
	}
}

func halVerifyCommand() command {
	return command{
		name: "verify", about: "look again at what was applied: does it still stand, and does it have its effect",
		more: `
A value that somebody else has set since is drift and fails; ` + "`holdfast hal apply`" + ` sets it again. What the
box with this data directory found of its own settings (sockets, memory, the loop's CPU) when it last started is
printed too.

Examples:
  holdfast hal verify
  holdfast hal verify --json
`,
		flags: ledgerVerb(func(ctx context.Context, w io.Writer, asJSON bool, port hal.Port, l *work.Ledger, data string) error {
			if err := unfinished(l); err != nil {
				return err
			}
			all, err := l.Verify(ctx, port)
			if err != nil {
				return err
			}
			box, err := work.LoadInUse(data)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(w, struct {
					hal.Report
					Box []work.InUse `json:"box,omitempty"`
				}{hal.Report{Outcomes: append([]hal.Outcome{}, all...), Committed: len(all) > 0}, box})
				return errors.Join(err, failures(all, box))
			}
			if len(all) == 0 {
				_, err = fmt.Fprintln(w, "Nothing was applied since the machine started.")
			} else {
				err = printOutcomes(w, all)
			}
			return errors.Join(err, printInUse(w, box), failures(all, box))
		}),
	}
}

func halRollbackCommand() command {
	return command{
		name: "rollback", about: "put back everything that was applied, and what an interrupted apply left",
		more: `
Every place gets the value that it had before the first plan since the machine started.

Examples:
  holdfast hal rollback
  holdfast hal rollback --data-dir /var/lib/holdfast --json
`,
		flags: ledgerVerb(func(ctx context.Context, w io.Writer, asJSON bool, port hal.Port, l *work.Ledger, _ string) error {
			back, err := l.PutBack(ctx, port)
			if errors.Is(err, hal.ErrGone) {
				err = fmt.Errorf("%w\n\nWhat is not there could not be put back: its old value is kept, and a rollback when it is there again (an interface under its old name, this network namespace) tries again. It ends with the machine's power", err)
			}
			if asJSON {
				return errors.Join(err, printJSON(w, struct {
					PutBack []hal.Entry `json:"put_back"`
				}{append([]hal.Entry{}, back...)}))
			}
			if len(back) == 0 && err == nil {
				_, err = fmt.Fprintln(w, "Nothing was applied since the machine started.")
				return err
			}
			t := table(w)
			for _, e := range back {
				fmt.Fprintf(t, "%s\t%s\t%s\n", hal.PutBack, e.Target, orElse(e.Old, "none"))
			}
			return errors.Join(err, t.Flush())
		}),
	}
}

// ledgerVerb is a command that works on what was applied.
func ledgerVerb(run func(ctx context.Context, w io.Writer, asJSON bool, port hal.Port, l *work.Ledger, data string) error) func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	return func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
		data := dataFlag(f)
		asJSON := f.Bool("json", false, "print JSON")
		return func(ctx context.Context, s *streams, args []string) error {
			if err := noArgs(args); err != nil {
				return err
			}
			root, err := linux.Open("/", nil)
			if err != nil {
				return err
			}
			l, err := openLedger(*data)
			if err != nil {
				return errors.Join(err, root.Close())
			}
			return errors.Join(run(ctx, s.out, *asJSON, linux.NewPort(root), l, *data), l.Close(), root.Close())
		}
	}
}

func halWatchCommand() command {
	return command{
		name: "watch", about: "apply the plan, and again after every link, CPU or device event, until interrupted",
		more: `
A CPU that comes back, or a port that is plugged in, comes without the settings of before. Each look is
printed: what happened, what was changed, and the outcome; with --json as one line of JSON. What was changed
stays when the watch ends; ` + "`holdfast hal rollback`" + ` undoes it, also meanwhile.

Examples:
  holdfast hal watch --dry-run
  holdfast hal watch --yes --nic eth0
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			o := halFlags{root: "/"}
			o.machine(f)
			o.plan(f)
			data := dataFlag(f)
			yes := f.Bool("yes", false, "do not ask before the first change")
			dry := f.Bool("dry-run", false, "say what would be changed and change nothing")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE) // as in apply
				defer stop()
				m, err := o.open()
				if err != nil {
					return err
				}
				if !*yes && !*dry {
					if err := newPrompt(s).yes(ctx, "Change this machine's settings now and after every event? Type yes: "); err != nil {
						return errors.Join(fmt.Errorf("nothing was changed: %w", err), m.Close())
					}
				}
				return errors.Join(watch(ctx, s.out, &o, m, work.LedgerDir(*data), *dry), m.Close())
			}
		},
	}
}

func watch(ctx context.Context, out io.Writer, o *halFlags, m *work.Machine, ledger string, dry bool) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w := work.Watcher{Machine: m, Port: linux.NewPort(m.Root), Ledger: ledger, Options: o.options, DryRun: dry}
	var printErr error
	err := w.Run(ctx, func(s work.Step) {
		if printErr = printStep(out, o.json, &s, dry); printErr != nil {
			stop(printErr)
		}
	})
	return errors.Join(err, printErr)
}

func printStep(out io.Writer, asJSON bool, s *work.Step, dry bool) error {
	if asJSON {
		why := ""
		if s.Err != nil {
			why = s.Err.Error()
		}
		return printJSON(out, struct {
			Events  []hal.Event `json:"events"`
			PutBack []hal.Entry `json:"put_back,omitempty"`
			applied
			Error string `json:"error,omitempty"`
		}{append([]hal.Event{}, s.Events...), s.PutBack, applied{s.Plan, s.Report}, why})
	}
	var b strings.Builder
	b.WriteString(time.Now().Format("15:04:05"))
	for i, e := range s.Events {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s %s", e.Kind, e.Name)
	}
	if len(s.Events) == 0 {
		b.WriteString(" start")
	}
	if n := len(s.PutBack); n > 0 {
		fmt.Fprintf(&b, ": put back %s of an apply that died", count(n, "value"))
	}
	switch {
	case s.Err != nil:
		fmt.Fprintf(&b, ": failed: %s\n", oneLine(s.Err))
	case dry && len(s.Plan.Changes) > 0:
		fmt.Fprintf(&b, ": %s to make\n", count(len(s.Plan.Changes), "change"))
		for _, c := range s.Plan.Changes {
			fmt.Fprintf(&b, "  %s: %s -> %s\n", c.Target, orElse(c.Old, "none"), orElse(c.Want, "none"))
		}
	case len(s.Plan.Changes) == 0:
		b.WriteString(": nothing to change\n")
	default:
		fmt.Fprintf(&b, ": %s\n", count(len(s.Report.Outcomes), "change"))
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	return printOutcomes(out, s.Report.Outcomes)
}
