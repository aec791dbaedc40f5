package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func traceCommand() command {
	return command{
		name: "trace", about: "say where the time of batches went, on each box",
		sub: []command{
			{
				name: "list", about: "list the traces that a box keeps, newest first",
				more: addrHelp + `
A box keeps the traces of batches of its own that were slow, failed, saw a change of leader or an anomaly, that a client asked for, and
1 in 100 of the others (docs/tracing.md).

Examples:
  holdfast trace list --min 20ms --since 1h
  holdfast trace list --reason slow --reason error --json
`,
				flags: traceListFlags,
			},
			{
				name: "show", args: "TRACE", about: "draw one trace, with what every box knows of it",
				more: addrHelp + `
TRACE is its 32 digits, as list prints them and as a client's traceparent has them.

Example:
  holdfast trace show 4bf92f3577b34da6a3ce929d0e0e4736
`,
				flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
					addr, asJSON := asking(f)
					width := f.Int("width", 100, "columns of the terminal")
					return func(ctx context.Context, s *streams, args []string) error {
						if len(args) != 1 || *width < 40 || *width > 1000 {
							return fmt.Errorf("%w: one trace, and a width from 40 to 1000", errUsage)
						}
						return ask(*addr, func(b *remote.Box) error {
							t, err := b.Trace(ctx, args[0])
							if err != nil {
								return err
							}
							if *asJSON {
								return printJSON(s.out, t)
							}
							return printTrace(s.out, &t, *width)
						})
					}
				},
			},
		},
	}
}

func traceListFlags(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	addr, asJSON := asking(f)
	least := f.Duration("min", 0, "only those that took at least this `duration`")
	since := f.String("since", "", "only those that began then or later: how long ago, such as 1h, or a `time`")
	limit := f.Int("limit", 20, "at most so many")
	var reasons []string
	f.Func("reason", "only those kept for this `reason`: error, slow, round_change, anomaly, random or client (again for more)", func(s string) error {
		reasons = append(reasons, s)
		return nil
	})
	return func(ctx context.Context, s *streams, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		q := url.Values{"reason": reasons, "limit": {strconv.Itoa(*limit)}}
		if *least > 0 {
			q.Set("min", least.String())
		}
		if *since != "" {
			q.Set("since", *since)
		}
		return ask(*addr, func(b *remote.Box) error {
			t, err := b.Traces(ctx, q)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(s.out, t)
			}
			return printTraces(s.out, &t)
		})
	}
}

func printTraces(w io.Writer, t *api.Traces) error {
	if len(t.Traces) == 0 {
		_, err := fmt.Fprintf(w, "No such traces are kept. Of %d batches since this box started %d were to be.\n", t.Judged, t.Kept)
		return err
	}
	tw := table(w)
	fmt.Fprintln(tw, "BEGIN\tTOOK\tTRACE\tBOX\tHEIGHT\tMESSAGES\tKEPT FOR")
	for i := range t.Traces {
		h := &t.Traces[i]
		why := strings.Join(h.Reasons, ", ")
		if len(h.Reasons) == 0 { // the author judges, and other boxes keep their part of what it keeps
			why = "as " + h.AuthorName + " does"
		}
		if h.Error != "" {
			why += " (" + h.Error + ")"
		}
		fmt.Fprintf(tw, "%s\t%v\t%v\t%s\t%d\t%d\t%s\n",
			h.Start.Local().Format("01-02 15:04:05.000"), short(h.Duration), h.ID, h.AuthorName, h.Height, h.Messages, why)
	}
	return tw.Flush()
}

// short is a duration of nanoseconds in three digits or so.
func short(ns int64) time.Duration {
	d, unit := time.Duration(ns), time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

// printTrace draws a waterfall: a line a span, with a bar where its time lies in the trace's. What voted is marked in the bar.
func printTrace(w io.Writer, t *api.Trace, width int) error {
	const left, took = 34, 10
	bar := width - left - took - 2
	end := max(t.Duration, 1)
	for i := range t.Spans {
		end = max(end, t.Spans[i].Start+t.Spans[i].Duration)
	}
	at := func(ns int64) int { return int(min(max(ns, 0), end) * int64(bar-1) / end) }
	out := &strings.Builder{}
	fmt.Fprintf(out, "Trace %v: %d messages of %s in block %d, led by %s, %v", t.ID, t.Messages, t.AuthorName, t.Height, t.LeaderName, short(t.Duration))
	if len(t.Reasons) > 0 {
		fmt.Fprintf(out, "; kept for %s", strings.Join(t.Reasons, ", "))
	}
	fmt.Fprint(out, "\n\n")
	for i := range t.Spans {
		s := &t.Spans[i]
		name := strings.Repeat("  ", s.Depth) + s.Name
		if s.Depth == 0 || s.Name == "order" {
			name += " on " + s.BoxName
		}
		line := slices.Repeat([]rune{' '}, bar)
		for c := at(s.Start); c <= at(s.Start+s.Duration); c++ {
			line[c] = '━'
		}
		for _, e := range s.Events {
			line[at(e.At)] = '┿'
		}
		failed := ""
		if s.Error != "" {
			failed = " " + s.Error
		}
		fmt.Fprintf(out, "%-*.*s %s %*v%s\n", left, left, name, string(line), took, short(s.Duration), failed)
	}
	fmt.Fprintln(out, "\n┿: this box voted. Times of other boxes are by their clocks, corrected as far as this box knows them.")
	_, err := io.WriteString(w, out.String())
	return err
}
