package alarms

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// State is what an alarm is in.
type State string

// The states. An alarm that does not exist is inactive, and so is a rule that has none.
const (
	Inactive State = "inactive"
	Pending  State = "pending"  // its expression holds, not yet for long enough
	Firing   State = "firing"   // it has held for long enough, or is away and not yet for long enough
	Resolved State = "resolved" // it was firing and is over; shown for resolvedKeep
)

const (
	// alertsMax bounds the alarms of one rule: a rule that has more tells nobody anything.
	alertsMax = 256
	// resolvedKeep is how long an alarm that is over is shown and told to Alertmanager, as Prometheus does.
	resolvedKeep = 15 * time.Minute
	// settleTime is how long after a start nothing is taken to be over that was firing before: links come up, and rates need samples.
	settleTime = 45 * time.Second
)

// Sample is one series of an instant query's answer.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Alert is one alarm: a rule, for one set of labels.
type Alert struct {
	// Fingerprint is that of the labels, as Alertmanager computes it.
	Fingerprint string            `json:"fingerprint"`
	Rule        string            `json:"rule"` // key of the rule
	State       State             `json:"state"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Value       float64           `json:"value"`
	// Since is when the expression began to hold, Fired when that had lasted, Away since when it does not hold while the alarm still
	// fires, Resolved when it was over.
	Since    time.Time `json:"since"`
	Fired    time.Time `json:"fired,omitzero"`
	Away     time.Time `json:"away,omitzero"`
	Resolved time.Time `json:"resolved,omitzero"`
	// Told is when people were last told that it fires, zero while they need not know; Owed since when they are to be told something.
	Told time.Time `json:"told,omitzero"`
	Owed time.Time `json:"owed,omitzero"`
}

// Severity is critical, warning or info; what a rule of the site's own calls otherwise is a warning.
func (a *Alert) Severity() string {
	switch s := a.Labels[LabelSeverity]; s {
	case Critical, Info:
		return s
	}
	return Warning
}

// Ending says that it still fires, and what it is about is not so any more: it is over when that has lasted.
func (a *Alert) Ending() bool { return a.State == Firing && !a.Away.IsZero() }

func (a *Alert) ofSite() bool { return a.Labels[LabelScope] == ScopeSite }

// clone is a copy that shares nothing that changes.
func (a *Alert) clone() *Alert {
	c := *a
	c.Labels, c.Annotations = maps.Clone(a.Labels), maps.Clone(a.Annotations)
	return &c
}

// Engine is the states of all alarms. It is pure, and used by one goroutine at a time.
type Engine struct {
	rules []*Rule
	// site and box are labels that every alarm has: site on all, box on those that are about this box.
	site, box string
	alerts    map[string]map[string]*Alert // by rule and fingerprint
	faults    map[string]string            // why a rule could not be evaluated, by rule
	settled   time.Time                    // nothing restored is over before
}

// NewEngine makes an engine without alarms. Two rules must not have the same name, group and severity: ErrRules.
func NewEngine(rules []*Rule, site, box string) (*Engine, error) {
	e := &Engine{rules: rules, site: site, box: box, alerts: map[string]map[string]*Alert{}, faults: map[string]string{}}
	seen := map[string]bool{}
	for _, r := range rules {
		if k := r.key(); seen[k] {
			return nil, fmt.Errorf("alarms: %w: two rules are called %q in group %q with severity %q; give one another name", ErrRules, r.Name, r.Group, r.Severity())
		} else {
			seen[k] = true
		}
	}
	return e, nil
}

// key names a rule in what is kept over a restart.
func (r *Rule) key() string { return r.Group + "/" + r.Name + "/" + r.Severity() }

// Restore takes the alarms that an engine had when it was asked last, at saved. The time since then does not count: nothing was evaluated, and
// the clock may be another. Alarms of rules that are gone are forgotten.
func (e *Engine) Restore(list []*Alert, saved, now time.Time) {
	known := map[string]bool{}
	for _, r := range e.rules {
		known[r.key()] = true
	}
	shift := func(t *time.Time) {
		if !t.IsZero() {
			*t = now.Add(-max(saved.Sub(*t), 0))
		}
	}
	for _, a := range list {
		if !known[a.Rule] || len(e.alerts[a.Rule]) >= alertsMax || len(a.Labels) == 0 {
			continue
		}
		if a = a.clone(); a.State == Pending {
			shift(&a.Since)
		}
		shift(&a.Away)
		shift(&a.Resolved)
		shift(&a.Owed)
		a.Fingerprint = fingerprint(a.Labels)
		e.of(a.Rule)[a.Fingerprint] = a
	}
	e.settled = now.Add(settleTime)
}

func (e *Engine) of(rule string) map[string]*Alert {
	if e.alerts[rule] == nil {
		e.alerts[rule] = map[string]*Alert{}
	}
	return e.alerts[rule]
}

// Evaluate takes the answer to a rule's expression at a time, or why there is none: then its alarms stay as they are.
func (e *Engine) Evaluate(r *Rule, answer []Sample, err error, now time.Time) {
	key := r.key()
	seen := make(map[string]*Alert, len(answer))
	if err == nil && len(answer) > alertsMax {
		err = fmt.Errorf("it gives %d alarms, and %d are the most; aggregate in its expression", len(answer), alertsMax)
	}
	for i := 0; err == nil && i < len(answer); i++ {
		a := e.alertOf(r, &answer[i])
		if seen[a.Fingerprint] != nil {
			err = fmt.Errorf("two of its alarms have the same labels %v; do not take labels away in its labels", a.Labels)
		}
		seen[a.Fingerprint] = a
	}
	if err != nil {
		e.faults[key] = strings.Join(strings.Fields(err.Error()), " ")
		return
	}
	delete(e.faults, key)
	list := e.of(key)
	for fp, now2 := range seen {
		a := list[fp]
		if a == nil || a.State == Resolved {
			told := time.Time{}
			if a != nil {
				told = a.Told // it comes back before anybody was told that it was over
			}
			a = now2
			a.State, a.Since, a.Told = Pending, now, told
			list[fp] = a
		}
		a.Value, a.Annotations, a.Away = now2.Value, now2.Annotations, time.Time{}
		if a.State == Pending && now.Sub(a.Since) >= r.For {
			a.State, a.Fired = Firing, now
		}
	}
	for fp, a := range list {
		switch {
		case seen[fp] != nil:
		case a.State == Pending && a.Told.IsZero():
			delete(list, fp)
		case a.State == Pending:
			a.State, a.Resolved = Resolved, now
		case a.State == Firing:
			if a.Away.IsZero() {
				a.Away = now
			}
			if now.Sub(a.Away) >= r.KeepFiring && !now.Before(e.settled) {
				a.State, a.Resolved = Resolved, now
			}
		case now.Sub(a.Resolved) > resolvedKeep:
			delete(list, fp)
		}
	}
}

// alertOf is the alarm of a rule for a series, with no state yet.
func (e *Engine) alertOf(r *Rule, s *Sample) *Alert {
	a := &Alert{Rule: r.key(), Value: s.Value, Labels: map[string]string{}, Annotations: map[string]string{}}
	seen := maps.Clone(s.Labels)
	if seen == nil {
		seen = map[string]string{}
	}
	delete(seen, model.MetricNameLabel)
	maps.Copy(a.Labels, seen)
	for n, v := range r.Labels {
		a.Labels[n] = expand(v, seen, s.Value)
	}
	a.Labels[LabelName], a.Labels[LabelSite] = r.Name, e.site
	if !r.ofSite() {
		a.Labels[LabelBox] = e.box
	}
	maps.DeleteFunc(a.Labels, func(_, v string) bool { return v == "" })
	for n, v := range r.Annotations {
		a.Annotations[n] = expand(v, a.Labels, s.Value)
	}
	a.Fingerprint = fingerprint(a.Labels)
	return a
}

func fingerprint(labels map[string]string) string {
	set := make(model.LabelSet, len(labels))
	for n, v := range labels {
		set[model.LabelName(n)] = model.LabelValue(v)
	}
	return set.Fingerprint().String()
}

// Alerts are all alarms: the worst first, then the longest. They are the engine's own.
func (e *Engine) Alerts() []*Alert {
	var list []*Alert
	for _, of := range e.alerts {
		list = slices.AppendSeq(list, maps.Values(of))
	}
	slices.SortFunc(list, func(a, b *Alert) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if d := a.Since.Compare(b.Since); d != 0 {
			return d
		}
		return strings.Compare(a.Fingerprint+a.Rule, b.Fingerprint+b.Rule)
	})
	return list
}

// rank orders alarms: firing before ending before pending before resolved, the severe first.
func rank(a *Alert) int {
	state := map[State]int{Firing: 0, Pending: 6, Resolved: 9}[a.State]
	if a.Ending() {
		state = 3
	}
	return state + severities[a.Severity()]
}

// severities are in the order of what to look at first.
var severities = map[string]int{Critical: 0, Warning: 1, Info: 2}

// Worst is the severity of the worst alarm that fires and is not silent; empty: none does.
func worst(list []*Alert, silent func(*Alert) bool) string {
	s := ""
	for _, a := range list {
		if a.State == Firing && !silent(a) && (s == "" || severities[a.Severity()] < severities[s]) {
			s = a.Severity()
		}
	}
	return s
}
