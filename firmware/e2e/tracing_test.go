package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// otlpSpan is a span with the box whose resource it came in.
type otlpSpan struct {
	*otlp.Span
	box string
}

// otlpCollector takes OTLP over HTTP, and is away at first: it refuses the first request of each box.
type otlpCollector struct {
	*httptest.Server
	mu     sync.Mutex
	spans  map[string][]otlpSpan // by trace
	away   map[string]bool
	faults []string
}

func newCollector(t *testing.T) *otlpCollector {
	c := &otlpCollector{spans: map[string][]otlpSpan{}, away: map[string]bool{}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.Close)
	return c
}

func (c *otlpCollector) take(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fault := func(format string, args ...any) {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
		w.WriteHeader(http.StatusBadRequest)
	}
	body, err := io.ReadAll(r.Body)
	var in collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &in)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		fault("%s %s, %s: %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), err)
		return
	}
	if r.Header.Get("Authorization") != "Bearer of the collector" {
		fault("authorization %q", r.Header.Get("Authorization"))
		return
	}
	for _, rs := range in.ResourceSpans {
		about := map[string]string{}
		for _, a := range rs.Resource.Attributes {
			about[a.Key] = a.Value.GetStringValue()
		}
		box := about["service.instance.id"]
		if about["service.name"] != "holdfast" || len(box) != 16 || len(about["holdfast.site"]) != 16 || !strings.HasPrefix(about["host.name"], "box-") {
			fault("resource %v", about)
			return
		}
		if !c.away[box] {
			c.away[box] = true
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				id := hex.EncodeToString(s.TraceId)
				c.spans[id] = append(c.spans[id], otlpSpan{s, box})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// named counts the spans of a trace by name.
func (c *otlpCollector) named(id string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := map[string]int{}
	for _, s := range c.spans[id] {
		names[s.Name]++
	}
	return names
}

const clientTrace, clientSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

// call makes a call of the etcd API as JSON, below a trace of the client's.
func (s *liveSite) call(box int, path, body string) (answer string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/v3/kv/%s", s.base+40+10*box, path), strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("traceparent", "00-"+clientTrace+"-"+clientSpan+"-01")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %s, %v", path, resp.StatusCode, text, err)
	}
	return string(text)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestTheSpansOfAllBoxesReachACollectorAsOneTree has a client write below a trace of its own. Every box exports its part to a collector that is away
// at first, and together the parts are one tree below the client's span. A box tells the whole trace, also after a restart, and what
// the revision depends on.
func TestTheSpansOfAllBoxesReachACollectorAsOneTree(t *testing.T) {
	s, c := newSite(t), newCollector(t)
	s.start()
	s.stop()
	for i := range 4 {
		dir := filepath.Join(s.dir, fmt.Sprintf("box-%d", i))
		path := filepath.Join(dir, "holdfast.toml")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), `otlp = ""`, fmt.Sprintf("otlp = %q", c.URL), 1)
		changed = strings.Replace(changed, `otlp_headers_file = ""`, `otlp_headers_file = "headers"`, 1)
		if changed == string(text) {
			t.Fatalf("%s has no traces.otlp", path)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "headers"), []byte("# of the test\nAuthorization: Bearer of the collector\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	s.call(2, "put", fmt.Sprintf(`{"key":%q,"value":%q}`, b64("door"), b64("open")))
	var a struct {
		Header struct {
			Revision uint64 `json:",string"`
		}
	}
	answer := s.call(2, "txn", fmt.Sprintf(`{"compare":[{"key":%q,"target":"VERSION","result":"EQUAL","version":"1"}],"success":[{"request_put":{"key":%q,"value":%q}}]}`, b64("door"), b64("lamp"), b64("on")))
	if err := json.Unmarshal([]byte(answer), &a); err != nil || !strings.Contains(answer, "succeeded") {
		t.Fatal(answer, err)
	}
	s.await("the collector has what four boxes know of two batches", func() error {
		if n := c.named(clientTrace); n["message"] != 2 || n["order"] != 8 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	c.mu.Lock()
	if len(c.faults) > 0 || len(c.away) != 4 {
		t.Error(c.faults, len(c.away))
	}
	wantTree(t, c.spans[clientTrace], s.ready().Boxes[2].ID)
	c.mu.Unlock()

	shown := func() (tr api.Trace) {
		t.Helper()
		out, err := s.run("trace", "show", clientTrace, "--addr", s.console(2), "--json")
		if err != nil || json.Unmarshal(out, &tr) != nil {
			t.Fatalf("%s %v", out, err)
		}
		return tr
	}
	s.await("box 2 has the whole trace", func() error {
		if tr := shown(); tr.Boxes != 4 || !slices.Contains(tr.Reasons, "client") || tr.Spans[0].Name != "message" || tr.Spans[0].Parent.String() != clientSpan {
			return fmt.Errorf("%+v", tr.TraceHead)
		}
		return nil
	})
	why := func() {
		t.Helper()
		out, err := s.run("debug", "why", fmt.Sprint(a.Header.Revision), "--addr", s.console(1), "--json")
		var w api.Why
		if err != nil || json.Unmarshal(out, &w) != nil {
			t.Fatalf("%s %v", out, err)
		}
		kinds := map[string]int{}
		for _, e := range w.Edges {
			kinds[e.Kind]++
			if e.Kind == "reads" && e.Label != "door" {
				t.Errorf("it looked at %s", e.Label)
			}
		}
		if kinds["reads"] != 1 || kinds["in"] < 3 || kinds["author"] == 0 || w.Nodes[0].Op != "txn" || w.Nodes[0].Revision != a.Header.Revision ||
			!strings.Contains(w.Sentence, "it looked at door of revision") {
			t.Errorf("%v\n%s", kinds, out)
		}
	}
	why()
	s.stop()
	s.start()
	if tr := shown(); tr.Boxes != 4 {
		t.Errorf("after a restart: %+v", tr.TraceHead)
	}
	why()
	for _, args := range [][]string{{"trace", "list"}, {"trace", "show", clientTrace}, {"debug", "why", fmt.Sprint(a.Header.Revision)}} {
		out, err := s.run(append(args, "--addr", s.console(2))...)
		if err != nil || len(out) == 0 {
			t.Errorf("%v: %v", args, err)
		}
		t.Logf("holdfast %s\n%s", strings.Join(args, " "), out)
	}
}

// wantTree wants spans to be whole: ids that are there once, parents that are there and around their children, times that ascend.
func wantTree(t *testing.T, spans []otlpSpan, author string) {
	t.Helper()
	byID, names := map[string]otlpSpan{}, map[string]int{}
	for _, s := range spans {
		id := hex.EncodeToString(s.SpanId)
		if _, twice := byID[id]; twice || len(s.SpanId) != 8 || len(s.TraceId) != 16 {
			t.Errorf("span %s of %s: there twice, or malformed", id, s.Name)
		}
		byID[id] = s
		names[s.Name]++
		if s.StartTimeUnixNano == 0 || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s on %s is from %d to %d", s.Name, s.box, s.StartTimeUnixNano, s.EndTimeUnixNano)
		}
	}
	for _, s := range spans {
		attrs := map[string]bool{}
		for _, a := range s.Attributes {
			attrs[a.Key] = true
		}
		up, inside := byID[hex.EncodeToString(s.ParentSpanId)]
		switch {
		case s.Name == "message":
			if hex.EncodeToString(s.ParentSpanId) != clientSpan || s.Kind != otlp.Span_SPAN_KIND_SERVER || s.box != author ||
				!attrs["holdfast.batch.digest"] || !attrs["holdfast.block.height"] || !attrs["holdfast.kept"] {
				t.Errorf("the message is not below the client's span: %v", s.Span)
			}
		case !inside:
			t.Errorf("%s on %s has no parent", s.Name, s.box)
		case s.Name == "order" && s.box != author:
			if up.Name != "message" || up.box != author || s.Kind != otlp.Span_SPAN_KIND_CONSUMER || s.Flags&0x300 != 0x300 {
				t.Errorf("order on %s is below %s of %s, kind %v, flags %x", s.box, up.Name, up.box, s.Kind, s.Flags)
			}
		case up.box != s.box || up.StartTimeUnixNano > s.StartTimeUnixNano || up.EndTimeUnixNano < s.EndTimeUnixNano:
			t.Errorf("%s on %s is not within %s on %s", s.Name, s.box, up.Name, up.box)
		}
	}
	if n := names["message"]; n == 0 || names["order"] != 4*n || names["submit"] != n || names["batch"] != n || names["answer"] != n || names["apply"] != 4*n ||
		names["vote"] < 3*n || names["finalize"] < 3*n || names["propose"] < 3*n {
		t.Errorf("%v", names)
	}
}
