// Package waiting is the console of a box that is in no site yet. Whoever has the box's setup code, which is on its serial console, pastes
// what `holdfast site join-token` printed on a box of a site, or founds a site, and sees how far that is and what went wrong: no command
// line on the box, and no script in the browser.
//
// A Desk does one errand at a time: the one that the box's configuration asks for, or the newest that somebody gave it. It decides nothing
// about sites: what an errand does comes with Config.
package waiting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/limit"
	"github.com/holdfast-edge/holdfast/firmware/crowd"
	"github.com/holdfast-edge/holdfast/firmware/setupcode"
)

const (
	// guessEvery is how often one source may give a setup code, after guessBurst mistypes: 80 bits need no more.
	guessEvery = 10 * time.Second
	guessBurst = 5
	// sourcesMax bounds who is remembered for that, and for how long.
	sourcesMax = 1024
	sourceKept = time.Hour
	// lookedFor is how long after it was last shown somebody is taken to look at the page, which asks anew every refreshSeconds. So long the
	// box stays to say that it is in a site; a small site stands still meanwhile.
	lookedFor      = 3 * time.Second
	refreshSeconds = 2
)

// Errors of what somebody wants.
var (
	ErrCode   = errors.New("that is not the setup code")
	ErrSoon   = errors.New("too many tries")
	ErrForm   = errors.New("something is missing")
	ErrClosed = errors.New("this box has been in a site: it neither joins nor founds another one; a factory reset or an empty data directory makes it new")
)

// Errand is something that may bring the box into a site. It tells people how far it is.
type Errand func(ctx context.Context, tell func(progress string)) error

// Wish is what a form says.
type Wish struct {
	Token   *join.Token // nil: found a site
	Servers []string
	// Box is how the box wants to be known: its name and peer address, where the form says them.
	Box coord.Member
}

// Config is what a desk needs.
type Config struct {
	ID coord.BoxID
	// Key is public, PKIX DER.
	Key []byte
	// Box is how the box would be known as its configuration has it; what is empty has to be given.
	Box  coord.Member
	Todo string
	// Notice is something else that people should know; may be empty.
	Notice string
	// Closed says that the box has been in a site: it is not to join another.
	Closed bool
	// Code is the box's setup code.
	Code func() (string, error)
	// Do makes an errand of a wish.
	Do     func(w Wish) Errand
	Logger *slog.Logger
	// Now is the time.
	Now func() time.Time
}

// Desk is the waiting box's side of its pages.
type Desk struct {
	cfg Config

	mu      sync.Mutex
	guesses *limit.Buckets[string]
	began   time.Time
	// what, since and progress are of the errand that is under way; failed is why the last one was of no use.
	what, progress, failed string
	since                  time.Time
	done                   bool
	stop                   context.CancelFunc // nil: no errand
	next                   *errand
	looked                 time.Time
	seen                   chan struct{} // closed when somebody was told that the box is in a site
	kick                   chan struct{}
}

type errand struct {
	what string
	do   Errand
}

// New makes a desk.
func New(cfg Config) *Desk {
	return &Desk{
		cfg: cfg, began: cfg.Now(), guesses: limit.New[string](limit.Rate{Every: guessEvery, Burst: guessBurst}, sourcesMax, sourceKept),
		seen: make(chan struct{}), kick: make(chan struct{}, 1),
	}
}

// Run does errands, first this one if it is not nil, until ctx ends.
func (d *Desk) Run(ctx context.Context, first Errand) {
	if first != nil {
		d.put(&errand{"joining as the configuration says", first})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.kick:
		}
		d.run(ctx)
	}
}

// run does what is to be done now.
func (d *Desk) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	e := d.next
	if d.next = nil; e == nil || d.done {
		d.mu.Unlock()
		return
	}
	d.what, d.since, d.progress, d.failed, d.stop = e.what, d.cfg.Now(), "", "", cancel
	d.mu.Unlock()
	d.cfg.Logger.Info("this box asks for a site", "what", e.what)
	err := e.do(ctx, d.tell)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop, d.what, d.progress = nil, "", ""
	switch {
	case err == nil:
		d.done = true
	case ctx.Err() != nil: // stopped: for another one, or by whoever began it
		d.cfg.Logger.Info("stopped", "what", e.what)
	default:
		d.failed = err.Error()
		d.cfg.Logger.Error("this box is in no site; it waits on", "what", e.what, "err", err)
	}
}

func (d *Desk) tell(progress string) {
	d.cfg.Logger.Info("joining", "progress", progress)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.progress = progress
}

// put has an errand done next, in place of the one under way.
func (d *Desk) put(e *errand) {
	d.mu.Lock()
	d.next = e
	if d.stop != nil {
		d.stop()
	}
	d.mu.Unlock()
	select {
	case d.kick <- struct{}{}:
	default: // it looks in a moment
	}
}

// halt ends the errand under way.
func (d *Desk) halt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next = nil; d.stop != nil {
		d.stop()
	}
}

// Leave returns when whoever looks at the page has been told that the box is in a site now, or when nobody looks.
func (d *Desk) Leave(ctx context.Context) {
	d.mu.Lock()
	d.done = true
	looks := !d.looked.IsZero() && d.cfg.Now().Sub(d.looked) < lookedFor
	d.mu.Unlock()
	if !looks {
		return
	}
	limit := time.NewTimer(lookedFor)
	defer limit.Stop()
	select {
	case <-d.seen:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// allow says whether a request has the setup code. Errors: ErrSoon, ErrCode, what reading the code says.
func (d *Desk) allow(r *http.Request) error {
	d.mu.Lock()
	ok, wait := d.guesses.Take(d.cfg.Now().Sub(d.began), crowd.Source(r.RemoteAddr), 1)
	d.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w from this address; wait %s", ErrSoon, (wait + time.Second - 1).Truncate(time.Second))
	}
	want, err := d.cfg.Code()
	if err != nil {
		return err
	}
	if !setupcode.Same(want, r.PostFormValue("code")) {
		d.cfg.Logger.Warn("a wrong setup code", "from", r.RemoteAddr)
		return fmt.Errorf("%w; it is on the box's serial console, and in the file %s of its data directory", ErrCode, setupcode.File)
	}
	return nil
}
