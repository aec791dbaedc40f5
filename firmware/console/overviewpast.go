package console

import (
	"html/template"
	"math"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/console/chart"
)

// pastFor is what the overview looks back: long enough to see what changed, short enough that a minute of trouble is not a dot.
const pastFor = time.Hour

// decisionBudget is how long a decision may take in 99 of 100 cases: beyond it the built-in alarm of slow decisions fires.
const decisionBudget = .5

// What the overview asks of the history.
const (
	askRate   = `sum(rate(coord_messages_applied_total[1m]))`
	askP99    = `histogram_quantile(0.99, sum by (le) (rate(coord_decision_duration_seconds_bucket[1m])))`
	askMedian = `histogram_quantile(0.5, sum by (le) (rate(coord_decision_duration_seconds_bucket[1m])))`
	askCPU    = `rate(process_cpu_seconds_total[1m])`
	askNet    = `sum by (direction) (rate(coord_network_io_bytes_total[1m]))`
	askEach   = `sum(rate(coord_network_io_bytes_total{direction="transmit"}[1m])) / sum(rate(coord_messages_applied_total[1m]))`
)

// past has the tiles and the charts of the last hour; nothing when the box keeps no history.
func (c *Console) past(l *look, d *overview) {
	if c.cfg.Query == nil {
		return
	}
	rate, each, cpu := c.line(l, askRate), c.line(l, askEach), c.line(l, askCPU)
	for i := range d.Tiles {
		if d.Tiles[i].Name == rateTile {
			d.Tiles[i].Spark = spark("Messages a second in the last hour", rate)
		}
	}
	if v, ok := newest(each); ok {
		d.Tiles = append(d.Tiles, tile{Name: "Sent for each message", Value: chart.Bytes.Text(v), Note: "to the other boxes, by this one", Spark: spark("Bytes sent for each message in the last hour", each)})
	}
	if v, ok := newest(cpu); ok {
		d.Tiles = append(d.Tiles, tile{Name: "CPU", Value: chart.Ratio.Text(v), Note: "of one core, this box's program", Spark: spark("CPU time in the last hour", cpu)})
	}
	for _, x := range []struct {
		fig   chart.Chart
		lines []struct{ name, expr string }
	}{
		{
			chart.Chart{ID: "past-latency", Title: "Decision time", About: "From when a client's request came to this box until its answer left, of the first of each batch.", Unit: chart.Seconds, Zero: true, Mark: &chart.Mark{Name: "budget of the 99th", Value: decisionBudget}},
			[]struct{ name, expr string }{{"99 of 100", askP99}, {"half of all", askMedian}},
		},
		{
			chart.Chart{ID: "past-traffic", Title: "Traffic between boxes", About: "Bytes a second over this box's links.", Unit: chart.BytesRate, Area: true},
			[]struct{ name, expr string }{{"", askNet}},
		},
	} {
		for _, q := range x.lines {
			a := c.asked.ask(l.ctx, c.cfg.Query, q.expr, pastFor)
			x.fig.From, x.fig.To = a.from, a.to
			for _, s := range a.list {
				name := first(q.name, map[string]string{"transmit": "sent", "receive": "received"}[s.Labels["direction"]], seriesName(s.Labels))
				x.fig.Series = append(x.fig.Series, chart.Series{Name: name, Points: points(a, s.Points)})
			}
		}
		d.Charts = append(d.Charts, x.fig.HTML())
	}
}

// line is the first series that answers an expression.
func (c *Console) line(l *look, expr string) []chart.Point {
	a := c.asked.ask(l.ctx, c.cfg.Query, expr, pastFor)
	if len(a.list) == 0 {
		return nil
	}
	return points(a, a.list[0].Points)
}

func newest(list []chart.Point) (float64, bool) {
	if len(list) == 0 || math.IsNaN(list[len(list)-1].Value) || math.IsInf(list[len(list)-1].Value, 0) {
		return 0, false
	}
	return list[len(list)-1].Value, true
}

func spark(label string, list []chart.Point) template.HTML {
	if len(list) < 2 {
		return ""
	}
	return chart.Spark(label, list)
}
