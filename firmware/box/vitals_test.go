package box

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/prometheus/client_golang/prometheus"
)

func TestWhatIsWrongWithABoxCanBeMeasured(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Default()
	if err != nil {
		t.Fatal(err)
	}
	c.Console.TLS, c.Console.CertFile = "on", file
	view := &site.View{}
	v := newVitals(c, func() *site.View { return view })
	v.clock = func() bool { return view.Fault == "" }
	r := prometheus.NewRegistry()
	if err := r.Register(v); err != nil {
		t.Fatal(err)
	}
	read := func() map[string]float64 {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]float64{}
		for _, f := range families {
			m[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		return m
	}
	end := float64(web.Certificate().NotAfter.Unix())
	for name, want := range map[string]float64{"coord_fault": 0, "coord_waiting_for_space": 0, "coord_removed": 0, "coord_open_decisions": 0, "holdfast_clock_synchronized": 1, "holdfast_certificate_expiry_timestamp_seconds": end} {
		if got := read()[name]; got != want {
			t.Errorf("all is well, and %s is %v", name, got)
		}
	}
	view = &site.View{Fault: "the log", Full: "the state", Removed: true, Decisions: make([]site.DecisionView, 2)}
	for name, want := range map[string]float64{"coord_fault": 1, "coord_waiting_for_space": 1, "coord_removed": 1, "coord_open_decisions": 2, "holdfast_clock_synchronized": 0} {
		if got := read()[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
