package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

// crashHelp is about both commands.
const crashHelp = `
The supervisor of an appliance starts the coordinator again when it ends by itself, and keeps what it printed last, of a
panic the beginning: the newest 16 reports. With --dir they are read from a data directory, also of a box that does not run.
`

func crashCommand() command {
	return command{
		name: "crash", about: "say how a box's program ended when nobody had asked it to, and why",
		sub: []command{
			{
				name: "list", about: "list the reports, the newest first",
				more: addrHelp + crashHelp + `
Examples:
  holdfast crash list
  holdfast crash list --addr https://10.0.0.11:8080 --json
  holdfast crash list --dir /mnt/holdfast
`,
				flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
					addr, asJSON := asking(f)
					dir := f.String("dir", "", "read them from this data `directory`")
					return func(ctx context.Context, s *streams, args []string) error {
						if err := noArgs(args); err != nil {
							return err
						}
						return withReports(*addr, *dir, func(r reports) error {
							list, err := r.list(ctx)
							if err != nil {
								return err
							}
							if *asJSON {
								return printJSON(s.out, api.Crashes{Crashes: list})
							}
							return printCrashes(s.out, list)
						})
					}
				},
			},
			{
				name: "show", args: "[REPORT]", about: "print a report; without its name the newest",
				more: addrHelp + crashHelp + `
Over the network it takes the right crash.read.

Examples:
  holdfast crash show
  holdfast crash show 20260102T030405.000Z.txt
  holdfast crash show --dir /mnt/holdfast | less
`,
				flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
					addr := f.String("addr", "", "`address` of the box's console")
					dir := f.String("dir", "", "read it from this data `directory`")
					return func(ctx context.Context, s *streams, args []string) error {
						if len(args) > 1 {
							return fmt.Errorf("%w: name one report", errUsage)
						}
						return withReports(*addr, *dir, func(r reports) error { return showCrash(ctx, s, r, args) })
					}
				},
			},
		},
	}
}

// reports are a box's crash reports.
type reports struct {
	list func(context.Context) ([]crash.Report, error)
	text func(context.Context, string) ([]byte, error)
}

// withReports calls fn with those of a box that is asked, or of a data directory.
func withReports(addr, dir string, fn func(reports) error) error {
	switch {
	case dir != "" && addr != "":
		return fmt.Errorf("%w: --addr or --dir", errUsage)
	case dir != "":
		return fn(reports{
			func(context.Context) ([]crash.Report, error) { return crash.List(dir) },
			func(_ context.Context, file string) ([]byte, error) {
				r, err := crash.Read(dir, file)
				if err != nil {
					return nil, err
				}
				return r.Text, nil
			},
		})
	}
	return ask(addr, func(b *remote.Box) error {
		return fn(reports{b.Crashes, func(ctx context.Context, file string) ([]byte, error) {
			w := &bounded{max: crash.TextBytesMax}
			err := b.Crash(ctx, file, w)
			return w.Bytes(), err
		}})
	})
}

func printCrashes(w io.Writer, list []crash.Report) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "The box's program has not ended by itself; nothing is kept of one that nobody supervises.")
		return err
	}
	t := table(w)
	fmt.Fprintln(t, "REPORT\tENDED\tAFTER\tHOW\tRELEASE")
	for i := range list {
		r := &list[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", plain(r.File), r.At.UTC().Format(time.DateTime), ago(r.After), plain(r.How), plain(r.Version))
	}
	return t.Flush()
}

// showCrash prints a report that args name, or the newest.
func showCrash(ctx context.Context, s *streams, r reports, args []string) error {
	list, err := r.list(ctx)
	if err != nil {
		return err
	}
	var found *crash.Report
	for i := range list {
		if len(args) == 0 || list[i].File == args[0] || strings.TrimSuffix(list[i].File, ".txt") == args[0] {
			found = &list[i]
			break
		}
	}
	if found == nil && len(args) == 0 {
		return errors.New("there is no report: the program has not ended by itself, or nobody supervises it")
	}
	if found == nil {
		return fmt.Errorf("there is no report %s; `holdfast crash list` has them all", plain(args[0]))
	}
	text, err := r.text(ctx, found.File)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s: %s, after %s, release %s\n\n%s\n", found.At.UTC().Format(time.DateTime), plain(found.How), ago(found.After), plain(found.Version),
		bytes.TrimRight(printable(text), "\n"))
	return err
}

// printable is text that can do nothing to a terminal.
func printable(text []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
