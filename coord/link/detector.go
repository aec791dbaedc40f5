package link

import (
	"math"
	"time"
)

const (
	// phiZ is how many standard deviations lie below the tail of 10^-8 of a normal distribution: the threshold
	// 8 of the phi-accrual detector.
	phiZ = 5.612
	// gapWeight is the share of a new gap in mean and variance: the last 64 gaps count, some 6 s at idle.
	gapWeight = 1.0 / 64
	// gapSpreadMin keeps a rhythm without any jitter from making the detector nervous.
	gapSpreadMin = 10 * time.Millisecond
	// stallForget is the share of what was learned about a peer's stalls that each ordinary gap takes away:
	// half is forgotten after 700 gaps, a minute.
	stallForget = 1024
)

// detector decides from the times at which a peer was heard whether it is silent. It is the phi-accrual detector of
// Hayashibara et al. (SRDS 2004) with a normal distribution and an acceptable pause (as in Akka), solved for the time at
// which phi reaches 8. What it learns is by how much sounds come later than half a heartbeat after the last one, which is
// what two boxes in phase promise: a sound that comes early must not make it more patient.
//
//	timeout = stall + heartbeat/2 + mean + 5.6 x deviation, at most dead
//
// A gap longer than half the stall is a stall and not part of the rhythm. A peer that was called silent and is heard
// before dead has only stalled: the stall is widened to what it took and a quarter, and narrows again with time. It has
// no clock: all times are of the caller's ownTime.
type detector struct {
	heartbeat, stall, dead time.Duration

	heard          time.Duration // when the peer was last heard
	mean, variance float64       // of lateness, nanoseconds
	learned        time.Duration // stall or more
	silent         bool
}

func newDetector(heartbeat, stall, dead time.Duration) detector {
	return detector{heartbeat: heartbeat, stall: stall, dead: dead, learned: stall}
}

// restart begins anew with a connection that is ready at now. What was learned of the peer stays.
func (d *detector) restart(now time.Duration) { d.heard, d.silent = now, false }

// hear notes a sound of the peer at a time, and says whether that takes a verdict back.
func (d *detector) hear(at time.Duration) (stalled bool) {
	gap := at - d.heard
	if gap <= 0 && !d.silent {
		return false
	}
	d.heard = max(at, d.heard)
	if d.silent {
		d.silent = false
		if stalled = gap < d.dead; stalled {
			d.learned = min(max(d.learned, gap+gap/4), d.dead)
		}
		return stalled
	}
	if gap > d.stall/2 {
		return false
	}
	off := float64(max(gap-d.heartbeat/2, 0)) - d.mean
	d.mean += gapWeight * off
	d.variance += gapWeight * (off*off - d.variance)
	d.learned -= (d.learned - d.stall) / stallForget
	return false
}

// timeout is the silence after which the peer counts as away.
func (d *detector) timeout() time.Duration {
	spread := max(math.Sqrt(d.variance), float64(gapSpreadMin))
	return min(d.learned+d.heartbeat/2+time.Duration(d.mean+phiZ*spread), d.dead)
}

// check says whether the peer has just become silent, and how long from now it is until it may: 0 when it is.
func (d *detector) check(now time.Duration) (verdict bool, rest time.Duration) {
	rest = max(d.heard+d.timeout()-now, 0)
	verdict = rest == 0 && !d.silent
	d.silent = d.silent || verdict
	return verdict, rest
}

// ownTime is a clock that stands while this box is starved: when it is not woken as planned, what it missed is not held
// against others. This is the local health of Lifeguard (Dadgar et al., 2017), in time lost instead of a score.
type ownTime struct {
	planned, slack, last time.Duration
	// stolen is the time that was lost so far.
	stolen time.Duration
}

// wake takes the time now and gives the own time.
func (o *ownTime) wake(now time.Duration) time.Duration {
	if late := now - o.planned; late > o.slack {
		o.stolen += late
	}
	o.last = max(now-o.stolen, o.last)
	return o.last
}

// of is the own time of something that happened at a time since the last but one wake, which was at own time before.
func (o *ownTime) of(at, before time.Duration) time.Duration {
	return min(max(at-o.stolen, before), o.last)
}

// phase is when a box pings next, which has just done so at now, if the peer pinged it at theirs (0: never): half a
// heartbeat after the peer's next. Each hears the other's pong at its own ping, and the other's ping between two of
// its own, so that half as many packets make the same rhythm. The wait is 1/4 to 5/4 of a heartbeat, one heartbeat
// when the phase is right.
func phase(now, theirs, heartbeat time.Duration) time.Duration {
	if theirs == 0 || now-theirs > 2*heartbeat {
		return now + heartbeat
	}
	next := theirs + heartbeat/2
	for next <= now+heartbeat/4 {
		next += heartbeat
	}
	return next
}
