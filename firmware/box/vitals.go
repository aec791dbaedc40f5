package box

import (
	"crypto/x509"
	"encoding/pem"
	"os"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/prometheus/client_golang/prometheus"
)

// vitals shows what is wrong with the box in ways that have no number of their own, so that alarms can be about it.
type vitals struct {
	view  func() *site.View
	clock func() (set bool)
	// certificates are those that somebody else issued, by port: files that are read again each time, for they are replaced while the box runs.
	certificates map[string]string

	fault, space, removed, decisions, set, expiry *prometheus.Desc
}

func newVitals(c *config.Config, view func() *site.View) *vitals {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	v := &vitals{
		view: view, clock: func() bool { _, set := kernelClock(); return set }, certificates: map[string]string{},
		fault:     desc("coord_fault", "1 if the box has stopped voting."),
		space:     desc("coord_waiting_for_space", "1 if something waits for space on the box's disk."),
		removed:   desc("coord_removed", "1 if the box is no member of its site any more."),
		decisions: desc("coord_open_decisions", "Decisions of the site about itself that wait for the word of boxes."),
		set:       desc("holdfast_clock_synchronized", "1 if the kernel says that the clock is set by a time service."),
		expiry:    desc("holdfast_certificate_expiry_timestamp_seconds", "When a port's certificate ends that somebody else issued, Unix time.", "port"),
	}
	if c.Console.Secure() && c.Console.CertFile != "" {
		v.certificates["console"] = c.Console.CertFile
	}
	if c.Client.Secure() && c.Client.CertFile != "" {
		v.certificates["client"] = c.Client.CertFile
	}
	return v
}

// Describe implements prometheus.Collector.
func (v *vitals) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{v.fault, v.space, v.removed, v.decisions, v.set, v.expiry} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (v *vitals) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	yes := map[bool]float64{true: 1}
	s := v.view()
	gauge(v.fault, yes[s.Fault != ""])
	gauge(v.space, yes[s.Full != ""])
	gauge(v.removed, yes[s.Removed])
	gauge(v.decisions, float64(len(s.Decisions)))
	gauge(v.set, yes[v.clock()])
	for port, file := range v.certificates {
		if end, ok := certificateEnd(file); ok {
			gauge(v.expiry, end, port)
		}
	}
}

// certificateEnd is when the first certificate of a PEM file ends, Unix seconds.
func certificateEnd(file string) (float64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return 0, false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return 0, false
	}
	return float64(cert.NotAfter.Unix()), true
}
