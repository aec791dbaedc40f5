package metrics

import (
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/joining"
)

// counters are the values of what grows by name and labels' values.
func counters(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			var name strings.Builder
			name.WriteString(f.GetName())
			for _, l := range x.GetLabel() {
				name.WriteString(" " + l.GetValue())
			}
			got[name.String()] = x.GetCounter().GetValue()
		}
	}
	return got
}

func TestWhatHappensAtTheJoiningPortIsCounted(t *testing.T) {
	m, err := New(Sources{View: func() *site.View { return new(site.View) }, Ready: func() bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	now := joining.Counts{Connections: 9, TooMany: 1, PushedOut: 2, Busy: 3, Puzzles: 4, NoWork: 5, Refused: 6, Admitted: 7}
	if err := m.Joining(func() joining.Counts { return now }); err != nil {
		t.Fatal(err)
	}
	got := counters(t, m)
	for name, want := range map[string]float64{
		"join_connections_total": 9, "join_puzzles_total": 4, "join_admitted_total": 7, "join_turned_away_total rate": 1, "join_turned_away_total pushed_out": 2,
		"join_turned_away_total busy": 3, "join_turned_away_total no_work": 5, "join_turned_away_total refused": 6,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, not %v", name, v, want)
		}
	}
}
