package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What the console must bear. Each source is an address of the loopback network: a source has a share of the port.
const (
	viewersLong, viewersShort = 200, 40
	viewersOfSource           = 10
	// loadTime is for how long each phase lasts, shortTime in short.
	loadTime, shortTime = 15 * time.Second, 4 * time.Second
	writeEvery          = 50 * time.Millisecond // 20 writes a second are what viewers see change
	visitEvery          = 50 * time.Millisecond // somebody else loads a page so often
	// lateMax is how old what a viewer sees may be: pages change once a second.
	lateMax = 4 * time.Second
	// visitTimeMax is how long a page may take whatever others do. Two sources may have all connections of the port between them (half for each).
	visitTimeMax = 2 * time.Second
	// slowConnections say a byte of a request each slowEvery; floodAtOnce open connections as fast as they can, floodMax in all.
	slowConnections = 300
	slowEvery       = 500 * time.Millisecond
	floodAtOnce     = 16
	floodMax        = 20_000
	floodHeld       = 64  // of each: together more than a source may have
	clockTicks      = 100 // of /proc/PID/stat a second (sysconf(_SC_CLK_TCK))
)

// phase is what was seen while something went on.
type phase struct {
	name                  string
	pages, failed         int
	middle, slow, slowest time.Duration // of the pages
	cpu                   float64       // of one CPU, by the box
	memory                int64         // resident, bytes
	events                int64
	write                 time.Duration // the middle one
}

// load has 200 people look at a page that changes, then lets others hold connections and open more, and looks whether all are served.
func load(ctx context.Context, s *liveSite, short bool) error {
	viewers, long := viewersLong, loadTime
	if short {
		viewers, long = viewersShort, shortTime
	}
	l := &loader{site: s, base: s.Boxes[0].Console, pid: s.Boxes[0].PID, seen: map[int]uint64{}}
	jar, err := l.logIn(ctx)
	if err != nil {
		return err
	}
	l.jar = jar
	var all []*phase
	run := func(name string, most time.Duration) error {
		p, err := l.phase(ctx, name, long)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, p)
		fmt.Println(p)
		if p.failed > 0 || p.slowest > most {
			return fmt.Errorf("%s: %d of %d pages failed, the slowest took %v", name, p.failed, p.pages, p.slowest)
		}
		return nil
	}
	if err := run("nobody else", visitTimeMax); err != nil {
		return err
	}
	crowd, leave := context.WithCancel(ctx)
	defer leave()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer leave()
	for i := range viewers {
		wg.Go(func() { l.watch(crowd, i) })
	}
	if err := await(ctx, startTimeMax, nil, func() error {
		if n := l.open.Load(); int(n) < viewers {
			return fmt.Errorf("%d of %d streams are open; last: %v", n, viewers, l.lastErr.Load())
		}
		return nil
	}); err != nil {
		return err
	}
	if err := run(fmt.Sprintf("%d viewers", viewers), visitTimeMax); err != nil {
		return err
	}
	if err := l.fresh(ctx, viewers); err != nil {
		return err
	}
	for _, h := range []struct{ name, slow, flood string }{
		{"the same, and one source with slow requests and a flood", "127.0.0.66", "127.0.0.66"},
		{"the same, and two such sources", "127.0.0.66", "127.0.0.67"},
	} {
		hostile, end := context.WithCancel(ctx)
		var them sync.WaitGroup
		for range slowConnections {
			them.Go(func() { l.slow(hostile, h.slow) })
		}
		for range floodAtOnce {
			them.Go(func() { l.flood(hostile, h.flood) })
		}
		err := run(h.name, visitTimeMax)
		if err == nil {
			err = l.fresh(ctx, viewers)
		}
		end()
		them.Wait()
		if err != nil {
			return err
		}
	}
	fmt.Println("\n| while | pages | middle | 99 in 100 | slowest | a write | events a second | CPU of the box | memory |\n|---|---|---|---|---|---|---|---|---|")
	for _, p := range all {
		fmt.Printf("| %s | %d | %v | %v | %v | %v | %.0f | %.0f %% | %d MiB |\n", p.name, p.pages, p.middle, p.slow, p.slowest, p.write, float64(p.events)/long.Seconds(), p.cpu*100, p.memory>>20)
	}
	fmt.Printf("\n%d slow connections were cut off, %d connections of the flood were turned away or closed.\n", l.cut.Load(), l.turned.Load())
	return nil
}

func (p *phase) String() string {
	return fmt.Sprintf("ok    %s: %d pages, middle %v, 99 in 100 within %v, slowest %v, %d events, CPU %.0f %%, %d MiB", p.name, p.pages, p.middle, p.slow, p.slowest, p.events, p.cpu*100, p.memory>>20)
}

type loader struct {
	site *liveSite
	base string
	pid  int
	jar  http.CookieJar

	open, events, turned, cut atomic.Int64
	lastErr                   atomic.Value
	mu                        sync.Mutex
	seen                      map[int]uint64 // the revision that each viewer has seen last
}

// client has an address of its own.
func (l *loader) client(ip string) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: callTimeMax}
	return &http.Client{Jar: l.jar, Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 4}}
}

func (l *loader) logIn(ctx context.Context) (http.CookieJar, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeMax)
	defer cancel()
	body, err := json.Marshal(map[string]string{"name": operator, "password": l.site.Password})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base+"/api/v1/login", strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Jar: jar}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("log in: %d %s", resp.StatusCode, text)
	}
	return jar, nil
}

// phase loads pages from an address of its own and writes keys, and measures both and the box.
func (l *loader) phase(ctx context.Context, name string, long time.Duration) (*phase, error) {
	p := &phase{name: name}
	me := l.client("127.0.0.9")
	defer me.CloseIdleConnections()
	events := l.events.Load()
	cpu, _, err := usage(l.pid)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var wg sync.WaitGroup
	var times, writes []time.Duration
	var writeErr error
	wg.Go(func() {
		for t := range ticks(ctx, writeEvery, long) {
			if err := l.site.put(ctx, "load/key", t.String(), 0); err != nil {
				writeErr = errors.Join(writeErr, err)
				return
			}
			writes = append(writes, time.Since(t))
		}
	})
	for t := range ticks(ctx, visitEvery, long) {
		p.pages++
		if _, err := get(ctx, me, l.base+"/"); err != nil {
			p.failed++
			l.lastErr.Store(err)
		}
		times = append(times, time.Since(t))
	}
	wg.Wait()
	after, memory, err := usage(l.pid)
	if err != nil || writeErr != nil || len(writes) == 0 || len(times) == 0 {
		return nil, errors.Join(err, writeErr, ctx.Err())
	}
	p.cpu, p.memory, p.events = (after-cpu)/time.Since(start).Seconds(), memory, l.events.Load()-events
	slices.Sort(times)
	slices.Sort(writes)
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	p.middle, p.slow, p.slowest, p.write = round(times[len(times)/2]), round(times[len(times)*99/100]), round(times[len(times)-1]), round(writes[len(writes)/2])
	return p, nil
}

// ticks gives the times at which something is to be done, until it has been long enough.
func ticks(ctx context.Context, every, long time.Duration) func(func(time.Time) bool) {
	return func(yield func(time.Time) bool) {
		tick, end := time.NewTicker(every), time.NewTimer(long)
		defer tick.Stop()
		defer end.Stop()
		for {
			select {
			case <-tick.C:
				if !yield(time.Now()) {
					return
				}
			case <-end.C:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// watch is somebody who has the overview open.
func (l *loader) watch(ctx context.Context, i int) {
	who := l.client(fmt.Sprintf("127.0.1.%d", 1+i/viewersOfSource))
	defer who.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.base+"/events?page="+url.QueryEscape("/"), http.NoBody)
	if err != nil {
		return
	}
	resp, err := who.Do(req)
	if err != nil {
		l.lastErr.Store(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		l.lastErr.Store(fmt.Errorf("a stream: %d %.100s", resp.StatusCode, text))
		return
	}
	l.open.Add(1)
	defer l.open.Add(-1)
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		data, ok := strings.CutPrefix(in.Text(), "data: {")
		if !ok {
			continue
		}
		l.events.Add(1)
		var sections map[string]string
		if err := json.Unmarshal([]byte("{"+data), &sections); err != nil {
			l.lastErr.Store(err)
			return
		}
		_, text, ok := strings.Cut(sections["tiles"], "revision ")
		if !ok {
			continue // the tiles have not changed
		}
		text, _, _ = strings.Cut(text, "<")
		revision, err := strconv.ParseUint(strings.ReplaceAll(text, "\u202f", ""), 10, 64)
		if err != nil {
			l.lastErr.Store(err)
			return
		}
		l.mu.Lock()
		l.seen[i] = revision
		l.mu.Unlock()
	}
}

// fresh says whether all viewers see the revision that the site has now.
func (l *loader) fresh(ctx context.Context, viewers int) error {
	status, err := get(ctx, l.client("127.0.0.9"), l.base+"/api/v1/status")
	if err != nil {
		return err
	}
	var now struct{ Revision uint64 }
	if err := json.Unmarshal([]byte(status), &now); err != nil {
		return err
	}
	return await(ctx, lateMax, nil, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		late := 0
		for i := range viewers {
			if l.seen[i] < now.Revision {
				late++
			}
		}
		if late > 0 || l.open.Load() < int64(viewers) {
			return fmt.Errorf("%d of %d viewers do not see revision %d, %d streams are open", late, viewers, now.Revision, l.open.Load())
		}
		return nil
	})
}

// slow says a request a byte at a time (slow-loris), and comes back when it was cut off.
func (l *loader) slow(ctx context.Context, from string) {
	text := "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " + strings.Repeat("a", 1<<10)
	for ctx.Err() == nil {
		c := l.dial(ctx, from)
		if c == nil {
			continue
		}
		for i := range len(text) {
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				l.cut.Add(1)
				break
			}
			if !pause(ctx, slowEvery) {
				break
			}
		}
		_ = c.Close()
	}
}

// flood opens connections, says nothing and opens more.
func (l *loader) flood(ctx context.Context, from string) {
	var held []net.Conn
	for range floodMax / floodAtOnce {
		if ctx.Err() != nil {
			break
		}
		c := l.dial(ctx, from)
		if c == nil {
			l.turned.Add(1)
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			held = append(held, c) // it is let in, and another shown out, which may be one of these
			if len(held) > floodHeld {
				_ = held[0].Close()
				held = held[1:]
			}
			continue
		}
		l.turned.Add(1)
		_ = c.Close()
	}
	<-ctx.Done()
	for _, c := range held {
		_ = c.Close()
	}
}

// dial is nil after a moment when there is no connection.
func (l *loader) dial(ctx context.Context, ip string) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: callTimeMax}
	c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(l.base, "http://"))
	if err != nil {
		pause(ctx, slowEvery)
		return nil
	}
	return c
}

// pause waits; false: it is over.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// usage is the CPU time of a process, in seconds, and its resident memory in bytes.
func usage(pid int) (cpu float64, memory int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest) // from the third field on: proc_pid_stat(5)
	if len(f) < 22 {
		return 0, 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	pages, err3 := strconv.ParseInt(f[21], 10, 64)
	return (user + system) / clockTicks, pages * int64(os.Getpagesize()), errors.Join(err1, err2, err3)
}
