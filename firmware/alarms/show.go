package alarms

import (
	"cmp"
	"fmt"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// View is a box's alarms as they are shown: GET /api/v1/alarms.
type View struct {
	Site  string    `json:"site"`
	Box   string    `json:"box"`
	Taken time.Time `json:"taken"` // when rules were evaluated last; zero: not yet
	// Speaks says that this box is the one that tells people of what concerns the whole site.
	Speaks bool   `json:"speaks"`
	Worst  string `json:"worst"` // severity of the worst that fires and is not silenced; empty: none does
	// Alarms are the worst first; those that are over stay for a quarter of an hour.
	Alarms    []AlertView    `json:"alarms"`
	Silences  []Silence      `json:"silences"`
	Receivers []ReceiverView `json:"receivers"`
	// Faults are rules that could not be evaluated, and why.
	Faults  map[string]string `json:"faults,omitempty"`
	Unsaved string            `json:"unsaved,omitempty"` // why alarms are not kept over a restart
}

// AlertView is an alarm with what silences it.
type AlertView struct {
	Alert
	Name     string `json:"name"`
	Severity string `json:"severity"`
	Silenced string `json:"silenced,omitempty"` // id of the silence
	// Over is when an alarm that is ending is over, unless it comes back.
	Over time.Time `json:"over,omitzero"`
}

// Calls says that somebody has to do something: it fires, is not ending, nobody has silenced it, and it is no mere word.
func (a *AlertView) Calls() bool {
	return a.State == Firing && !a.Ending() && a.Silenced == "" && a.Severity != Info
}

// ReceiverView is a receiver without what may be secret.
type ReceiverView struct {
	Name     string    `json:"name"`
	Severity string    `json:"severity"`
	Waiting  int       `json:"waiting"`
	Sent     uint64    `json:"sent"`
	Failed   uint64    `json:"failed"` // tries
	Dropped  uint64    `json:"dropped"`
	Last     time.Time `json:"last,omitzero"`
	Error    string    `json:"error,omitempty"` // of the last try; empty: it worked
}

// RuleView is a rule with what it is in.
type RuleView struct {
	Rule
	State State  `json:"state"`
	Fault string `json:"fault,omitempty"`
}

// View is the alarms now; the caller owns it.
func (s *Service) View() *View {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &View{
		Site: s.c.Site, Box: s.c.Box, Taken: s.asked, Speaks: s.speaking, Worst: s.Worst(),
		Alarms: []AlertView{}, Silences: append([]Silence{}, s.silences.list...), Receivers: []ReceiverView{}, Faults: map[string]string{},
	}
	keep := map[string]time.Duration{}
	for _, r := range s.c.Rules {
		keep[r.key()] = r.KeepFiring
	}
	for _, a := range s.engine.Alerts() {
		x := AlertView{Alert: *a.clone(), Name: a.Labels[LabelName], Severity: a.Severity()}
		if c := s.silences.Of(a.Labels, now); c != nil {
			x.Silenced = c.ID
		}
		if a.Ending() {
			x.Over = a.Away.Add(keep[a.Rule])
		}
		v.Alarms = append(v.Alarms, x)
	}
	for _, p := range s.boxes {
		v.Receivers = append(v.Receivers, ReceiverView{
			Name: p.target.shown(), Severity: cmp.Or(p.target.Severity, Info), Waiting: len(p.outbox.list),
			Sent: p.sent, Failed: p.failed, Dropped: p.outbox.dropped, Last: p.last, Error: p.err,
		})
	}
	maps.Copy(v.Faults, s.engine.faults)
	if s.unsaved != nil {
		v.Unsaved = s.unsaved.Error()
	}
	return v
}

// Rules are all rules with the worst that they are in, as they are evaluated.
func (s *Service) Rules() []RuleView {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]RuleView, 0, len(s.c.Rules))
	for _, r := range s.c.Rules {
		v := RuleView{Rule: *r, State: Inactive, Fault: s.engine.faults[r.key()]}
		for _, a := range s.engine.alerts[r.key()] {
			if a.State == Firing || v.State != Firing && a.State != Resolved {
				v.State = a.State
			}
		}
		list = append(list, v)
	}
	return list
}

// SilenceList is GET /api/v1/alarms/silences.
type SilenceList struct {
	Silences []Silence `json:"silences"`
}

// Silences are those in force, the newest first.
func (s *Service) Silences() *SilenceList {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silences.Prune(time.Now())
	return &SilenceList{append([]Silence{}, s.silences.list...)}
}

// collector shows alarms as metrics, so that rules can be about them too.
type collector struct {
	s                                              *Service
	alarms, waiting, sent, failed, dropped, faults *prometheus.Desc
}

// Collector gives metrics of the alarms and their receivers.
func (s *Service) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("holdfast_alarm_"+name, help, labels, nil)
	}
	return &collector{
		s:       s,
		alarms:  desc("alarms", "Alarms of this box by severity and state; those that are silenced too.", "severity", "state"),
		waiting: desc("outbox_notices", "Notices that wait for a receiver.", "receiver"),
		sent:    desc("notices_sent_total", "Notices that a receiver took.", "receiver"),
		failed:  desc("send_failures_total", "Tries to reach a receiver that failed.", "receiver"),
		dropped: desc("notices_dropped_total", "Notices that a receiver refused, or that were given up.", "receiver"),
		faults:  desc("rule_failures", "Rules that could not be evaluated the last time.", nil...),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	v := c.s.View()
	gauge := func(d *prometheus.Desc, k prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, k, value, labels...)
	}
	count := map[string]map[State]int{}
	for i := range v.Alarms {
		a := &v.Alarms[i]
		if count[a.Severity] == nil {
			count[a.Severity] = map[State]int{}
		}
		count[a.Severity][a.State]++
	}
	for _, severity := range []string{Critical, Warning, Info} {
		for _, state := range []State{Pending, Firing} {
			gauge(c.alarms, prometheus.GaugeValue, float64(count[severity][state]), severity, string(state))
		}
	}
	for i := range v.Receivers {
		r := &v.Receivers[i]
		name := fmt.Sprintf("%d %s", i, r.Name)
		gauge(c.waiting, prometheus.GaugeValue, float64(r.Waiting), name)
		gauge(c.sent, prometheus.CounterValue, float64(r.Sent), name)
		gauge(c.failed, prometheus.CounterValue, float64(r.Failed), name)
		gauge(c.dropped, prometheus.CounterValue, float64(r.Dropped), name)
	}
	gauge(c.faults, prometheus.GaugeValue, float64(len(v.Faults)))
}
