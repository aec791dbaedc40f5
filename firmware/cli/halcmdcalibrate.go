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

	"github.com/holdfast-edge/holdfast/firmware/calibrate"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/dev"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// Defaults of a calibration: some ten minutes for all settings.
const (
	pairsDefault = 8
	roundDefault = 3 * time.Second
	warmDefault  = time.Second
	// restartTime is what starting and stopping take beside a round.
	restartTime = 1500 * time.Millisecond
)

func halCalibrateCommand(build Build) command {
	return command{
		name: "calibrate", about: "measure which hardware settings help on this machine, and keep those that do",
		more: `
A site works under a load with and without each setting, in turn, at least 7 times. What makes the rate, the
99th percentile or the CPU time better, beyond noise and by 3 %, and none of them worse, is kept; so is what
was kept before it while the next is measured. With --only what was measured before stays as it is. The figures are written to hal/calibrated.json in the data
directory, and a box whose settings say "measured" (the default) uses them from its next start.

With --config it is this box in its own site, over its own links: stop its service first, and start it again
afterwards. Meanwhile the box is restarted for every round, and writes keys below holdfast.calibrate/, which it
deletes again. Without --config a site of its own is made on this machine and thrown away; what concerns the
network and the loop's CPU cannot be measured so, and is left off.

Examples:
  holdfast hal calibrate --config /etc/holdfast/holdfast.toml
  holdfast hal calibrate --only huge_pages,lock_memory --pairs 12
  holdfast hal calibrate --show
`,
		flags: func(f *flag.FlagSet) func(context.Context, *streams, []string) error {
			o := calibrate.Options{Version: build.Version}
			h := halFlags{root: "/"}
			h.machine(f)
			data := f.String("data-dir", "", "keep the figures in this `directory` (default: the box's of --config, or /var/lib/holdfast)")
			f.StringVar(&o.Config, "config", "", "measure the box with this `file` in its own site")
			f.IntVar(&o.Boxes, "boxes", dev.BoxesDefault, "without --config: the `number` of boxes of the site")
			f.IntVar(&o.Pairs, "pairs", pairsDefault, "the `number` of times that each setting is compared, 7 to 16")
			f.DurationVar(&o.Round, "round", roundDefault, "the `time` for which a round is measured")
			f.DurationVar(&o.Warm, "warm", warmDefault, "the `time` for which the load runs before")
			f.Func("only", "measure only these settings, `names` such as busy_poll,loop", func(s string) error {
				o.Only = strings.Split(s, ",")
				return nil
			})
			yes := f.Bool("yes", false, "do not ask first")
			show := f.Bool("show", false, "print what was measured last, and measure nothing")
			dry := f.Bool("dry-run", false, "measure and print, and keep nothing")
			return func(ctx context.Context, s *streams, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				dir, err := calibrationDir(*data, o.Config)
				if err != nil {
					return err
				}
				if *show {
					return showCalibration(s.out, dir, h.json)
				}
				if !*dry { // before minutes of measuring
					l, err := openLedger(dir)
					if err != nil && !errors.Is(err, work.ErrBusy) {
						return err
					}
					if err == nil {
						if err := l.Close(); err != nil {
							return err
						}
					}
				}
				m, err := h.open()
				if err != nil {
					return err
				}
				o.Machine = m
				return errors.Join(runCalibration(ctx, s, &o, dir, h.json, *yes, *dry), m.Close())
			}
		},
	}
}

// calibrationDir is where the figures are kept: below the data directory that was given, that of the configuration, or the default one.
func calibrationDir(data, file string) (string, error) {
	if data != "" {
		return data, nil
	}
	c, err := config.Default()
	if file != "" {
		c, err = config.Load(file)
	}
	if err != nil {
		return "", err
	}
	return c.DataDir, nil
}

func showCalibration(w io.Writer, dir string, asJSON bool) error {
	c, err := work.LoadCalibration(dir)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, c)
	}
	if c == nil {
		_, err = fmt.Fprintf(w, "Nothing was measured yet for %s.\n", dir)
		return err
	}
	if _, err := fmt.Fprintf(w, "%s, holdfast %s, board %s, kernel %s, %s\n%s\n\n", c.At.Format(time.RFC3339), c.Version,
		c.Machine.Board, c.Machine.Kernel, count(c.Machine.CPUs, "CPU"), c.How); err != nil {
		return err
	}
	return errors.Join(printTrials(w, c.Trials), printNoise(w, c))
}

func runCalibration(ctx context.Context, s *streams, o *calibrate.Options, dir string, asJSON, yes, dry bool) error {
	var err error
	if o.Program, err = os.Executable(); err != nil {
		return err
	}
	o.Say = func(text string) { fmt.Fprintf(s.err, "%s  %s\n", time.Now().Format("15:04:05"), text) }
	if o.Before, err = work.LoadCalibration(dir); err != nil {
		o.Say(err.Error() + "; all of it is measured anew")
	}
	tries := len(work.Settings())
	if len(o.Only) > 0 {
		tries = len(o.Only)
	}
	about := (time.Duration(2*o.Pairs*(tries+1)) * (o.Round + o.Warm + restartTime)).Round(time.Minute)
	if !yes && o.Config != "" {
		question := fmt.Sprintf("The box of %s will be restarted %d times in its site, which takes up to %v. Its service must be stopped. Type yes: ",
			o.Config, 2*o.Pairs*(tries+1), about)
		if err := newPrompt(s).yes(ctx, question); err != nil {
			return fmt.Errorf("nothing was measured: %w", err)
		}
	}
	o.Say(fmt.Sprintf("measuring %s takes up to %v; Ctrl-C ends it and keeps nothing", count(tries, "setting"), about))
	o.Tried = func(t hal.Trial) { o.Say(t.Setting + ": " + verdictWord(&t) + ": " + t.Verdict.Why) }
	c, err := calibrate.Run(ctx, *o)
	if errors.Is(err, calibrate.ErrUsage) {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(s.out, c)
	} else {
		err = errors.Join(printTrials(s.out, c.Trials), printNoise(s.out, c))
	}
	if err != nil || dry {
		return err
	}
	if err := c.Save(dir); err != nil {
		return fmt.Errorf("%w; name another place with --data-dir", err)
	}
	o.Say("kept in " + work.LedgerDir(dir) + "; a box with that data directory uses it from its next start")
	return nil
}

func verdictWord(t *hal.Trial) string {
	if t.Verdict.Keep {
		return "kept"
	}
	return "off"
}

func printTrials(w io.Writer, all []hal.Trial) error {
	t := table(w)
	fmt.Fprintln(t, "setting\tvalue\tverdict\trate\tp99\tCPU\twhy")
	for _, x := range all {
		v := &x.Verdict
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Setting, x.Value, verdictWord(&x), effectText(v.Rate), effectText(v.P99), effectText(v.CPU), v.Why)
	}
	return t.Flush()
}

func printNoise(w io.Writer, c *work.Calibration) error {
	_, err := fmt.Fprintf(w, "\nRatios are with the setting to without it, medians of the pairs, quartiles in brackets.\nWith nothing switched: rate %s, p99 %s, CPU %s: %s\n",
		effectText(c.Noise.Rate), effectText(c.Noise.P99), effectText(c.Noise.CPU), c.Noise.Why)
	return err
}

func effectText(e hal.Effect) string {
	if e.Ratio == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", e.Ratio, e.Low, e.High)
}
