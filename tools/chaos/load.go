package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-edge/holdfast/coord/client"
)

const (
	// Few keys make many conflicts; few clients and a pause between calls keep histories quick to check.
	keys      = 5
	clients   = 6
	callPause = 8 * time.Millisecond
	// callTimeMax is beyond what any row promises: an unknown outcome costs the checker much more than a late one.
	callTimeMax  = 45 * time.Second
	checkTimeMax = 60 * time.Second
	closeTimeMax = 3 * time.Second
	dialTimeMax  = 20 * time.Second
)

type verb uint8

const (
	verbPut verb = iota
	verbGet
	verbDelete
)

// call is one operation of one client. Times count from the start of the load.
type call struct {
	client           int
	verb             verb
	key              string
	value            string // put: what was written; get: what was read
	found            bool
	revision         uint64
	called, returned time.Duration
	unknown          bool // it took effect once or not at all
}

// load is concurrent clients and what they saw.
type load struct {
	began  time.Time
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	history []call
	errs    []error
}

// startLoad begins clients on the site. Values are padded to size bytes.
func startLoad(ctx context.Context, s *site, size int) (*load, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{began: time.Now(), cancel: cancel}
	for i := range clients {
		dial, cancelDial := context.WithTimeout(ctx, dialTimeMax)
		c, err := client.Dial(dial, client.Config{Endpoints: s.endpoints(i), Name: "chaos"})
		cancelDial()
		if err != nil {
			l.stop()
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
		l.done.Go(func() { l.work(ctx, i, c, size) })
	}
	return l, nil
}

func (l *load) work(ctx context.Context, i int, c *client.Client, size int) {
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), closeTimeMax)
		defer cancel()
		_ = c.Close(end) // what did not end in time is unknown already
	}()
	for n := 0; ctx.Err() == nil; n++ {
		o := call{client: i, key: "k" + strconv.Itoa(rand.N(keys)), called: time.Since(l.began)}
		// A call that has begun may end after the load: its outcome shall be known.
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeMax)
		var err error
		switch p := rand.N(10); {
		case p < 5:
			o.value = fmt.Sprintf("%d-%d-", i, n)
			for len(o.value) < size {
				o.value += strconv.FormatUint(rand.Uint64(), 36)
			}
			o.revision, err = c.Put(limit, []byte(o.key), []byte(o.value))
		case p < 9:
			var value []byte
			o.verb = verbGet
			value, o.found, err = c.Get(limit, []byte(o.key))
			o.value = string(value)
		default:
			o.verb = verbDelete
			o.found, err = c.Delete(limit, []byte(o.key))
		}
		cancel()
		o.returned = time.Since(l.began)
		l.note(o, err)
		sleep(ctx, callPause)
	}
}

func (l *load) note(o call, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
	case errors.Is(err, client.ErrNotSent):
		return
	case errors.Is(err, client.ErrUnknown), errors.Is(err, client.ErrSessionLost):
		if o.verb == verbGet {
			return
		}
		o.unknown = true
	default:
		l.errs = append(l.errs, err)
		return
	}
	l.history = append(l.history, o)
}

// stop ends the load when the calls under way have ended.
func (l *load) stop() {
	l.cancel()
	l.done.Wait()
}

// now is the load's clock.
func (l *load) now() time.Duration { return time.Since(l.began) }

func (l *load) writes() []call {
	l.mu.Lock()
	defer l.mu.Unlock()
	var w []call
	for _, o := range l.history {
		if o.verb == verbPut && !o.unknown {
			w = append(w, o)
		}
	}
	slices.SortFunc(w, func(a, b call) int { return cmp.Compare(a.returned, b.returned) })
	return w
}

// firstAfter is how long after from a write that was called then was acknowledged.
func (l *load) firstAfter(from time.Duration) (time.Duration, bool) {
	for _, o := range l.writes() {
		if o.called >= from {
			return o.returned - from, true
		}
	}
	return 0, false
}

// pause is the longest time between from and to in which no write was acknowledged.
func (l *load) pause(from, to time.Duration) time.Duration {
	last, longest := from, time.Duration(0)
	for _, o := range l.writes() {
		if o.returned < from {
			continue
		}
		if o.returned > to {
			break
		}
		longest = max(longest, o.returned-last)
		last = o.returned
	}
	return max(longest, to-last)
}

// register is what porcupine judges one key by.
type register struct {
	value string
	found bool
}

func registers() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, o := range history {
				key := o.Input.(call).key
				byKey[key] = append(byKey[key], o)
			}
			var parts [][]porcupine.Operation
			for _, p := range byKey {
				parts = append(parts, p)
			}
			return parts
		},
		Init: func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) {
			r, o := state.(register), input.(call)
			switch o.verb {
			case verbPut:
				return true, register{o.value, true}
			case verbDelete:
				return o.unknown || o.found == r.found, register{}
			default:
				return o.found == r.found && o.value == r.value, r
			}
		},
		Equal: func(a, b any) bool { return a == b },
	}
}

// checkHistory says what clients saw that no single register can have done.
func checkHistory(history []call) error {
	var ops []porcupine.Operation
	for _, o := range history {
		end := int64(o.returned)
		if o.unknown {
			end = math.MaxInt64
		}
		ops = append(ops, porcupine.Operation{ClientId: o.client, Input: o, Call: int64(o.called), Return: end})
	}
	switch porcupine.CheckOperationsTimeout(registers(), ops, checkTimeMax) {
	case porcupine.Illegal:
		return errors.New("the clients' history is not linearizable")
	case porcupine.Unknown:
		return fmt.Errorf("the clients' history of %d calls could not be judged in %v", len(ops), checkTimeMax)
	}
	return checkRevisions(history)
}

// checkRevisions: a write that was called after another was acknowledged has a higher revision.
func checkRevisions(history []call) error {
	var byCall []call
	for _, o := range history {
		if o.verb == verbPut && !o.unknown && o.revision != 0 {
			byCall = append(byCall, o)
		}
	}
	byReturn := slices.Clone(byCall)
	slices.SortFunc(byCall, func(a, b call) int { return cmp.Compare(a.called, b.called) })
	slices.SortFunc(byReturn, func(a, b call) int { return cmp.Compare(a.returned, b.returned) })
	highest, k := uint64(0), 0
	for _, o := range byCall {
		for ; k < len(byReturn) && byReturn[k].returned < o.called; k++ {
			highest = max(highest, byReturn[k].revision)
		}
		if o.revision <= highest {
			return fmt.Errorf("a write got revision %d after %d had been acknowledged", o.revision, highest)
		}
	}
	return nil
}
