package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// kills measures how long writes stop when the leader, and when the whole site, is killed.
func kills(ctx context.Context, o options, t *table) error {
	s, err := startSite(ctx, o)
	if err != nil {
		return err
	}
	defer s.stop()
	var gaps []time.Duration
	for i := range o.kills {
		progress("kill the leader, %d of %d", i+1, o.kills)
		gap, err := s.killLeader(ctx)
		if err != nil {
			return err
		}
		gaps = append(gaps, gap)
	}
	slices.Sort(gaps)
	if n := len(gaps); n > 0 {
		median, worst := gaps[n/2], gaps[n-1]
		t.addText(fmt.Sprintf("leader killed, writes again (%d times)", n), "median <= 1 s, worst <= 2 s",
			fmt.Sprintf("median %v, worst %v", round(median), round(worst)), median <= time.Second && worst <= 2*time.Second)
	}
	var worst time.Duration
	for range 3 {
		d, err := s.killAll(ctx)
		if err != nil {
			return err
		}
		worst = max(worst, d)
	}
	t.addText("all boxes killed at once, writes again after the last one started", "<= 3 s", fmt.Sprintf("worst of 3: %v", round(worst)), worst <= 3*time.Second)
	return nil
}

// killLeader writes through another box all the time and gives the longest pause around the kill.
func (s *site) killLeader(ctx context.Context) (time.Duration, error) {
	if err := s.healthy(ctx); err != nil {
		return 0, err
	}
	l, err := s.leader(ctx)
	if err != nil {
		return 0, err
	}
	c, err := s.client(ctx, l+1, 1)
	if err != nil {
		return 0, err
	}
	defer c.Close(context.Background())
	var longest time.Duration
	last := time.Now()
	killed := false
	for start := last; ; {
		if _, err := c.Put(ctx, []byte("pulse"), []byte("x")); err != nil {
			return 0, err
		}
		now := time.Now()
		if killed {
			longest = max(longest, now.Sub(last))
		}
		last = now
		if !killed && now.Sub(start) > 300*time.Millisecond {
			if err := s.kill(l); err != nil {
				return 0, err
			}
			killed = true
			last = time.Now()
		}
		if now.Sub(start) > 3*time.Second {
			return longest, nil
		}
	}
}

// healthy waits until every box serves.
func (s *site) healthy(ctx context.Context) error {
	for end := time.Now().Add(startMax); ; {
		ok := s.reload() == nil
		for i := range s.ready.Boxes {
			ok = ok && s.get(ctx, s.ready.Boxes[i].Console+"/readyz", nil) == nil
		}
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not all boxes serve within %v", startMax)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// killAll kills every box (dev starts them again) and waits for a write. The time is from when the
// last new process was there.
func (s *site) killAll(ctx context.Context) (time.Duration, error) {
	if err := s.healthy(ctx); err != nil {
		return 0, err
	}
	progress("kill all boxes")
	old := map[int]bool{}
	for i := range s.ready.Boxes {
		old[s.ready.Boxes[i].PID] = true
	}
	for i := range s.ready.Boxes {
		if err := s.kill(i); err != nil {
			return 0, err
		}
	}
	for fresh := 0; fresh < len(s.ready.Boxes); {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
		if s.reload() != nil {
			continue
		}
		fresh = 0
		for i := range s.ready.Boxes {
			// 0 while dev waits before it starts a box again.
			if pid := s.ready.Boxes[i].PID; pid != 0 && !old[pid] && syscall.Kill(pid, 0) == nil {
				fresh++
			}
		}
	}
	start := time.Now()
	c, err := s.client(ctx, 0, 1)
	if err != nil {
		return 0, err
	}
	defer c.Close(context.Background())
	if _, err := c.Put(ctx, []byte("pulse"), []byte("x")); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

// codec runs the benchmarks of coord/wire and reads their figures.
func codec(ctx context.Context, t *table) error {
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
		t.addText("codec "+name, target, fmt.Sprintf("%.1f ns a message, %.0f allocations", ns, allocs), ns <= most && allocs == 0)
	}
	return nil
}
