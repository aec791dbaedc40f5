package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Kept counts, since the start, what the box remembers of itself and what it had to leave out.
type Kept struct {
	// Judged counts the batches of this box whose traces were judged, Traces those that are kept, Spared those that would be, had there
	// not been too many at a time. Lost counts what was to be kept or asked for and was not, for lack of room or of a disk that works.
	Judged, Traces, Spared, Lost uint64
	// Exported counts the traces that the collector took, Dropped those that it did not get, and Failed the requests to it that failed.
	Exported, Dropped, Failed uint64
	// Samples counts those of series for which the history had no room, and Writes those of its writes that failed.
	Samples, Writes uint64
}

// keepCollector turns a Kept into metrics when somebody asks.
type keepCollector struct {
	counts                       func() Kept
	judged, traces, spared, lost *prometheus.Desc
	exported, failed             *prometheus.Desc
	samples, writes              *prometheus.Desc
}

// Keeping adds what the box remembers of itself and what it leaves out, as counts tells.
func (m *Metrics) Keeping(counts func() Kept) error {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	err := m.Register(&keepCollector{
		counts:   counts,
		judged:   desc("holdfast_traces_judged_total", "Batches of this box whose traces were judged."),
		traces:   desc("holdfast_traces_kept_total", "Traces that were found worth keeping."),
		spared:   desc("holdfast_traces_spared_total", "Traces that were worth keeping and are not kept, because there were too many at a time."),
		lost:     desc("holdfast_traces_lost_total", "Traces, parts of them and notes of revisions that had no room or could not be written."),
		exported: desc("holdfast_traces_exported_total", "Traces for the collector (traces.otlp), by whether it took them.", "outcome"),
		failed:   desc("holdfast_trace_export_failures_total", "Requests to the collector that failed."),
		samples:  desc("holdfast_history_samples_dropped_total", "Samples of series for which the history has no room."),
		writes:   desc("holdfast_history_write_failures_total", "Times that the history could not be written."),
	})
	if err != nil {
		return fmt.Errorf("metrics: what is kept: %w", err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (c *keepCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *keepCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.counts()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	count(c.judged, n.Judged)
	count(c.traces, n.Traces)
	count(c.spared, n.Spared)
	count(c.lost, n.Lost)
	count(c.exported, n.Exported, "sent")
	count(c.exported, n.Dropped, "dropped")
	count(c.failed, n.Failed)
	count(c.samples, n.Samples)
	count(c.writes, n.Writes)
}
