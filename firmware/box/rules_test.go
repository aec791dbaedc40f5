package box

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/anomaly"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
	"github.com/holdfast-edge/holdfast/firmware/anomalies"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/history"
	"github.com/holdfast-edge/holdfast/firmware/metrics"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// measured are series by their metric, each the labels of one.
type measured map[string][]map[string]string

func (m measured) add(families []*dto.MetricFamily) {
	for _, f := range families {
		for _, x := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range x.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			m[f.GetName()] = append(m[f.GetName()], labels)
		}
	}
}

// find gives the series of a metric; of a histogram, those of its parts too.
func (m measured) find(metric string) []map[string]string {
	for _, part := range []string{"", "_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(metric, part); ok && len(m[base]) > 0 {
			return m[base]
		}
	}
	return nil
}

// rare is what only some boxes have: a board that tells its temperature, and a member that is suspected.
func (m measured) rare(t *testing.T) {
	t.Helper()
	root := t.TempDir()
	zone := filepath.Join(root, "sys/class/thermal/thermal_zone0")
	if err := os.MkdirAll(zone, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"temp": "51000\n", "type": "cpu-thermal\n"} {
		if err := os.WriteFile(filepath.Join(zone, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v := &site.View{
		Members: []site.MemberView{{Member: coord.Member{Name: "box-0"}}},
		Trust:   []site.TrustView{{Why: []site.TrustGround{{}}}},
	}
	x, err := metrics.New(metrics.Sources{View: func() *site.View { return v }, Ready: func() bool { return true }, Root: root, Data: root})
	if err != nil {
		t.Fatal(err)
	}
	families, err := x.Gather()
	if err != nil {
		t.Fatal(err)
	}
	m.add(families)
}

// TestWhatTheRulesThatShipAskForIsMeasured runs a box that has somebody to tell its alarms, a certificate of somebody else's, and an anomaly that goes on.
// Each metric that a rule asks for is there, with the labels that the rule and its texts name, and the values of those that it compares; and so is the
// part of the console to which the rule leads.
func TestWhatTheRulesThatShipAskForIsMeasured(t *testing.T) {
	receiver := httptest.NewServer(http.NotFoundHandler())
	defer receiver.Close()
	c := newBox(t)
	c.Alarms.Webhook.URLs = []string{receiver.URL}
	certify(t, c)
	o := silent(c)
	var watch *anomalies.Watcher
	o.watched = func(w *anomalies.Watcher) { watch = w }
	serving(t, o)
	at, r := time.Now().Add(time.Hour), rand.New(rand.NewPCG(7, 8))
	for i := range 5800 {
		at = at.Add(anomaly.Step)
		v := 0.005 * (1 + 0.1*r.NormFloat64())
		if i >= 5790 {
			v *= 100
		}
		watch.Observe(at, []history.Scraped{{Info: &history.Info{ID: 1 << 30, Name: "coord_test_seconds"}, Value: v}})
	}
	cl := dial(t, c, "unix://"+c.Native.Socket, coord.BoxID{})
	if _, err := cl.Put(t.Context(), []byte("key"), []byte("value")); err != nil {
		t.Fatal(err)
	}
	if err := cl.Close(t.Context()); err != nil {
		t.Error(err)
	}
	b, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var text bytes.Buffer
	if err := b.Raw(t.Context(), "/metrics", &text); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		t.Fatal(err)
	}
	there := measured{}
	for _, f := range families {
		there.add([]*dto.MetricFamily{f})
	}
	there.rare(t)
	rules, err := alarms.ParseRules(alarms.BuiltinText(), "", history.Check)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		for _, fault := range lacks(t, rule, there) {
			t.Errorf("%s: %s", rule.Name, fault)
		}
		page, section, _ := strings.Cut(rule.Annotations["console"], "#")
		var html bytes.Buffer
		if err := b.Raw(t.Context(), page, &html); err != nil {
			t.Errorf("%s leads to %s: %v", rule.Name, page, err)
		} else if section != "" && !strings.Contains(html.String(), fmt.Sprintf("<section id=%q", section)) {
			t.Errorf("%s leads to %s, which has no %s", rule.Name, page, section)
		} else if strings.HasPrefix(page, "/explore") && strings.Contains(html.String(), `class="note bad" role="alert"`) {
			t.Errorf("%s leads to a question that is none: %s", rule.Name, page)
		}
	}
}

var labelInText = regexp.MustCompile(`\$labels\.([a-z_]+)`)

// lacks says what a rule asks for that is not there. What a box's series have without being asked is site, box and le.
func lacks(t *testing.T, rule *alarms.Rule, there measured) (faults []string) {
	t.Helper()
	uses, err := history.Uses(rule.Expr)
	if err != nil || len(uses) == 0 {
		t.Fatal(rule.Name, err)
	}
	known := []string{"site", "box", "le"}
	for _, u := range uses {
		series := there.find(u.Metric)
		if len(series) == 0 {
			faults = append(faults, u.Metric+" is not measured")
			continue
		}
		for l := range series[0] {
			known = append(known, l)
		}
		if !slices.ContainsFunc(series, func(labels map[string]string) bool {
			for l, want := range u.Wants {
				if got, ok := labels[l]; !ok || want != "" && got != want {
					return false
				}
			}
			return true
		}) {
			faults = append(faults, fmt.Sprintf("no %s has %v", u.Metric, u.Wants))
		}
	}
	var named []string
	for _, u := range uses {
		named = append(named, u.Groups...)
	}
	for _, text := range rule.Annotations {
		for _, m := range labelInText.FindAllStringSubmatch(text, -1) {
			named = append(named, m[1])
		}
	}
	for _, l := range named {
		if !slices.Contains(known, l) {
			faults = append(faults, "nothing has the label "+l)
		}
	}
	return faults
}

func TestARuleThatAsksForWhatIsNotThereIsFound(t *testing.T) {
	there := measured{"up": {{"member": "b"}}, "took_seconds": {{"phase": "vote"}}}
	for expr, want := range map[string]string{
		`sum by (member) (up) > 0`:                 "",
		`rate(took_seconds_bucket[5m]) > 1`:        "",
		`down > 0`:                                 "down is not measured",
		`sum by (box_id) (up) > 0`:                 "nothing has the label box_id",
		`rate(took_seconds_sum{phase="x"}[1m])>0`:  "no took_seconds_sum has map[phase:x]",
		`up unless on (other) took_seconds`:        "nothing has the label other",
		`up{state="up"} > 0`:                       "no up has map[state:up]",
		`max_over_time(up[1h]) > 0 and absent > 0`: "absent is not measured",
	} {
		got := strings.Join(slices.Compact(lacks(t, &alarms.Rule{Name: expr, Expr: expr}, there)), "; ")
		if got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
	text := &alarms.Rule{Name: "text", Expr: "up > 0", Annotations: map[string]string{"summary": "{{ $labels.series }}"}}
	if got := lacks(t, text, there); len(got) != 1 || !strings.Contains(got[0], "series") {
		t.Error(got)
	}
}

// certify gives a box's etcd port a certificate that is not the box's own.
func certify(t *testing.T, c *config.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c.Client.TLS, c.Client.CertFile, c.Client.KeyFile = "on", filepath.Join(c.DataDir, "client.pem"), filepath.Join(c.DataDir, "client.key")
	for path, block := range map[string]*pem.Block{c.Client.CertFile: {Type: "CERTIFICATE", Bytes: cert}, c.Client.KeyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
