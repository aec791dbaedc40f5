package console

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/site"
)

func TestARouteThatIsNotDescribedIsAFault(t *testing.T) {
	for name, cfg := range map[string]Config{
		"an act":  {Acts: []*Act{{Path: "/things", Action: "site.read"}}},
		"a show":  {Shows: map[string]Show{"/things": {}}},
		"nothing": {},
	} {
		cfg.Metrics = measures(t, servingSite())
		cfg.Site, cfg.Audit, cfg.Desk, cfg.Record, cfg.Logger = servingSite(), auditLog(t), newDesk(t).Desk, unrecorded, slog.New(slog.DiscardHandler)
		cfg.Metrics = measures(t, cfg.Site)
		_, err := New(cfg)
		if described := name == "nothing"; (err == nil) != described || err != nil && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "/api/v1/things")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABodyOfAnotherTypeIsNotSaidAgain(t *testing.T) {
	c := newGuarded(t, nil)
	r := httptest.NewRequest("POST", "/api/v1/operators/add", strings.NewReader(`{"name":"bob","password":"a long pass phrase"}`))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Host = "localhost"
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "holdfast.sock", Net: "unix"})))
	if body := w.Body.String(); w.Code != http.StatusBadRequest || !strings.Contains(body, "Content-Type") || strings.Contains(body, "phrase") {
		t.Errorf("%d %s", w.Code, body)
	}
}

func TestABodyHasTheFieldsThatAreDescribedAndNoOthers(t *testing.T) {
	c := newGuarded(t, nil)
	for body, says := range map[string]string{
		`{"name":"bob","password":"x","admin":"true"}`: `no field "admin"`,
		`{"name":"bob"}`:        `field "password" is missing`,
		`{}`:                    `is missing`,
		`null`:                  `is missing`,
		`{"name":{"a":"b"}}`:    `flat JSON object`,
		`[]`:                    `flat JSON object`,
		`{"name":"bob"`:         `flat JSON object`,
		`{"name":"bob"} {"a":1`: `flat JSON object`,
	} {
		r := httptest.NewRequest("POST", "/api/v1/operators/add", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Host = "localhost"
		w := httptest.NewRecorder()
		c.Handler().ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "holdfast.sock", Net: "unix"})))
		if w.Code != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(w.Body.String(), `\`, ""), says) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	if n := len(c.desk.List()); n != 0 {
		t.Errorf("%d operators", n)
	}
}

// Each answer asks for the right that has its name, and console.view alone shows the site and nothing of what has a right of its own.
func TestEachAnswerAsksForItsOwnRight(t *testing.T) {
	r := rights{map[string]bool{"operator:ann console.view": true}}
	c := newGuarded(t, r)
	b := c.browser()
	b.setUp(t, "ann")
	for path, action := range map[string]string{
		"/api/v1/members": "member.list", "/api/v1/members/history": "member.list", "/boxes": "member.list",
		"/api/v1/blocks": "site.read", "/api/v1/top": "kv.get", "/api/v1/kv/%2Fconfig%2Fttl": "kv.get", "/api/v1/log": "log.read",
		"/api/v1/evidence": "evidence.read", "/api/v1/trust": "trust.read", "/trust": "trust.read",
		"/api/v1/operators": "role.list", "/operators": "role.list", "/api/v1/decisions": "decision.list", "/decisions": "decision.list",
		"/api/v1/alarms": "alarm.read", "/api/v1/alarms/rules": "alarm.read", "/api/v1/alarms/silences": "alarm.read",
		"/api/v1/audit": "audit.read", "/api/v1/audit/log": "audit.read", "/api/v1/audit/heads": "audit.heads",
	} {
		if w := b.get(path); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), action) {
			t.Errorf("%s without %s: %d", path, action, w.Code)
		}
		r.may["operator:ann "+action] = true
		if w := b.get(path); w.Code != http.StatusOK {
			t.Errorf("%s with %s: %d %s", path, action, w.Code, textOf(w.Body.String()))
		}
		r.may["operator:ann "+action] = false
	}
	if w := b.get("/api/v1/decisions/00"); w.Code != http.StatusForbidden {
		t.Errorf("one decision over the network: %d", w.Code)
	}
}

func TestWhatASiteLooksLikeLeavesOutWhatOneMayNotSee(t *testing.T) {
	r := rights{map[string]bool{"operator:ann console.view": true}}
	c := newGuarded(t, r)
	s, ok := c.cfg.Site.(*fakeSite)
	if !ok {
		t.Fatal("no fake")
	}
	s.view.Trust, s.view.Decisions = []site.TrustView{{Name: "box-3"}}, []site.DecisionView{{Kind: "member.remove"}}
	b := c.browser()
	b.setUp(t, "ann")
	const trust, decisions, top = `"suspected_by"`, `"member.remove"`, "Most observed objects"
	see := func() (string, string) { return b.get("/api/v1/status").Body.String(), b.get("/").Body.String() }
	status, page := see()
	if strings.Contains(status, trust) || strings.Contains(status, decisions) || strings.Contains(page, top) || !strings.Contains(status, `"members"`) {
		t.Errorf("console.view alone shows %s", status)
	}
	r.may["operator:ann trust.read"], r.may["operator:ann decision.list"], r.may["operator:ann kv.get"] = true, true, true
	status, page = see()
	if !strings.Contains(status, trust) || !strings.Contains(status, decisions) || !strings.Contains(page, top) {
		t.Errorf("with the rights: %s", status)
	}
}
