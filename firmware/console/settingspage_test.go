package console

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/config"
)

// sited are a desk's documents as those of a site.
type sited struct{ *desk }

func (sited) Members() *coord.Members { return &coord.Members{Site: coord.SiteID{3}} }
func (sited) Seconds() uint64         { return 1000 }

// settled is a console of a site that has decided something, whose acts are in done.
func settled(t *testing.T, a Access, done *[]string) *guarded {
	t.Helper()
	d := newDesk(t)
	for key, value := range map[string]string{
		"grant/program:<shop>": `{"roles":["program"]}`, "grant/program:cache": `{"roles":["night","wizard"]}`, "role/night": `{"about":"the <night> shift","in":["viewer"]}`,
		"policy/p": `forbid (principal, action, resource in Prefix::"<a>");`, "setting/client": `{"access":"token"}`,
		"token/revoked/00112233445566778899aabbccddeeff": `{"by":"operator:ann"}`, "token/epoch": "7",
	} {
		d.docs[key] = coord.Doc{Key: key, Version: 41, Value: []byte(value)}
	}
	cfg, err := config.Parse([]byte("[alarms.ntfy]\nurls = [\"https://ntfy.example/hunter2\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	explained, err := config.Explain(cfg)
	if err != nil {
		t.Fatal(err)
	}
	acts := []*Act{}
	for path, action := range map[string]string{"/settings/{name}": "setting.put", "/access/policy": "policy.put", "/access/token": "token.issue"} {
		acts = append(acts, &Act{Path: path, Action: action, Back: "/", Run: func(_ context.Context, x *Caller, p Params) (any, error) {
			if strings.Contains(p["text"], "not a policy") {
				return nil, ErrBad
			}
			*done = append(*done, x.By.Principal+" "+p["name"]+p["value"]+p["text"]+p["actions"])
			if action == "token.issue" {
				return secretAnswer{}, nil
			}
			return nil, nil
		}})
	}
	c, err := New(Config{
		Site: servingSite(), Metrics: measures(t, servingSite()), Audit: auditLog(t), Desk: d.Desk, Access: a, Record: d.record, Logger: slog.New(slog.DiscardHandler),
		Settings: explained, State: func() access.State { return sited{d} }, Acts: acts,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &guarded{c, d}
}

func TestTheSettingsPageShowsWhatTheBoxAndTheSiteAreSetToAndNoSecret(t *testing.T) {
	c := settled(t, nil, new([]string))
	b := c.browser()
	b.setUp(t, "ann")
	w := b.get("/settings")
	html := w.Body.String()
	text := textOf(html)
	for _, want := range []string{
		"client: token whether programs on the client ports need a token", "joins: token as it ships who lets a new box in",
		"alarms.ntfy.urls [&#34;https://ntfy.example/…&#34;]", "timeouts", "How long a leader may be without a final block",
		"grant/program:&lt;shop&gt; cannot be read", "program:cache night", "wizard there is no such role", "night the &lt;night&gt; shift", "Prefix::&#34;&lt;a&gt;&#34;", "Token epoch 7", "00112233445566778899aabbccddeeff",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %.200s...", want, text)
		}
	}
	if strings.Contains(html, "hunter2") || strings.Contains(html, "<shop>") || strings.Contains(html, "<night>") {
		t.Error("it has a secret, or markup of somebody's")
	}
	if got := b.get("/api/v1/config").Body.String(); !strings.Contains(got, `"name":"round"`) || strings.Contains(got, "hunter2") {
		t.Errorf("%s", got)
	}
}

func TestAPartOfTheSettingsThatOneMayNotSeeIsAbsent(t *testing.T) {
	r := rights{map[string]bool{"operator:ann console.view": true}}
	c := settled(t, r, new([]string))
	b := c.browser()
	b.setUp(t, "ann")
	if w := b.get("/settings"); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "timeouts") || strings.Contains(w.Body.String(), "night") {
		t.Errorf("who may see nothing of it: %d %s", w.Code, textOf(w.Body.String()))
	}
	if strings.Contains(b.get("/").Body.String(), `href="/settings"`) {
		t.Error("the navigation leads there")
	}
	parts := map[string]string{"config.read": "All keys", "role.list": "Who has which role", "token.list": "Token epoch 7", "audit.read": "Tokens that this box issued"}
	for action := range parts {
		clear(r.may)
		r.may["operator:ann console.view"], r.may["operator:ann "+action] = true, true
		text := textOf(b.get("/settings").Body.String())
		for of, words := range parts {
			if strings.Contains(text, words) != (of == action) {
				t.Errorf("who may %s: there is %q: %v", action, words, of != action)
			}
		}
		if strings.Contains(text, "Issue a token") || strings.Contains(text, "Propose") {
			t.Errorf("there are forms for who may only %s", action)
		}
	}
	delete(r.may, "operator:ann config.read")
	if w := b.get("/api/v1/config"); w.Code != http.StatusForbidden {
		t.Errorf("the API: %d", w.Code)
	}
	if w := get(t, newConsole(t, servingSite()), "/api/v1/config"); w.Code != http.StatusUnauthorized {
		t.Errorf("a stranger where looking is open: %d", w.Code)
	}
}

func TestTheFormsOfTheSettingsAskAndComeBackWithWhatWasTyped(t *testing.T) {
	var done []string
	c := settled(t, nil, &done)
	b := c.browser()
	b.setUp(t, "ann")
	page := b.get("/settings").Body.String()
	for _, want := range []string{`action="/settings/client"`, `value="{&#34;access&#34;:&#34;open&#34;}"`, `name="version" value="41"`, `name="version" value="0"`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
	if w := b.post("/settings", "/settings/client", "value", `{"access":"open"}`, "back", "/settings"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/settings" {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	html := b.post("/settings", "/access/policy", "of", "p", "name", "p", "version", "41", "text", "not a policy", "reason", "a <try>", "back", "/settings").Body.String()
	if strings.Count(html, "not a policy</textarea>") != 1 || !strings.Contains(html, `value="a &lt;try&gt;"`) || !strings.Contains(html, `data-key="p" open`) {
		t.Errorf("the policy that was not taken does not come back: %d forms have it", strings.Count(html, "not a policy</textarea>"))
	}
	if w := b.post("/settings", "/access/token", "actions", "kv.get", "resources", "key:a", "back", "/settings"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "HF1xyz") {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if strings.Contains(b.get("/settings").Body.String(), "HF1xyz") {
		t.Error("a token is shown twice")
	}
	if len(done) != 2 || done[0] != `operator:ann client{"access":"open"}` || done[1] != "operator:ann kv.get" {
		t.Errorf("%q", done)
	}
}

// tokenLog is an audit log in which are issued tokens; of what it was asked it counts the records.
type tokenLog struct {
	Audit
	list []audit.Entry
	read int64
}

func (l *tokenLog) Span() (int64, int64, int64) { return 0, int64(len(l.list)), 0 }

func (l *tokenLog) Read(from, to int64, f audit.Filter, fn func(*audit.Entry) bool) error {
	for i := from; i < to; i++ {
		l.read++
		if l.list[i].Action == f.Action && !fn(&l.list[i]) {
			break
		}
	}
	return nil
}

func TestIssuedTokensAreListedTheNewestFirstAndTheAuditLogIsReadOnce(t *testing.T) {
	l := &tokenLog{}
	add := func(n int, action, id string) {
		for range n {
			l.list = append(l.list, audit.Entry{Record: audit.Record{TimeMs: int64(len(l.list)), Action: action, Resource: "token:" + id, Principal: "operator:ann", Outcome: audit.Allowed, Reason: "kv.get on key:a"}})
		}
	}
	var tokens issuedTokens
	add(issuedWindow+1, "auth.login", "")
	add(1, "token.issue", "aa")
	add(issuedMax, "token.issue", "bb")
	for range 3 {
		list, err := tokens.read(l)
		if err != nil || len(list) != issuedMax || list[0].ID != "bb" || list[0].At.Before(time.UnixMilli(issuedWindow)) {
			t.Fatalf("%d %v", len(list), err)
		}
	}
	if l.read != issuedWindow {
		t.Errorf("read %d records", l.read)
	}
	add(1, "token.issue", "cc")
	if list, _ := tokens.read(l); list[0].ID != "cc" || l.read != issuedWindow+1 {
		t.Errorf("%v after %d", list[0], l.read)
	}
}
