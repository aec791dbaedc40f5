package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
)

const (
	// historyTime is how far back the small graphs go, and historySteps in how many steps.
	historyTime  = 30 * time.Minute
	historySteps = 40
	// historyEvery is how often they are asked for anew: a step is longer.
	historyEvery = 5 * time.Second
)

// overview is what the terminal shows of a box and its site. What the box does not tell stays empty, and is not shown.
type overview struct {
	Status api.Status         `json:"status"`
	Alarms []alarms.AlertView `json:"alarms,omitempty"`
	// Crashes are how the box's program ended when nobody had asked it to, newest first.
	Crashes []crash.Report `json:"crashes,omitempty"`
	Steps   []string       `json:"todo"`
	// Rate is messages a second, Latency the mean of a decision and CPU processors' seconds a second, from the box's history; oldest first.
	Rate    []remote.Point `json:"rate,omitempty"`
	Latency []remote.Point `json:"latency,omitempty"`
	CPU     []remote.Point `json:"cpu,omitempty"`
	// Phases are the seconds that 99 of 100 decisions took at most in the last five minutes, by phase; "" is the whole way.
	Phases []phase `json:"phases,omitempty"`
	// Now are further figures of now.
	Now map[string]float64 `json:"now,omitempty"`

	asked time.Time // when the history was asked for
}

type phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// figures are the queries of Now, by what they give.
var figures = []struct{ name, expr string }{
	{"memory_bytes", "process_resident_memory_bytes"},
	{"overhead_ratio", "rate(coord_peer_messages_sent_total[5m]) / clamp_min(rate(coord_messages_applied_total[5m]), 1)"},
	{"sent_bytes_per_second", `sum(rate(coord_network_io_bytes_total[1m]))`},
	{"log_bytes_per_second", "rate(coord_log_bytes_total[1m])"},
	{"syncs_per_second", "rate(coord_log_syncs_total[1m])"},
	{"disk_free_bytes", "system_filesystem_available_bytes"},
	{"disk_bytes", "system_filesystem_limit_bytes"},
}

// look reads the box; before, if not nil, is what it was a moment ago.
func look(ctx context.Context, b *remote.Box, before *overview) (*overview, error) {
	st, err := b.Status(ctx)
	if err != nil {
		return nil, err
	}
	o := &overview{Status: st, Steps: todo(&st)}
	if v, err := b.Alarms(ctx); err == nil { // not everybody may see them
		for i := range v.Alarms {
			if v.Alarms[i].State == alarms.Firing {
				o.Alarms = append(o.Alarms, v.Alarms[i])
			}
		}
	}
	if list, err := b.Crashes(ctx); err == nil { // nor these, and an older release has none
		o.Crashes = list
	}
	o.alarmed()
	now := time.Now()
	if before != nil && now.Sub(before.asked) < historyEvery {
		o.Rate, o.Latency, o.CPU, o.Phases, o.Now, o.asked = before.Rate, before.Latency, before.CPU, before.Phases, before.Now, before.asked
		o.space()
		return o, nil
	}
	o.asked = now
	o.past(ctx, b, now)
	o.space()
	return o, nil
}

// alarmed says where an alarm tells what to do, if nothing else is to be done.
func (o *overview) alarmed() {
	for i := range o.Alarms {
		if a := &o.Alarms[i]; len(o.Steps) == 0 && a.Calls() {
			o.Steps = append(o.Steps, fmt.Sprintf("an alarm fires: `holdfast alarm show %s` says what to do", plain(a.Name)))
		}
	}
}

// diskShort is the share of the disk below which an operator should make space; the rule HoldfastDiskNearlyFull has the same.
const diskShort = 0.1

// space says what to do when the disk of the box has little left, unless it has none, of which todo speaks.
func (o *overview) space() {
	if free, all := o.Now["disk_free_bytes"], o.Now["disk_bytes"]; free < diskShort*all && o.Status.Full == "" {
		o.Steps = append(o.Steps, fmt.Sprintf("make space on this box's disk, of which %s are left, or let it keep less: log.retain_size, history.keep_bytes, audit.keep_bytes", bytesOf(free)))
	}
}

// past fills in what the box's history has.
func (o *overview) past(ctx context.Context, b *remote.Box, now time.Time) {
	step := historyTime / historySteps
	for _, q := range []struct {
		to   *[]remote.Point
		expr string
	}{
		{&o.Rate, "rate(coord_messages_applied_total[2m])"},
		{&o.Latency, "rate(coord_decision_duration_seconds_sum{phase=\"\"}[2m]) / (rate(coord_decision_duration_seconds_count{phase=\"\"}[2m]) > 0)"},
		{&o.CPU, "rate(process_cpu_seconds_total[2m])"},
	} {
		list, err := b.QueryRange(ctx, q.expr, now.Add(-historyTime), now, step)
		if err != nil {
			return // a box without a history, or one that does not show it: the rest would be the same
		}
		if len(list) > 0 {
			*q.to = list[0].Points
		}
	}
	if list, err := b.Query(ctx, "histogram_quantile(0.99, sum by (phase, le) (rate(coord_decision_duration_seconds_bucket[5m]) or rate(coord_decision_phase_duration_seconds_bucket[5m])))"); err == nil {
		for _, s := range list {
			if v := s.Points[0].Value; v == v { // no decision gives NaN
				o.Phases = append(o.Phases, phase{s.Labels["phase"], v})
			}
		}
	}
	o.Now = map[string]float64{}
	for _, f := range figures {
		if list, err := b.Query(ctx, f.expr); err == nil && len(list) > 0 && list[0].Points[0].Value == list[0].Points[0].Value {
			o.Now[f.name] = list[0].Points[0].Value
		}
	}
}

// todo says what an operator does next; nothing is to be done when it is empty.
func todo(st *api.Status) (steps []string) {
	say := func(format string, a ...any) { steps = append(steps, fmt.Sprintf(format, a...)) }
	var away, silent, late []string
	up := 0
	for i := range st.Members {
		m := &st.Members[i]
		switch {
		case !m.Up:
			away = append(away, plain(m.Label()))
		case m.Twins > 0:
			say("%s is on two machines: switch one of them off, or `holdfast site replace` it", plain(m.Label()))
		case m.VotesFrom > st.Round:
			silent = append(silent, plain(m.Label()))
		case site.Late(st.Taken, st.Height, st.Blocks, m) > 0:
			late = append(late, plain(m.Label()))
		}
		if m.Up {
			up++
		}
	}
	switch {
	case st.Fault != "":
		say("look at this box's log for its disk or its files, start it again, or `holdfast site replace` it from another box")
	case st.Removed:
		say("ask a box that is a member; this one can be switched off")
	case st.Full != "":
		say("make space on this box's disk; nothing is lost, and it goes on by itself")
	case up < st.Quorum:
		say("bring back at least %d of %s: power, cable, switch; then the network between them", st.Quorum-up, strings.Join(away, ", "))
	case len(away) > 0:
		say("see what happened to %s; lost for good: `holdfast site join-token --replace`", strings.Join(away, ", "))
	case !st.Serving:
		say("wait some seconds; if it stays so look at who is late, and at the network")
	}
	if len(silent) > 0 {
		say("wait for %s: it does not know what it signed, and votes when that is safe", strings.Join(silent, ", "))
	}
	if len(late) > 0 {
		say("%s: behind the others, and of no help if one more fails; it catches up by itself, if not look at its disk and link", strings.Join(late, ", "))
	}
	if st.Counters.Evidence > 0 {
		say("a box was caught lying: `holdfast debug evidence`, and `holdfast trust`")
	}
	waits := 0
	for i := range st.Decisions {
		if st.Decisions[i].Word == "" {
			waits++
		}
	}
	if waits > 0 {
		say("decisions wait for this box's word: %d; `holdfast decision list`", waits)
	}
	return steps
}

// lag is how many blocks a member is behind the one that is furthest.
func lag(st *api.Status, m *site.MemberView) uint64 {
	top := st.Height
	for i := range st.Members {
		top = max(top, st.Members[i].Height)
	}
	return top - m.Height
}
