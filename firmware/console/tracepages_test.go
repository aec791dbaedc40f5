package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// traced answers for one batch that was slow, and for the revision that it made; asked has the last question.
type traced struct{ asked api.TraceQuery }

var tracedID = trace.ID{0xab, 0xcd}

func (f *traced) head() api.TraceHead {
	return api.TraceHead{
		ID: tracedID, Start: time.Unix(1e9, 0).UTC(), Duration: 80e6, Reasons: []string{"slow", "round_change"}, AuthorName: "box-<0>", LeaderName: "box-1", Batch: "feedbeefcafe",
		Height: 1234, Round: 1300, Epoch: 2, Messages: 1, Bytes: 640, Boxes: 2,
	}
}

func (f *traced) List(q api.TraceQuery) (*api.Traces, error) {
	f.asked = q
	t := &api.Traces{Judged: 4000, Kept: 40, Bytes: 2048, BytesMax: 32 << 20}
	if q.Min <= 80*time.Millisecond {
		t.Traces = append(t.Traces, f.head())
	}
	return t, nil
}

func (f *traced) Show(_ context.Context, id trace.ID) (*api.Trace, error) {
	if id != tracedID {
		return nil, ErrNoTrace
	}
	return &api.Trace{TraceHead: f.head(), Spans: []api.Span{
		{ID: trace.SpanID{1}, Name: "batch", BoxName: "box-<0>", Duration: 80e6},
		{ID: trace.SpanID{2}, Parent: trace.SpanID{1}, Depth: 1, Name: "vote", BoxName: "box-1", Start: 20e6, Duration: 40e6, Error: "round <1301> was given up", Attributes: map[string]any{"holdfast.round": 1301}},
	}}, nil
}

func (f *traced) Why(_ context.Context, revision uint64, depth int) (*api.Why, error) {
	if revision != 42 {
		return nil, fmt.Errorf("revision %d: %w", revision, ErrNoTrace)
	}
	return &api.Why{
		Revision: 42, Depth: depth, LogFrom: 3, Truncated: true, Sentence: "Revision 42 is a message of box box-0 in block 1234.",
		Nodes: []api.WhyNode{
			{ID: "m", Kind: api.WhyMessage, Label: "revision 42", Revision: 42, Op: "put", Keys: []api.Bytes{api.Bytes("config/<ttl>")}},
			{ID: "b", Kind: api.WhyBatch, Rank: 1, Label: "batch of box-0", AuthorName: "box-0", Messages: 1, Trace: &tracedID, Kept: true, Phases: []api.WhyPhase{{Name: "vote", Duration: 40e6}}},
			{ID: "o", Kind: api.WhyMessage, Rank: 1, Label: "revision 17", Revision: 17, Op: "put", Keys: []api.Bytes{api.Bytes("config/base")}},
			{ID: "k", Kind: api.WhyBlock, Rank: 2, Label: "block 1234", Height: 1234, Round: 1300, LeaderName: "box-1", Voters: []string{"box-0", "box-2"}, Skipped: 1},
		},
		Edges: []api.WhyEdge{{From: "m", To: "b", Kind: api.WhyIn}, {From: "m", To: "o", Kind: api.WhyReads, Label: "config/base"}, {From: "b", To: "k", Kind: api.WhyIn}, {From: "b", To: "lost", Kind: api.WhyAuthor}},
	}, nil
}

func tracing(t *testing.T) (*traced, *Console) {
	t.Helper()
	f := &traced{}
	return f, newConsole(t, servingSite(), func(cfg *Config) { cfg.Traces = f })
}

func mustSay(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, want := range words {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

// spaced is a text with plain spaces where figures have narrow ones.
func spaced(text string) string {
	return strings.NewReplacer("\u202f", " ", "\u00a0", " ", "\u2009", " ").Replace(text)
}

func TestTheTracesPageListsWhatAFilterChooses(t *testing.T) {
	f, c := tracing(t)
	text := spaced(textOf(get(t, c, "/traces").Body.String()))
	mustSay(t, text, "40 of 4 000 batches", "2 KiB of 32 MiB", "80 ms", "it was slow", "a round was given up", "box-&lt;0&gt;", "box-1 1 1 234 2")
	if f.asked.Limit != pageTraces || f.asked.Min != 0 || f.asked.Reason != 0 {
		t.Errorf("asked for %+v", f.asked)
	}
	html := get(t, c, "/traces?reason=slow&min=200ms&since=1h").Body.String()
	mustSay(t, textOf(html), "No trace fits")
	mustSay(t, html, `<option value="slow" selected>`, "<option selected>200ms", "<option selected>1h")
	if f.asked.Min != 200*time.Millisecond || f.asked.Reason != trace.ReasonNamed("slow") || time.Since(f.asked.Since).Round(time.Hour) != time.Hour {
		t.Errorf("asked for %+v", f.asked)
	}
	for _, bad := range []string{"/traces?reason=none", "/traces?min=soon", "/traces?since=x"} {
		if w := get(t, c, bad); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	if code := get(t, newConsole(t, servingSite()), "/traces").Code; code != http.StatusNotFound {
		t.Errorf("a box without traces has a page of them: %d", code)
	}
}

func TestATraceShowsWhereTheTimeWentOnEachBox(t *testing.T) {
	_, c := tracing(t)
	html := get(t, c, "/traces/"+tracedID.String()).Body.String()
	mustSay(t, spaced(textOf(html)), "Batch feedbeef of box-&lt;0&gt;", "height 1 234, round 1 300, epoch 2, led by box-1", "1 message, 640 bytes", "vote round &lt;1301&gt; was given up", "holdfast.round 1301", "box-1 20 ms 40 ms")
	// The bar of what takes the second quarter and the third begins at a quarter, and is half as wide as the whole.
	mustSay(t, html, `class="bad" x="25.00%" width="50.00%"`, `class="c1" x="0.00%" width="100.00%"`, `class="in1"`)
	for path, code := range map[string]int{"/traces/" + strings.Repeat("0", 32): http.StatusNotFound, "/traces/xyz": http.StatusNotFound} {
		if w := get(t, c, path); w.Code != code {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestTheCausesPageDrawsWhatARevisionDependsOnAndSaysTheSameInATable(t *testing.T) {
	_, c := tracing(t)
	html := get(t, c, "/why?revision=42&depth=2").Body.String()
	mustSay(t, spaced(textOf(html)), "Revision 42 is a message", "There is more, further back. This box's log begins at height 3", "put; key config/&lt;ttl&gt;",
		"is in batch of box-0", "read what was written by (config/base) revision 17", "1 message, made by box-0; vote 40 ms", "made final by box-0, box-2; 1 round given up before it")
	// Each node of the drawing leads to its row; an edge to what is not drawn is left out.
	mustSay(t, html, `href="#node-1"`, `id="node-3"`, `href="/traces/`+tracedID.String()+`"`, `href="/why?revision=17"`, `<option selected>2`)
	if n := strings.Count(html, `class="edge `); n != 3 {
		t.Errorf("%d edges are drawn", n)
	}
	w := get(t, c, "/why?revision=7")
	mustSay(t, spaced(textOf(w.Body.String())), "revision 7: not known")
	if strings.Contains(w.Body.String(), "<svg class=\"graph") {
		t.Error("there is a drawing of nothing")
	}
	for _, bad := range []string{"/why?revision=x", "/why?depth=0", "/why?depth=9"} {
		if w := get(t, c, bad); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
}

func TestCausesAreForWhoMayReadTheLogForTheyShowKeys(t *testing.T) {
	d := newDesk(t)
	r := rights{map[string]bool{"operator:ann console.view": true}}
	s := servingSite()
	cn := newConsole(t, s, func(cfg *Config) {
		cfg.Traces, cfg.Desk, cfg.Access, cfg.ViewOpen, cfg.Record = &traced{}, d.Desk, r, false, d.record
	})
	b := (&guarded{cn, d}).browser()
	b.setUp(t, "ann")
	for _, path := range []string{"/why?revision=42", "/api/v1/why/42"} {
		if w := b.get(path); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "config/") {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if strings.Contains(b.get("/traces").Body.String(), `href="/why"`) {
		t.Error("the navigation leads there")
	}
	r.may["operator:ann log.read"] = true
	if w := b.get("/why?revision=42"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "config/") {
		t.Errorf("who may: %d", w.Code)
	}
}
