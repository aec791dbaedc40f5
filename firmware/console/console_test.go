package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestThePageTellsAllWithoutScript(t *testing.T) {
	w := get(t, newConsole(t, servingSite()), "/")
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	text := textOf(w.Body.String())
	at := 0
	for _, want := range []string{
		"The site orders writes; box-3 is down.", "See what happened to box-3.", "Messages a second 1 500", "76 118 applied", "Height 1 234",
		"3 of 4 boxes are up, 3 are needed.", "box-1 leads", "box-0 (this box)", "box-1 leader", "box-3", "away", "Last blocks", "12 observations of 2 objects", "18446744073709551615",
	} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("%q does not follow in %q", want, text[at:])
		}
		at += i
	}
	if !strings.Contains(w.Body.String(), `<noscript><meta http-equiv="refresh"`) {
		t.Error("the page does not refresh without script")
	}
}

func TestThePolicyAllowsTheConsolesOwnFilesOnlyAndPagesHaveNoneInline(t *testing.T) {
	c := newConsole(t, servingSite())
	w := get(t, c, "/")
	policy := w.Header().Get("Content-Security-Policy")
	inline := regexp.MustCompile(`<style|<script>|<script [^>]*>[^<]| style=| on[a-z]+=|javascript:`)
	for _, p := range c.pages {
		if got := inline.FindString(get(t, c, strings.TrimSuffix(p.path, "{$}")).Body.String()); got != "" {
			t.Errorf("%s has %q", p.path, got)
		}
	}
	if strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %q is not strict", policy)
	}
	for h, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
		if got := w.Header().Get(h); got != want {
			t.Errorf("%s: %q, want %q", h, got, want)
		}
	}
}

func TestNamesOnThePageAreTextNotMarkup(t *testing.T) {
	s := servingSite()
	s.view.Members[1].Name = "<img src=x onerror=alert(1)>"
	s.view.Verdict = "<script>alert(1)</script>"
	s.view.Members[2].Console = `x"><script>`
	c := newConsole(t, s)
	for where, text := range map[string]string{"page": get(t, c, "/").Body.String(), "event": newEyes(t, c, "/").next(t)} {
		if strings.Contains(text, "<img") || strings.Contains(text, "<script>alert") || strings.Contains(text, `x"><script>`) {
			t.Errorf("%s has markup of a peer", where)
		}
	}
}

func TestReadinessSaysWhyNot(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*fakeSite, *Console)
		code   int
		want   string
	}{
		{"serving", func(*fakeSite, *Console) {}, 200, "ready"},
		{"no quorum", func(s *fakeSite, _ *Console) {
			s.view.Serving, s.view.Verdict = false, "Only 2 of 3 needed boxes are up."
		}, 503, "Only 2 of 3"},
		{"fault", func(s *fakeSite, _ *Console) { s.view.Fault = "log is damaged" }, 503, "log is damaged"},
		{"stopping", func(_ *fakeSite, c *Console) { c.Drain() }, 503, "stopping"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := servingSite()
			c := newConsole(t, s)
			tc.change(s, c)
			if w := get(t, c, "/readyz"); w.Code != tc.code || !strings.Contains(w.Body.String(), tc.want) {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, tc.code, tc.want)
			}
			if w := get(t, c, "/healthz"); w.Code != http.StatusOK {
				t.Errorf("healthz is %d while the process lives", w.Code)
			}
		})
	}
}

// What feeds a watchdog asks this: a box whose ordering hangs must not pass for one that lives.
func TestABoxWhoseOrderingHangsDoesNotSayThatItLives(t *testing.T) {
	s := servingSite()
	c := newConsole(t, s)
	s.hangs = make(chan struct{})
	defer close(s.hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/healthz", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	if w.Body.Len() > 0 {
		t.Errorf("it says %q", w.Body)
	}
}

func TestOtherHostsMethodsAndOriginsAreTurnedAway(t *testing.T) {
	c := newConsole(t, servingSite())
	for _, tc := range []struct {
		name, method, host string
		header             [2]string
		code               int
	}{
		{"address", "GET", "192.0.2.7:8080", [2]string{}, 200},
		{"IPv6 address", "GET", "[::1]:8080", [2]string{}, 200},
		{"bare IPv6 address", "GET", "[::1]", [2]string{}, 200},
		{"localhost", "GET", "LOCALHOST:8080", [2]string{}, 200},
		{"configured name", "GET", "shop.example", [2]string{}, 200},
		{"configured name with a dot", "GET", "shop.example.", [2]string{}, 200},
		{"rebound name", "GET", "evil.example:8080", [2]string{}, 421},
		{"name that begins like ours", "GET", "localhost.evil.example", [2]string{}, 421},
		{"no name", "GET", "", [2]string{}, 421},
		{"head", "HEAD", "localhost", [2]string{}, 200},
		{"post", "POST", "localhost", [2]string{}, 405},
		{"delete", "DELETE", "localhost", [2]string{}, 405},
		{"link from elsewhere", "GET", "localhost", [2]string{"Sec-Fetch-Mode", "navigate"}, 200},
		{"fetch from elsewhere", "GET", "localhost", [2]string{"Sec-Fetch-Mode", "no-cors"}, 403},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, "/healthz", nil)
			r.Host = tc.host
			if tc.header[0] != "" {
				r.Header.Set(tc.header[0], tc.header[1])
				r.Header.Set("Sec-Fetch-Site", "cross-site")
			}
			w := httptest.NewRecorder()
			c.Handler().ServeHTTP(w, r)
			if w.Code != tc.code {
				t.Errorf("%d, want %d", w.Code, tc.code)
			}
		})
	}
}

func TestAPIAnswers(t *testing.T) {
	c := newConsole(t, servingSite())
	var v api.Status
	getJSON(t, c, "/api/v1/status", 200, &v)
	if v.Height != 1234 || len(v.Members) != 4 || v.Leader.String() != "0202020202020202" {
		t.Errorf("status %+v", v)
	}
	var m api.Members
	getJSON(t, c, "/api/v1/members", 200, &m)
	if m.Quorum != 3 || m.Members[3].Up || m.Members[0].Native == "" {
		t.Errorf("members %+v", m)
	}
	var b struct{ Blocks []struct{ Messages int } }
	getJSON(t, c, "/api/v1/blocks", 200, &b)
	if len(b.Blocks) != 1 || b.Blocks[0].Messages != 100 {
		t.Errorf("blocks %+v", b)
	}
	var top site.Top
	getJSON(t, c, "/api/v1/top?n=1", 200, &top)
	if top.Total != 12 || len(top.Top) != 1 || top.Top[0].Object != 18446744073709551615 {
		t.Errorf("top %+v", top)
	}
	var e api.Error
	for _, path := range []string{"/api/v1/top?n=-1", "/api/v1/top?n=x", "/api/v1/top?n=1048577", "/api/v1/log?from=x", "/api/v1/log?from=9&to=8"} {
		getJSON(t, c, path, 400, &e)
	}
	getJSON(t, c, "/api/v1/nothing", 404, &e)
	getJSON(t, c, "/api/v1/kv/absent", 404, &e)
	getJSON(t, c, "/api/v1/log?from=1", 410, &e)
}

func TestKeysAreAskedForAsTheyAre(t *testing.T) {
	c := newConsole(t, servingSite())
	for path, want := range map[string]string{
		"/api/v1/kv/%2Fconfig%2Fttl":       "60",
		"/api/v1/kv/a%2F%2Fb%2F..%2Fc":     "odd",
		"/api/v1/kv/%3Cscript%3E":          "<b>",
		"/api/v1/kv/a%2F%2Fb%2F%2E%2E%2Fc": "odd",
	} {
		var kv api.KV
		getJSON(t, c, path, 200, &kv)
		if string(kv.Value) != want || kv.Revision != 7 {
			t.Errorf("%s: %+v, want %q", path, kv, want)
		}
	}
}

func TestTheLogIsOneLineABlockWithMessagesAndCertificate(t *testing.T) {
	w := get(t, newConsole(t, servingSite()), "/api/v1/log")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	var lines []api.LogLine
	for line := range strings.Lines(w.Body.String()) {
		var l api.LogLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		lines = append(lines, l)
	}
	if len(lines) != 3 {
		t.Fatalf("%d lines: %s", len(lines), w.Body)
	}
	put := lines[0]
	if put.Height != 3 || len(put.Certificate.Signatures) != 3 || put.Certificate.Kind != "finalize" || put.Batches[0].Digest[:2] != "07" {
		t.Errorf("block %+v", put.LogHead)
	}
	if m := put.Messages[0]; m.Kind != "put" || m.Session != "fedcba9876543210" || string(m.Key) != "k" || string(m.Value) != "v" || m.Time.UnixMilli() != 1000 {
		t.Errorf("message %+v", m)
	}
	if m := lines[1].Messages; *m[0].Object != 77 || *m[0].Count != 1 || *m[1].Object != 78 || *m[1].Count != 300 {
		t.Errorf("observations %+v", m)
	}
	if l := lines[2]; l.Batches[0].Error == "" || len(l.Messages) != 0 {
		t.Errorf("a batch that cannot be read shows as %+v", l)
	}
	if w := get(t, newConsole(t, servingSite()), "/api/v1/log?from=99"); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("heights to come: %d %q", w.Code, w.Body)
	}
}

func TestMetricsParseAndHoldTheSitesNumbers(t *testing.T) {
	w := get(t, newConsole(t, servingSite()), "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	value := func(name, label string) float64 {
		for _, m := range families[name].GetMetric() {
			if label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label }) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		t.Errorf("no metric %s{%s}", name, label)
		return 0
	}
	for _, tc := range []struct {
		name, label string
		want        float64
	}{
		{"coord_height", "", 1234},
		{"coord_messages_applied_total", "", 76118},
		{"coord_conflicting_commits_total", "", 0},
		{"coord_decisions_total", "messages", 1190},
		{"coord_decisions_total", "empty", 10},
		{"coord_network_io_bytes_total", "transmit", 42},
		{"coord_member_up", "box-0", 1},
		{"coord_member_up", "box-3", 0},
		{"coord_ready", "", 1},
	} {
		if got := value(tc.name, tc.label); got != tc.want {
			t.Errorf("%s{%s} is %v, want %v", tc.name, tc.label, got, tc.want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total", "coord_decision_duration_seconds"} {
		if families[name] == nil {
			t.Errorf("no %s", name)
		}
	}
}

// ofABox are the answers that only a whole box gives: firmware/box asks for them.
var ofABox = []string{
	"/api/v1/anomalies", "/api/v1/site", "/api/v1/access", "/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels", "/api/v1/label/{name}/values",
	"/api/v1/traces", "/api/v1/traces/{id}", "/api/v1/why/{revision}", "/api/v1/debug/log", "/api/v1/crashes/{file}",
}

func TestOpenAPIDescribesEveryRouteAndEveryRequiredField(t *testing.T) {
	c := newConsole(t, servingSite())
	var doc struct {
		Paths map[string]struct {
			Get *struct {
				Responses map[string]struct {
					Content map[string]struct {
						Schema map[string]any `json:"schema"`
					} `json:"content"`
				} `json:"responses"`
			} `json:"get"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]struct {
				Required   []string       `json:"required"`
				Properties map[string]any `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	getJSON(t, c, "/api/v1/openapi.json", 200, &doc)
	for path, p := range doc.Paths {
		if path == "/events" || p.Get == nil || slices.Contains(ofABox, path) {
			continue // does not end by itself; is something to be done; is of a whole box
		}
		ask := strings.Replace(path, "{key}", "%2Fconfig%2Fttl", 1)
		ask = strings.Replace(ask, "{index}", "0", 1)
		ask = strings.Replace(ask, "{id}", openDecision().Digest([8]byte{9}).String(), 1)
		if strings.HasPrefix(path, "/api/v1/proof/") {
			ask += "?nonce=00112233445566778899"
		}
		w := getOn(t, c, ask, "unix")
		if w.Code != 200 {
			t.Errorf("%s is described and answers %d", path, w.Code)
		}
		ref, _ := p.Get.Responses["200"].Content["application/json"].Schema["$ref"].(string)
		if ref == "" {
			continue
		}
		schema := doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
		var body map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, field := range schema.Required {
			if _, ok := body[field]; !ok {
				t.Errorf("%s does not answer with %q", path, field)
			}
		}
		for field := range body {
			if _, ok := schema.Properties[field]; !ok {
				t.Errorf("%s answers with %q, which is not described", path, field)
			}
		}
	}
	for _, path := range []string{"/api/v1/status", "/api/v1/log", "/api/v1/kv/{key}", "/events", "/metrics", "/healthz", "/readyz"} {
		if _, ok := doc.Paths[path]; !ok {
			t.Errorf("%s is not described", path)
		}
	}
}

func TestANewConsoleAsksNothingOfASiteThatDoesNotRunYet(t *testing.T) {
	newConsole(t, struct{ Site }{}) // any call would panic
}

func TestAnUnreadableCounterDoesNotTakeThePageAway(t *testing.T) {
	s := servingSite()
	s.topErr = errors.New("disk is gone")
	c := newConsole(t, s)
	if w := get(t, c, "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "disk is gone") {
		t.Errorf("%d", w.Code)
	}
	var e api.Error
	getJSON(t, c, "/api/v1/top", 500, &e)
}
