package anomalies

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/anomaly"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/prometheus/client_golang/prometheus"
)

// info are the series of a small box.
var (
	gauge   = &history.Info{ID: 1, Name: "coord_member_round_trip_seconds", Labels: map[string]string{"member": "b", "site": "s"}}
	counter = &history.Info{ID: 2, Name: "coord_batches_total", Counter: true}
	sum     = &history.Info{ID: 3, Name: "coord_decision_duration_seconds_sum", Counter: true, Labels: map[string]string{"phase": "order"}}
	count   = &history.Info{ID: 4, Name: "coord_decision_duration_seconds_count", Counter: true, Labels: map[string]string{"phase": "order"}}
	bucket  = &history.Info{ID: 5, Name: "coord_decision_duration_seconds_bucket", Counter: true, Labels: map[string]string{"le": "1"}}
	other   = &history.Info{ID: 6, Name: "go_goroutines"}
	itself  = &history.Info{ID: 7, Name: "coord_anomaly_score"}
)

func gather(t *testing.T, w *Watcher) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(w); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var name strings.Builder
			name.WriteString(f.GetName())
			for _, l := range m.GetLabel() {
				name.WriteString(" " + l.GetValue())
			}
			values[name.String()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func TestASlowBoxIsAnEventOfTheSeriesThatShowIt(t *testing.T) {
	told := 0
	w, r := New(func(next time.Duration) {
		if told++; next < anomaly.Step {
			t.Errorf("an alarm speaks for %v, and the next comes after %v", next, anomaly.Step)
		}
	}), rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	batches, took, decisions := 1e6, 0.0, 0.0
	run := func(scrapes int, slower float64) {
		for range scrapes {
			at = at.Add(5 * time.Second)
			n := 50 + float64(r.IntN(10))
			batches, decisions, took = batches+n, decisions+n, took+n*slower*(0.005+0.001*r.Float64())
			w.Observe(at, []history.Scraped{
				{Info: gauge, Value: 0.002 + 0.0002*r.NormFloat64()},
				{Info: counter, Value: batches},
				{Info: sum, Value: took},
				{Info: count, Value: decisions},
				{Info: bucket, Value: decisions},
				{Info: other, Value: r.Float64()},
				{Info: itself, Value: r.Float64()},
			})
		}
	}
	const day = 24 * 3600 / 5
	run(day, 1)
	if values := gather(t, w); values["coord_anomalies_total"] != 0 || values["coord_anomaly_points_dropped_total"] != 0 {
		t.Fatalf("a quiet day: %v", values)
	}
	if told != 0 {
		t.Errorf("%d alarms on a quiet day", told)
	}
	began := at
	run(3*40, 30)
	const slow = `coord_decision_duration_seconds{phase="order"} mean`
	values := gather(t, w)
	if values["coord_anomalies_total"] != 1 || values["coord_anomaly_open "+slow] != 1 {
		t.Errorf("while it is slow: %v", values)
	}
	if told == 0 {
		t.Error("nobody was told that it is slow")
	}
	var watched []string
	for name := range values {
		if series, ok := strings.CutPrefix(name, "coord_anomaly_score "); ok {
			watched = append(watched, series)
		}
	}
	if len(watched) != 4 { // the gauge, two rates, and the mean
		t.Errorf("watched are %q", watched)
	}
	run(3*100, 1)
	text, err := w.Events()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Anomalies []anomaly.Event }
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Anomalies) != 1 {
		t.Fatalf("events %s", raw)
	}
	e := answer.Anomalies[0]
	if e.Series != slow || e.Open || e.Start.Before(began) || e.Start.After(began.Add(17*anomaly.Step)) || e.Peak < 0.1 || e.High > 0.01 {
		t.Errorf("event %s, it began to be slow at %v", raw, began)
	}
}

func TestACounterThatBeganAnewIsNoEvent(t *testing.T) {
	w := New(nil)
	at, n := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 1e9
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 6000 {
		if i == 5000 {
			n = 0
		}
		n += float64(40 + r.IntN(20))
		at = at.Add(5 * time.Second)
		w.Observe(at, []history.Scraped{{Info: counter, Value: n}})
	}
	if values := gather(t, w); values["coord_anomalies_total"] != 0 || len(values) != 3 {
		t.Errorf("%v", values)
	}
}

func TestARestartForgetsNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	type scrape struct {
		at      time.Time
		scraped []history.Scraped
	}
	var past []scrape
	at, batches := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 1e6
	next := func(slower float64) scrape {
		at = at.Add(5 * time.Second)
		batches += 50 + float64(r.IntN(10))
		return scrape{at, []history.Scraped{
			{Info: gauge, Value: slower * (0.002 + 0.0002*r.NormFloat64())},
			{Info: counter, Value: batches},
		}}
	}
	for i := range 24 * 720 {
		slower := 1.0
		if i/720 == 20 && i%720 < 120 { // ten slow minutes
			slower = 30
		}
		past = append(past, next(slower))
	}
	told := 0
	w := New(func(time.Duration) { told++ })
	during := scrape{at.Add(time.Second), []history.Scraped{{Info: counter, Value: 1e12}}}
	err := w.Learn(t.Context(), func(_ context.Context, want func(*history.Info) bool, fn history.Observer) error {
		if !want(gauge) || !want(counter) || want(other) || want(bucket) || want(itself) {
			t.Error("what is learned is not what is watched")
		}
		for _, s := range past {
			fn(s.at, s.scraped)
			w.Observe(during.at, during.scraped)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	events, scores := w.List()
	if len(events) != 1 || events[0].Open || told != 0 || len(scores) != 2 {
		t.Fatalf("%d series, events %+v, told %d times", len(scores), events, told)
	}
	if values := gather(t, w); values["coord_anomalies_total"] != 0 {
		t.Errorf("events of before the start are counted: %v", values)
	}

	batches = 0 // a counter begins anew
	at = at.Add(time.Minute)
	for range 720 {
		s := next(1)
		w.Observe(s.at, s.scraped)
	}
	if events, _ := w.List(); len(events) != 1 || told != 0 {
		t.Fatalf("after a restart the usual is unusual: %+v", events)
	}
	stopped := batches
	for range 120 {
		s := next(1)
		batches = stopped
		s.scraped[1].Value = stopped
		w.Observe(s.at, s.scraped)
	}
	if events, _ := w.List(); len(events) != 2 || told == 0 || gather(t, w)["coord_anomalies_total"] != 1 {
		t.Errorf("an hour after a restart a box that stopped is not unusual: %+v, told %d times", events, told)
	}
}

func TestSeriesThatEndedMakeRoom(t *testing.T) {
	w := New(nil)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	scraped := func(first, n int) (all []history.Scraped) {
		for i := range n {
			all = append(all, history.Scraped{Info: &history.Info{ID: uint32(first + i), Name: fmt.Sprintf("coord_level_%d", first+i)}, Value: 1})
		}
		return all
	}
	err := w.Learn(t.Context(), func(_ context.Context, _ func(*history.Info) bool, fn history.Observer) error {
		for i := range 24 * 240 {
			first := 0
			if i > 12*240 {
				first = anomaly.SeriesMax - 10
			}
			fn(at.Add(time.Duration(i)*anomaly.Step), scraped(first, anomaly.SeriesMax))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	at = at.Add(25 * time.Hour)
	for i := range 3 {
		w.Observe(at.Add(time.Duration(i)*anomaly.Step), scraped(anomaly.SeriesMax-10, anomaly.SeriesMax))
	}
	if _, scores := w.List(); len(scores) != anomaly.SeriesMax || gather(t, w)["coord_anomaly_points_dropped_total"] != 0 {
		t.Errorf("%d series are watched, %v points dropped", len(scores), gather(t, w)["coord_anomaly_points_dropped_total"])
	}
}
