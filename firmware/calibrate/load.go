package calibrate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/hal"
)

// The load: loops of durable puts, each waiting for its answer, on some connections.
const (
	loops      = 64
	conns      = 16
	valueBytes = 100
	// keyPrefix marks the keys that are written, one for each loop, and deleted afterwards.
	keyPrefix = "holdfast.calibrate/"
	// clockTick is the unit of /proc/PID/stat on every Linux that Go runs on (USER_HZ).
	clockTick = 10 * time.Millisecond
)

// drive loads a site and measures it.
func drive(ctx context.Context, at *at, warm, round time.Duration) (s hal.Sample, err error) {
	var clients []*client.Client
	defer func() {
		for _, c := range clients {
			err = errors.Join(err, c.Close(context.WithoutCancel(ctx)))
		}
	}()
	for range conns {
		c, err := client.Dial(ctx, client.Config{
			Endpoints: []client.Endpoint{at.native}, Name: "calibrate", InFlight: loops, TryTimeout: round + warm + time.Minute,
		})
		if err != nil {
			return s, err
		}
		clients = append(clients, c)
	}

	from := time.Now().Add(warm)
	until := from.Add(round)
	var mu sync.Mutex
	var took []time.Duration
	var firstErr error
	var running sync.WaitGroup
	for i := range loops {
		running.Go(func() {
			mine, failed, err := loop(ctx, clients[i%conns], i, from, until)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			s.Fail += failed
			firstErr = errors.Join(firstErr, err)
		})
	}
	var before, after time.Duration
	var cpuErr error
	select {
	case <-time.After(time.Until(from)):
		before, cpuErr = cpuTime(at.pids)
	case <-ctx.Done():
	}
	select {
	case <-time.After(time.Until(until)):
		var e error
		after, e = cpuTime(at.pids)
		cpuErr = errors.Join(cpuErr, e)
	case <-ctx.Done():
	}
	running.Wait()
	if ctx.Err() != nil {
		return s, context.Cause(ctx)
	}
	if len(took) == 0 || cpuErr != nil {
		return s, fmt.Errorf("calibrate: nothing was measured: %w", errors.Join(firstErr, cpuErr))
	}
	slices.Sort(took)
	s.Rate = float64(len(took)) / round.Seconds()
	s.P50, s.P99 = took[len(took)/2], took[len(took)*99/100]
	s.CPU = float64((after - before).Microseconds()) / float64(len(took))
	for i := range loops {
		if _, err := clients[0].Delete(ctx, key(i)); err != nil {
			return s, fmt.Errorf("calibrate: the keys that were written are still there: %w", err)
		}
	}
	return s, nil
}

func key(i int) []byte { return fmt.Appendf(nil, "%s%02d", keyPrefix, i) }

// loop puts one key again and again, and gives how long each put took that ended in time.
func loop(ctx context.Context, c *client.Client, i int, from, until time.Time) (took []time.Duration, failed int, err error) {
	value := make([]byte, valueBytes)
	rng := rand.New(rand.NewPCG(uint64(i), 0))
	for k := key(i); ctx.Err() == nil; {
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		began := time.Now()
		if began.After(until) {
			break
		}
		if _, e := c.Put(ctx, k, value); e != nil {
			if ctx.Err() == nil {
				failed, err = failed+1, e
			}
			continue
		}
		if end := time.Now(); end.After(from) && !end.After(until) {
			took = append(took, end.Sub(began))
		}
	}
	return took, failed, err
}

// cpuTime is what processes have used so far.
func cpuTime(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("calibrate: %w", err)
		}
		// The name, in brackets, may hold anything (proc_pid_stat(5)); utime and stime are the fields 14 and 15.
		_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
		f := strings.Fields(rest)
		if len(f) < 13 {
			return 0, fmt.Errorf("calibrate: %w: /proc/%d/stat", hal.ErrFormat, pid)
		}
		for _, ticks := range f[11:13] {
			n, err := strconv.ParseInt(ticks, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("calibrate: %w: /proc/%d/stat", hal.ErrFormat, pid)
			}
			sum += time.Duration(n) * clockTick
		}
	}
	return sum, nil
}
