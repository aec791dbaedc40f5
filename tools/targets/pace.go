package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
)

const (
	// paceClients share the messages. pacedMax bounds those that wait for an answer: some three seconds of the faster pace, so
	// that a stall of the disk does not end the load.
	paceClients, pacedMax = 64, 2000
	// keptUp is the share of the pace that a site must answer, so that its CPU time is that of the pace.
	keptUp = 0.95
	// pacedFor is how long it is measured: answers come in blocks, so that a short time has some too few or too many.
	pacedFor = 3 * time.Second
	// triesMax is how often it is measured until the site keeps up.
	triesMax = 3
)

// errBehind says that a site did not keep up with a pace.
var errBehind = errors.New("does not keep up")

// keepsUp measures a pace until the site keeps up, and counts in again how often it did not.
func keepsUp(ctx context.Context, s *load.Site, kind string, pace float64, again *float64) (percent, fill float64, err error) {
	for range triesMax {
		percent, fill, err = paced(ctx, s, kind, pace)
		if !errors.Is(err, errBehind) {
			return percent, fill, err
		}
		fmt.Fprintln(os.Stderr, "targets:", err)
		*again++
	}
	return percent, fill, err
}

// paced is an open loop: a message is sent each time that one is due, whether or not the earlier ones are answered. It returns the
// percent of a core that a box took and the messages of a block. An error says that a message failed or that the site did not keep up.
func paced(ctx context.Context, s *load.Site, kind string, pace float64) (percent, fill float64, err error) {
	t := s.Target(kind)
	clients := make([]load.Client, paceClients)
	for i := range clients {
		if clients[i], err = t.Open(ctx, "put", i); err != nil {
			return 0, 0, err
		}
		defer clients[i].Close()
	}
	var (
		wg       sync.WaitGroup
		answered atomic.Int64
		mu       sync.Mutex
		failed   error
		room     = make(chan struct{}, pacedMax)
		late     int
	)
	send := func(n int) {
		select {
		case room <- struct{}{}:
		default:
			late++ // not sent: the site does not keep up
			return
		}
		wg.Go(func() {
			defer func() { <-room }()
			key, value := message(n)
			if err := clients[n%paceClients].Do(ctx, [][]byte{key}, [][]byte{value}); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
				return
			}
			answered.Add(1)
		})
	}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	var sender sync.WaitGroup
	sender.Go(func() {
		start := time.Now()
		for n := 0; sending.Err() == nil; n++ {
			time.Sleep(time.Until(start.Add(time.Duration(float64(n) / pace * float64(time.Second)))))
			send(n)
		}
	})
	time.Sleep(warm)
	cpu, messages, blocks := 0.0, 0.0, 0.0
	use := func(sign float64) error {
		c, err := s.Counts(ctx)
		if err != nil {
			return err
		}
		messages, blocks = messages+sign*c.Messages, blocks+sign*c.Blocks
		for _, b := range s.Boxes {
			used, err := load.CPUSeconds(b.PID())
			if err != nil {
				return err
			}
			cpu += sign * used
		}
		return nil
	}
	err = use(-1)
	was, began := answered.Load(), time.Now()
	time.Sleep(pacedFor)
	took, got := time.Since(began).Seconds(), float64(answered.Load()-was)
	err = errors.Join(err, use(1))
	stop()
	sender.Wait()
	wg.Wait()
	if err = errors.Join(err, failed, ctx.Err()); err != nil {
		return 0, 0, err
	}
	if late > 0 || got < keptUp*pace*took {
		return 0, 0, fmt.Errorf("%s %w: %.0f of %.0f messages answered in %.2f s, %d not sent", kind, errBehind, got, pace*took, took, late)
	}
	return cpu / took / boxes * 100, messages / max(1, blocks), nil
}

// message is the n-th message's key and value: as large as the loader's, a status record.
func message(n int) (key, value []byte) {
	value = fmt.Appendf(nil, "dev=%05d seq=%09d state=running temp=%d.%d fan=%d volts=11.%d ", n%paceClients, n, 40+n%20, n*7%10, 1200+n*31%300, n*13%100)
	for len(value) < valueBytes {
		value = append(value, "ok "...)
	}
	return fmt.Appendf(nil, "b%05d/%09d", n%paceClients, n/paceClients%200), value[:valueBytes]
}
