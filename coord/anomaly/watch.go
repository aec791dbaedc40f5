package anomaly

import (
	"maps"
	"math"
	"slices"
	"time"
)

const (
	// SeriesMax bounds what a box watches, to 8 MB: a box of a site of four has 96 series.
	SeriesMax = 128
	// Step is how often a box takes a point of each.
	Step = 15 * time.Second
	// EventsMax bounds the events that are kept; the oldest go first.
	EventsMax = 256
	// quietPoints end an event: more than a block, so that one that lasts is one event.
	quietPoints = 2 * blockPoints

	month = 30 * 24 * time.Hour
	// falsePerMonth is how many false alarms a box may have, in the mean, on series where nothing happens.
	falsePerMonth = 0.5
)

// ChanceLimit is the chance of a point below which it is an alarm, so that a box that takes a point of
// so many series every step has less than one false alarm a month. It is Bonferroni's bound, which asks
// only how many points there are, not how they depend on each other.
func ChanceLimit(series int, step time.Duration) float64 {
	return falsePerMonth / (float64(series) * float64(month/step))
}

// Event is a stretch of a series in which points were alarms.
type Event struct {
	Series string    `json:"series"`
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`    // the last alarm so far
	Open   bool      `json:"open"`   // it may go on
	Peak   float64   `json:"peak"`   // the value farthest from what was expected
	Chance float64   `json:"chance"` // the least of a point
	// Low and High is where the values lay before Start.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Watch is what a box knows of its series. It is not safe for use by several goroutines.
type Watch struct {
	limit  float64
	series map[string]*watched
	events []*Event // ascending in Start
	begun  uint64
	missed uint64
	past   bool // what comes was before the box started
}

type watched struct {
	*Detector
	last  time.Time
	score float64
	event *Event
	quiet int
}

// NewWatch watches at most SeriesMax series, of each of which a point comes every Step.
func NewWatch() *Watch {
	return &Watch{limit: ChanceLimit(SeriesMax, Step), series: map[string]*watched{}}
}

// Past says whether the points that come from now on are of before the box started: their events are
// kept, and not counted.
func (w *Watch) Past(past bool) { w.past = past }

// Forget makes room: series without a point since then are watched no more.
func (w *Watch) Forget(since time.Time) {
	maps.DeleteFunc(w.series, func(_ string, s *watched) bool {
		if !s.last.Before(since) {
			return false
		}
		if s.event != nil {
			s.event.Open = false
		}
		return true
	})
}

// Observe takes a point of a series, and says whether it is an alarm. One for which there is no room is counted, and nothing else.
func (w *Watch) Observe(series string, at time.Time, value float64) (alarm bool) {
	s := w.series[series]
	if s == nil {
		if len(w.series) >= SeriesMax {
			if !w.past {
				w.missed++
			}
			return false
		}
		s = &watched{Detector: New(Default)}
		w.series[series] = s
	}
	p := s.Push(at, value)
	s.last = at
	s.score = p.Score
	s.quiet++
	alarm = p.Chance < w.limit
	switch {
	case alarm:
		s.quiet = 0
		if s.event == nil {
			low, high, _ := s.Expected()
			s.event = &Event{Series: series, Start: at, Open: true, Peak: value, Chance: p.Chance, Low: low, High: high}
			w.begin(s.event)
		}
		s.event.End, s.event.Chance = at, min(s.event.Chance, p.Chance)
	case s.event != nil && s.quiet > quietPoints:
		s.event.Open = false
		s.event = nil
	}
	if e := s.event; e != nil {
		middle := e.Low/2 + e.High/2
		if math.Abs(value-middle) > math.Abs(e.Peak-middle) {
			e.Peak = value
		}
	}
	return alarm
}

func (w *Watch) begin(e *Event) {
	if !w.past {
		w.begun++
	}
	if len(w.events) == EventsMax {
		w.events = slices.Delete(w.events, 0, 1)
	}
	w.events = append(w.events, e)
}

// Scores calls f for each series with the score of its last point, and whether an event goes on.
func (w *Watch) Scores(f func(series string, score float64, open bool)) {
	for name, s := range w.series {
		f(name, s.score, s.event != nil)
	}
}

// Events are those that are kept, the newest first.
func (w *Watch) Events() []Event {
	all := make([]Event, len(w.events))
	for i, e := range w.events {
		all[len(all)-1-i] = *e
	}
	return all
}

// Counts says how many events there were, and how many points had no room.
func (w *Watch) Counts() (begun, missed uint64) { return w.begun, w.missed }
