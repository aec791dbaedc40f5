package console

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/alarms"
)

// ringing are alarms of which some are up.
type ringing struct{ *alarms.Service }

func (r ringing) View() *alarms.View {
	v := r.Service.View()
	v.Taken = time.Unix(1000, 0)
	for i, s := range []alarms.State{alarms.Firing, alarms.Pending, alarms.Resolved} {
		v.Alarms = append(v.Alarms, alarms.AlertView{Name: "Rule" + string(s), Severity: alarms.Warning, Alert: alarms.Alert{
			Fingerprint: string(s), State: s, Labels: map[string]string{"alertname": "Rule" + string(s), "box": "box-<" + string(rune('0'+i)) + ">"}, Fired: time.Unix(900, 0),
			Annotations: map[string]string{"summary": "It is " + string(s), "description": "This means trouble", "action": "Turn it off", "console": "https://elsewhere.example/"},
		}})
	}
	return v
}

func TestTheAlarmPageSaysWhatFiresWhatItMeansAndWhatToDo(t *testing.T) {
	c := newConsole(t, servingSite(), func(cfg *Config) { cfg.Alarms = ringing{alarmsOf(t, cfg.Site)} })
	html := get(t, c, "/alarms").Body.String()
	text := textOf(html)
	for _, want := range []string{"Firing", "Pending", "Over", "It is firing", "This means trouble", "What to do: Turn it off", "Rulefiring on box-&lt;0&gt;", "Nobody: no receiver"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(html, "elsewhere.example") {
		t.Error("an alarm leads to another site")
	}
	if strings.Contains(html, "<form method=\"post\" action=\"/alarms") {
		t.Error("nobody may silence")
	}
}

func TestASilenceThatCannotBeComesBackWithWhatWasTyped(t *testing.T) {
	c := newGuarded(t, nil)
	b := c.browser()
	b.setUp(t, "ann")
	w := b.post("/alarms", "/alarms/silence", "matchers", "not a matcher", "why", "a new disk", "for", "8h")
	html := w.Body.String()
	if w.Code != http.StatusBadRequest || !strings.Contains(html, "not a matcher</textarea>") || !strings.Contains(html, `value="a new disk"`) || !strings.Contains(html, "<option selected>8h") || !strings.Contains(html, "no matcher") {
		t.Errorf("%d %s", w.Code, textOf(html))
	}
	if w := b.post("/alarms", "/alarms/silence", "matchers", "HoldfastBoxAway", "why", "a new disk", "for", "8h"); w.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if text := textOf(b.get("/alarms").Body.String()); !strings.Contains(text, "a new disk; by operator:ann") || !strings.Contains(text, "HoldfastBoxAway") {
		t.Errorf("the silence is not there: %s", text)
	}
}
