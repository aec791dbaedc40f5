package link

import (
	"slices"
	"time"
)

const (
	// lineageMax is how many incarnations of a peer are remembered. A peer that restarts makes
	// new ones; only two machines bring old ones back.
	lineageMax = 8
	// twinReturns is how many superseded incarnations must come back before it is told:
	// one may be a connection of a process that died while we were busy.
	twinReturns = 2
	// twinWaitMin and twinWaitMax bound how long after such a return the identity is held to the machine
	// that has it; it doubles. So two machines take turns ever more slowly instead of cutting each other off all the time.
	twinWaitMin = time.Second
	twinWaitMax = 30 * time.Second
	// twinForget is the quiet time after which all is forgiven.
	twinForget = 10 * time.Minute
)

// lineage tells a peer that restarts from two machines with one identity. A process has one random
// incarnation for life: one that was superseded by another and comes back was alive all the time.
type lineage struct {
	seen    []uint64 // oldest first; the last one is current
	returns int
	last    time.Time // of the last return
	wait    time.Duration
	until   time.Time // no other incarnation is admitted before
}

// admit says whether a connection of an incarnation may take the peer's place, and
// whether it is now certain that the identity runs twice.
func (l *lineage) admit(incarnation uint64, now time.Time) (ok, twin bool) {
	n := len(l.seen)
	if n > 0 && l.seen[n-1] == incarnation {
		return true, false
	}
	if now.Before(l.until) {
		return false, false
	}
	at := slices.Index(l.seen, incarnation)
	if at < 0 {
		if n == lineageMax {
			l.seen = slices.Delete(l.seen, 0, 1)
		}
		l.seen = append(l.seen, incarnation)
		return true, false
	}
	l.seen = append(slices.Delete(l.seen, at, at+1), incarnation)
	if now.Sub(l.last) > twinForget {
		l.returns, l.wait = 0, 0
	}
	l.returns++
	l.last = now
	if l.returns < twinReturns {
		return true, false
	}
	l.wait = min(max(twinWaitMin, 2*l.wait), twinWaitMax)
	l.until = now.Add(l.wait)
	return true, true
}
