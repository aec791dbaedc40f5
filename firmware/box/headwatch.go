package box

import (
	"context"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
)

const (
	// watchEvery is how often heads are looked at: seldom enough to cost nothing, often enough for a dashboard.
	watchEvery = 30 * time.Second
	// headLate is after how long without a head for new records of its own a box raises an alarm: five times headEvery.
	headLate = 5 * time.Minute
	// headLife is how long a box orders no head when nothing happens; then it records that, so that its silence means something.
	headLife = time.Hour
	// headOverdue is after how long without a new head another box, which is here, is said to order none: it missed two.
	headOverdue = 2*headLife + 3*headLate
)

// headWatch tells a box that is quiet from one whose audit log nothing protects any more.
type headWatch struct {
	// mark is how many records there were when the oldest that no head covers was first seen, since when.
	mark   int64
	since  time.Time
	told   bool
	others map[coord.BoxID]*otherHead
}

type otherHead struct {
	size    int64
	changed time.Time
	late    bool
}

// seen is what the watch looks at: this box's log, and the members.
type seen struct {
	records int64
	top     func(coord.BoxID) audit.Top
	view    *site.View
}

// headAlarm is what came about: Box orders no head, or does again.
type headAlarm struct {
	box  coord.BoxID
	late bool
}

// look says how heads are now and what changed since the last look.
func (w *headWatch) look(now time.Time, s *seen) (*site.AuditView, []headAlarm) {
	v := &site.AuditView{Records: s.records, Covered: s.top(s.view.ID).Size}
	var alarms []headAlarm
	switch {
	case v.Covered >= s.records:
		w.mark, w.since = 0, time.Time{}
	case w.since.IsZero() || v.Covered >= w.mark:
		w.mark, w.since = s.records, now
	}
	if !w.since.IsZero() {
		v.HeadAge = now.Sub(w.since)
	}
	v.Late = v.HeadAge >= headLate
	if v.Late != w.told {
		w.told = v.Late
		alarms = append(alarms, headAlarm{s.view.ID, v.Late})
	}
	others := map[coord.BoxID]*otherHead{}
	for i := range s.view.Members {
		m := &s.view.Members[i]
		if m.Self {
			continue
		}
		o, size := w.others[m.ID], s.top(m.ID).Size
		if o == nil {
			o = &otherHead{size: size, changed: now}
		}
		others[m.ID] = o
		if !m.Up || !s.view.Serving || size != o.size {
			// Who is away, or a site that orders nothing, has an excuse.
			o.size, o.changed = size, now
		}
		late := now.Sub(o.changed) >= headOverdue
		if late != o.late {
			o.late = late
			alarms = append(alarms, headAlarm{m.ID, late})
		}
		if late {
			v.Overdue = append(v.Overdue, m.ID)
		}
	}
	w.others = others
	return v, alarms
}

// watch looks until ctx ends.
func (l *ledger) watch(ctx context.Context, s *site.Site) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	w := new(headWatch)
	life, size := l.now(), int64(-1)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_, records, _ := l.disk.Span()
		at, view := s.State(), s.View()
		state, alarms := w.look(l.now(), &seen{records, at.AuditTop, view})
		s.TellAudit(state)
		for _, a := range alarms {
			l.alarm(ctx, view, state, a)
		}
		switch {
		case state.Covered != size:
			life, size = l.now(), state.Covered
		case state.Covered == records && l.now().Sub(life) >= headLife:
			life = l.now()
			l.say(ctx, audit.Record{Action: "audit.alive", Outcome: audit.Allowed, Reason: "nothing happened in the last hour"})
		}
	}
}

func (l *ledger) alarm(ctx context.Context, v *site.View, now *site.AuditView, a headAlarm) {
	if a.box == v.ID {
		if a.late {
			l.log.Error("nothing protects the newest audit records: the site signs no head of this box's log",
				"records", now.Records, "covered", now.Covered, "age", now.HeadAge.Round(time.Second))
		} else {
			l.log.Info("the site signs this box's audit log again", "records", now.Records)
		}
		return
	}
	r := audit.Record{Action: "audit.overdue", Resource: "box:" + a.box.String(), Outcome: audit.Allowed}
	if a.late {
		l.log.Warn("a box orders no head of its audit log: its records may be lost or changed", "member", a.box, "for", headOverdue)
		r.Reason = "it has ordered no head of its audit log for " + headOverdue.String()
	} else {
		l.log.Info("a box orders heads of its audit log again", "member", a.box)
		r.Action = "audit.resumed"
	}
	l.say(ctx, r)
}

// say records what the box noticed by itself. When that cannot be, the log says so.
func (l *ledger) say(ctx context.Context, r audit.Record) {
	ctx, cancel := context.WithTimeout(ctx, noteMax)
	defer cancel()
	r.Principal = "box:" + l.box.String()
	if err := l.Record(ctx, r); err != nil && ctx.Err() == nil {
		l.log.Error("an action was not recorded", "action", r.Action, "err", err)
	}
}
