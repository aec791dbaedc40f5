package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/firmware/feed"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"golang.org/x/sys/unix"
)

const (
	// barWidth is the progress bar's, in characters: it fits beside its numbers in 80.
	barWidth = 30
	// plainEvery is how often progress is a line where there is no terminal.
	plainEvery = 2 * time.Second
)

func feedCommand() command {
	return command{
		name: "feed", about: "send a recorded trace of object accesses to a site",
		more: addrHelp + `
A trace is a file of 32-bit big-endian object keys, raw or xz-compressed. Each access becomes one
message, sent to the boxes in turn, and is sent again to another box until the site has counted
it, once. The command fails if anything was not acknowledged.

Examples:
  holdfast feed --trace testdata/traces/web07.trace.xz
  holdfast feed --trace web07.trace.xz --rate 1000 --limit 5000 --addr http://127.0.0.1:8080 --json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			addr, asJSON := asking(f)
			var o feed.Options
			trace := f.String("trace", "", "the trace `file`")
			f.Float64Var(&o.Rate, "rate", 0, "at most this `many` accesses a second; 0: as many as the site takes")
			f.Uint64Var(&o.Limit, "limit", 0, "only the first `so many` accesses; 0: all")
			f.DurationVar(&o.GiveUp, "give-up", feed.GiveUpDefault, "end when nothing is acknowledged for this `time`")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				if *trace == "" {
					return fmt.Errorf("%w: --trace is needed", errUsage)
				}
				if o.Rate < 0 || o.GiveUp <= 0 {
					return fmt.Errorf("%w: --rate and --give-up cannot be negative", errUsage)
				}
				return feedFile(ctx, s, *trace, *addr, o, *asJSON)
			}
		},
	}
}

// feedFile feeds one trace and prints what became of it, also when it failed.
func feedFile(ctx context.Context, s *streams, path, addr string, o feed.Options, asJSON bool) error {
	t, err := feed.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }() // only read
	bar := newProgress(s.err, asJSON)
	sum, err := feedSite(ctx, t, addr, o, bar)
	bar.end(sum)
	if asJSON {
		return errors.Join(printJSON(s.out, sum), err)
	}
	if sum.Sent > 0 {
		_, perr := fmt.Fprintf(s.out, "%d of %d accesses acknowledged in %.1f s, %d messages sent again\n", sum.Acknowledged, sum.Total, sum.Seconds, sum.Retried)
		return errors.Join(perr, err)
	}
	return err
}

func feedSite(ctx context.Context, t *feed.Trace, addr string, o feed.Options, bar *progress) (sum feed.Summary, err error) {
	sum.Total = t.Accesses()
	err = ask(addr, func(b *remote.Box) error {
		cfg, err := clientOf(ctx, b, "holdfast feed")
		if err != nil {
			return err
		}
		if o.GiveUp <= 0 {
			o.GiveUp = feed.GiveUpDefault
		}
		dial, cancel := context.WithTimeout(ctx, o.GiveUp)
		defer cancel()
		c, err := client.Dial(dial, cfg)
		if err != nil {
			return waited(denied(err), o.GiveUp)
		}
		o.Progress = bar.show
		sum, err = feed.Run(ctx, t, feed.NewSink(c, len(cfg.Endpoints)), o)
		return errors.Join(denied(err), closeClient(ctx, c))
	})
	return sum, err
}

// progress shows how far a feed has come: a bar on a terminal, a line now and then elsewhere,
// nothing when only JSON is wanted and nobody looks.
type progress struct {
	w        io.Writer
	terminal bool
	quiet    bool
	lastAt   time.Time
}

func newProgress(w io.Writer, asJSON bool) *progress {
	p := &progress{w: w, terminal: isTerminal(w), lastAt: time.Now()}
	p.quiet = asJSON && !p.terminal
	return p
}

func (p *progress) show(s feed.Summary) {
	if p.quiet || !p.terminal && time.Since(p.lastAt) < plainEvery {
		return
	}
	p.lastAt = time.Now()
	p.print(s)
}

// end leaves the last state of the bar on its line.
func (p *progress) end(s feed.Summary) {
	if p.terminal && s.Sent > 0 {
		p.print(s)
		_, _ = fmt.Fprintln(p.w)
	}
}

func (p *progress) print(s feed.Summary) {
	share := float64(s.Acknowledged) / float64(max(s.Total, 1))
	text := fmt.Sprintf("%3.0f%%  %d of %d acknowledged  %.0f a second", 100*share, s.Acknowledged, s.Total, float64(s.Acknowledged)/max(s.Seconds, 0.001))
	if p.terminal {
		full := int(share * barWidth)
		_, _ = fmt.Fprintf(p.w, "\r[%s%s] %s\x1b[K", strings.Repeat("#", full), strings.Repeat(" ", barWidth-full), text)
		return
	}
	_, _ = fmt.Fprintln(p.w, strings.TrimSpace(text)) // progress that cannot be shown is no failure
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
