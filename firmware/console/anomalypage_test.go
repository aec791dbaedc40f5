package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/anomaly"
)

type unusual struct {
	events []anomaly.Event
	scores map[string]float64
}

func (u unusual) List() ([]anomaly.Event, map[string]float64) { return u.events, u.scores }

func TestTheAnomaliesPageSaysWhatWasUnusualWhenAndLeadsToItsGraph(t *testing.T) {
	const slow, pace = `coord_decision_duration_seconds{phase="order"} mean`, `coord_height per second`
	start := time.Now().Add(-3 * time.Hour)
	u := unusual{
		[]anomaly.Event{
			{Series: slow, Start: start, End: start.Add(time.Minute), Open: true, Peak: 1.5, Chance: 4e-9, Low: .01, High: .02},
			{Series: "coord_<b>", Start: start, End: start.Add(time.Minute), Peak: 7, Low: 1, High: 2},
		},
		map[string]float64{slow: .991, pace: .25},
	}
	c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Unusual, cfg.Query = u, &oracle{} })
	w := get(t, c, "/anomalies")
	html := w.Body.String()
	text := textOf(html)
	if w.Code != http.StatusOK {
		t.Fatal(w.Code)
	}
	for _, want := range []string{"1 goes on", "goes on 1.5", "1 in 250 million", "coord_&lt;b&gt;", "none like it", "2 series are watched", "unusual 0.991", pace + " 0.250"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	graph := "/explore?" + url.Values{"expr": {`rate(coord_decision_duration_seconds_sum{phase="order"}[1m]) / rate(coord_decision_duration_seconds_count{phase="order"}[1m])`}, "range": {"6h"}}.Encode()
	if !strings.Contains(html, strings.NewReplacer("&", "&amp;", "+", "&#43;").Replace(graph)) {
		t.Errorf("nothing leads to %s", graph)
	}
	if strings.Index(text, slow) > strings.Index(text, pace) {
		t.Error("the greater score is not first")
	}
	if code := get(t, newConsole(t, servingSite()), "/anomalies").Code; code != http.StatusNotFound {
		t.Errorf("where nobody watches, the page is there: %d", code)
	}
}

func TestASeriesThatIsWatchedIsAQuestionToTheHistory(t *testing.T) {
	for series, want := range map[string]string{
		"coord_height per second": "rate(coord_height[1m])", `coord_x{a="b"}`: `coord_x{a="b"}`, "coord_y mean": "rate(coord_y_sum[1m]) / rate(coord_y_count[1m])",
		`coord_x_total{a="b",c="d"} per second`: `rate(coord_x_total{a="b",c="d"}[1m])`,
	} {
		if got := exprOf(series); got != want {
			t.Errorf("%s: %s", series, got)
		}
	}
	for chance, want := range map[float64]string{1e-3: "1 in 1 000", 0: "none like it", 1e-17: "less than 1 in 10 000 million million", 2e-8: "1 in 50 million"} {
		if got := strings.ReplaceAll(oddsText(chance), "\u202f", " "); strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("%g: %q", chance, got)
		}
	}
}
