package console

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/trace"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/console/chart"
)

// pageTraces is how many traces the page lists.
const pageTraces = 50

// tracePages are there if the box keeps traces.
func (c *Console) tracePages() []*page {
	if c.cfg.Traces == nil {
		return nil
	}
	return []*page{
		{
			path: "/traces", title: "Traces", name: "traces", group: "Watch", live: true, data: c.tracesData,
			sections: []part{{"filter", "bare"}, {"list", ""}},
		},
		{
			path: "/traces/{id}", title: "Trace", name: "trace", data: c.traceData,
			sections: []part{{"facts", ""}, {"spans", ""}},
		},
		{
			path: "/why", title: "Causes", name: "why", group: "Watch", action: actionLog, data: c.whyData, // it shows keys
			sections: []part{{"ask", "bare"}, {"answer", "bare"}, {"graph", ""}, {"table", ""}},
		},
	}
}

// tracesPage is what the page of traces shows.
type tracesPage struct {
	Query   url.Values
	Reasons []string
	*api.Traces
	List []traceRow
}

type traceRow struct {
	api.TraceHead
	Took string
	Bar  template.HTML
}

func (c *Console) tracesData(l *look) (any, error) {
	q, err := traceQuery(l.request, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	q.Limit = min(q.Limit, pageTraces)
	t, err := c.cfg.Traces.List(q)
	if err != nil {
		return nil, err
	}
	d := &tracesPage{Query: l.request.URL.Query(), Traces: t, Reasons: trace.Reason(0xff).Names()}
	var longest int64
	for i := range t.Traces {
		longest = max(longest, t.Traces[i].Duration)
	}
	for i := range t.Traces {
		h := t.Traces[i]
		d.List = append(d.List, traceRow{h, took(h.Duration), spanBar(0, h.Duration, longest, h.Error != "", 0)})
	}
	return d, nil
}

// reasonText says why a trace is kept.
func reasonText(name string) string {
	text := map[string]string{
		"error": "it failed", "slow": "it was slow", "round_change": "a round was given up", "anomaly": "something was unusual", "random": "by chance", "client": "its client asked",
	}[name]
	return first(text, name)
}

// Is says whether a value is chosen in the form of filters.
func (d *tracesPage) Is(name, value string) bool { return slices.Contains(d.Query[name], value) }

// Size says how much of the room for traces is taken.
func (d *tracesPage) Size() string {
	return chart.Bytes.Text(float64(d.Bytes)) + " of " + chart.Bytes.Text(float64(d.BytesMax))
}

func took(nanoseconds int64) string { return chart.Seconds.Text(float64(nanoseconds) / 1e9) }

// spanBar draws from when to when of a whole something was; box chooses the colour.
func spanBar(start, long, whole int64, failed bool, box int) template.HTML {
	share := func(v int64) float64 { return 100 * float64(max(0, min(v, whole))) / float64(max(whole, 1)) }
	from, wide := share(start), share(long)
	wide = max(min(wide, 100-from), .6) // what is short is seen all the same
	from = min(from, 100-wide)
	class := "c" + strconv.Itoa(box%6+1)
	if failed {
		class = "bad"
	}
	return template.HTML(fmt.Sprintf(`<svg class="span" width="100%%" height="12" aria-hidden="true"><rect class="%s" x="%.2f%%" width="%.2f%%" height="12" rx="2"/></svg>`, class, from, wide)) // numbers alone
}

// tracePage is what the page of one trace shows.
type tracePage struct {
	*api.Trace
	Took  string
	Load  string
	Boxes []string // by colour
	Rows  []spanRow
}

type spanRow struct {
	api.Span
	Took, At string
	Indent   int
	Bar      template.HTML
}

// indentMax is how deep rows are set in.
const indentMax = 5

func (c *Console) traceData(l *look) (any, error) {
	var id trace.ID
	if id.UnmarshalText([]byte(l.value("id"))) != nil {
		return nil, fmt.Errorf("%w: a trace is named by 32 lower-case hexadecimal digits", errNotFound)
	}
	ctx, cancel := context.WithTimeout(l.ctx, tracesTimeMax)
	defer cancel()
	t, err := c.cfg.Traces.Show(ctx, id)
	if errors.Is(err, ErrNoTrace) {
		return nil, fmt.Errorf("%w: no box knows this trace; the oldest are thrown away first", errNotFound)
	}
	if err != nil {
		return nil, err
	}
	d := &tracePage{Trace: t, Took: took(t.Duration), Load: countOf(int(t.Messages), "message") + ", " + countOf(int(t.TraceHead.Bytes), "byte")}
	whole := t.Duration
	for i := range t.Spans {
		whole = max(whole, t.Spans[i].Start+t.Spans[i].Duration)
	}
	for i := range t.Spans {
		s := t.Spans[i]
		if !slices.Contains(d.Boxes, s.BoxName) {
			d.Boxes = append(d.Boxes, s.BoxName)
		}
		d.Rows = append(d.Rows, spanRow{
			s, took(s.Duration), took(s.Start), min(s.Depth, indentMax), spanBar(s.Start, s.Duration, whole, s.Error != "", slices.Index(d.Boxes, s.BoxName)),
		})
	}
	return d, nil
}

// whyPage is what the page of causes shows.
type whyPage struct {
	Revision uint64
	Depth    int
	Depths   []int
	Why      *api.Why
	Problem  string
	Graph    template.HTML
	Nodes    []whyRow
}

type whyRow struct {
	api.WhyNode
	N      int
	What   string
	Causes []whyCause
}

type whyCause struct {
	N           int
	Label, Kind string
}

func (c *Console) whyData(l *look) (any, error) {
	d := &whyPage{Revision: l.View.Revision, Depth: api.WhyDepthDefault}
	for i := range api.WhyDepthMax {
		d.Depths = append(d.Depths, i+1)
	}
	var err error
	if s := l.value("revision"); s != "" {
		if d.Revision, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, fmt.Errorf("%w: a revision is a number", ErrBad)
		}
	}
	if s := l.value("depth"); s != "" {
		if d.Depth, err = strconv.Atoi(s); err != nil || d.Depth < 1 || d.Depth > api.WhyDepthMax {
			return nil, fmt.Errorf("%w: depth is a number from 1 to %d", ErrBad, api.WhyDepthMax)
		}
	}
	ctx, cancel := context.WithTimeout(l.ctx, tracesTimeMax)
	defer cancel()
	d.Why, err = c.cfg.Traces.Why(ctx, d.Revision, d.Depth)
	if errors.Is(err, ErrNoTrace) {
		d.Problem = err.Error()
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	d.draw()
	return d, nil
}

// draw makes the graph, and the table that says the same.
func (d *whyPage) draw() {
	g := &chart.Graph{ID: "causes", Title: fmt.Sprintf("What revision %d depends on", d.Revision), About: "Each leads to its row in the table below."}
	place := map[string]int{}
	for i := range d.Why.Nodes {
		n := &d.Why.Nodes[i]
		place[n.ID] = i
		d.Nodes = append(d.Nodes, whyRow{WhyNode: *n, N: i, What: whatOf(n)})
		g.Nodes = append(g.Nodes, chart.Node{ID: n.ID, Rank: n.Rank, Label: nodeText(n), Note: noteOf(n), Class: n.Kind, Link: "#node-" + strconv.Itoa(i)})
	}
	for _, e := range d.Why.Edges {
		from, ok := place[e.From]
		to, ok2 := place[e.To]
		if !ok || !ok2 {
			continue
		}
		text := edgeText(e.Kind, e.Label)
		d.Nodes[from].Causes = append(d.Nodes[from].Causes, whyCause{to, d.Why.Nodes[to].Label, text})
		g.Edges = append(g.Edges, chart.Edge{From: e.From, To: e.To, Class: e.Kind, Label: text})
	}
	d.Graph = g.SVG()
}

func edgeText(kind, label string) string {
	text := map[string]string{
		api.WhyIn: "is in", api.WhyReads: "read what was written by", api.WhyWrites: "replaces what was written by", api.WhySession: "comes in its session after",
		api.WhyAuthor: "comes from the same box after", api.WhyParent: "builds on",
	}[kind]
	if label != "" {
		text += " (" + label + ")"
	}
	return text
}

// nodeText and noteOf are a node's two lines in the drawing.
func nodeText(n *api.WhyNode) string {
	switch {
	case n.Kind == api.WhyMessage && n.Revision > 0:
		return fmt.Sprintf("revision %d", n.Revision)
	case n.Kind == api.WhyBatch:
		return "batch of " + n.AuthorName
	case n.Kind == api.WhyBlock:
		return fmt.Sprintf("block %d", n.Height)
	}
	return n.Label
}

func noteOf(n *api.WhyNode) string {
	switch n.Kind {
	case api.WhyMessage:
		if len(n.Keys) > 0 {
			return strings.TrimSpace(n.Op + " " + bytesText(n.Keys[0]))
		}
		return n.Op
	case api.WhyBatch:
		return countOf(n.Messages, "message")
	case api.WhyBlock:
		if n.LeaderName == "" { // nobody here knows the members of that epoch
			return fmt.Sprintf("round %d", n.Round)
		}
		return "led by " + n.LeaderName
	}
	return n.Kind
}

func countOf(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// whatOf is all that is known of a node, in words.
func whatOf(n *api.WhyNode) string {
	var parts []string
	add := func(format string, v ...any) { parts = append(parts, fmt.Sprintf(format, v...)) }
	if n.Op != "" {
		add("%s", n.Op)
	}
	for _, k := range n.Keys[:min(len(n.Keys), 3)] {
		add("key %s", bytesText(k))
	}
	if !n.Time.IsZero() {
		add("at %s", dayText(n.Time))
	}
	if n.Session != "" {
		add("number %d of session %s", n.Seq, n.Session)
	}
	if n.Kind == api.WhyBatch {
		add("%s, made by %s", countOf(n.Messages, "message"), n.AuthorName)
		for _, p := range n.Phases {
			add("%s %s", p.Name, took(p.Duration))
		}
	}
	if n.Kind == api.WhyBlock {
		add("height %d, round %d", n.Height, n.Round)
		if n.LeaderName != "" {
			add("proposed by %s", n.LeaderName)
		}
		if len(n.Voters) > 0 {
			add("made final by %s", strings.Join(n.Voters, ", "))
		}
		if n.Skipped > 0 {
			add("%s given up before it", countOf(int(n.Skipped), "round"))
		}
	}
	return strings.Join(parts, "; ")
}
