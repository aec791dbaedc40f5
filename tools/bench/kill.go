package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
)

// kills measures how long writes stop when the leader, and when the whole site, is killed.
func kills(ctx context.Context, o *options, g *goals) error {
	return onSite(ctx, o, 4, 0, func(s *load.Site, _ string) error {
		var gaps []time.Duration
		for i := range o.kills {
			progress("kill the leader, %d of %d", i+1, o.kills)
			gap, err := killLeader(ctx, s)
			if err != nil {
				return err
			}
			gaps = append(gaps, gap)
		}
		slices.Sort(gaps)
		if n := len(gaps); n > 0 {
			median, worst := gaps[n/2], gaps[n-1]
			g.add(fmt.Sprintf("leader killed, writes again (%d times)", n), "median <= 400 ms, worst <= 1 s",
				fmt.Sprintf("median %v, worst %v", round(median), round(worst)), median <= 400*time.Millisecond && worst <= time.Second)
		}
		var worst time.Duration
		for range 3 {
			progress("kill all boxes")
			d, err := killAll(ctx, s)
			if err != nil {
				return err
			}
			worst = max(worst, d)
		}
		g.add("all boxes killed at once, writes again after the last one started", "<= 3 s", fmt.Sprintf("worst of 3: %v", round(worst)), worst <= 3*time.Second)
		return nil
	})
}

// killLeader writes through another box all the time and gives the longest pause after the kill.
func killLeader(ctx context.Context, s *load.Site) (longest time.Duration, err error) {
	l, err := s.Leader(ctx)
	if err != nil {
		return 0, err
	}
	c, err := s.Target("").Open(ctx, "put", l+1)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	writing, stop := context.WithCancel(ctx)
	defer stop()
	type answer struct {
		at  time.Time
		err error
	}
	answers := make(chan answer)
	go func() {
		defer close(answers)
		for writing.Err() == nil {
			err := c.Do(writing, [][]byte{[]byte("pulse")}, [][]byte{[]byte("x")})
			select {
			case answers <- answer{time.Now(), err}:
			case <-writing.Done():
			}
		}
	}()
	kill := time.After(300 * time.Millisecond)
	restarted := make(chan error, 1)
	var end <-chan time.Time
	var last time.Time // zero: not killed yet
	for {
		select {
		case a := <-answers:
			if a.err != nil {
				return 0, a.err
			}
			if !last.IsZero() {
				longest = max(longest, a.at.Sub(last))
				last = a.at
			}
		case <-kill:
			last = time.Now()
			go func() { restarted <- s.Restart(ctx, l, time.Second) }()
		case err := <-restarted:
			if err != nil {
				return 0, err
			}
			end = time.After(300 * time.Millisecond)
		case <-end:
			return max(longest, time.Since(last)), nil
		}
	}
}

// killAll kills every box and waits for a write. The time is from when the last process was started again.
func killAll(ctx context.Context, s *load.Site) (time.Duration, error) {
	start, err := s.RestartAll(ctx)
	if err != nil {
		return 0, err
	}
	c, err := s.Target("").Open(ctx, "put", 0) // which writes
	if err != nil {
		return 0, err
	}
	return time.Since(start), c.Close()
}

// codec runs the benchmarks of coord/wire and reads their figures.
func codec(ctx context.Context, g *goals) error {
	progress("codec")
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Body", "-benchmem", "-count", "3", "./coord/wire").CombinedOutput()
	if err != nil {
		return fmt.Errorf("codec: %w\n%s", err, out)
	}
	line := regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s.*?([\d.]+) ns/msg.*?(\d+) allocs/op`)
	type figure struct{ ns, allocs []float64 }
	figures := map[string]*figure{}
	var order []string
	for _, m := range line.FindAllStringSubmatch(string(out), -1) {
		f := figures[m[1]]
		if f == nil {
			f = &figure{}
			figures[m[1]] = f
			order = append(order, m[1])
		}
		ns, err1 := strconv.ParseFloat(m[2], 64)
		allocs, err2 := strconv.ParseFloat(m[3], 64)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("codec: cannot read %q", m[0])
		}
		f.ns, f.allocs = append(f.ns, ns), append(f.allocs, allocs)
	}
	for _, name := range order {
		f := figures[name]
		slices.Sort(f.ns)
		ns, allocs := f.ns[len(f.ns)/2], slices.Max(f.allocs)
		target, most := "<= 40 ns a message, 0 allocations", 40.0
		if regexp.MustCompile(`^Decode`).MatchString(name) {
			target, most = "<= 60 ns a message, 0 allocations", 60
		}
		g.add("codec "+name, target, fmt.Sprintf("%.1f ns a message, %.0f allocations", ns, allocs), ns <= most && allocs == 0)
	}
	return nil
}
