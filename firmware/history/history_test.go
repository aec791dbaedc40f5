package history

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// rig is a history whose samples a test takes.
type rig struct {
	*History
	reg   *prometheus.Registry
	work  prometheus.Counter
	level *prometheus.GaugeVec
	took  prometheus.Histogram
	at    time.Time
	mono  int64
}

func newRig(t *testing.T, observers ...Observer) *rig {
	t.Helper()
	r := &rig{
		work:  prometheus.NewCounter(prometheus.CounterOpts{Name: "work_total"}),
		level: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "level"}, []string{"place"}),
		took:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Buckets: []float64{.1, 1}}),
		at:    time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC),
	}
	reg := prometheus.NewRegistry()
	r.reg = reg
	reg.MustRegister(r.work, r.level, r.took)
	h, err := New(Config{Gatherer: reg, Observe: observers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r.History = h
	return r
}

// run takes n samples, each after change.
func (r *rig) run(n int, change func(i int)) {
	for i := range n {
		change(i)
		r.at = r.at.Add(IntervalDefault)
		r.mono += IntervalDefault.Milliseconds()
		r.sampleAt(r.mono, r.at.UnixMilli())
	}
}

func (r *rig) one(t *testing.T, expr string) float64 {
	t.Helper()
	v, err := r.Instant(t.Context(), expr, r.at)
	if err != nil || len(v) != 1 {
		t.Fatalf("%s: %v, %v", expr, v, err)
	}
	return v[0].Value
}

func TestQuestionsAreAnsweredInPromQL(t *testing.T) {
	r := newRig(t)
	r.run(100, func(i int) {
		r.work.Add(10)
		r.level.WithLabelValues("here").Set(float64(i))
		r.level.WithLabelValues("there").Set(1)
		r.took.Observe(0.05)
	})
	for expr, want := range map[string]float64{
		"rate(work_total[1m])":                   2,
		`level{place="here"}`:                    99,
		"sum(level)":                             100,
		"max_over_time(level{place='here'}[1m])": 99,
		"histogram_quantile(0.5, rate(took_seconds_bucket[5m]))":       0.05,
		"rate(took_seconds_sum[5m]) / rate(took_seconds_count[5m])":    0.05,
		"count(took_seconds_bucket)":                                   3,
		"deriv(level{place='here'}[2m]) > 0.1":                         0.2,
		"absent(nothing)":                                              1,
		"1 + 1":                                                        2,
		"level{place='here'} offset 1m":                                87,
		"label_replace(level{place='here'}, 'x', '$1', 'place', '.*')": 99,
	} {
		if got := r.one(t, expr); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s = %v, not %v", expr, got, want)
		}
	}
	m, err := r.Range(t.Context(), "rate(work_total[1m])", r.at.Add(-5*time.Minute), r.at, time.Minute)
	if err != nil || len(m) != 1 || len(m[0].Points) != 6 || m[0].Points[5].Value != 2 {
		t.Errorf("%v %v", m, err)
	}
}

func TestASeriesThatIsGoneIsNotSeenAnyMore(t *testing.T) {
	r := newRig(t)
	r.run(3, func(int) { r.level.WithLabelValues("gone").Set(1) })
	r.level.DeleteLabelValues("gone")
	r.run(1, func(int) {})
	if v, err := r.Instant(t.Context(), "level", r.at); err != nil || len(v) != 0 {
		t.Errorf("%v %v", v, err)
	}
}

func TestQuestionsThatCannotBeAreRefused(t *testing.T) {
	r := newRig(t)
	for _, expr := range []string{"", "rate(", "level[5m]", "no_such_function(level)", strings.Repeat("(", exprBytesMax+1)} {
		if v, err := r.Instant(t.Context(), expr, r.at); !errors.Is(err, ErrQuery) {
			t.Errorf("%.20s: %v, %v", expr, v, err)
		}
	}
	if _, err := r.Range(t.Context(), "level", r.at, r.at.Add(time.Hour), time.Millisecond); !errors.Is(err, ErrQuery) {
		t.Errorf("a million points: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Instant(gone, "level", r.at); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestObserversGetEachSample(t *testing.T) {
	seen := map[string]float64{}
	r := newRig(t, func(_ time.Time, scraped []Scraped) {
		for _, s := range scraped {
			seen[s.Name+s.Labels["place"]] = s.Value
		}
	})
	r.run(2, func(i int) { r.work.Inc(); r.level.WithLabelValues("here").Set(float64(i)) })
	if seen["work_total"] != 2 || seen["levelhere"] != 1 {
		t.Error(seen)
	}
}

func TestAnswersHavePrometheusForm(t *testing.T) {
	r := newRig(t)
	r.run(20, func(i int) { r.level.WithLabelValues("here").Set(float64(i)) })
	api := r.API("/api/v1")
	ask := func(path string, form url.Values) (int, string) {
		w := httptest.NewRecorder()
		q := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		api.ServeHTTP(w, q)
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: no JSON: %s", path, w.Body)
		}
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	at := r.at.Format(time.RFC3339)
	for _, c := range []struct {
		path string
		form url.Values
		code int
		want string
	}{
		{
			"/api/v1/query",
			url.Values{"query": {"level"}, "time": {at}},
			200,
			`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"level","place":"here"},"value":[1795867300,"19"]}]}}`,
		},
		{"/api/v1/query", url.Values{"query": {"1/0"}, "time": {"10.5"}}, 200, `{"status":"success","data":{"resultType":"scalar","result":[10.5,"+Inf"]}}`},
		{
			"/api/v1/query_range",
			url.Values{"query": {"level"}, "start": {"1795867290"}, "end": {"1795867300"}, "step": {"10s"}},
			200,
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"level","place":"here"},"values":[[1795867290,"17"],[1795867300,"19"]]}]}}`,
		},
		{"/api/v1/series", url.Values{"match[]": {"level", `{place="here"}`}}, 200, `{"status":"success","data":[{"__name__":"level","place":"here"}]}`},
		{"/api/v1/labels", nil, 200, `{"status":"success","data":["__name__","le","place"]}`},
		{"/api/v1/label/place/values", nil, 200, `{"status":"success","data":["here"]}`},
	} {
		if code, got := ask(c.path, c.form); code != c.code || got != c.want {
			t.Errorf("%s %v:\n%d %s\nnot\n%d %s", c.path, c.form, code, got, c.code, c.want)
		}
	}
	for _, c := range []struct {
		path string
		form url.Values
	}{
		{"/api/v1/query", url.Values{"query": {"level{"}}},
		{"/api/v1/query", url.Values{"query": {"level"}, "time": {"NaN"}}},
		{"/api/v1/query_range", url.Values{"query": {"level"}, "start": {"1"}, "end": {"2"}, "step": {"0"}}},
		{"/api/v1/query_range", url.Values{"query": {"level"}, "step": {"1"}}},
		{"/api/v1/series", nil},
		{"/api/v1/series", url.Values{"match[]": {"{"}}},
	} {
		if code, got := ask(c.path, c.form); code != http.StatusBadRequest || !strings.Contains(got, `"errorType":"bad_data"`) {
			t.Errorf("%s %v: %d %s", c.path, c.form, code, got)
		}
	}
}
