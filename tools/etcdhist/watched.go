package main

import (
	"slices"
	"strings"
)

// watched checks every session of every watcher against the replayed history.
func (j *judge) watched() {
	sessions := map[string][]*Msg{}
	var names []string
	for _, m := range j.h.Msgs {
		if _, ok := sessions[m.Watcher]; !ok {
			names = append(names, m.Watcher)
		}
		sessions[m.Watcher] = append(sessions[m.Watcher], m)
	}
	slices.Sort(names)
	log := j.log()
	for _, n := range names {
		ms := sessions[n]
		for len(ms) > 0 {
			end := slices.IndexFunc(ms, func(m *Msg) bool { return m.Session != ms[0].Session })
			if end < 0 {
				end = len(ms)
			}
			j.session(log, ms[:end])
			ms = ms[end:]
		}
	}
	for _, l := range j.h.Late {
		j.violate(WatchLate, nil, nil, "%s; the end is %d", l, j.h.Meta.Final)
	}
}

// log is every event of the history, by revision.
func (j *judge) log() map[int64][]Event {
	log := map[int64][]Event{}
	for i := 1; i < len(j.states); i++ {
		s, rev := j.states[i-1], j.states[i].Rev
		switch m := j.made[rev]; {
		case m.expired != 0:
			log[rev], _ = s.Drop(m.expired)
		case m.op != nil && m.op.Req.Kind == Revoke:
			log[rev], _ = s.Drop(m.op.Req.Lease)
		case m.op != nil:
			_, log[rev], _ = s.Apply(m.op.Req)
		default:
			log[rev] = j.events[rev] // unexplained, and reported as that
		}
	}
	return log
}

// session walks one session: rev and i are the next event that must come.
func (j *judge) session(log map[int64][]Event, ms []*Msg) {
	rev, i := max(ms[0].Start, j.base+1), 0
	progress, whole, cancelling := int64(0), true, false
	for k, m := range ms {
		switch m.Kind {
		case Progress:
			if i > 0 || rev <= m.Rev {
				j.violate(WatchAhead, nil, []*Msg{m}, "progress to %d, but event %d of revision %d has not come", m.Rev, i, rev)
				rev, i = m.Rev+1, 0
			}
			progress = m.Rev
		case Compacted:
			maybe := slices.ContainsFunc(j.comps, func(o *Op) bool { return o.Req.Rev == m.Compact && o.Call < m.At })
			if !maybe || m.Compact <= rev-min(1, int64(i)) {
				j.violate(WatchCompact, nil, []*Msg{m}, "compaction at %d for a watcher that waits for %d", m.Compact, rev)
			}
		case Cancelling:
			cancelling = true
		case Closed:
			j.probed(ms, m)
		case Events:
			if i > 0 && whole {
				j.violate(WatchSplit, nil, []*Msg{m}, "revision %d", rev)
			}
			whole = !m.Fragment
			for _, e := range m.Events {
				if _, ok := j.at(rev); !ok {
					j.unjudged++
					return
				}
				if e.KV.Mod <= progress {
					j.violate(WatchAhead, nil, []*Msg{m}, "%s came after progress to %d", show([]Event{e}), progress)
					return
				}
				noPrev := cancelling
				if e.Prev == nil && !noPrev {
					// What stood before is gone when it was compacted.
					noPrev, _ = j.compacted(rev-1, m.At)
				}
				if i >= len(log[rev]) || !equalEvent(e, log[rev][i], noPrev) {
					j.violate(WatchOrder, nil, ms[max(0, k-1):k+1], "got %s, event %d of revision %d is next: %s", show([]Event{e}), i, rev,
						show(log[rev]))
					return
				}
				if i++; i == len(log[rev]) {
					rev, i = rev+1, 0
				}
			}
			if m.Rev < m.Events[len(m.Events)-1].KV.Mod {
				j.violate(WatchOrder, nil, []*Msg{m}, "the header is older than the last event")
			}
		}
	}
	// A session that ends inside a revision lost nothing: the next begins with that revision again.
}

// probed checks a watch that was opened below a compaction which its endpoint had reported on the same connection.
func (j *judge) probed(ms []*Msg, closed *Msg) {
	if strings.HasPrefix(closed.Watcher, "probe-") && closed.Note == "same conn" && ms[len(ms)-2].Kind != Compacted {
		j.violate(WatchCompact, nil, ms, "a watch from %d was not refused", ms[0].Start)
	}
}
