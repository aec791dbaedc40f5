package console

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

func suspectingSite() *fakeSite {
	f := servingSite()
	for i := range f.view.Members {
		m := &f.view.Members[i]
		f.view.Trust = append(f.view.Trust, site.TrustView{Box: m.ID, Name: m.Name, Self: i == 0, Why: []site.TrustGround{}, SuspectedBy: []coord.BoxID{}})
	}
	t := &f.view.Trust[2]
	t.Level, t.Points, t.FineIn, t.Aside, t.SuspectedBy = suspicion.Suspect, 12.34, 21*time.Minute, true, []coord.BoxID{f.view.Members[0].ID, f.view.Members[1].ID}
	t.Why = []site.TrustGround{{Reason: suspicion.Late, Points: 12.34, Events: 3, Last: time.Unix(1e9, 0), Detail: "<late>"}}
	return f
}

func TestThePageSaysWhomThisBoxSuspectsAndWhy(t *testing.T) {
	text := textOf(get(t, newConsole(t, suspectingSite()), "/trust").Body.String())
	for _, want := range []string{
		"box-2 : suspect, 12.3 points; fine in 21m0s if nothing more happens.", "It does not lead.", "Suspected by box-0, box-1.",
		"late proposals: 12.3 points, 3 times", "&lt;late&gt;", "Nothing is held against box-0, box-1, box-3.", "no proof",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
}

func TestScoresAreInTheAPIAndInTheMetrics(t *testing.T) {
	c := newConsole(t, suspectingSite())
	var x api.Trust
	getJSON(t, c, "/api/v1/trust", 200, &x)
	if len(x.Members) != 4 || x.Members[2].Level != suspicion.Suspect || x.Members[2].Why[0].Reason != suspicion.Late || x.Members[2].FineIn != 21*time.Minute {
		t.Errorf("%+v", x)
	}
	m := get(t, c, "/metrics").Body.String()
	for _, want := range []string{
		`coord_suspicion_score{member="box-2",reason="late_proposals"} 12.34`, `coord_member_set_aside{member="box-2"} 1`, `coord_member_set_aside{member="box-1"} 0`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
