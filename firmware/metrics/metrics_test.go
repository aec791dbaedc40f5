package metrics

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trace"
)

// exported is a row of the table for each metric of this package.
func exported(t *testing.T) (rows []string) {
	t.Helper()
	v := &site.View{
		Members: []site.MemberView{{Member: coord.Member{Name: "box-0"}}},
		Trust:   []site.TrustView{{Why: []site.TrustGround{{}}}},
	}
	m, err := New(Sources{View: func() *site.View { return v }, Ready: func() bool { return true }, Root: t.TempDir(), Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	m.HTTPAnswered("/", "200", time.Millisecond)
	m.RPCAnswered("/etcdserverpb.KV/Put", "OK", time.Millisecond)
	m.Decided(&trace.Record{})
	if err := m.Keeping(func() Kept { return Kept{} }); err != nil {
		t.Fatal(err)
	}
	if err := m.Waiting(func() int { return 0 }); err != nil {
		t.Fatal(err)
	}
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	row := func(name, kind, help string, labels []string) {
		slices.Sort(labels)
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", name, kind, strings.Join(labels, ", "), help))
	}
	for _, f := range families {
		name := f.GetName()
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "system_") || strings.HasPrefix(name, "hw_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		row(name, strings.ToLower(f.GetType().String()), f.GetHelp(), labels)
	}
	for _, d := range machineMetrics {
		kind := "gauge"
		if strings.HasSuffix(d.name, "_total") {
			kind = "counter"
		}
		row(d.name, kind, d.help, slices.Clone(d.labels))
	}
	return rows
}

func TestTheTableOfMetricsIsWhatIsExported(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "| `") {
			there = append(there, line)
		}
	}
	if rows := exported(t); !slices.Equal(rows, there) {
		t.Errorf("docs/metrics.md must have this table:\n%s", strings.Join(rows, "\n"))
	}
}
