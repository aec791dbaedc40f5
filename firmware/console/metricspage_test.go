package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/chart"
	"github.com/holdfast-edge/holdfast/firmware/history"
)

// oracle answers each question with one series that has a hole, and those about "bad" with an error.
type oracle struct{ asked int }

func (o *oracle) Instant(context.Context, string, time.Time) ([]history.Sample, error) {
	return []history.Sample{{Labels: map[string]string{"__name__": "coord_height"}}}, nil
}

func (o *oracle) Range(_ context.Context, expr string, from, to time.Time, step time.Duration) ([]history.Series, error) {
	o.asked++
	if strings.Contains(expr, "bad") {
		return nil, errors.New("history: parse error: <unexpected>")
	}
	s := history.Series{Labels: map[string]string{"__name__": "coord_height", "member": "<b>"}}
	for at := from; !at.After(to); at = at.Add(step) {
		if k := at.Sub(from) / step; k < 50 || k > 60 {
			s.Points = append(s.Points, history.Point{Time: at, Value: 7})
		}
	}
	return []history.Series{s}, nil
}

func TestTheMetricsPageDrawsAnAnswerOnceForAllViewersAndLeavesGapsOpen(t *testing.T) {
	o := &oracle{}
	c := newConsole(t, servingSite())
	if strings.Contains(get(t, c, "/").Body.String(), "/explore") {
		t.Error("without a history there is a page of it")
	}
	c = newConsole(t, servingSite(), func(cfg *Config) { cfg.Query = o })
	text := get(t, c, "/explore?expr=coord_height").Body.String()
	if get(t, c, "/explore?expr=coord_height").Code != http.StatusOK || o.asked != 1 {
		t.Errorf("asked %d times", o.asked)
	}
	if strings.Contains(text, "member <b>") || !strings.Contains(text, "member &lt;b&gt;") || !strings.Contains(text, `value="coord_height"`) {
		t.Error("the series, or the list of names, is not there as text")
	}
	if n := strings.Count(text, `class="line c1"`); n != 2 {
		t.Errorf("a line with a hole is %d lines", n)
	}
}

func TestAQuestionThatCannotBeAnsweredStaysInItsField(t *testing.T) {
	c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Query = &oracle{} })
	text := get(t, c, "/explore?expr="+url.QueryEscape("bad(")).Body.String()
	if !strings.Contains(text, "parse error: &lt;unexpected&gt;") || !strings.Contains(text, `value="bad("`) {
		t.Error(text)
	}
	for _, path := range []string{"/explore?range=2h", "/explore?expr=" + strings.Repeat("a", exprBytesMax+1)} {
		if w := get(t, c, path); w.Code != http.StatusBadRequest {
			t.Errorf("%.40s: %d", path, w.Code)
		}
	}
}

func TestTheNamesOfMetricsSayTheirUnit(t *testing.T) {
	for expr, want := range map[string]chart.Unit{
		"process_resident_memory_bytes": chart.Bytes, "rate(process_cpu_seconds_total[1m])": chart.Ratio, "rate(coord_network_io_bytes_total[1m])": chart.BytesRate,
		"rate(coord_messages_applied_total[1m])": chart.Rate, "coord_height": chart.None, "coord_member_round_trip_seconds": chart.Seconds,
		"histogram_quantile(0.99, sum by (le) (rate(coord_decision_duration_seconds_bucket[1m])))": chart.Seconds,
	} {
		if got := unitOf(expr); got != want {
			t.Errorf("%s: %q, not %q", expr, got, want)
		}
	}
}
