package update

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/coord/site"
)

func TestAReleaseIsGoodWhenTheSiteWasWellWithoutAGap(t *testing.T) {
	at := time.Unix(1000, 0)
	rules := rollout.Rules{HealthSeconds: 5, LatencyMs: 100, BoxSeconds: 60}
	h := newHealth(rules, at)
	for range 4 {
		h.second("", time.Millisecond)
	}
	h.second("no quorum", 0)
	for range 4 {
		if h.second("", time.Millisecond); h.good() {
			t.Fatal("it is good after a gap")
		}
	}
	if h.second("", time.Millisecond); !h.good() || h.over(at.Add(29*time.Second)) != "" {
		t.Fatalf("it is not good: %s", h)
	}
	h = newHealth(rules, at)
	for range 10 {
		h.second("", 101*time.Millisecond)
	}
	if h.good() {
		t.Fatal("a slow site is well")
	}
	if why := h.over(at.Add(30 * time.Second)); !strings.Contains(why, "99 of 100") {
		t.Errorf("%q", why)
	}
	if why := newHealth(rules, at).over(at.Add(time.Hour)); why == "" {
		t.Error("a release that shows nothing stays")
	}
}

func TestWhatIsWrongWithASiteIsSaid(t *testing.T) {
	well := site.View{Serving: true, Height: 1000, N: 4, Quorum: 3, Members: []site.MemberView{{Self: true, Up: true}, {Up: true, Height: 1100}, {Up: true}, {Up: true}}}
	if why := unwell(&well); why != "" {
		t.Fatal(why)
	}
	for name, edit := range map[string]func(v *site.View){
		"stopped":   func(v *site.View) { v.Fault = "the disk" },
		"removed":   func(v *site.View) { v.Removed = true },
		"asking":    func(v *site.View) { v.Asking = true },
		"no quorum": func(v *site.View) { v.Serving, v.Verdict = false, "The site cannot write" },
		"behind":    func(v *site.View) { v.Members[1].Height = 2000 },
	} {
		v := well
		v.Members = append([]site.MemberView{}, well.Members...)
		if edit(&v); unwell(&v) == "" {
			t.Errorf("%s: nothing is wrong", name)
		}
	}
	if !spare(&well) {
		t.Error("four of four cannot spare one")
	}
	three := well
	three.Members = append([]site.MemberView{}, well.Members...)
	three.Members[3] = site.MemberView{Member: coord.Member{ID: coord.BoxID{9}}}
	if spare(&three) {
		t.Error("three of four can spare one")
	}
}
