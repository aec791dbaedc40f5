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
	// quietMax is how long events that never stop may keep it from being looked at.
	quietMax = 5 * time.Second
	// eventsMax bounds the events that one Step names; the others are counted under "more".
	eventsMax = 32
)

// Step is one look at the machine.
type Step struct {
	Events []hal.Event // what led to it; none at the first
	// PutBack is what an apply that died had left, put back before the plan was made.
	PutBack []hal.Entry
	Plan    hal.Plan
	Report  hal.Report // empty when nothing had to change, or on a dry run
	Err     error      // why this step failed; the watch goes on
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
	if s.Err = w.plan(&s); s.Err != nil || w.DryRun || len(s.Plan.Changes) == 0 {
		return s
	}
	l, err := OpenLedger(w.Ledger)
	if err != nil {
		s.Err = err
		return s
	}
	// Whoever holds the ledger knows that no apply is under way: one that is open has died.
	if s.PutBack, err = hal.Recover(ctx, w.Port, l); err == nil && len(s.PutBack) > 0 {
		err = w.plan(&s)
	}
	if err == nil && len(s.Plan.Changes) > 0 {
		s.Report, err = l.Apply(ctx, w.Port, &s.Plan, nil)
	}
	s.Err = errors.Join(err, l.Close())
	return s
}

// plan looks at the machine and makes the step's plan.
func (w *Watcher) plan(s *Step) error {
	if err := w.Machine.Look(); err != nil {
		return err
	}
	o := w.Options
	o.Channels = false
	s.Plan = w.Machine.Plan(o)
	return nil
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

// wait returns true when events came and then none for a while, or when they do not stop; false when ctx ended.
func (b *eventBox) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-b.news:
	}
	enough := time.After(quietMax)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-enough:
			return true
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
