package metrics

import (
	"fmt"

	"github.com/holdfast-edge/holdfast/firmware/joining"
	"github.com/prometheus/client_golang/prometheus"
)

// joinCollector turns the joining port's counts into metrics when somebody asks.
type joinCollector struct {
	counts               func() joining.Counts
	connections, puzzles *prometheus.Desc
	turned               *prometheus.Desc
	admitted             *prometheus.Desc
}

// Waiting adds how many new boxes wait for this box's operator, as guests tells.
func (m *Metrics) Waiting(guests func() int) error {
	err := m.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "join_guests_waiting", Help: "New boxes with a good token that wait for an operator on this box to let them in.",
	}, func() float64 { return float64(guests()) }))
	if err != nil {
		return fmt.Errorf("metrics: new boxes: %w", err)
	}
	return nil
}

// Joining adds what happens at the joining port, as counts tells.
func (m *Metrics) Joining(counts func() joining.Counts) error {
	err := m.Register(&joinCollector{
		counts:      counts,
		connections: prometheus.NewDesc("join_connections_total", "Connections to the joining port.", nil, nil),
		puzzles:     prometheus.NewDesc("join_puzzles_total", "Puzzles that were given out at the joining port.", nil, nil),
		turned: prometheus.NewDesc("join_turned_away_total",
			"Connections that the joining port turned away: beyond the rate of their address, pushed out by newer ones before their proof, with too many others, without work, or with a request that was refused.",
			[]string{"reason"}, nil),
		admitted: prometheus.NewDesc("join_admitted_total", "Boxes that were let in at the joining port.", nil, nil),
	})
	if err != nil {
		return fmt.Errorf("metrics: joining port: %w", err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (c *joinCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *joinCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.counts()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	count(c.connections, n.Connections)
	count(c.puzzles, n.Puzzles)
	count(c.admitted, n.Admitted)
	count(c.turned, n.TooMany, "rate")
	count(c.turned, n.PushedOut, "pushed_out")
	count(c.turned, n.Busy, "busy")
	count(c.turned, n.NoWork, "no_work")
	count(c.turned, n.Refused, "refused")
}
