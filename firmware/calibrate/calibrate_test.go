package calibrate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/calibrate"
	"github.com/holdfast-edge/holdfast/firmware/cli"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/dev"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/work"
)

// The tests' binary is the boxes' program too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(cli.Run(ctx, cli.Build{}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func options(t *testing.T) calibrate.Options {
	t.Helper()
	m, err := work.Open("/", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return calibrate.Options{
		Machine: m, Program: program, Boxes: 1, Pairs: hal.TrialPairsMin, Round: 100 * time.Millisecond, Version: "test",
		Say: func(text string) { t.Log(text) },
	}
}

// measured wants figures in every pair.
func measured(t *testing.T, pairs []hal.Pair) {
	t.Helper()
	if len(pairs) != hal.TrialPairsMin {
		t.Fatalf("%d pairs", len(pairs))
	}
	for _, p := range pairs {
		for _, s := range []hal.Sample{p.Off, p.On} {
			if s.Rate <= 0 || s.P50 <= 0 || s.P99 < s.P50 || s.Fail != 0 {
				t.Errorf("%+v", s)
			}
		}
	}
}

func TestASiteOfItsOwnIsMeasuredAndThrownAway(t *testing.T) {
	o := options(t)
	t.Setenv("TMPDIR", t.TempDir())
	o.Only = []string{"lock_memory", "hal.busy_poll"}
	o.Before = &work.Calibration{Machine: o.Machine.Mark(), Trials: []hal.Trial{
		{Setting: "hal.huge_pages", Value: "on", Verdict: hal.Verdict{Keep: true, Why: "of before"}},
		{Setting: "hal.lock_memory", Value: "on", Verdict: hal.Verdict{Keep: true, Why: "of before"}},
	}}
	c, err := calibrate.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Trials) == 3 && c.Trials[0].Verdict.Why == "of before" && c.Trials[0].Setting == "hal.huge_pages" {
		c.Trials = c.Trials[1:]
	}
	if len(c.Trials) != 2 || c.Trials[0].Setting != "hal.lock_memory" || c.Machine != o.Machine.Mark() || c.Noise.Why == "" {
		t.Fatalf("%+v", c)
	}
	if os.Geteuid() == 0 {
		measured(t, c.Trials[0].Pairs)
	} else if w := c.Trials[0].Verdict.Why; !strings.HasPrefix(w, "not measured: failed: linux: lock memory") {
		t.Error(w)
	}
	if busy := c.Trials[1]; busy.Verdict.Keep || !strings.Contains(busy.Verdict.Why, "talk over loopback") {
		t.Errorf("%+v", busy)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%v: it leaves %v", err, left)
	}
}

// founded is the configuration of a site's only box, which has run.
func founded(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for port := 18100; ; port += 100 {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		err := dev.Run(ctx, dev.Options{
			Boxes: 1, Dir: dir, Program: program, ConsolePort: port, ClientPort: port + 10, PeerPort: port + 30,
			Out: t.Output(), Err: t.Output(), Logger: slog.New(slog.DiscardHandler), NoRestart: true,
			Serving: func(context.Context, string) error { stop(); return nil },
		})
		stop()
		if !errors.Is(err, dev.ErrPorts) {
			if err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, "box-0", "holdfast.toml")
		}
	}
}

func TestABoxIsMeasuredInItsSiteAndUsesWhatWasFound(t *testing.T) {
	o := options(t)
	o.Config = founded(t)
	before, err := os.ReadFile(o.Config)
	if err != nil {
		t.Fatal(err)
	}
	o.Only = []string{"receive_sockets"}
	var lines []string
	o.Tried = func(tr hal.Trial) { lines = append(lines, tr.Setting) }
	c, err := calibrate.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(lines, " ") != "noise hal.receive_sockets" || len(c.Trials) != 1 {
		t.Error(lines)
	}
	if o.Machine.Facts.Topology.Value.Online(); len(o.Machine.Plan(hal.Options{}).Assign.Receive) > 1 {
		measured(t, c.Trials[0].Pairs)
	}
	if after, err := os.ReadFile(o.Config); err != nil || string(after) != string(before) {
		t.Errorf("%v: the configuration is now\n%s", err, after)
	}

	// What was found is what the box uses.
	data := filepath.Dir(o.Config)
	c.Trials[0].Verdict = hal.Verdict{Keep: true, Why: "the test says so"}
	if err := c.Save(data); err != nil {
		t.Fatal(err)
	}
	kept, err := work.LoadCalibration(data)
	if err != nil {
		t.Fatal(err)
	}
	if v, why := kept.Value("hal.receive_sockets", o.Machine.Mark()); v != "plan" || why != "the test says so" {
		t.Error(v, why)
	}
}

func TestWhatCannotBeMeasuredIsSaid(t *testing.T) {
	for _, c := range []struct {
		change func(o *calibrate.Options)
		want   string
	}{
		{func(o *calibrate.Options) { o.Pairs = 6 }, "6 pairs; 7 to 16 tell an effect from noise"},
		{func(o *calibrate.Options) { o.Round = time.Hour }, "rounds are from 100ms to 1m"},
		{func(o *calibrate.Options) { o.Only = []string{"turbo"} }, `"turbo"; the settings are hal.apply, hal.loop`},
		{func(o *calibrate.Options) { o.Config = filepath.Join(t.TempDir(), "none.toml") }, "no such file"},
		{func(o *calibrate.Options) { o.Config, o.Program = founded(t), "/bin/false" }, "the box has ended: exit status 1"},
	} {
		o := options(t)
		c.change(&o)
		if _, err := calibrate.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	// A box that runs already keeps its directory.
	o := options(t)
	o.Config = founded(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		ended <- cli.Run(ctx, cli.Build{}, []string{"run", "--config", o.Config}, strings.NewReader(""), t.Output(), t.Output())
	}()
	c, err := config.Load(o.Config)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(c.Console.Socket); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if _, err := calibrate.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("beside a running box: %v", err)
	}
	stop()
	if code := <-ended; code != 0 {
		t.Error("exit", code)
	}
}

func TestAnInterruptedCalibrationLeavesNothing(t *testing.T) {
	o := options(t)
	t.Setenv("TMPDIR", t.TempDir())
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("somebody pressed Ctrl-C")
	o.Say = func(text string) {
		if strings.Contains(text, "pair 2") {
			stop(why)
		}
	}
	if _, err := calibrate.Run(ctx, o); !errors.Is(err, why) {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%v: it leaves %v", err, left)
	}
}

func TestFiguresOfAnotherMachineAreNotUsed(t *testing.T) {
	here := work.Mark{Board: "rock-5b", Kernel: "6.12.9", CPUs: 8}
	c := &work.Calibration{Machine: here, Trials: []hal.Trial{
		{Setting: "hal.loop", Value: "plan", Verdict: hal.Verdict{Keep: true, Why: "faster"}},
		{Setting: "hal.busy_poll", Value: "50us", Verdict: hal.Verdict{Why: "no figure changes beyond noise"}},
	}}
	for _, x := range []struct {
		c          *work.Calibration
		key        string
		here       work.Mark
		value, why string
	}{
		{c, "hal.loop", here, "plan", "faster"},
		{c, "hal.busy_poll", here, "off", "no figure changes"},
		{c, "hal.huge_pages", here, "off", "did not try"},
		{c, "hal.loop", work.Mark{Board: "rock-5b", Kernel: "6.12.10", CPUs: 8}, "off", "kernel 6.12.9"},
		{nil, "hal.loop", here, "off", "`holdfast hal calibrate` does"},
	} {
		if value, why := x.c.Value(x.key, x.here); value != x.value || !strings.Contains(why, x.why) {
			t.Errorf("%s: %s, %s", x.key, value, why)
		}
	}
	dir := t.TempDir()
	if got, err := work.LoadCalibration(dir); got != nil || err != nil {
		t.Error(got, err)
	}
	for _, text := range []string{"", "{", `{"at": 7}`, fmt.Sprintf("%q", strings.Repeat("x", 2<<20))} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "hal"), 0o700), os.WriteFile(filepath.Join(dir, "hal", "calibrated.json"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if got, err := work.LoadCalibration(dir); got != nil || !errors.Is(err, hal.ErrFormat) {
			t.Errorf("%.20q: %v %v", text, got, err)
		}
	}
}
