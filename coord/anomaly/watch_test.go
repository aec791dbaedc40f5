package anomaly

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestAnEventHasItsStartEndPeakAndExpectedRange(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	w := NewWatch()
	at := func(i int) time.Time { return epoch.Add(time.Duration(i) * Step) }
	const event, length, points = 6000, 40, 6200
	for i := range points {
		v := 100 + r.NormFloat64()
		if i >= event && i < event+length {
			v += 300
		}
		if i == event+5 {
			v = 1000
		}
		w.Observe("load", at(i), v)
	}
	events := w.Events()
	if len(events) != 1 {
		t.Fatalf("%d events: %+v", len(events), events)
	}
	e := events[0]
	if e.Series != "load" || e.Open || !e.Start.Equal(at(event)) || e.Peak != 1000 || e.Low < 90 || e.High > 110 {
		t.Errorf("event %+v", e)
	}
	if e.End.Before(at(event+5)) || e.End.After(at(event+length+blockPoints)) {
		t.Errorf("an event from point %d to %d ends at %v", event, event+length, e.End.Sub(epoch)/Step)
	}
	if begun, missed := w.Counts(); begun != 1 || missed != 0 {
		t.Errorf("%d begun, %d points missed", begun, missed)
	}
}

func TestSeriesAndEventsAreBounded(t *testing.T) {
	w := NewWatch()
	for i := range SeriesMax + 10 {
		w.Observe(fmt.Sprint(i), epoch, 1)
	}
	if _, missed := w.Counts(); missed != 10 || len(w.series) != SeriesMax {
		t.Errorf("%d points missed, %d series watched", missed, len(w.series))
	}
	for i := range EventsMax + 10 {
		w.begin(&Event{Series: fmt.Sprint(i)})
	}
	events := w.Events()
	if len(events) != EventsMax || events[0].Series != fmt.Sprint(EventsMax+9) || events[EventsMax-1].Series != "10" {
		t.Errorf("%d events, from %s to %s", len(events), events[0].Series, events[len(events)-1].Series)
	}
}
