package work

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

const (
	// quiet is how long nothing happens before the machine is looked at again: a port that comes
	// up brings several events.
	quiet = 300 * time.Millisecond
	// eventsMax bounds the events that one Step names; the others are counted under "more".
	eventsMax = 32
)

// Step is one look at the machine.
type Step struct {
	Events []hal.Event // what led to it; none at the first
	Plan   hal.Plan
	Report hal.Report // empty when nothing had to change, or on a dry run
	Err    error      // why this step failed; the watch goes on
}

// Watcher applies a plan again after every event that may have undone it.
type Watcher struct {
	Machine *Machine
	Port    hal.Port
	Ledger  string // the directory; the ledger is taken for each step only, so that others can undo
	Options hal.Options
	DryRun  bool // say what would change and change nothing
}

// Run takes a step, and another after every event, until ctx ends; then it returns nil. say is
// called after each step. Hardware queues are left alone whatever the options say: setting them
// resets the link, which is an event.
func (w *Watcher) Run(ctx context.Context, say func(Step)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var box eventBox
	box.news = make(chan struct{}, 1)
	listening := make(chan struct{})
	var watchErr error
	var watching sync.WaitGroup
	watching.Go(func() {
		watchErr = linux.Watch(ctx, func() { close(listening) }, box.put)
		stop()
	})
	select {
	case <-listening: // what happens from here on is not missed
		say(w.step(ctx, nil))
	case <-ctx.Done():
	}
	for box.wait(ctx) {
		say(w.step(ctx, box.take()))
	}
	watching.Wait()
	return watchErr
}

func (w *Watcher) step(ctx context.Context, events []hal.Event) Step {
	s := Step{Events: events}
	if s.Err = w.Machine.Look(); s.Err != nil {
		return s
	}
	o := w.Options
	o.Channels = false
	s.Plan = w.Machine.Plan(o)
	if w.DryRun || len(s.Plan.Changes) == 0 {
		return s
	}
	l, err := OpenLedger(w.Ledger)
	if err != nil {
		s.Err = err
		return s
	}
	s.Report, err = l.Apply(ctx, w.Port, &s.Plan, nil)
	s.Err = errors.Join(err, l.Close())
	return s
}

// eventBox keeps events until they are taken.
type eventBox struct {
	news chan struct{}
	mu   sync.Mutex
	all  []hal.Event
	more bool
}

func (b *eventBox) put(e hal.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) < eventsMax {
		b.all = append(b.all, e)
	} else {
		b.more = true
	}
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// wait returns true when events came and then none for a while, false when ctx ended.
func (b *eventBox) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-b.news:
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-b.news:
		case <-time.After(quiet):
			return true
		}
	}
}

func (b *eventBox) take() []hal.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.all
	if b.more {
		all = append(all, hal.Event{Kind: "more"})
	}
	b.all, b.more = nil, false
	return all
}
