// Package cli is the command line of holdfast: it reads flags, calls the package that does
// the work, and prints. It decides nothing of its own.
//
// Every command answers --help with examples, prints JSON with --json, and ends with 0 when it
// did what it was asked, 1 when it could not, 2 when it was asked wrongly. An error is one
// line on standard error that says what to do.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

var (
	// errUsage says that the command line is wrong.
	errUsage = errors.New("wrong usage")
	// errSaid says that the answer, which was printed, is no: there is nothing to add to it.
	errSaid = errors.New("the answer is no")
)

// streams are the command's input and outputs.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// command is one verb of the command line, or a group of verbs.
type command struct {
	name string
	// args names what follows the flags, about says in a line what the command does, and
	// more is the rest of its help, with examples.
	args, about, more string
	// flags declares the flags and gives what runs when they are parsed, with what followed them.
	flags func(f *flag.FlagSet) func(ctx context.Context, s *streams, args []string) error
	sub   []command
}

// Build is which program this is, as the linker was told.
type Build struct{ Version, Commit string }

// Run runs the command line args, without the program's name, until it is done or ctx ends, and
// gives the exit code.
func Run(ctx context.Context, b Build, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	s := &streams{stdin, stdout, stderr}
	root := command{name: "holdfast", about: "coordinates the boxes of an edge site, even when some of them lie", sub: commands(b)}
	err := root.dispatch(ctx, s, "", args)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errSaid):
		return exitFailed
	}
	if _, printErr := fmt.Fprintln(stderr, "holdfast: "+oneLine(err)); printErr != nil {
		return exitFailed
	}
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitFailed
}

func commands(b Build) []command {
	return []command{
		devCommand(), runCommand(b), siteCommand(), statusCommand(), membersCommand(), topCommand(), logCommand(),
		kvCommand(), feedCommand(), halCommand(b), auditCommand(b), decisionCommand(), operatorCommand(), roleCommand(), tokenCommand(), settingCommand(), trustCommand(), alarmCommand(), crashCommand(), traceCommand(), identityCommand(), encryptionCommand(), configCommand(), updateCommand(b), debugCommand(), supportCommand(b), imageCommand(b), flashCommand(), versionCommand(b),
	}
}

// dispatch runs the command of a group, or the command itself.
func (c *command) dispatch(ctx context.Context, s *streams, path string, args []string) error {
	path = strings.TrimSpace(path + " " + c.name)
	if c.sub == nil || c.flags != nil && (len(args) == 0 || !c.hasSub(args[0])) {
		return c.execute(ctx, s, path, args)
	}
	if len(args) == 0 {
		if err := c.printGroup(s.err, path); err != nil {
			return err
		}
		return fmt.Errorf("%w: name a command", errUsage)
	}
	name, rest := args[0], args[1:]
	if name == "help" || name == "--help" || name == "-help" || name == "-h" {
		return c.help(ctx, s, path, rest)
	}
	for i := range c.sub {
		if c.sub[i].name == name {
			return c.sub[i].dispatch(ctx, s, path, rest)
		}
	}
	return fmt.Errorf("%w: there is no command %q; `%s help` lists all", errUsage, path+" "+name, path)
}

func (c *command) hasSub(name string) bool {
	for i := range c.sub {
		if c.sub[i].name == name {
			return true
		}
	}
	return false
}

// help prints the help of the command that words lead to.
func (c *command) help(ctx context.Context, s *streams, path string, words []string) error {
	if len(words) == 0 {
		return c.printGroup(s.out, path)
	}
	return c.dispatch(ctx, s, strings.TrimSuffix(path, c.name), append(words, "--help"))
}

func (c *command) printGroup(w io.Writer, path string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage: %s COMMAND [FLAGS]\n\n", path, c.about, path)
	width := 0
	for _, sub := range c.sub {
		width = max(width, len(sub.name))
	}
	for _, sub := range c.sub {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, sub.name, sub.about)
	}
	fmt.Fprintf(&b, "\n`%s COMMAND --help` says more. Exit codes: 0 done, 1 failed, 2 wrong usage.\n", path)
	if c.more != "" {
		fmt.Fprintf(&b, "\n%s", c.more)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *command) execute(ctx context.Context, s *streams, path string, args []string) error {
	f := flag.NewFlagSet(path, flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are ours to print, in one line
	run := c.flags(f)
	rest, err := parse(f, args)
	if errors.Is(err, flag.ErrHelp) {
		return c.printHelp(s.out, path, f)
	}
	if err != nil {
		return fmt.Errorf("%w: %w; `%s --help` lists the flags", errUsage, err, path)
	}
	if err := run(ctx, s, rest); err != nil {
		if errors.Is(err, errUsage) {
			return fmt.Errorf("%w; see `%s --help`", err, path)
		}
		return err
	}
	return nil
}

func (c *command) printHelp(w io.Writer, path string, f *flag.FlagSet) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage: %s [FLAGS]", path, c.about, path)
	if c.args != "" {
		fmt.Fprintf(&b, " %s", c.args)
	}
	b.WriteString("\n\n")
	f.VisitAll(func(fl *flag.Flag) {
		dashes := "--"
		if len(fl.Name) == 1 {
			dashes = "-"
		}
		value, usage := flag.UnquoteUsage(fl)
		fmt.Fprintf(&b, "  %s\n        %s", strings.TrimSpace(dashes+fl.Name+" "+value), usage)
		if fl.DefValue != "" && fl.DefValue != "false" && fl.DefValue != "0" {
			fmt.Fprintf(&b, " (default %s)", fl.DefValue)
		}
		b.WriteByte('\n')
	})
	if c.more != "" {
		fmt.Fprintf(&b, "\n%s", c.more)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// parse reads flags wherever they stand, up to "--".
func parse(f *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		left := f.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if used := len(args) - len(left); used > 0 && args[used-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// noArgs refuses what follows the flags.
func noArgs(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %q is not expected", errUsage, args[0])
	}
	return nil
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
