package console

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/history"
)

// oneAnswer is a history that answers all questions alike.
type oneAnswer struct {
	values []float64
	err    error
}

func (o oneAnswer) Instant(context.Context, string, time.Time) ([]history.Sample, error) {
	return nil, o.err
}

func (o oneAnswer) Range(_ context.Context, _ string, from, _ time.Time, step time.Duration) ([]history.Series, error) {
	s := history.Series{Labels: map[string]string{"direction": "transmit"}}
	for i, v := range o.values {
		s.Points = append(s.Points, history.Point{Time: from.Add(time.Duration(i) * step), Value: v})
	}
	if len(o.values) == 0 {
		return nil, o.err
	}
	return []history.Series{s}, o.err
}

func TestTheLastHourIsDrawnAndIsATableToo(t *testing.T) {
	c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Query = oneAnswer{values: []float64{.001, .25, .125}} })
	html := get(t, c, "/").Body.String()
	for _, want := range []string{"Decision time", "budget of the 99th", "Traffic between boxes", "<summary>As a table</summary>", `class="spark"`, "Sent for each message", ">CPU<", "12.5\u202f%"} {
		if !strings.Contains(html, want) {
			t.Errorf("no %q", want)
		}
	}
}

func TestAHistoryWithNothingOddOrBrokenIsNoFailure(t *testing.T) {
	for name, q := range map[string]oneAnswer{
		"nothing": {}, "broken": {err: errors.New("no")}, "one point": {values: []float64{1}}, "no numbers": {values: []float64{math.NaN(), math.Inf(1)}},
	} {
		c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Query = q })
		if w := get(t, c, "/"); w.Code != 200 || strings.Contains(w.Body.String(), "NaN") || strings.Contains(w.Body.String(), "Inf") {
			t.Errorf("%s: %d %s", name, w.Code, textOf(w.Body.String()))
		}
	}
}

// firingNow are alarms as a test wants them.
type firingNow struct {
	Alarms
	list []alarms.AlertView
}

func (r firingNow) View() *alarms.View { return &alarms.View{Alarms: r.list} }

func TestAlarmsThatFireAreOnTheOverviewAndSilencedOnesAreNot(t *testing.T) {
	alert := func(name string, s alarms.State, silenced string) alarms.AlertView {
		a := alarms.AlertView{Name: name, Severity: alarms.Critical, Silenced: silenced}
		a.State, a.Annotations = s, map[string]string{"summary": "<b>heat</b> of " + name}
		return a
	}
	c := newConsole(t, servingSite(), func(cfg *Config) {
		cfg.Alarms = firingNow{list: []alarms.AlertView{alert("Hot", alarms.Firing, ""), alert("Known", alarms.Firing, "id"), alert("Soon", alarms.Pending, "")}}
	})
	html := sectionOf(get(t, c, "/").Body.String(), "firing")
	if !strings.Contains(html, "<strong>Hot</strong></a> &lt;b&gt;heat&lt;/b&gt; of Hot") || strings.Contains(html, "Known") || strings.Contains(html, "Soon") || strings.Contains(html, "Not so") {
		t.Error(html)
	}
	if !strings.Contains(html, `href="/alarms"`) {
		t.Errorf("it does not lead to what the alarm means: %s", html)
	}
}

// calmSite is a site with nothing to do.
func calmSite() *fakeSite {
	s := servingSite()
	for i := range s.view.Members {
		s.view.Members[i].Up, s.view.Members[i].Height, s.view.Members[i].VotesFrom = true, s.view.Height, 0
	}
	s.view.Trust, s.view.Counters.Evidence = nil, 0
	return s
}

func TestAnAlarmIsSomethingToDoUntilItIsEnding(t *testing.T) {
	alert := alarms.AlertView{Name: "Hot", Severity: alarms.Warning}
	alert.State = alarms.Firing
	c := newGuarded(t, nil)
	b := c.browser()
	b.setUp(t, "ann")
	c.cfg.Site = calmSite()
	page := func(a alarms.AlertView) string {
		c.cfg.Alarms = firingNow{list: []alarms.AlertView{a}}
		return b.get("/").Body.String()
	}
	if text := textOf(sectionOf(page(alert), "verdict")); !strings.Contains(text, "An alarm fires.") || strings.Contains(text, "nothing to do") {
		t.Errorf("it fires: %s", text)
	}
	alert.Away = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	html := page(alert)
	if text := textOf(sectionOf(html, "verdict")); !strings.Contains(text, "There is nothing to do.") {
		t.Errorf("it is ending: %s", text)
	}
	if text := textOf(sectionOf(html, "firing")); !strings.Contains(text, "Not so since 03:00:00.000 UTC") {
		t.Errorf("it is ending: %s", text)
	}
}
