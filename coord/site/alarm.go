package site

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
)

// Alarm is something that an operator should know of a member. Exactly one of Change and Proof is set.
type Alarm struct {
	Box    coord.BoxID
	Name   string
	Change *suspicion.Change // this box came to suspect it, or does no more
	Proof  *coord.Finding    // it lied
}

// Suspects says whether the alarm begins (or is proof), or ends.
func (a *Alarm) Suspects() bool { return a.Proof != nil || a.Change.Level == suspicion.Suspect }

// onTrust tells of a member that is suspected now, or no more.
func (s *Site) onTrust(c *suspicion.Change) {
	if c.Level != suspicion.Suspect && c.From != suspicion.Suspect {
		return
	}
	name, ms := "", s.box.ep.Members
	if i := ms.Index(c.Box); i >= 0 {
		name = ms.List[i].Name
	}
	if c.Level == suspicion.Suspect {
		s.log.Warn("this box suspects a member; see `holdfast trust`", "box", c.Box, "name", name, "points", int(c.Points), "why", c.Why())
	} else {
		s.log.Info("this box does not suspect a member any more", "box", c.Box, "name", name)
	}
	if s.o.Alarm != nil {
		s.o.Alarm(&Alarm{Box: c.Box, Name: name, Change: c})
	}
}

// TrustView is what a box thinks of a member and what the site does about it.
type TrustView struct {
	Box    coord.BoxID     `json:"box"`
	Name   string          `json:"name"`
	Self   bool            `json:"self"`
	Level  suspicion.Level `json:"level"`
	Points float64         `json:"points"`
	Why    []TrustGround   `json:"why"` // most points first
	// FineIn is how long until the level is fine if nothing more happens; 0: it is.
	FineIn time.Duration `json:"fine_in"`
	// SuspectedBy are the members that told the site that they suspect it; Aside says that it does not lead because of that.
	SuspectedBy []coord.BoxID `json:"suspected_by"`
	Aside       bool          `json:"aside"`
}

// TrustGround is one reason.
type TrustGround struct {
	Reason suspicion.Reason `json:"reason"`
	Points float64          `json:"points"` // now
	Events uint64           `json:"events"` // since the box started
	Last   time.Time        `json:"last"`
	Detail string           `json:"detail"` // of the last event
}

// trustView is the scores of all members, by index; on the owner's goroutine.
func (s *Site) trustView(now int64, wall time.Time) []TrustView {
	b := s.box
	list := b.ep.Members.List
	out := make([]TrustView, len(list))
	for i := range list {
		out[i] = TrustView{
			Box: list[i].ID, Name: list[i].Name, Self: i == b.ep.Self, Aside: b.watch.aside&(1<<i) != 0,
			Why: []TrustGround{}, SuspectedBy: []coord.BoxID{},
		}
	}
	for _, st := range b.watch.w.Standings(now) {
		i := b.ep.Members.Index(st.Box)
		if i < 0 {
			continue
		}
		v := &out[i]
		v.Level, v.Points, v.FineIn = st.Level, st.Points, st.FineIn
		for _, g := range st.Grounds {
			v.Why = append(v.Why, TrustGround{g.Reason, g.Points, g.Events, wall.Add(time.Duration(g.Last - now)), g.Detail})
		}
	}
	for _, o := range b.st.Opinions() {
		for i := range out {
			if slices.Contains(o.Of, out[i].Box) {
				out[i].SuspectedBy = append(out[i].SuspectedBy, o.Box)
			}
		}
	}
	return out
}

// auditAlarm is what to say of audit logs that no head protects; empty: nothing.
func auditAlarm(v *View) (text string) {
	if v.Audit == nil {
		return ""
	}
	if v.Audit.Late {
		text = fmt.Sprintf(" Nothing protects this box's newest audit records: no head was signed for %v.", v.Audit.HeadAge.Round(time.Minute))
	}
	for i := range v.Members {
		if m := &v.Members[i]; slices.Contains(v.Audit.Overdue, m.ID) {
			text += fmt.Sprintf(" Look at %s: it orders no head of its audit log.", cmp.Or(m.Name, m.ID.String()))
		}
	}
	return text
}

// alarm is what an operator should look at: whom this box suspects, and whether it was run; empty: nothing.
func alarm(v *View, lacked time.Duration) (text string) {
	if lacked >= starvedAlarm {
		text = fmt.Sprintf(" This box lacks processor time: it was not run for %v of the last %d s.", lacked.Round(100*time.Millisecond), starvedSeconds)
	}
	for i := range v.Trust {
		t := &v.Trust[i]
		if t.Level != suspicion.Suspect || len(t.Why) == 0 {
			continue
		}
		if t.Self {
			text += " Look at this box: " + t.Why[0].Reason.String() + "."
			continue
		}
		text += " Look at " + t.Name + ": " + t.Why[0].Reason.String() + "."
	}
	return text
}
