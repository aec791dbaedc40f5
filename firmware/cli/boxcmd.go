package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/dev"
	"github.com/holdfast-edge/holdfast/firmware/feed"
)

const configDefault = "/etc/holdfast/holdfast.toml"

func runCommand(b Build) command {
	return command{
		name: "run", about: "run this box until it is told to stop (SIGTERM, Ctrl-C)",
		more: `
The box answers what it has accepted and ends within 3 s of SIGTERM.

Examples:
  holdfast run --config /etc/holdfast/holdfast.toml
  holdfast run --config box.toml --log-format json
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			file := f.String("config", configDefault, "the configuration `file`; `holdfast config show` prints one")
			format := f.String("log-format", "text", "how to log to standard error: `text or json`")
			level := f.String("log-level", "info", "what to log: `level` debug, info, warn or error")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				log, err := newLogger(s.err, *format, *level)
				if err != nil {
					return err
				}
				c, err := config.Load(*file)
				if err != nil {
					if errors.Is(err, os.ErrNotExist) {
						return fmt.Errorf("%w; name the configuration with --config, or make one with `holdfast config show`", err)
					}
					return err
				}
				debug.SetMemoryLimit(int64(c.Limits.MemorySoft))
				debug.SetGCPercent(c.Limits.GCPercent)
				return box.Run(ctx, box.Options{Config: c, Version: b.Version, Logger: log, Ask: askIn(s)})
			}
		},
	}
}

func devCommand() command {
	return command{
		name: "dev", about: "run a whole site on this machine, to develop with and to try",
		more: `
Each box is a process with its own directory under --dir, and listens on 127.0.0.1 only. A second
start on the same directory continues the site. A box that dies is started again.

The ready file appears when the site serves and is removed when it stops. It is JSON:
  {"boxes":[{"id","console","client","peer","native","pid","dir"}],"password"}

Examples:
  holdfast dev
  holdfast dev --boxes 7 --dir /tmp/site --console-port 9080 --client-port 3379 --peer-port 9400
  holdfast dev --feed testdata/traces/web07.trace.xz --feed-rate 500
  holdfast dev replace --box 2     (while the site is stopped: box 2's disk is lost)
`,
		flags: devFlags,
		sub: []command{{
			name: "replace", about: "give the place of a box whose disk is lost to a new one, while the site is stopped",
			more: `
The new box has a new identity and starts empty. It catches up from the others, and votes from the next
term of the ordering on, because it does not know what the lost one had signed. Until then the site needs
all other boxes.

Example:
  holdfast dev replace --dir .holdfast --box 2 && holdfast dev --dir .holdfast
`,
			flags: replaceFlags,
		}},
	}
}

func replaceFlags(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	dir := f.String("dir", ".holdfast", "the site's `directory`")
	box := f.Int("box", -1, "which box: its `number`")
	asJSON := f.Bool("json", false, "print JSON")
	return func(_ context.Context, s *streams, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		if *box < 0 {
			return fmt.Errorf("%w: name the box with --box", errUsage)
		}
		log, err := newLogger(s.err, "text", "warn")
		if err != nil {
			return err
		}
		r, err := dev.Replace(*dir, *box, log)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(s.out, r)
		}
		_, err = fmt.Fprintf(s.out, "box-%d is %v now (it was %v), in %s.\nStart the site again: it catches up, and votes from round %d on.\n",
			r.Box, r.New, r.Old, r.Dir, r.VotesFrom)
		return err
	}
}

func devFlags(f *flag.FlagSet) func(context.Context, *streams, []string) error {
	var o dev.Options
	f.IntVar(&o.Boxes, "boxes", 0, fmt.Sprintf("how `many` boxes; without it those of the directory's site, or %d", dev.BoxesDefault))
	f.StringVar(&o.Dir, "dir", ".holdfast", "the site's `directory`")
	f.IntVar(&o.ConsolePort, "console-port", 8080, "`port` of box 0's console; box i has it plus i")
	f.IntVar(&o.ClientPort, "client-port", 2379, "client `port` of box 0, the native stream is one above; box i has it plus 10*i")
	f.IntVar(&o.PeerPort, "peer-port", 7400, "`port` of box 0 for the other boxes; box i has it plus i")
	f.StringVar(&o.ReadyFile, "ready-file", "", "`file` to write when the site serves")
	f.BoolVar(&o.NoRestart, "no-restart", false, "leave a box that dies as it is")
	trace := f.String("feed", "", "a trace `file` to feed to the site once it serves")
	rate := f.Float64("feed-rate", 0, "at most this `many` accesses a second; 0: as many as the site takes")
	return func(ctx context.Context, s *streams, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		if *rate < 0 {
			return fmt.Errorf("%w: --feed-rate cannot be negative", errUsage)
		}
		if o.Dir == "" {
			return fmt.Errorf("%w: --dir is empty", errUsage)
		}
		if *trace != "" {
			if err := checkTrace(*trace); err != nil {
				return err
			}
			o.Serving = func(ctx context.Context, url string) error {
				return feedFile(ctx, s, *trace, url, feed.Options{Rate: *rate}, false)
			}
		}
		var err error
		if o.Program, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		o.Out, o.Err = s.out, s.err
		if o.Logger, err = newLogger(s.err, "text", "info"); err != nil {
			return err
		}
		if err = dev.Run(ctx, o); errors.Is(err, dev.ErrUsage) {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return err
	}
}

// checkTrace says that a trace is damaged before a site is started for it.
func checkTrace(path string) error {
	t, err := feed.Open(path)
	if err != nil {
		return err
	}
	return t.Close()
}
