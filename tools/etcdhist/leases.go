package main

import (
	"math"
	"strings"
	"time"
)

func (j *judge) life(id int64) *life {
	l := j.leases[id]
	if l == nil {
		l = &life{granted: math.MaxInt64, called: math.MaxInt64}
		j.leases[id] = l
	}
	return l
}

// extend notes that the lease is good for a time from o's call on: the server cannot have counted from before.
func (l *life) extend(o *Op, ttl int64) {
	if until := o.Call + ttl*int64(time.Second); until > l.until {
		l.until, l.extended = until, o
	}
}

// lives collects what was said of each lease.
func (j *judge) lives() {
	for _, o := range j.h.Ops {
		q, r := o.Req, o.Resp
		switch {
		case q.Kind == Grant && o.Outcome == OK:
			l := j.life(r.Lease)
			l.granted, l.called = min(l.granted, o.Return), min(l.called, o.Call)
			l.extend(o, r.TTL)
		case q.Kind == Grant && o.Outcome == Unknown && q.Lease != 0:
			l := j.life(q.Lease)
			l.called = min(l.called, o.Call)
			l.extend(o, q.TTL)
		case q.Kind == KeepAlive && o.Outcome == OK:
			if l := j.life(q.Lease); r.TTL > 0 {
				l.extend(o, r.TTL)
				l.uses = append(l.uses, o)
			} else {
				l.missing = append(l.missing, o)
			}
		case q.Kind == Revoke && (o.Outcome == OK || o.Outcome == Unknown):
			l := j.life(q.Lease)
			l.revokes = append(l.revokes, o)
		case o.Outcome == OK:
			for _, id := range q.attaches(r) {
				l := j.life(id)
				l.uses = append(l.uses, o)
			}
		case o.Outcome == Refused && strings.Contains(o.Err, "requested lease not found"):
			for _, id := range append(q.leases(), onlyRevoke(q)...) {
				l := j.life(id)
				l.missing = append(l.missing, o)
			}
		}
	}
	for _, l := range j.leases {
		l.until -= j.h.Meta.SlackNS
	}
}

func onlyRevoke(q Req) []int64 {
	if q.Kind == Revoke {
		return []int64{q.Lease}
	}
	return nil
}

// leaseRules checks ends of leases: not before their time, all keys at once, nothing after.
func (j *judge) leaseRules() {
	ended := map[int64]int64{} // time at which a lease was known to be over
	end := func(id, at int64) {
		if old, ok := ended[id]; !ok || at < old {
			ended[id] = at
		}
	}
	for rev := j.base + 1; rev <= j.max; rev++ {
		m, ok := j.made[rev]
		if !ok || m.expired == 0 {
			continue
		}
		l := j.leases[m.expired]
		l.expiries = append(l.expiries, rev)
		end(m.expired, j.seenAt(rev))
		if at := j.seenAt(rev); at < l.until {
			j.violate(LeaseEarly, []*Op{l.extended}, nil, "lease %d ended by itself at revision %d, seen at %.6fs; it was good until %.6fs",
				m.expired, rev, sec(at), sec(l.until))
		}
	}
	for id, l := range j.leases {
		j.leaseEnds(id, l, end)
	}
	for id, at := range ended {
		for _, o := range j.leases[id].uses {
			if o.Call > at {
				j.violate(LeaseZombie, []*Op{o}, nil, "lease %d had ended by %.6fs", id, sec(at))
			}
		}
	}
	for _, o := range j.h.Ops {
		if o.Outcome == Refused && strings.Contains(o.Err, "lease already exists") {
			if l := j.leases[o.Req.Lease]; l == nil || l.called > o.Return {
				j.violate(Refusal, []*Op{o}, nil, "nobody asked for that lease before")
			}
		}
	}
}

// leaseEnds checks one lease's revokes and the answers that it does not exist.
func (j *judge) leaseEnds(id int64, l *life, end func(id, at int64)) {
	for _, o := range l.revokes {
		if o.Outcome != OK {
			continue
		}
		end(id, o.Return)
		if s, ok := j.at(o.Resp.Rev); ok && len(s.attached(id)) > 0 {
			j.violate(Replay, []*Op{o}, nil, "keys %v are still there at revision %d", s.attached(id), o.Resp.Rev)
		}
		for _, u := range l.uses {
			// A write that was acknowledged above the revoke's revision came after it.
			if u.Req.Kind != KeepAlive && u.Resp.Rev > o.Resp.Rev {
				j.violate(LeaseZombie, []*Op{o, u}, nil, "lease %d was revoked before", id)
			}
		}
	}
	for _, rev := range l.expiries {
		for _, u := range l.uses {
			if u.Req.Kind != KeepAlive && u.Resp.Rev > rev {
				j.violate(LeaseZombie, []*Op{u}, nil, "lease %d ended at revision %d", id, rev)
			}
		}
	}
	for _, o := range l.missing {
		if len(o.Req.leases()) > 1 {
			continue // it does not say which one
		}
		if l.granted < o.Call {
			end(id, o.Return)
		}
		excused := l.granted >= o.Call || l.until <= o.Return
		for _, r := range l.revokes {
			excused = excused || r.Call < o.Return
		}
		if !excused {
			j.violate(LeaseEarly, []*Op{o, l.extended}, nil, "lease %d does not exist, but was good until %.6fs", id, sec(l.until))
		}
	}
}
