package console

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/chart"
	"github.com/holdfast-edge/holdfast/firmware/history"
)

const (
	// metricsTimeMax is how long a question of the page may take: somebody waits for it.
	metricsTimeMax = 4 * time.Second
	// chartPoints is about how many points a chart has, and chartStepMin how far they are apart at least.
	chartPoints  = 240
	chartStepMin = 5 * time.Second
	// exprBytesMax bounds an expression, as firmware/history does.
	exprBytesMax = 8 << 10
	// askedMax bounds the answers that viewers share.
	askedMax = 32
)

// metricsPages are there if the box keeps a history of its metrics.
func (c *Console) metricsPages() []*page {
	if c.cfg.Query == nil {
		return nil
	}
	return []*page{{
		path: "/explore", title: "Metrics", name: "metrics", group: "Watch", live: true, data: c.metricsData,
		sections: []part{{"ask", "bare"}, {"chart", ""}, {"presets", ""}, {"names", ""}},
	}}
}

// explorePath leads to the graph of a question.
func explorePath(expr, span string) string {
	return "/explore?" + url.Values{"expr": {expr}, "range": {span}}.Encode()
}

// preset is a question that somebody will have.
type preset struct{ Name, Expr string }

func presets() []preset {
	return []preset{
		{"Decision time, 99th percentile", `histogram_quantile(0.99, sum by (le) (rate(coord_decision_duration_seconds_bucket[1m])))`},
		{"Messages applied a second", `rate(coord_messages_applied_total[1m])`},
		{"Round trip to each box", `coord_member_round_trip_seconds`},
		{"How far each box is", `coord_member_height`},
		{"Leader changes", `increase(coord_leader_changes_total[5m])`},
		{"Requests by outcome", `sum by (outcome) (rate(coord_requests_total[1m]))`},
		{"Bytes between boxes a second", `sum by (direction) (rate(coord_network_io_bytes_total[1m]))`},
		{"CPU time a second", `rate(process_cpu_seconds_total[1m])`},
		{"Memory", `process_resident_memory_bytes`},
		{"Time without a CPU", `rate(coord_starved_seconds_total[1m])`},
		{"Console, 99th percentile", `histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket[5m])))`},
	}
}

// lookBack is how long a chart looks back.
type lookBack struct {
	Value, Name string
	long        time.Duration
}

func lookBacks() []lookBack {
	const day = 24 * time.Hour
	return []lookBack{
		{"15m", "15 minutes", 15 * time.Minute},
		{"1h", "1 hour", time.Hour},
		{"6h", "6 hours", 6 * time.Hour},
		{"24h", "1 day", day},
		{"7d", "7 days", 7 * day},
		{"30d", "30 days", 30 * day},
	}
}

// metricsPage is what the page of metrics shows.
type metricsPage struct {
	Expr    string
	Span    string
	Spans   []lookBack
	Presets []preset
	Problem string
	Chart   template.HTML
	Names   []string
}

func (c *Console) metricsData(l *look) (any, error) {
	d := &metricsPage{Expr: strings.TrimSpace(l.value("expr")), Span: first(l.value("range"), "15m"), Spans: lookBacks(), Presets: presets()}
	if len(d.Expr) > exprBytesMax {
		return nil, fmt.Errorf("%w: an expression has at most %d bytes", ErrBad, exprBytesMax)
	}
	if d.Expr == "" {
		d.Expr = d.Presets[0].Expr
	}
	at := slices.IndexFunc(d.Spans, func(s lookBack) bool { return s.Value == d.Span })
	if at < 0 {
		return nil, fmt.Errorf("%w: range must be 15m, 1h, 6h, 24h, 7d or 30d", ErrBad)
	}
	answer := c.asked.ask(l.ctx, c.cfg.Query, d.Expr, d.Spans[at].long)
	d.Names = answer.names
	if answer.err != nil {
		if l.ctx.Err() != nil {
			return nil, answer.err
		}
		d.Problem = strings.TrimPrefix(answer.err.Error(), "history: ")
		return d, nil
	}
	fig := &chart.Chart{ID: "answer", Title: questionTitle(d.Expr, d.Presets), About: "From this box's own history.", Unit: unitOf(d.Expr), From: answer.from, To: answer.to, Height: 300}
	for _, s := range answer.list {
		fig.Series = append(fig.Series, chart.Series{Name: seriesName(s.Labels), Points: points(answer, s.Points)})
	}
	d.Chart = fig.HTML()
	return d, nil
}

// points are those of a series as they are drawn, with a gap where nothing is known.
func points(a *answered, list []history.Point) (out []chart.Point) {
	next := a.from
	for _, p := range list {
		if p.Time.After(next) {
			out = append(out, chart.Point{At: next, Value: math.NaN()})
		}
		out = append(out, chart.Point{At: p.Time, Value: p.Value})
		next = p.Time.Add(a.step)
	}
	return out
}

func questionTitle(expr string, list []preset) string {
	for _, p := range list {
		if p.Expr == expr {
			return p.Name
		}
	}
	return expr
}

// unitOf guesses the unit of an expression by the names in it: those of Prometheus say what they are of.
func unitOf(expr string) chart.Unit {
	perSecond := strings.Contains(expr, "rate(")
	switch {
	case strings.Contains(expr, "_seconds_total") && perSecond:
		return chart.Ratio
	case strings.Contains(expr, "_seconds_count"), strings.Contains(expr, "_messages_"), strings.Contains(expr, "_requests_"):
		if perSecond {
			return chart.Rate
		}
	case strings.Contains(expr, "start_time"):
		return chart.None
	case strings.Contains(expr, "_seconds"):
		return chart.Seconds
	case strings.Contains(expr, "_bytes") && perSecond:
		return chart.BytesRate
	case strings.Contains(expr, "_bytes"):
		return chart.Bytes
	case strings.Contains(expr, "_joules"):
		return chart.Joules
	case strings.Contains(expr, "_celsius"):
		return chart.Celsius
	case perSecond:
		return chart.Rate
	}
	return chart.None
}

// seriesName is a series's labels, as short as they can be said.
func seriesName(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k != "__name__" {
			parts = append(parts, k+" "+labels[k])
		}
	}
	return first(strings.Join(parts, ", "), labels["__name__"], "value")
}

// answered is what the history said to a question.
type answered struct {
	at       time.Time
	from, to time.Time
	step     time.Duration
	list     []history.Series
	names    []string
	err      error
}

// asking shares answers among the viewers of all pages: a chart of a month does not change each second, and takes long.
type asking struct {
	mu      sync.Mutex
	answers map[string]*answered
}

// ask answers expr for the time of so long until now, from an answer that is younger than a step if there is one.
func (a *asking) ask(ctx context.Context, q history.Querier, expr string, long time.Duration) *answered {
	key := long.String() + expr
	step := max(chartStepMin, (long / chartPoints).Truncate(chartStepMin))
	a.mu.Lock() // one question at a time: a page can ask for what takes seconds
	defer a.mu.Unlock()
	now := time.Now()
	if x := a.answers[key]; x != nil && now.Sub(x.at) < step {
		return x
	}
	x := &answered{at: now, to: now.Truncate(step), step: step}
	x.from = x.to.Add(-long)
	limit, cancel := context.WithTimeout(ctx, metricsTimeMax)
	defer cancel()
	x.list, x.err = q.Range(limit, expr, x.from, x.to, step)
	if errors.Is(x.err, context.DeadlineExceeded) {
		x.err = fmt.Errorf("it takes longer than %v: ask for a shorter time, or for fewer series", metricsTimeMax)
	}
	names, err := q.Instant(limit, `count by (__name__) ({__name__!=""})`, now)
	for _, s := range names {
		x.names = append(x.names, s.Labels["__name__"])
	}
	slices.Sort(x.names)
	if x.err == nil && err != nil && ctx.Err() == nil && len(x.list) == 0 {
		x.err = err
	}
	if ctx.Err() != nil {
		return x // whoever asked has gone; others get an answer of their own
	}
	if len(a.answers) >= askedMax {
		clear(a.answers)
	}
	if a.answers == nil {
		a.answers = map[string]*answered{}
	}
	a.answers[key] = x
	return x
}
