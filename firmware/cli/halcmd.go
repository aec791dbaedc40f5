package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/work"
)

func halCommand(build Build) command {
	return command{
		name: "hal", about: "look at this machine's hardware, plan its settings, apply and undo them",
		more: `Nothing is changed by probe, plan, verify, board, and by apply and watch with --dry-run. What apply
changes is journaled first and undone by rollback. Setting and journal end with the machine's power.
`,
		sub: []command{
			{
				name: "probe", about: "print what the machine says about itself, and why where it says nothing",
				more: `
Each part is loaded, skipped (the machine does not have it) or failed (it has it and reading went wrong).
Nothing is written, and no device is opened that reacts to it. --root takes a tree of files that stands for
a machine, with its sys and proc.

Examples:
  holdfast hal probe
  holdfast hal probe --json
  holdfast hal probe --root captured/rock-5b
`,
				flags: halVerb(halProbe),
			},
			{
				name: "plan", about: "print what should be changed on this machine, why, and why the rest stays",
				more: `
A change has the old and the wanted value, how risky it is, and its reason. safe: it cannot cut the machine
off. risky: it resets a link; if it fails, everything is put back.

Examples:
  holdfast hal plan
  holdfast hal plan --nic eth0 --channels
  holdfast hal plan --root captured/rock-5b --board rock-5b --json
`,
				flags: halVerb(halPlan),
			},
			halApplyCommand(), halVerifyCommand(), halRollbackCommand(), halCalibrateCommand(build), halBoardCommand(), halWatchCommand(),
		},
	}
}

// halFlags are the flags of commands that look at a machine.
type halFlags struct {
	root, board string
	json        bool
	options     hal.Options
}

func (o *halFlags) machine(f *flag.FlagSet) {
	f.StringVar(&o.board, "board", "", "the board's profile, a `name` of 'holdfast hal board list' or a file; without it the machine's own is found")
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func (o *halFlags) tree(f *flag.FlagSet) {
	f.StringVar(&o.root, "root", "/", "the machine is below this `directory`")
}

func (o *halFlags) plan(f *flag.FlagSet) {
	f.Func("nic", "touch only these interfaces, `names` with commas between them", func(s string) error {
		o.options.Only = strings.Split(s, ",")
		return nil
	})
	f.Func("loops", "`how many` loops want a CPU each (default 1)", func(s string) error {
		if _, err := fmt.Sscan(s, &o.options.Loops); err != nil || o.options.Loops < 1 || o.options.Loops > loopsMax {
			return fmt.Errorf("it is a number from 1 to %d", loopsMax)
		}
		return nil
	})
	f.BoolVar(&o.options.Channels, "channels", false, "also set the number of hardware queues, which resets the link")
}

// loopsMax is more hot loops than a box has.
const loopsMax = 64

// open looks at the machine that the flags name.
func (o *halFlags) open() (*work.Machine, error) {
	m, err := work.Open(o.root, o.board)
	if errors.Is(err, work.ErrBoard) {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return m, err
}

// planFor makes the plan, unless an interface is asked for that the machine does not have.
func (o *halFlags) planFor(m *work.Machine) (hal.Plan, error) {
	var there []string
	for i := range m.Facts.NICs.Value {
		there = append(there, m.Facts.NICs.Value[i].Name)
	}
	for _, name := range o.options.Only {
		if m.Facts.NICs.State == hal.Loaded && !slices.Contains(there, name) {
			return hal.Plan{}, fmt.Errorf("%w: there is no interface %q; there are %s", errUsage, name, strings.Join(there, ", "))
		}
	}
	return m.Plan(o.options), nil
}

// halVerb is a command that looks at a machine and prints.
func halVerb(run func(w io.Writer, o *halFlags, m *work.Machine) error) func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	return func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
		var o halFlags
		o.machine(f)
		o.tree(f)
		o.plan(f)
		return func(_ context.Context, s *streams, args []string) error {
			if err := noArgs(args); err != nil {
				return err
			}
			m, err := o.open()
			if err != nil {
				return err
			}
			return errors.Join(run(s.out, &o, m), m.Close())
		}
	}
}

func halPlan(w io.Writer, o *halFlags, m *work.Machine) error {
	p, err := o.planFor(m)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(w, p)
	}
	return printPlan(w, &p)
}

// printPlan prints a plan for a person.
func printPlan(w io.Writer, p *hal.Plan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "board         %s: %s\n", p.Board, p.BoardWhy)
	if p.Assign.Why != "" {
		fmt.Fprintf(&b, "loop          CPU %s\nreceive       CPU %s\nhousekeeping  CPU %s\n              %s\n",
			p.Assign.Loop, p.Assign.Receive, p.Assign.Housekeeping, p.Assign.Why)
	}
	fmt.Fprintf(&b, "\n%s\n", count(len(p.Changes), "change"))
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "  %s: %s -> %s  (%s)\n      %s\n", c.Target, orElse(c.Old, "none"), orElse(c.Want, "none"), c.Risk, c.Reason)
	}
	fmt.Fprintf(&b, "\n%s alone\n", count(len(p.Notes), "place")+" left")
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "  %s: %s\n", n.About, n.Why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func count(n int, what string) string {
	switch n {
	case 0:
		return "no " + what
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
