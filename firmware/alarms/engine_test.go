package alarms

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

var t0 = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)

func rule(name string, hold, keep time.Duration, scope string) *Rule {
	return &Rule{
		Name: name, Group: "g", Expr: "x", For: hold, KeepFiring: keep,
		Labels:      map[string]string{LabelSeverity: Warning, LabelScope: scope},
		Annotations: map[string]string{annotationSummary: "{{ $labels.member }} is at {{ $value | humanizePercentage }}"},
	}
}

func engine(t *testing.T, rules ...*Rule) *Engine {
	t.Helper()
	e, err := NewEngine(rules, "cafe", "box-1")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func series(member string, v float64) []Sample {
	return []Sample{{Labels: map[string]string{"__name__": "x", "member": member}, Value: v}}
}

func states(e *Engine) (list []State) {
	for _, a := range e.Alerts() {
		list = append(list, a.State)
	}
	return list
}

// A script of one rule with for = 1m and keep_firing_for = 2m: what the expression gives at each time, and the state after it.
func TestAnAlarmFiresWhenItHasLastedAndIsOverWhenItHasBeenAwayForLongEnough(t *testing.T) {
	r := rule("Hot", time.Minute, 2*time.Minute, ScopeBox)
	e := engine(t, r)
	for _, step := range []struct {
		at    time.Duration
		holds bool
		want  []State
	}{
		{0, true, []State{Pending}},
		{30 * time.Second, false, nil}, // pending that goes away leaves nothing
		{60 * time.Second, true, []State{Pending}},
		{119 * time.Second, true, []State{Pending}},
		{120 * time.Second, true, []State{Firing}},
		{135 * time.Second, false, []State{Firing}}, // away, not for long enough
		{200 * time.Second, true, []State{Firing}},  // and back: the wait begins anew
		{210 * time.Second, false, []State{Firing}},
		{329 * time.Second, false, []State{Firing}},
		{330 * time.Second, false, []State{Resolved}},
		{330*time.Second + resolvedKeep, false, []State{Resolved}},
		{331*time.Second + resolvedKeep, false, nil},
	} {
		var answer []Sample
		if step.holds {
			answer = series("box-2", 0.5)
		}
		e.Evaluate(r, answer, nil, t0.Add(step.at))
		if got := states(e); !slices.Equal(got, step.want) {
			t.Fatalf("at %v: %v, want %v", step.at, got, step.want)
		}
	}
}

func TestWhatIsSoComesBeforeWhatIsEnding(t *testing.T) {
	bad, hot := rule("Bad", 0, time.Hour, ScopeBox), rule("Hot", 0, time.Hour, ScopeBox)
	bad.Labels[LabelSeverity] = Critical
	e := engine(t, bad, hot)
	e.Evaluate(bad, series("a", 1), nil, t0)
	e.Evaluate(bad, nil, nil, t0.Add(time.Minute))
	e.Evaluate(hot, series("a", 1), nil, t0.Add(time.Minute))
	if list := e.Alerts(); len(list) != 2 || list[0].Labels[LabelName] != "Hot" || !list[1].Ending() {
		t.Errorf("%+v", list)
	}
}

func TestLabelsOfAnAlarmSayWhoseItIs(t *testing.T) {
	local, whole := rule("Local", 0, 0, ScopeBox), rule("Whole", 0, 0, ScopeSite)
	a, b := engine(t, local, whole), engine(t, local, whole)
	b.box = "box-2"
	for _, e := range []*Engine{a, b} {
		e.Evaluate(local, series("m", 0.25), nil, t0)
		e.Evaluate(whole, series("m", 0.25), nil, t0)
	}
	prints := map[string]map[string]bool{}
	for _, e := range []*Engine{a, b} {
		for _, x := range e.Alerts() {
			name := x.Labels[LabelName]
			if prints[name] == nil {
				prints[name] = map[string]bool{}
			}
			prints[name][x.Fingerprint] = true
			if x.Labels["__name__"] != "" || x.Labels[LabelSite] != "cafe" || x.Annotations[annotationSummary] != "m is at 25%" {
				t.Errorf("%v %v", x.Labels, x.Annotations)
			}
		}
	}
	if len(prints["Local"]) != 2 || len(prints["Whole"]) != 1 {
		t.Errorf("fingerprints %v: boxes must agree on the site's alarms, and only on these", prints)
	}
}

func TestARuleThatCannotBeEvaluatedLeavesItsAlarmsAndSaysWhy(t *testing.T) {
	r := rule("Hot", 0, 0, ScopeBox)
	e := engine(t, r)
	e.Evaluate(r, series("a", 1), nil, t0)
	e.Evaluate(r, nil, errors.New("no\nhistory"), t0.Add(time.Minute))
	if got := states(e); !slices.Equal(got, []State{Firing}) || e.faults[r.key()] != "no history" {
		t.Errorf("%v, fault %q", got, e.faults[r.key()])
	}
	many := make([]Sample, alertsMax+1)
	e.Evaluate(r, many, nil, t0.Add(2*time.Minute))
	if !strings.Contains(e.faults[r.key()], "aggregate") {
		t.Errorf("%d series: fault %q", len(many), e.faults[r.key()])
	}
	e.Evaluate(r, append(series("a", 1), series("a", 2)...), nil, t0.Add(3*time.Minute))
	if !strings.Contains(e.faults[r.key()], "same labels") {
		t.Errorf("two alike: fault %q", e.faults[r.key()])
	}
	e.Evaluate(r, nil, nil, t0.Add(4*time.Minute))
	if got := states(e); !slices.Equal(got, []State{Resolved}) || e.faults[r.key()] != "" {
		t.Errorf("%v, fault %q", got, e.faults[r.key()])
	}
}

func TestARestartDoesNotMakeAnAlarmFireSoonerNorBeOver(t *testing.T) {
	r, slow := rule("Hot", 0, 0, ScopeBox), rule("Slow", time.Minute, 0, ScopeBox)
	e := engine(t, r, slow)
	e.Evaluate(r, series("a", 1), nil, t0)
	e.Evaluate(slow, series("a", 1), nil, t0)
	gone := rule("Gone", 0, 0, ScopeBox)
	list := append(e.Alerts(), &Alert{Rule: gone.key(), State: Firing, Labels: map[string]string{"a": "b"}})
	// The box was off for an hour, and its clock begins in 1970.
	for _, start := range []time.Time{t0.Add(time.Hour), time.Unix(30, 0)} {
		again := engine(t, r, slow)
		again.Restore(list, t0.Add(30*time.Second), start)
		again.Evaluate(slow, series("a", 1), nil, start.Add(20*time.Second))
		again.Evaluate(r, nil, nil, start.Add(20*time.Second)) // no samples yet
		if got := states(again); !slices.Equal(got, []State{Firing, Pending}) {
			t.Fatalf("%v", got)
		}
		again.Evaluate(slow, series("a", 1), nil, start.Add(31*time.Second))
		again.Evaluate(r, nil, nil, start.Add(settleTime))
		if got := states(again); !slices.Equal(got, []State{Firing, Resolved}) {
			t.Errorf("%v", got)
		}
	}
}

func view(self int, up ...bool) *site.View {
	v := &site.View{N: len(up)}
	for i, u := range up {
		v.Members = append(v.Members, site.MemberView{Member: coord.Member{}, Index: i, Self: i == self, Up: u})
	}
	return v
}

func TestTheFirstBoxThatIsThereSpeaksForItsSite(t *testing.T) {
	for _, tc := range []struct {
		v    *site.View
		want bool
	}{
		{view(0, true, true, true, true), true},
		{view(1, true, true, true, true), false},
		{view(1, false, true, true, true), true},
		{view(3, false, false, false, true), true}, // cut off from all: better twice than not at all
		{view(-1, true, true), false},
		{&site.View{}, true},
	} {
		if got := Speaks(tc.v); got != tc.want {
			t.Errorf("%+v: %v", tc.v.Members, got)
		}
	}
}

// What the whole site sees is told by one box, and by another when that one goes away before it could.
func TestWhatTheBoxThatSpeaksCouldNotSayAnotherSays(t *testing.T) {
	never := func(*Alert) bool { return false }
	for _, tc := range []struct {
		name    string
		speaks  time.Duration // from when this box speaks
		told    int
		another State
	}{
		{"it spoke from the start", 0, 1, Firing},
		{"it took over in time", 30 * time.Second, 1, Firing},
		{"it took over much later", time.Hour, 0, Firing},
	} {
		a := &Alert{Fingerprint: "f", State: Firing, Labels: map[string]string{LabelScope: ScopeSite}}
		local := &Alert{Fingerprint: "l", State: Firing, Labels: map[string]string{LabelScope: ScopeBox}}
		site, box := 0, 0
		for at := time.Duration(0); at < 2*time.Hour; at += 15 * time.Second {
			for _, n := range due([]*Alert{a, local}, never, at >= tc.speaks, 0, t0.Add(at)) {
				if n.Alert.ofSite() {
					site++
				} else {
					box++
				}
			}
		}
		if site != tc.told || box != 1 {
			t.Errorf("%s: the site's alarm was told %d times and the box's own %d times", tc.name, site, box)
		}
	}
}

func TestWhatIsSilencedIsNotToldAndIsToldWhenTheSilenceEnds(t *testing.T) {
	a := &Alert{Fingerprint: "f", State: Firing, Labels: map[string]string{LabelName: "Hot"}}
	silent := true
	try := func(at time.Duration) []Notice {
		return due([]*Alert{a}, func(*Alert) bool { return silent }, true, time.Hour, t0.Add(at))
	}
	if got := try(0); len(got) != 0 {
		t.Errorf("a silenced alarm was told: %v", got)
	}
	silent = false
	if got := try(time.Minute); len(got) != 1 || got[0].Status != Firing {
		t.Errorf("after the silence: %v", got)
	}
	if got := try(2 * time.Minute); len(got) != 0 {
		t.Errorf("told twice: %v", got)
	}
	if got := try(62 * time.Minute); len(got) != 1 {
		t.Errorf("not repeated after an hour: %v", got)
	}
	silent, a.State = true, Resolved
	if got := try(63 * time.Minute); len(got) != 1 || got[0].Status != Resolved {
		t.Errorf("who was told that it fires was not told that it is over: %v", got)
	}
	if got := try(64 * time.Minute); len(got) != 0 {
		t.Errorf("resolved twice: %v", got)
	}
}

func TestAlertmanagerIsToldAgainOfWhatFires(t *testing.T) {
	h := heard{}
	a := &Alert{Fingerprint: "f", State: Firing, Labels: map[string]string{LabelName: "Hot"}}
	silent := false
	try := func(at time.Duration, idle bool) int {
		return len(h.news([]*Alert{a}, func(*Alert) bool { return silent }, idle, t0.Add(at)))
	}
	for _, step := range []struct {
		at    time.Duration
		idle  bool
		state State
		quiet bool
		want  int
	}{
		{0, true, Firing, false, 1},
		{15 * time.Second, true, Firing, false, 0},
		{70 * time.Second, false, Firing, false, 0}, // what waits says it already
		{75 * time.Second, true, Firing, false, 1},
		{80 * time.Second, true, Firing, true, 0},
		{85 * time.Second, true, Firing, false, 1}, // at once when the silence ends
		{90 * time.Second, true, Resolved, false, 1},
		{95 * time.Second, true, Resolved, false, 0},
		{99 * time.Second, true, Firing, false, 1},
	} {
		a.State, silent = step.state, step.quiet
		if got := try(step.at, step.idle); got != step.want {
			t.Errorf("at %v: %d notices, want %d", step.at, got, step.want)
		}
	}
}

func TestTheOutboxKeepsTheLastWordOnEachAlarm(t *testing.T) {
	var o Outbox
	put := func(fp string, s State, at time.Duration) {
		o.Put(Notice{At: t0.Add(at), Status: s, Alert: &Alert{Fingerprint: fp}})
	}
	put("a", Firing, 0)
	put("a", Resolved, 1)
	for i := range outboxMax - 1 {
		put(strings.Repeat("x", i+1), Firing, 2)
	}
	if len(o.list) != outboxMax || o.dropped != 1 || o.list[0].Status != Resolved {
		t.Errorf("%d notices, %d dropped, first %v", len(o.list), o.dropped, o.list[0].Status)
	}
	put("b", Firing, 3)
	if len(o.list) != outboxMax || o.list[0].Alert.Fingerprint != "x" {
		t.Errorf("with nothing superseded the oldest goes: first %v", o.list[0].Alert.Fingerprint)
	}
	next := o.Next(3, t0)
	put("c", Firing, 4) // drops one that is on its way
	o.Done(next)
	if len(o.list) != outboxMax-2 {
		t.Errorf("%d left after 3 were told, one of which had gone", len(o.list))
	}
	if got := o.Next(10, t0.Add(outboxAge+time.Hour)); len(got) != 0 {
		t.Errorf("%d notices are told after days", len(got))
	}
}

func TestABucketLetsABurstThroughAndThenItsRate(t *testing.T) {
	b := bucket{burst: 3, period: time.Second}
	var waits []time.Duration
	for range 5 {
		waits = append(waits, b.wait(t0))
	}
	if want := []time.Duration{0, 0, 0, time.Second, 2 * time.Second}; !slices.Equal(waits, want) {
		t.Errorf("%v, want %v", waits, want)
	}
	if d := b.wait(t0.Add(time.Minute)); d != 0 {
		t.Errorf("full again and waits %v", d)
	}
}
