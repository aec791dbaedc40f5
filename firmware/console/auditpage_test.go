package console

import (
	"net/http"
	"strings"
	"testing"
)

func TestTheAuditPageListsWhatAFilterChoosesAndSaysWhatIsSigned(t *testing.T) {
	c := newGuarded(t, nil)
	b := c.browser()
	b.setUp(t, "ann")
	all := textOf(b.get("/audit").Body.String())
	for _, want := range []string{"operator:ann", "program:&lt;cache&gt;", "kv.snapshot", "denied", "site.move_leader", "0 of 3 signatures here"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if i, j := strings.Index(all, "site.move_leader"), strings.Index(all, "kv.compact"); i > j {
		t.Error("the newest is not the first")
	}
	denied := textOf(b.get("/audit?outcome=denied").Body.String())
	if !strings.Contains(denied, "kv.snapshot") || strings.Contains(denied, "kv.compact") {
		t.Errorf("those that were denied:\n%s", denied)
	}
	for path, want := range map[string]int{"/audit?outcome=maybe": http.StatusBadRequest, "/audit?before=x": http.StatusBadRequest, "/audit?before=1": http.StatusOK, "/audit?before=99999": http.StatusOK} {
		if w := b.get(path); w.Code != want {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestStrangersDoNotSeeTheAuditPageAlsoWhereLookingIsOpen(t *testing.T) {
	c := newConsole(t, servingSite())
	if w := get(t, c, "/audit"); w.Code == http.StatusOK {
		t.Errorf("%d", w.Code)
	}
	if strings.Contains(get(t, c, "/").Body.String(), `href="/audit"`) {
		t.Error("the navigation leads there")
	}
}
