package metrics

import (
	"reflect"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/site"
)

func TestWhatIsKeptAndLeftOutIsCounted(t *testing.T) {
	m, err := New(Sources{View: func() *site.View { return new(site.View) }, Ready: func() bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	var now Kept
	v := reflect.ValueOf(&now).Elem()
	for i := range v.NumField() { // so that each of them is another
		v.Field(i).SetUint(uint64(i) + 1)
	}
	if err := m.Keeping(func() Kept { return now }); err != nil {
		t.Fatal(err)
	}
	got := counters(t, m)
	for name, want := range map[string]uint64{
		"holdfast_traces_judged_total": now.Judged, "holdfast_traces_kept_total": now.Traces, "holdfast_traces_spared_total": now.Spared,
		"holdfast_traces_lost_total": now.Lost, "holdfast_traces_exported_total sent": now.Exported, "holdfast_traces_exported_total dropped": now.Dropped,
		"holdfast_trace_export_failures_total": now.Failed, "holdfast_history_samples_dropped_total": now.Samples, "holdfast_history_write_failures_total": now.Writes,
	} {
		if v, ok := got[name]; !ok || v != float64(want) {
			t.Errorf("%s is %v, not %v", name, v, want)
		}
	}
}
