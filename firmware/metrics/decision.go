package metrics

import (
	"encoding/hex"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/prometheus/client_golang/prometheus"
)

// phases are the parts of a batch's way on the box that made it; together they are the whole of it.
var phases = [...]struct {
	name     string
	from, to trace.Point
}{
	{"queue", trace.Accepted, trace.Taken},     // until the ordering takes the request in
	{"batch", trace.Taken, trace.Closed},       // until the batch is full, or has lingered
	{"vote", trace.Closed, trace.Voted},        // until this box votes for a block that has it
	{"notarize", trace.Voted, trace.Notarized}, // until a quorum has
	{"finalize", trace.Notarized, trace.Final}, // until a quorum has made it final
	{"apply", trace.Final, trace.Applied},      // until it has taken effect
	{"answer", trace.Applied, trace.Answered},  // until it is durable here and the answers have left
}

// decisions are the histograms of what clients wait for.
type decisions struct {
	whole prometheus.Histogram
	phase [len(phases)]prometheus.Observer
	parts *prometheus.HistogramVec
}

func newDecisions() *decisions {
	bounds := []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 8}
	d := &decisions{
		whole: prometheus.NewHistogram(histogram("coord_decision_duration_seconds",
			"From when a client's request came until its answer left, of the first request of each batch of this box.", bounds...)),
		parts: prometheus.NewHistogramVec(histogram("coord_decision_phase_duration_seconds",
			"The parts of coord_decision_duration_seconds.", .0001, .0004, .0016, .0064, .0256, .1024, .4096, 1.6384), []string{"phase"}),
	}
	for i := range phases {
		d.phase[i] = d.parts.WithLabelValues(phases[i].name)
	}
	return d
}

// Decided counts a batch of this box whose answers have left. One whose trace is kept becomes the exemplar of its buckets.
func (m *Metrics) Decided(r *trace.Record) {
	var example prometheus.Labels
	if r.Reasons != 0 {
		example = prometheus.Labels{"trace_id": hex.EncodeToString(r.Trace[:])}
	}
	if total := r.Duration(); total > 0 {
		observe(m.decided.whole, total, example)
	}
	for i, p := range phases {
		if from, to := r.At[p.from], r.At[p.to]; from != 0 && to >= from {
			observe(m.decided.phase[i], to-from, example)
		}
	}
}

func observe(h prometheus.Observer, nanos int64, example prometheus.Labels) {
	seconds := time.Duration(nanos).Seconds()
	if e, ok := h.(prometheus.ExemplarObserver); ok && example != nil {
		e.ObserveWithExemplar(seconds, example)
		return
	}
	h.Observe(seconds)
}
