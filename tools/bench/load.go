package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord/client"
)

// load is closed loops of clients: each waits for its answer before the next request.
type load struct {
	name    string
	clients int // connections with a session of their own
	each    int // loops on each
	batch   int // messages in a request
}

// keysEach is how many keys a loop writes to in turn, so that a long run does not only grow the state.
const keysEach = 200

type outcome struct {
	took     []time.Duration
	messages int
	elapsed  time.Duration
}

func (o *outcome) rate() float64 { return float64(o.messages) / o.elapsed.Seconds() }

// percentile of the requests' times; the times are sorted.
func (o *outcome) percentile(p int) time.Duration {
	if len(o.took) == 0 {
		return 0
	}
	return o.took[(len(o.took)-1)*p/100]
}

// drive runs a load for a time and gives every request's latency.
func (s *site) drive(ctx context.Context, l load, d time.Duration) (*outcome, error) {
	var clients []*client.Client
	defer func() {
		for _, c := range clients {
			_ = c.Close(context.Background()) // the figures are taken
		}
	}()
	for i := range l.clients {
		c, err := s.client(ctx, i, l.each)
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
		if _, err := c.Put(ctx, []byte("warm"), nil); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	var out outcome
	var failed error
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(d)
	for i, c := range clients {
		for k := range l.each {
			wg.Go(func() {
				took, err := loop(ctx, c, l, uint64(i*l.each+k), end)
				mu.Lock()
				defer mu.Unlock()
				out.took = append(out.took, took...)
				out.messages += len(took) * l.batch
				if failed == nil {
					failed = err
				}
			})
		}
	}
	wg.Wait()
	out.elapsed = time.Since(start)
	slices.Sort(out.took)
	if failed != nil {
		return nil, fmt.Errorf("%s: %w", l.name, failed)
	}
	return &out, nil
}

func loop(ctx context.Context, c *client.Client, l load, id uint64, end time.Time) ([]time.Duration, error) {
	r := rand.New(rand.NewPCG(id, 1))
	value := make([]byte, 100-16)
	var took []time.Duration
	var m client.Messages
	for n := uint64(0); ; {
		m.Reset()
		for range l.batch {
			for i := 0; i+8 <= len(value); i += 8 {
				binary.LittleEndian.PutUint64(value[i:], r.Uint64())
			}
			m.Put(fmt.Appendf(nil, "b%05d/%09d", id, n%keysEach), value)
			n++
		}
		at := time.Now()
		if at.After(end) {
			return took, nil
		}
		if _, err := c.Submit(ctx, &m); err != nil {
			return took, err
		}
		took = append(took, time.Since(at))
	}
}
