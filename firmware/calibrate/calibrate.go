// Package calibrate measures what a box's settings of its hardware are worth: a site works under a load with and
// without each, in turn, and what helps beyond noise is kept (hal.Judge). The site is the box's own,
// over its own links, or one made for it on this machine.
package calibrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// ErrUsage says that the options cannot work together.
var ErrUsage = errors.New("cannot be")

// Options say what to measure. Machine, Program and Say are required.
type Options struct {
	Machine *work.Machine
	// Program is run as `Program run --config FILE`.
	Program string
	// Config is a box's configuration file: its site is measured, through it. Empty: a site of Boxes boxes
	// on this machine, which is thrown away.
	Config string
	Boxes  int
	// Only, if not empty, are the keys to try.
	Only    []string
	Pairs   int           // of rounds, for each setting
	Round   time.Duration // measured
	Warm    time.Duration // under load before
	Version string
	// Before, if not nil, is what was measured before: what of it is not measured again stays as it is.
	Before *work.Calibration
	// Say is told what happens, a line at a time.
	Say func(text string)
	// Tried, if not nil, is told of each trial when it is over.
	Tried func(hal.Trial)
}

// noiseTrial is the trial that switches nothing.
const noiseTrial = "noise"

// Run measures. Nothing of the machine is different afterwards, and nothing is saved.
//
// Errors: ErrUsage, and what the boxes say.
func Run(ctx context.Context, o Options) (*work.Calibration, error) {
	settings, err := o.settings()
	if err != nil {
		return nil, err
	}
	where, err := o.place()
	if err != nil {
		return nil, err
	}
	defer where.close()
	c := &work.Calibration{
		At: time.Now().UTC().Truncate(time.Second), Version: o.Version, Machine: o.Machine.Mark(),
		How: fmt.Sprintf("%s; %d loops of puts of %d bytes on %d connections; %d pairs of rounds of %v, each after %v under load",
			where.what(), loops, valueBytes, conns, o.Pairs, o.Round, o.Warm),
	}
	o.Say(c.How)
	t := trials{o: &o, where: where, kept: off()}
	c.Trials = o.before(settings)
	for _, old := range c.Trials {
		if old.Verdict.Keep {
			t.kept[old.Setting] = old.Value
		}
	}

	// How far apart rounds are without any difference: if that passes for an effect, so would anything.
	noise := hal.Trial{Setting: noiseTrial, Does: "nothing is switched: how far apart rounds are by themselves"}
	if err := t.measure(ctx, &noise); err != nil {
		return nil, err
	}
	c.Noise = noise.Verdict
	noisy := noise.Verdict.Keep
	if noisy {
		c.Noise.Why = "rounds without any difference differ: " + noise.Verdict.Why + "; nothing is kept, measure again when the machine is quiet, or with more and longer rounds"
	}
	o.done(noise)
	for _, s := range settings {
		trial := hal.Trial{Setting: s.Key, Value: s.Try, Does: s.Does}
		if why := o.skip(s, where); why != "" {
			trial.Verdict.Why = "not measured: " + why
		} else if err := t.measure(ctx, &trial); err != nil {
			return nil, err
		}
		if noisy && trial.Verdict.Keep {
			trial.Verdict.Keep, trial.Verdict.Why = false, trial.Verdict.Why+"; but so do rounds without any difference"
		}
		if trial.Verdict.Keep {
			t.kept[s.Key] = s.Try
		}
		c.Trials = append(c.Trials, trial)
		o.done(trial)
	}
	return c, nil
}

func (o *Options) done(t hal.Trial) {
	if o.Tried != nil {
		o.Tried(t)
	}
}

// before are the trials of before that are not made again.
func (o *Options) before(again []work.Setting) (old []hal.Trial) {
	if o.Before == nil || o.Before.Machine != o.Machine.Mark() {
		return nil
	}
	for _, t := range o.Before.Trials {
		if !slices.ContainsFunc(again, func(s work.Setting) bool { return s.Key == t.Setting }) {
			old = append(old, t)
		}
	}
	return old
}

func (o *Options) settings() ([]work.Setting, error) {
	if o.Pairs < hal.TrialPairsMin || o.Pairs > hal.TrialPairsMax {
		return nil, fmt.Errorf("calibrate: %w: %d pairs; %d to %d tell an effect from noise", ErrUsage, o.Pairs, hal.TrialPairsMin, hal.TrialPairsMax)
	}
	if o.Round < time.Second/10 || o.Round > time.Minute || o.Warm < 0 || o.Warm > time.Minute {
		return nil, fmt.Errorf("calibrate: %w: a round of %v after %v; rounds are from 100ms to 1m", ErrUsage, o.Round, o.Warm)
	}
	all := work.Settings()
	if len(o.Only) == 0 {
		return all, nil
	}
	var some []work.Setting
	var keys []string
	for _, s := range all {
		keys = append(keys, s.Key)
	}
	for _, key := range o.Only {
		found := false
		for _, s := range all {
			if s.Key == key || s.Key == "hal."+key {
				some, found = append(some, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("calibrate: %w: %q; the settings are %s", ErrUsage, key, strings.Join(keys, ", "))
		}
	}
	return some, nil
}

// skip says why a setting cannot be measured here, "" if it can.
func (o *Options) skip(s work.Setting, where place) string {
	p := o.Machine.Plan(hal.Options{})
	online := o.Machine.Facts.Topology.Value.Online()
	switch s.Key {
	case "hal.apply":
		if why := where.cannot(s.Key); why != "" {
			return why
		}
		if len(p.Changes) == 0 {
			return "the plan has no change for this machine (`holdfast hal plan` says why)"
		}
	case "hal.loop":
		if len(p.Assign.Loop) == len(online) {
			return p.Assign.Why
		}
	case "hal.receive_sockets":
		if len(p.Assign.Receive) < 2 {
			return "one CPU receives: one socket does"
		}
		return ""
	case "hal.huge_pages":
		if thp := o.Machine.Facts.Memory.Value.THP; thp == "" || thp == "never" {
			return "transparent huge pages are off (/sys/kernel/mm/transparent_hugepage/enabled)"
		}
		return ""
	case "hal.lock_memory":
		return ""
	}
	return where.cannot(s.Key)
}

// off is every setting switched off.
func off() map[string]string {
	all := map[string]string{}
	for _, s := range work.Settings() {
		all[s.Key] = "off"
	}
	return all
}

// trials measures settings one after the other on one place.
type trials struct {
	o     *Options
	where place
	kept  map[string]string // those that helped so far stay on
}

func (t *trials) measure(ctx context.Context, trial *hal.Trial) error {
	on := maps.Clone(t.kept)
	if trial.Setting != noiseTrial {
		on[trial.Setting] = trial.Value
	}
	for i := range t.o.Pairs {
		var p hal.Pair
		// What comes second has a larger state: each is first as often.
		order := []*hal.Sample{&p.Off, &p.On}
		if i%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		for _, to := range order {
			with := t.kept
			if to == &p.On {
				with = on
			}
			s, used, err := t.round(ctx, with)
			if err != nil {
				return fmt.Errorf("calibrate: %s: %w", trial.Setting, err)
			}
			*to = s
			if to != &p.On || trial.Setting == noiseTrial {
				continue
			}
			for _, u := range used {
				if u.Setting == trial.Setting && (u.Result == hal.FailedTo || u.Result == hal.Unsupported) {
					trial.Pairs, trial.Verdict = nil, hal.Verdict{Why: fmt.Sprintf("not measured: %s: %s", u.Result, u.Why)}
					return nil
				}
			}
		}
		trial.Pairs = append(trial.Pairs, p)
		t.o.Say(fmt.Sprintf("%s: pair %d of %d: %.0f/s without, %.0f/s with", trial.Setting, i+1, t.o.Pairs, p.Off.Rate, p.On.Rate))
	}
	trial.Verdict = hal.Judge(trial.Pairs)
	return nil
}

// round starts the site with these settings, measures it, and stops it.
func (t *trials) round(ctx context.Context, settings map[string]string) (s hal.Sample, used []work.InUse, err error) {
	err = t.where.run(ctx, settings, func(ctx context.Context, at *at) (err error) {
		if used, err = work.LoadInUse(at.data); err != nil {
			return err
		}
		s, err = drive(ctx, at, t.o.Warm, t.o.Round)
		return err
	})
	return s, used, err
}
