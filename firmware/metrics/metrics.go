// Package metrics is what a box measures of itself, with standard names and base units (docs/metrics.md has the table): a Prometheus
// registry that others gather from. What coord/site counts is read when somebody asks, so that nothing is counted twice and an idle box does
// no work for its metrics; durations go into histograms as they happen.
package metrics

import (
	"fmt"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Sources are what a box's metrics are read from.
type Sources struct {
	// View is the box and its site now.
	View func() *site.View
	// Ready says whether writes are being ordered as far as the box can tell.
	Ready func() bool
	// Root is where /proc and /sys are, "/" for the machine; Data is the box's data directory.
	Root, Data string
}

// Metrics is what a box measures. It implements prometheus.Gatherer.
type Metrics struct {
	*prometheus.Registry
	http, rpc *prometheus.HistogramVec
	decided   *decisions
}

// New makes the metrics. It asks nothing of its sources before it is gathered.
func New(from Sources) (*Metrics, error) {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		http: prometheus.NewHistogramVec(histogram("http_server_request_duration_seconds", "Time to answer a request to the console.",
			.001, .005, .025, .1, .5, 2.5, 10), []string{"http_route", "http_response_status_code"}),
		rpc: prometheus.NewHistogramVec(histogram("rpc_server_call_duration_seconds", "Time to answer a call of the etcd API.",
			.001, .004, .016, .064, .256, 1, 4), []string{"rpc_method", "rpc_response_status_code"}),
		decided: newDecisions(),
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.http, m.rpc, m.decided.whole, m.decided.parts,
		newMachine(from.Root, from.Data),
		newSiteCollector(from.View, from.Ready),
	} {
		if err := m.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

const (
	// nativeFactor is by how much a native bucket's bound is larger than the one before at most: a tenth is as exact as quantiles are read.
	nativeFactor = 1.1
	// nativeBucketsMax bounds the native buckets of a series; beyond it they become wider.
	nativeBucketsMax = 160
	// nativeResetMin is how often a series with too many native buckets may begin anew.
	nativeResetMin = time.Hour
)

// histogram is a histogram that has classic buckets, for text and the history, and native ones, for who asks in protobuf.
func histogram(name, help string, bounds ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: bounds,
		NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeBucketsMax, NativeHistogramMinResetDuration: nativeResetMin,
	}
}

// HTTPAnswered counts a request to the console by the pattern of its route.
func (m *Metrics) HTTPAnswered(route, code string, took time.Duration) {
	m.http.WithLabelValues(route, code).Observe(took.Seconds())
}

// RPCAnswered counts a call of the etcd API: its method, such as "/etcdserverpb.KV/Put", and the name of its status.
func (m *Metrics) RPCAnswered(method, code string, took time.Duration) {
	m.rpc.WithLabelValues(method, code).Observe(took.Seconds())
}
