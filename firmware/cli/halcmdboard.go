package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal/work"
)

func halBoardCommand() command {
	return command{
		name: "board", about: "the profiles of boards: list, show, check, and write a first one",
		sub: []command{
			{
				name: "list", about: "list the profiles that are built in",
				more: "\nExample:\n  holdfast hal board list\n",
				flags: boardVerb(0, 0, func(w io.Writer, asJSON bool, _ string) error {
					all, err := boards.All()
					if err != nil {
						return err
					}
					if asJSON {
						return printJSON(w, all)
					}
					t := table(w)
					fmt.Fprintln(t, "ID\tARCH\tFACTS\tUNVERIFIED\tNAME")
					for i := range all {
						facts, unverified := sources(&all[i])
						fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\n", all[i].ID, all[i].Arch, facts, unverified, all[i].Name)
					}
					return t.Flush()
				}),
			},
			{
				name: "show", args: "[NAME|FILE]", about: "print a profile, or this machine's, as TOML",
				more: "\nWithout a name it is the profile that fits this machine.\n\nExamples:\n  holdfast hal board show\n  holdfast hal board show rock-5b\n",
				flags: boardVerb(0, 1, func(w io.Writer, asJSON bool, name string) error {
					b, why, err := boardOf(name)
					if err != nil {
						return err
					}
					if asJSON {
						return printJSON(w, b)
					}
					text, err := boards.Encode(b)
					if err != nil {
						return err
					}
					_, err = fmt.Fprintf(w, "# %s: %s\n%s", b.ID, why, text)
					return err
				}),
			},
			{
				name: "new", about: "print a first profile of the machine that this runs on",
				more: `
Every fact says in [provenance] where it was learned: captured was read here, unverified is a guess that you
should correct: which port is the WAN, which light shows the state, what the budget is. Then check it and
give it to the box with hal.board in its configuration.

Examples:
  holdfast hal board new > my-board.toml
  holdfast hal board check my-board.toml
`,
				flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
					var o halFlags
					o.tree(f)
					f.BoolVar(&o.json, "json", false, "print JSON")
					return func(_ context.Context, s *streams, args []string) error {
						if err := noArgs(args); err != nil {
							return err
						}
						m, err := o.open()
						if err != nil {
							return err
						}
						return errors.Join(boardNew(s.out, m, o.json), m.Close())
					}
				},
			},
			{
				name: "check", args: "FILE", about: "check a profile and say which of its facts are not verified",
				more: "\nExample:\n  holdfast hal board check my-board.toml\n",
				flags: boardVerb(1, 1, func(w io.Writer, asJSON bool, name string) error {
					b, err := work.BoardFile(name)
					if err != nil {
						return err
					}
					if asJSON {
						return printJSON(w, b)
					}
					facts, unverified := sources(&b)
					t := table(w)
					fmt.Fprintf(t, "%s is good: %s, %s, %d not verified.\n", name, b.ID, count(facts, "fact"), unverified)
					for _, f := range b.Facts() {
						if source, note := b.Source(f); source == boards.Unverified {
							fmt.Fprintf(t, "  %s\t%s\n", f, note)
						}
					}
					return t.Flush()
				}),
			},
		},
	}
}

func boardVerb(least, most int, run func(w io.Writer, asJSON bool, name string) error) func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	return func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
		asJSON := f.Bool("json", false, "print JSON")
		return func(_ context.Context, s *streams, args []string) error {
			if len(args) < least {
				return fmt.Errorf("%w: name one file", errUsage)
			}
			if len(args) > most {
				return noArgs(args[most:])
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			err := run(s.out, *asJSON, name)
			if errors.Is(err, work.ErrBoard) {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			return err
		}
	}
}

// boardOf is the profile of this name, or this machine's, and why it is this one.
func boardOf(name string) (boards.Board, string, error) {
	if name != "" {
		b, err := work.Board(name)
		return b, "it was asked for", err
	}
	m, err := work.Open("/", "")
	if err != nil {
		return boards.Board{}, "", err
	}
	return m.Board, m.Why, m.Close()
}

// sources counts a profile's facts, and those that nobody has verified.
func sources(b *boards.Board) (facts, unverified int) {
	for _, f := range b.Facts() {
		facts++
		if source, _ := b.Source(f); source == boards.Unverified {
			unverified++
		}
	}
	return facts, unverified
}

func boardNew(w io.Writer, m *work.Machine, asJSON bool) error {
	b := work.Draft(m.Facts)
	if err := b.Check(); err != nil {
		return fmt.Errorf("what this machine says makes no profile: %w", err)
	}
	if asJSON {
		return printJSON(w, b)
	}
	text, err := boards.Encode(b)
	if err != nil {
		return err
	}
	var guesses []string
	for _, f := range b.Facts() {
		if source, _ := b.Source(f); source == boards.Unverified {
			guesses = append(guesses, f)
		}
	}
	slices.Sort(guesses)
	_, err = fmt.Fprintf(w, "# A first profile, written by `holdfast hal board new` under Linux %s. Correct what is a guess:\n# %s\n%s",
		oneWord(m.Facts.Kernel), strings.Join(guesses, ", "), text)
	return err
}

// oneWord keeps what a machine says of itself inside a comment's line.
func oneWord(s string) string { return strings.Join(strings.Fields(s), "-") }
