package box

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/setupcode"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"github.com/holdfast-edge/holdfast/hal/work"
)

const (
	// lookEvery is how late the light may be.
	lookEvery = time.Second
	// pressEvery is how often the button is looked at, and holdFor how long it has to be held:
	// nobody does that by leaning on it.
	pressEvery = 250 * time.Millisecond
	holdFor    = 5 * time.Second
)

// mood is how a site is, as a light can say it.
type mood int

const (
	moodNone     mood = iota // nothing was shown yet
	moodServing              // all boxes are here
	moodDegraded             // writes are ordered, or will be in a moment, and something is missing or warned of
	moodAlarm                // a critical alarm fires
	moodNoQuorum             // the site cannot write as far as this box can tell
	moodFault                // this box has stopped voting
)

// moodOf reads the site's state, and the worst alarm that fires.
func moodOf(v *site.View, worst string) mood {
	up, silent := 0, false
	for i := range v.Members {
		if m := &v.Members[i]; m.Up {
			up++
			silent = silent || m.VotesFrom > v.Round
		}
	}
	switch {
	case v.Fault != "":
		return moodFault
	case up < v.Quorum || v.Full != "":
		return moodNoQuorum
	case worst == alarms.Critical:
		return moodAlarm
	case up < v.N || silent || !v.Serving || worst == alarms.Warning:
		return moodDegraded
	}
	return moodServing
}

// light is a lamp; *linux.LED is one.
type light interface {
	Set(on bool) error
	Blink(on, off time.Duration) error
	Release() error
}

// show lets l say m: steady when all is well, and the worse the restless.
func (m mood) show(l light) error {
	switch m {
	case moodServing:
		return l.Set(true)
	case moodDegraded:
		return l.Blink(1800*time.Millisecond, 200*time.Millisecond)
	case moodAlarm:
		return l.Blink(900*time.Millisecond, 300*time.Millisecond)
	case moodNoQuorum:
		return l.Blink(500*time.Millisecond, 500*time.Millisecond)
	}
	return l.Blink(100*time.Millisecond, 100*time.Millisecond)
}

// panel is the lights and buttons of a box.
type panel struct {
	log    *slog.Logger
	light  light  // nil: none
	button button // nil: none
	// code gives the setup code, say prints to the serial console.
	code func() (string, error)
	say  func(string) error
	name string
}

// openPanel finds the roles of the profile. What is not there is logged with its reason.
func openPanel(m *work.Machine, c *config.Config, name string, log *slog.Logger) *panel {
	p := &panel{
		log: log, name: name,
		code: func() (string, error) { return setupcode.Of(c.DataDir) },
		say:  func(text string) error { return printTo(c.HAL.Console, text) },
	}
	for _, r := range m.Roles() {
		if r.State != hal.Loaded {
			log.Info("panel", "role", r.Role, "state", r.State, "why", r.Why)
			continue
		}
		var err error
		switch r.Role {
		case "led " + work.StatusLED:
			var l *linux.LED
			if l, err = m.Root.LED(m.Board.LED[work.StatusLED]); err == nil {
				p.light = l
			}
		case "pin " + work.SetupPin:
			p.button, err = openButton(m)
		default:
			continue
		}
		if err != nil {
			log.Warn("panel", "role", r.Role, "state", hal.Failed, "why", err)
			continue
		}
		log.Info("panel", "role", r.Role, "state", r.State, "at", r.At)
	}
	return p
}

// close gives the light back to what it showed before.
func (p *panel) close() error {
	var err error
	if p.light != nil {
		err = p.light.Release()
	}
	if p.button != nil {
		err = errors.Join(err, p.button.Close())
	}
	return err
}

// run shows the site's state and waits for the button, until ctx ends.
func (p *panel) run(ctx context.Context, view func() *site.View, worst func() string) {
	var parts sync.WaitGroup
	if p.light != nil {
		parts.Go(func() { p.shine(ctx, view, worst) })
	}
	if p.button != nil {
		parts.Go(func() { p.await(ctx) })
	}
	parts.Wait()
}

func (p *panel) shine(ctx context.Context, view func() *site.View, worst func() string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	shown := moodNone
	for {
		if now := moodOf(view(), worst()); now != shown {
			if err := now.show(p.light); err != nil {
				p.log.Warn("the status light cannot be set any more", "err", err)
				return
			}
			shown = now
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// await prints the setup code once for each time that the button is held long enough.
func (p *panel) await(ctx context.Context) {
	tick := time.NewTicker(pressEvery)
	defer tick.Stop()
	var since time.Time // of the press; zero: it is not held
	printed := false
	for {
		down, err := p.button.Pressed()
		if err != nil {
			p.log.Warn("the setup button cannot be read any more", "err", err)
			return
		}
		switch now := time.Now(); {
		case !down:
			since, printed = time.Time{}, false
		case since.IsZero():
			since = now
		case !printed && now.Sub(since) >= holdFor:
			printed = true
			p.printCode()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *panel) printCode() {
	code, err := p.code()
	if err == nil {
		err = p.say(fmt.Sprintf("\r\nHoldfast %s: setup code %s\r\n", p.name, code))
	}
	if err != nil {
		p.log.Warn("the setup code could not be printed", "err", err)
		return
	}
	p.log.Info("the setup code was printed: the setup button was held") // the code itself is in no log
}
