package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "detect:", err)
		stop()
		os.Exit(1)
	}
}

// bench is what one run measures with.
type bench struct {
	*running
	n, leaders, clients int
	met                 bool
}

func run(ctx context.Context) error {
	var b bench
	binary := flag.String("binary", "bin/holdfast", "the program to measure")
	only := flag.String("only", "kills,stops,stalls,hogs,leader", "parts to run")
	boxes := flag.Int("boxes", 4, "boxes of the site")
	flag.IntVar(&b.n, "n", 20, "kills, stops, and stalls of each kind")
	flag.IntVar(&b.leaders, "leaders", 50, "kills of the leader")
	flag.IntVar(&b.clients, "clients", 0, "clients that write all the time; an idle site is the hardest to judge")
	flag.Parse()
	path, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	if b.running, err = start(ctx, path, *boxes); err != nil {
		return err
	}
	defer b.stop()
	b.met = true
	writing, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	for i := range b.clients {
		c, err := b.client(ctx, i)
		if err != nil {
			stop()
			return err
		}
		load.Go(func() {
			for writing.Err() == nil {
				_, _ = c.Put(writing, []byte("load"), []byte("x")) // boxes die on purpose
			}
			_ = c.Close(context.Background())
		})
	}
	defer load.Wait()
	defer stop()
	fmt.Printf("%d boxes on %d processors, %d clients, %s/%s\n\n| | wanted | seen | |\n|---|---|---|---|\n", *boxes, runtime.NumCPU(), b.clients, runtime.GOOS, runtime.GOARCH)
	for part := range strings.SplitSeq(*only, ",") {
		f := map[string]func(context.Context) error{
			"kills": b.kills, "stops": b.stops, "stalls": b.stalls, "hogs": b.hogs, "leader": b.leaderKills,
		}[part]
		if f == nil {
			return fmt.Errorf("no part %q", part)
		}
		if err := f(ctx); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	if !b.met {
		return errors.New("a goal was missed")
	}
	return nil
}

func (b *bench) row(what, wanted, seen string, met bool) {
	mark := "met"
	if !met {
		mark, b.met = "**missed**", false
	}
	fmt.Printf("| %s | %s | %s | %s |\n", what, wanted, seen, mark)
}

func (b *bench) times(what string, ts []time.Duration, median, worst time.Duration) {
	slices.Sort(ts)
	m, w := ts[len(ts)/2], ts[len(ts)-1]
	wanted := fmt.Sprintf("worst <= %v", worst)
	if median > 0 {
		wanted = fmt.Sprintf("median <= %v, worst <= %v", median, worst)
	}
	b.row(fmt.Sprintf("%s (%d times)", what, len(ts)), wanted,
		fmt.Sprintf("median %v, worst %v", m.Round(100*time.Microsecond), w.Round(100*time.Microsecond)),
		w <= worst && (median == 0 || m <= median))
}

// kills measures until all others know that a box is killed.
func (b *bench) kills(ctx context.Context) error {
	var ts []time.Duration
	for i := range b.n {
		t, err := b.fell(ctx, i%len(b.boxes), syscall.SIGKILL, 0)
		if err != nil {
			return err
		}
		ts = append(ts, t)
	}
	b.times("killed box known to all", ts, 0, 50*time.Millisecond)
	return nil
}

// goneFor is how long a stopped box stays so: longer than peer_dead, so that it is a failure and not a stall from
// which the detectors learn.
const goneFor = 2600 * time.Millisecond

func (b *bench) stops(ctx context.Context) error {
	return b.stopped(ctx, "silent box known to all", b.n)
}

func (b *bench) stopped(ctx context.Context, what string, n int) error {
	var ts []time.Duration
	for i := range n {
		t, err := b.fell(ctx, i%len(b.boxes), syscall.SIGSTOP, goneFor)
		if err != nil {
			return err
		}
		ts = append(ts, t)
	}
	b.times(what, ts, 0, time.Second)
	return nil
}

// fell sends a signal to a box, and gives the time until the last of the others counted it as away. It
// continues the box when it was stopped for that long.
func (b *bench) fell(ctx context.Context, victim int, sig syscall.Signal, hold time.Duration) (time.Duration, error) {
	if err := b.settle(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := b.signal(victim, sig); err != nil {
		return 0, err
	}
	known := make([]time.Duration, len(b.boxes))
	errs := make([]error, len(b.boxes))
	var all sync.WaitGroup
	for i := range b.boxes {
		if i != victim {
			all.Go(func() { known[i], errs[i] = b.knows(ctx, i, victim, began) })
		}
	}
	all.Wait()
	if hold > 0 {
		if err := pause(ctx, hold-time.Since(began)); err != nil {
			return 0, err
		}
		if err := b.signal(victim, syscall.SIGCONT); err != nil {
			return 0, err
		}
	}
	return slices.Max(known), errors.Join(errs...)
}

// knows waits until box i counts the victim as away, and says when it did.
func (b *bench) knows(ctx context.Context, i, victim int, began time.Time) (time.Duration, error) {
	for time.Since(began) < 15*time.Second {
		v, err := b.status(ctx, i)
		if err != nil {
			return 0, err
		}
		if m := &v.Members[victim]; !m.Up && m.Since.After(began) {
			return m.Since.Sub(began), nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("box %d does not see that box %d is away", i, victim)
}

// settle waits until all is well, and then until the detectors know the rhythm and for a random phase of it.
func (b *bench) settle(ctx context.Context) error {
	if err := b.healthy(ctx); err != nil {
		return err
	}
	return pause(ctx, 500*time.Millisecond+rand.N(250*time.Millisecond))
}

// stalls stops one box, and the whole site, for a time that is no failure.
func (b *bench) stalls(ctx context.Context) error {
	for _, d := range []time.Duration{400 * time.Millisecond, 700 * time.Millisecond} {
		if err := b.stalled(ctx, fmt.Sprintf("false verdicts, a box stalls for %v", d), d, b.n, false); err != nil {
			return err
		}
		if err := b.stalled(ctx, fmt.Sprintf("false verdicts, the whole site stalls for %v", d), d, b.n, true); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) stalled(ctx context.Context, what string, d time.Duration, n int, whole bool) error {
	return b.verdicts(ctx, fmt.Sprintf("%s (%d times)", what, n), func() error {
		for i := range n {
			if err := pause(ctx, 300*time.Millisecond+rand.N(250*time.Millisecond)); err != nil {
				return err
			}
			var victims []int
			for v := range b.boxes {
				if whole || v == i%len(b.boxes) {
					victims = append(victims, v)
				}
			}
			for _, v := range victims {
				if err := b.signal(v, syscall.SIGSTOP); err != nil {
					return err
				}
			}
			time.Sleep(d)
			for _, v := range victims {
				if err := b.signal(v, syscall.SIGCONT); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// verdicts counts what boxes said of each other while f ran and nobody was gone: verdicts of silence, and links that
// went down for whatever reason.
func (b *bench) verdicts(ctx context.Context, what string, f func() error) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	before, err := b.views(ctx)
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	if err := pause(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	after, err := b.views(ctx)
	if err != nil {
		return err
	}
	silences, changed, judged := uint64(0), 0, 0
	for i, v := range after {
		for k := range v.Members {
			if k == i {
				continue
			}
			was, is := &before[i].Members[k], &v.Members[k]
			judged++
			silences += is.Silences - was.Silences
			if !is.Since.Equal(was.Since) {
				changed++
			}
		}
	}
	b.row(what, "0", fmt.Sprintf("%d; %d of %d links changed", silences, changed, judged), silences == 0 && changed == 0)
	return nil
}

const hogs = 16

// hogs does it again beside busy processes.
func (b *bench) hogs(ctx context.Context) error {
	busy, stop := context.WithCancel(ctx)
	var cmds []*exec.Cmd
	defer func() {
		stop()
		for _, c := range cmds {
			_ = c.Wait() // it was killed
		}
	}()
	for range hogs {
		c := exec.CommandContext(busy, "/bin/sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			return err
		}
		cmds = append(cmds, c)
	}
	if err := b.verdicts(ctx, fmt.Sprintf("false verdicts in 30 s beside %d busy processes", hogs), func() error { return pause(ctx, 30*time.Second) }); err != nil {
		return err
	}
	if err := b.stalled(ctx, fmt.Sprintf("the same, and a box stalls for 700ms beside %d busy processes", hogs), 700*time.Millisecond, b.n/2, false); err != nil {
		return err
	}
	return b.stopped(ctx, fmt.Sprintf("silent box known to all beside %d busy processes", hogs), b.n/2)
}

// leaderKills writes through another box and kills the leader.
func (b *bench) leaderKills(ctx context.Context) error {
	var ts []time.Duration
	for range b.leaders {
		t, err := b.leaderKill(ctx)
		if err != nil {
			return err
		}
		ts = append(ts, t)
	}
	b.times("leader killed, writes again", ts, 400*time.Millisecond, time.Second)
	return nil
}

// leaderKill gives the longest time without an answer in the 1.2 s from the kill on, or longer while none comes.
func (b *bench) leaderKill(ctx context.Context) (time.Duration, error) {
	if err := b.settle(ctx); err != nil {
		return 0, err
	}
	l, err := b.leader(ctx)
	if err != nil {
		return 0, err
	}
	c, err := b.client(ctx, l+1)
	if err != nil {
		return 0, err
	}
	defer c.Close(context.Background())
	var killed, last time.Time
	var longest time.Duration
	for began := time.Now(); killed.IsZero() || time.Since(killed) < 1200*time.Millisecond; {
		if _, err := c.Put(ctx, []byte("pulse"), []byte("x")); err != nil {
			return 0, err
		}
		now := time.Now()
		if !killed.IsZero() {
			longest = max(longest, now.Sub(last))
		}
		last = now
		if killed.IsZero() && now.Sub(began) > 200*time.Millisecond {
			killed, last = time.Now(), time.Now()
			if err := b.signal(l, syscall.SIGKILL); err != nil {
				return 0, err
			}
		}
	}
	return longest, nil
}
