package console

import (
	"time"

	"github.com/holdfast-edge/holdfast/firmware/alarms"
)

// alarmPages are there if the box has alarms.
func (c *Console) alarmPages() []*page {
	if c.cfg.Alarms == nil {
		return nil
	}
	return []*page{{
		path: "/alarms", title: "Alarms", name: "alarms", group: "Watch", action: "alarm.read", live: true, data: c.alarmsData,
		acts:     []string{"alarm.silence", "alarm.unsilence", "alarm.test"},
		sections: []part{{"now", "bare"}, {"silences", "half"}, {"silence", "half bare"}, {"receivers", "half"}, {"rules", "half"}},
	}}
}

// alarmsPage is what the page of alarms shows.
type alarmsPage struct {
	*alarms.View
	Firing, Pending, Resolved []alarmCard
	Rules                     []alarms.RuleView
	For                       []string
}

type alarmCard struct {
	alarms.AlertView
	Mood, Summary, Meaning, Todo, Link string
	Since                              time.Time
}

// The annotations that rules have; docs/alarms.md says what each is for.
const (
	alarmSummary = "summary"
	alarmMeaning = "description"
	alarmTodo    = "action"
	alarmPage    = "console"
)

func (c *Console) alarmsData(*look) (any, error) {
	v := c.cfg.Alarms.View()
	d := &alarmsPage{View: v, Rules: c.cfg.Alarms.Rules(), For: []string{"1h", "2h", "8h", "1d", "7d"}}
	for i := range v.Alarms {
		a := alarmCard{AlertView: v.Alarms[i]}
		a.Since = a.AlertView.Since
		a.Mood = map[string]string{alarms.Critical: "bad", alarms.Warning: "warn"}[a.Severity]
		note := a.Annotations
		a.Summary, a.Meaning, a.Todo = first(note[alarmSummary], a.Name), note[alarmMeaning], note[alarmTodo]
		if l := note[alarmPage]; l != "" && localPath(l) == l {
			a.Link = l
		}
		switch a.State {
		case alarms.Firing:
			a.Since = a.Fired
			d.Firing = append(d.Firing, a)
		case alarms.Pending:
			d.Pending = append(d.Pending, a)
		case alarms.Resolved:
			a.Since = a.Resolved
			d.Resolved = append(d.Resolved, a)
		}
	}
	return d, nil
}
