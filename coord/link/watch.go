package link

import (
	"context"
	"log/slog"
	"time"
)

// watching asks the detectors of all peers until ctx ends: more often than a sound is due, so that a stall of our own
// is known as such, and at the moment at which a peer's time is over.
func (l *Link) watching(ctx context.Context) {
	tick := l.cfg.Heartbeat * 3 / 8 // a sound each half a heartbeat: none is missed
	own := ownTime{slack: l.cfg.Heartbeat / 8, planned: time.Since(l.start) + tick}
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		before := own.last
		own.wake(time.Since(l.start))
		l.starved.Store(int64(own.stolen))
		wait := tick
		for _, p := range l.roster.Load().peers {
			if p == nil {
				continue
			}
			if rest := p.watch(&own, before); rest > 0 {
				wait = min(wait, max(rest, time.Millisecond))
			}
		}
		own.planned = time.Since(l.start) + wait
		timer.Reset(wait)
	}
}

// watch asks the peer's detector and tells what has changed; before is the own time of the last call. It gives the
// time until the peer may be silent, 0 when it is silent or not connected.
func (p *peer) watch(own *ownTime, before time.Duration) time.Duration {
	d, out := &p.detector, p.sending.Load()
	p.mu.Lock()
	in, was := p.receiving, p.quiet
	p.mu.Unlock()
	heard := time.Duration(p.counters.heard.Load())
	switch {
	case in == nil || out == nil || in != p.watchedIn || out != p.watchedOut:
		d.restart(own.last)
	case p.handling.Load():
		// We are what keeps it from being heard.
		d.restart(own.last)
	case heard != p.watchedHeard:
		if d.hear(own.of(heard, before)) {
			p.counters.stalls.Add(1)
		}
	}
	p.watchedIn, p.watchedOut, p.watchedHeard = in, out, heard
	if in == nil || out == nil {
		p.setQuiet(was, false)
		return 0
	}
	verdict, rest := d.check(own.last)
	p.counters.timeout.Store(int64(d.timeout()))
	if verdict {
		p.counters.silences.Add(1)
		p.log.warn("silent", "peer is silent", slog.Duration("for", own.last-d.heard), slog.Duration("starved", own.stolen))
	}
	p.setQuiet(was, d.silent)
	return rest
}

// setQuiet tells that the peer is silent, or heard again.
func (p *peer) setQuiet(was, quiet bool) {
	if was == quiet {
		return
	}
	p.mu.Lock()
	p.quiet = quiet
	p.mu.Unlock()
	p.tell()
}
