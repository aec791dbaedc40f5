// Bench measures a Holdfast site of four boxes and etcd of three and five nodes on the same machine, through the same client
// (clientv3), in interleaved rounds, and writes the medians as a table.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

type options struct {
	holdfast, node, out string
	rounds              int
	each                time.Duration
	systems, loads      string
	keep                bool
}

func main() {
	var o options
	flag.StringVar(&o.holdfast, "holdfast", "bin/holdfast", "the product's `binary`")
	flag.StringVar(&o.node, "node", "bin/etcd-node", "the `binary` of ./node")
	flag.StringVar(&o.out, "out", "", "write the table to this `file` as well")
	flag.IntVar(&o.rounds, "rounds", 5, "`how often` each system is started and measured")
	flag.DurationVar(&o.each, "each", 5*time.Second, "`how long` each load runs")
	flag.StringVar(&o.systems, "systems", "holdfast-4,etcd-3,etcd-5", "`which`")
	flag.StringVar(&o.loads, "loads", "put-1,put-64,put-256,get-64,sget-64,watch-1000", "`which`: put, get (linearizable) or sget (serializable) and clients; watch and watchers of one key")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is what one load on one system gave.
type figure struct {
	rate     float64 // operations, or events given to watchers, a second
	p50, p99 time.Duration
	cpu      float64 // seconds per million, of all servers
	mib      float64 // of the largest server
	failed   int64
}

func run(ctx context.Context, o *options) error {
	systems, loads := strings.Split(o.systems, ","), strings.Split(o.loads, ",")
	got := map[string][]figure{}
	steal0 := steal()
	for round := range o.rounds {
		for i := range systems {
			name := systems[(i+round)%len(systems)] // none is always first
			if err := measure(ctx, o, name, loads, got); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| load | system | rate /s | p50 ms | p99 ms | CPU-s per million | MiB of the largest | failed |\n|---|---|---|---|---|---|---|---|\n")
	for _, l := range loads {
		for _, s := range systems {
			f := got[s+" "+l]
			fmt.Fprintf(&b, "| %s | %s | %.0f | %.2f | %.2f | %.0f | %.0f | %d |\n", l, s, median(f, func(f *figure) float64 { return f.rate }),
				median(f, func(f *figure) float64 { return ms(f.p50) }), median(f, func(f *figure) float64 { return ms(f.p99) }),
				median(f, func(f *figure) float64 { return f.cpu }), median(f, func(f *figure) float64 { return f.mib }), sum(f))
		}
	}
	fmt.Fprintf(&b, "\nMedians of %d rounds of %v, the systems in turn; %.1f %% of the machine's time was stolen.\n", o.rounds, o.each, 100*(steal()-steal0)/max(1, uptime()))
	fmt.Print(b.String())
	if o.out != "" {
		head := fmt.Sprintf(`# Beside etcd

Made by `+"`make etcd-bench`"+` on %s: a Holdfast site of four boxes and etcd with three and five nodes on the same machine (%s, %d cores), all
processes and the clients sharing it. Each client is clientv3 on a connection of its own to one server, keys of 14 bytes, values of 100.
"get" is linearizable, "sget" serializable; "watch" puts one key again and again and counts what its watchers are given, from before the put.

`, time.Now().Format("2006-01-02"), runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU())
		return os.WriteFile(o.out, []byte(head+b.String()), 0o644)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(f []figure, of func(*figure) float64) float64 {
	v := make([]float64, len(f))
	for i := range f {
		v[i] = of(&f[i])
	}
	slices.Sort(v)
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}

func sum(f []figure) (n int64) {
	for i := range f {
		n += f[i].failed
	}
	return n
}

// measure starts a system, runs the loads, and ends it.
func measure(ctx context.Context, o *options, name string, loads []string, got map[string][]figure) error {
	dir, err := os.MkdirTemp("", "etcdbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	kind, n, _ := strings.Cut(name, "-")
	var size int
	if _, err := fmt.Sscan(n, &size); err != nil {
		return err
	}
	var s *system
	if kind == "etcd" {
		s, err = startEtcd(o.node, dir, size)
	} else {
		s, err = startHoldfast(o.holdfast, dir, size)
	}
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.ready(ctx); err != nil {
		return err
	}
	for _, l := range loads {
		f, err := s.load(ctx, l, o.each)
		if err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
		fmt.Fprintf(os.Stderr, "%-11s %-11s %8.0f/s  p50 %7.2f  p99 %7.2f ms  %6.0f CPU-s/M  %4.0f MiB  %d failed\n", name, l, f.rate, ms(f.p50), ms(f.p99), f.cpu, f.mib, f.failed)
		got[name+" "+l] = append(got[name+" "+l], f)
	}
	return nil
}

func (s *system) client(i int) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{s.endpoints[i%len(s.endpoints)]}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

func (s *system) ready(ctx context.Context) error {
	var err error
	for range 100 {
		for i := range s.endpoints {
			var c *clientv3.Client
			if c, err = s.client(i); err != nil {
				break
			}
			call, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err = c.Put(call, "ready", "")
			cancel()
			_ = c.Close()
			if err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("does not serve: %w", err)
}

func (s *system) load(ctx context.Context, load string, d time.Duration) (f figure, err error) {
	kind, n, _ := strings.Cut(load, "-")
	var clients int
	if _, err := fmt.Sscan(n, &clients); err != nil {
		return f, err
	}
	if kind == "watch" {
		return s.fanOut(ctx, clients, d)
	}
	value := strings.Repeat("v", 100)
	var conns []*clientv3.Client
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range clients {
		c, err := s.client(i)
		if err != nil {
			return f, err
		}
		conns = append(conns, c)
		if _, err := c.Get(ctx, "warm"); err != nil { // connected
			return f, err
		}
	}
	lat := make([][]time.Duration, clients)
	var failed atomic.Int64
	cpu := s.cpu()
	began := time.Now()
	run, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wait sync.WaitGroup
	for i, c := range conns {
		wait.Go(func() {
			for k := 0; run.Err() == nil; k++ {
				key := fmt.Sprintf("bench/%03d/%04d", i, k%1000)
				at := time.Now()
				var err error
				switch kind {
				case "put":
					_, err = c.Put(run, key, value)
				case "get":
					_, err = c.Get(run, key)
				case "sget":
					_, err = c.Get(run, key, clientv3.WithSerializable())
				default:
					err = fmt.Errorf("no such load: %s", kind)
				}
				switch {
				case err == nil:
					lat[i] = append(lat[i], time.Since(at))
				case run.Err() == nil:
					failed.Add(1)
				}
			}
		})
	}
	wait.Wait()
	took := time.Since(began)
	all := slices.Concat(lat...)
	return s.figure(all, len(all), took, s.cpu()-cpu, failed.Load()), ctx.Err()
}

func (s *system) figure(lat []time.Duration, n int, took time.Duration, cpu float64, failed int64) figure {
	slices.Sort(lat)
	at := func(q float64) time.Duration {
		if len(lat) == 0 {
			return 0
		}
		return lat[min(len(lat)-1, int(q*float64(len(lat))))]
	}
	return figure{
		rate: float64(n) / took.Seconds(), p50: at(0.5), p99: at(0.99), cpu: cpu / float64(max(n, 1)) * 1e6, mib: s.memory(), failed: failed,
	}
}

// fanOut puts one key again and again and measures until its watchers have the event: 20 to a stream, streams on all servers.
func (s *system) fanOut(ctx context.Context, watchers int, d time.Duration) (f figure, err error) {
	const perConn = 50
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var lat []time.Duration
	sent := map[string]time.Time{}
	var wait sync.WaitGroup
	var conns []*clientv3.Client
	defer func() {
		cancel()
		wait.Wait()
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := 0; i < watchers; i += perConn {
		c, err := s.client(i / perConn)
		if err != nil {
			return f, err
		}
		conns = append(conns, c)
		for range min(perConn, watchers-i) {
			ch := c.Watch(run, "fan", clientv3.WithCreatedNotify())
			select {
			case <-ch:
			case <-time.After(10 * time.Second):
				return f, fmt.Errorf("a watcher is not created")
			}
			wait.Go(func() {
				for r := range ch {
					now := time.Now()
					mu.Lock()
					for _, e := range r.Events {
						lat = append(lat, now.Sub(sent[string(e.Kv.Value)]))
					}
					mu.Unlock()
				}
			})
		}
	}
	w, err := s.client(0)
	if err != nil {
		return f, err
	}
	conns = append(conns, w)
	cpu, began, puts := s.cpu(), time.Now(), 0
	for ; time.Since(began) < d && ctx.Err() == nil; puts++ {
		v := fmt.Sprint(puts)
		mu.Lock()
		sent[v] = time.Now()
		mu.Unlock()
		if _, err := w.Put(ctx, "fan", v); err != nil {
			return f, err
		}
		for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); { // until all have it: a closed loop
			mu.Lock()
			done := len(lat) >= (puts+1)*watchers
			mu.Unlock()
			if done {
				break
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
	took := time.Since(began)
	mu.Lock()
	defer mu.Unlock()
	return s.figure(slices.Clone(lat), len(lat), took, s.cpu()-cpu, int64(puts*watchers-len(lat))), ctx.Err()
}

// cpu is what all servers used, in seconds.
func (s *system) cpu() (sum float64) {
	for _, pid := range s.pids() {
		b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		var u, k float64
		if len(f) > 12 {
			_, _ = fmt.Sscan(f[11], &u)
			_, _ = fmt.Sscan(f[12], &k)
		}
		sum += (u + k) / 100
	}
	return sum
}

// memory is the resident MiB of the largest server.
func (s *system) memory() (most float64) {
	for _, pid := range s.pids() {
		b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "statm"))
		if err != nil {
			continue
		}
		f := strings.Fields(string(b))
		var pages float64
		if len(f) > 1 {
			_, _ = fmt.Sscan(f[1], &pages)
		}
		most = max(most, pages*float64(os.Getpagesize())/(1<<20))
	}
	return most
}

func cpuLine() []string {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.Fields(line)
}

func steal() (v float64) {
	if f := cpuLine(); len(f) > 8 {
		_, _ = fmt.Sscan(f[8], &v)
	}
	return v
}

// uptime is the machine's time on all CPUs since this program began, in ticks.
func uptime() float64 {
	return time.Since(started).Seconds() * 100 * float64(cmp.Or(len(cpus()), 1))
}

var started = time.Now()

func cpus() (list []string) {
	b, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "cpu") && !strings.HasPrefix(line, "cpu ") {
			list = append(list, line)
		}
	}
	return list
}
