package console

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
)

func unrecorded(context.Context, audit.Record) error { return nil }

// desk is a site of one box as operators see it.
type desk struct {
	*operators.Desk
	mu      sync.Mutex
	docs    map[string]coord.Doc
	n       uint64
	records []audit.Record
	refuse  error
	asked   int // for the setup code
}

func (d *desk) Doc(key string) (coord.Doc, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.docs[key]
	return x, ok
}

func (d *desk) Docs(prefix string) (out []coord.Doc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(d.docs)) {
		if strings.HasPrefix(k, prefix) {
			out = append(out, d.docs[k])
		}
	}
	return out
}

func (d *desk) record(_ context.Context, r audit.Record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records = append(d.records, r)
	return nil
}

// recorded says whether the audit log has a record of an action with an outcome.
func (d *desk) recorded(action string, o audit.Outcome, principal string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.records, func(r audit.Record) bool {
		return r.Action == action && r.Outcome == o && r.Principal == principal
	})
}

const passkeyHost = "box.example.org"

const code, secret = "ABCD-EFGH-IJKL-MNOP", "correct horse battery"

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{docs: map[string]coord.Doc{}}
	var err error
	d.Desk, err = operators.NewDesk(operators.Config{
		Documents: d, Record: d.record, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Params: operators.Params{Time: 1, MemoryKiB: 64, Threads: 1},
		Passkeys: passkey.New(passkeyHost, "site-1", time.Now),
		Code: func() (string, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.asked++
			return code, nil
		},
		First:  func() operators.By { return operators.By{Principal: "box:1"} },
		Signer: func(s *operators.Session) operators.By { return operators.By{Principal: s.Principal()} },
		Decide: func(_ context.Context, x *coord.Decision, _ operators.By) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.refuse != nil {
				return d.refuse
			}
			d.n++
			for _, w := range x.Writes {
				d.docs[w.Key] = coord.Doc{Key: w.Key, Version: d.n, Value: w.Value}
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// rights is an Access in which some may do some things, and one token is good.
type rights struct{ may map[string]bool }

func (r rights) May(principal, action, _ string) (bool, string) {
	return r.may[principal+" "+action], "policy-7"
}

func (r rights) Token(token, _, action, _ string) (string, error) {
	if token == "hf1good" && r.may["program:cache "+action] {
		return "program:cache", nil
	}
	if token == "hf1good" {
		a, _ := access.ParseAction(action)
		v := access.Verdict{Principal: "token:17", Action: a, Policy: "policy-8", Note: "token does not cover it"}
		return "token:17", v.Err()
	}
	return "", errors.New("this is no token")
}

func (r rights) Still(_, action string) bool { return r.may["program:cache "+action] }

func (r rights) MayAsk(principal, _ string, d *coord.Decision) error {
	if r.may[principal+" not "+d.Subject] {
		return errors.New("not this one (policy-9)")
	}
	return nil
}

func (r rights) Signer(principal, _ string, _ *operators.Session) operators.By {
	return operators.By{Principal: principal}
}

// guarded is a console that asks for a login.
type guarded struct {
	*Console
	desk *desk
}

func newGuarded(t *testing.T, a Access) *guarded {
	t.Helper()
	d := newDesk(t)
	c, err := New(Config{Site: servingSite(), Metrics: measures(t, servingSite()), Alarms: alarmsOf(t, servingSite()), Audit: auditLog(t), Desk: d.Desk, Access: a, Record: d.record, Logger: slog.New(slog.DiscardHandler), Hosts: []string{passkeyHost}})
	if err != nil {
		t.Fatal(err)
	}
	return &guarded{c, d}
}

// browser keeps cookies as a browser does.
type browser struct {
	c       *guarded
	cookies map[string]string
	remote  string
}

func (c *guarded) browser() *browser {
	return &browser{c: c, cookies: map[string]string{}, remote: "192.0.2.1:4711"}
}

func (b *browser) do(method, path string, form url.Values, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Host, r.RemoteAddr = "127.0.0.1:8080", b.remote
	r.Header.Set("Accept", "text/html")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://127.0.0.1:8080")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for k, v := range b.cookies {
		r.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	w := httptest.NewRecorder()
	b.c.Handler().ServeHTTP(w, r)
	for _, k := range w.Result().Cookies() {
		if b.cookies[k.Name] = k.Value; k.MaxAge < 0 {
			delete(b.cookies, k.Name)
		}
	}
	return w
}

func (b *browser) get(path string) *httptest.ResponseRecorder { return b.do("GET", path, nil) }

// post sends a form as the page at from has it, with its hidden fields.
func (b *browser) post(from, path string, fields ...string) *httptest.ResponseRecorder {
	v := url.Values{}
	if m := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(b.get(from).Body.String()); m != nil {
		v.Set("csrf", m[1])
	}
	for i := 0; i+1 < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	return b.do("POST", path, v)
}

func (b *browser) setUp(t *testing.T, name string) {
	t.Helper()
	if w := b.post("/setup", "/setup", "code", code, "name", name, "password", secret, "again", secret); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
		t.Fatalf("setup: %d %s", w.Code, textOf(w.Body.String()))
	}
}

func (b *browser) logIn(name, password string) *httptest.ResponseRecorder {
	return b.post("/login", "/login", "name", name, "password", password)
}

func TestNothingIsShownBeforeALoginButHealth(t *testing.T) {
	c := newGuarded(t, nil)
	b := c.browser()
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/api/v1/openapi.json": 200, "/setup": 200,
		"/": 303, "/operators": 303, "/password": 303, "/login": 303,
		"/api/v1/status": 401, "/api/v1/log": 401, "/api/v1/kv/k": 401, "/api/v1/operators": 401, "/api/v1/audit": 401,
	} {
		if w := b.get(path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	for _, path := range []string{"/events", "/metrics"} {
		if w := b.do("HEAD", path, nil, "Accept", "*/*"); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if to := b.get("/").Header().Get("Location"); to != "/setup" {
		t.Errorf("a fresh site leads to %s", to)
	}
	b.setUp(t, "ann")
	if to := c.browser().get("/operators").Header().Get("Location"); to != "/login?next=%2Foperators" {
		t.Errorf("a stranger is led to %s", to)
	}
}

func TestThePageThatSaysWhereTheSetupCodeIsHasItMade(t *testing.T) {
	c := newGuarded(t, nil)
	if w := c.browser().get("/setup"); w.Code != http.StatusOK || c.desk.asked != 1 {
		t.Errorf("%d, the code was asked for %d times", w.Code, c.desk.asked)
	}
}

func TestSetupLogInLookLogOut(t *testing.T) {
	c := newGuarded(t, nil)
	b := c.browser()
	w := b.post("/setup", "/setup", "code", "nope", "name", "ann", "password", secret, "again", secret)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "wrong setup code") {
		t.Fatalf("%d %s", w.Code, textOf(w.Body.String()))
	}
	b.setUp(t, "ann")
	if w := b.get("/"); w.Code != 200 || !strings.Contains(w.Body.String(), "Log out") {
		t.Fatalf("%d", w.Code)
	}
	if w := b.post("/", "/logout"); w.Code != http.StatusSeeOther {
		t.Fatalf("log out: %d %s", w.Code, w.Body)
	}
	if w := b.get("/"); w.Code != http.StatusSeeOther {
		t.Errorf("after the log-out: %d", w.Code)
	}
	if w := b.logIn("ann", "wrong and wrong again"); w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "wrong name or password") {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if w := b.post("/login?next=/operators", "/login", "name", "ann", "password", secret, "next", "/operators"); w.Header().Get("Location") != "/operators" {
		t.Errorf("%d to %s", w.Code, w.Header().Get("Location"))
	}
	for _, want := range []struct {
		action string
		o      audit.Outcome
	}{{"auth.login", audit.Allowed}, {"auth.login", audit.Denied}, {"auth.logout", audit.Allowed}} {
		if !c.desk.recorded(want.action, want.o, "operator:ann") {
			t.Errorf("no record of %v %v", want.action, want.o)
		}
	}
}

func TestTheSessionCookieIsTheBrowsersAlone(t *testing.T) {
	c := newGuarded(t, nil)
	c.cfg.Secure = true
	b := c.browser()
	w := b.post("/setup", "/setup", "code", code, "name", "ann", "password", secret)
	all := w.Result().Cookies()
	if len(all) != 2 {
		t.Fatalf("%d cookies", len(all))
	}
	for _, k := range all {
		if !k.HttpOnly || !k.Secure || k.SameSite != http.SameSiteStrictMode || k.Path != "/" || k.Domain != "" || !strings.HasPrefix(k.Name, "__Host-holdfast-") {
			t.Errorf("%+v", k)
		}
		if strings.Contains(b.get("/operators").Body.String(), k.Value) {
			t.Errorf("a page shows the value of %s", k.Name)
		}
	}
}

func TestAPostNeedsOurOriginAndTheSessionsSecret(t *testing.T) {
	c := newGuarded(t, nil)
	b := c.browser()
	b.setUp(t, "ann")
	add := url.Values{"name": {"bob"}, "password": {secret}}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"no secret":       b.do("POST", "/operators/add", add),
		"wrong secret":    b.do("POST", "/operators/add", url.Values{"name": {"bob"}, "password": {secret}, "csrf": {"x"}}),
		"wrong header":    b.do("POST", "/api/v1/operators/add", add, "X-CSRF-Token", "x"),
		"other origin":    b.do("POST", "/operators/add", add, "Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"),
		"no fetch header": b.do("POST", "/operators/add", add, "Origin", "http://evil.example", "Sec-Fetch-Site", ""),
		"login elsewhere": b.do("POST", "/login", url.Values{"name": {"ann"}, "password": {secret}}, "Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"),
		"password":        b.do("POST", "/password", url.Values{"old": {secret}, "password": {"quite another staple"}}),
		"log-out":         b.do("POST", "/logout", url.Values{}),
	} {
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, w.Code, textOf(w.Body.String()))
		}
	}
	if n := len(c.desk.List()); n != 1 {
		t.Errorf("%d operators", n)
	}
	if w := b.post("/operators", "/operators/add", "name", "bob", "password", secret); w.Code != http.StatusSeeOther {
		t.Errorf("the page's own form: %d %s", w.Code, textOf(w.Body.String()))
	}
}

func TestWhoDidNotChooseThePasswordMustChangeItFirst(t *testing.T) {
	c := newGuarded(t, nil)
	ann := c.browser()
	ann.setUp(t, "ann")
	ann.post("/operators", "/operators/add", "name", "bob", "password", "the first of bob's")
	bob := c.browser()
	if w := bob.logIn("bob", "the first of bob's"); w.Header().Get("Location") != "/password" {
		t.Fatalf("%d to %s", w.Code, w.Header().Get("Location"))
	}
	if w := bob.get("/"); w.Header().Get("Location") != "/password" {
		t.Errorf("looks without: %d", w.Code)
	}
	if w := bob.post("/password", "/operators/ann/disable"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/password" {
		t.Errorf("acts without: %d %s", w.Code, textOf(w.Body.String()))
	}
	if w := bob.post("/password", "/password", "old", "the first of bob's", "password", "short", "again", "short"); w.Code != 400 || !strings.Contains(w.Body.String(), "at least 12") {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if w := bob.post("/password", "/password", "old", "the first of bob's", "password", "quite another staple", "again", "quite another staple"); w.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if w := bob.get("/"); w.Code != 200 {
		t.Errorf("after it: %d", w.Code)
	}
}

func TestViewingAndChangingAreSeparateRights(t *testing.T) {
	r := rights{map[string]bool{
		"operator:ann console.view": true, "operator:ann role.list": true, "operator:ann operator.add": true,
		"operator:bob console.view": true, "operator:bob role.list": true,
	}}
	c := newGuarded(t, r)
	ann := c.browser()
	ann.setUp(t, "ann")
	ann.post("/operators", "/operators/add", "name", "bob", "password", "the first of bob's")
	bob := c.browser()
	bob.logIn("bob", "the first of bob's")
	bob.post("/password", "/password", "old", "the first of bob's", "password", "quite another staple")
	if w := bob.get("/"); w.Code != 200 {
		t.Fatalf("bob may look: %d", w.Code)
	}
	w := bob.post("/operators", "/operators/add", "name", "eve", "password", secret)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "policy-7") || !strings.Contains(w.Body.String(), "operator.add") {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if !c.desk.recorded("operator.add", audit.Denied, "operator:bob") || !c.desk.recorded("operator.add", audit.Allowed, "operator:ann") {
		t.Error("the audit log does not say who was allowed and who was not")
	}
	r.may["operator:bob console.view"] = false
	if w := bob.get("/"); w.Code != http.StatusForbidden {
		t.Errorf("bob may not look any more: %d", w.Code)
	}
}

func TestWhoMayLookMaySeeNothingOfWhatProgramsKeep(t *testing.T) {
	r := rights{map[string]bool{"operator:ann console.view": true}}
	c := newGuarded(t, r)
	b := c.browser()
	b.setUp(t, "ann")
	for _, path := range []string{"/api/v1/kv/%2Fconfig%2Fttl", "/api/v1/proof/%2Fconfig%2Fttl?nonce=00112233445566778899", "/api/v1/log", "/decisions"} {
		if w := b.get(path); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "policy-7") {
			t.Errorf("%s: %d %s", path, w.Code, textOf(w.Body.String()))
		}
	}
	r.may["operator:ann kv.get"], r.may["operator:ann log.read"], r.may["operator:ann decision.list"] = true, true, true
	for _, path := range []string{"/api/v1/kv/%2Fconfig%2Fttl", "/api/v1/log", "/decisions"} {
		if w := b.get(path); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, textOf(w.Body.String()))
		}
	}
}

func TestOpenDecisionsAreApprovedOnThePage(t *testing.T) {
	c := newGuarded(t, nil)
	b := c.browser()
	b.setUp(t, "ann")
	page := b.get("/decisions").Body.String()
	m := regexp.MustCompile(`action="(/decisions/[0-9a-f]{64}/approve)"`).FindStringSubmatch(page)
	if m == nil || !strings.Contains(textOf(page), "1 of 3 words are there") || !strings.Contains(textOf(page), "role.grant") {
		t.Fatalf("%s", textOf(page))
	}
	if w := b.post("/decisions", m[1]); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/decisions" {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if !c.desk.recorded("decision.approve", audit.Allowed, "operator:ann") {
		t.Error("the audit log does not say who gave the box's word")
	}
}

func TestWhoMayNotAskForADecisionMayNotApproveIt(t *testing.T) {
	r := rights{map[string]bool{"operator:ann console.view": true, "operator:ann decision.list": true, "operator:ann decision.approve": true}}
	c := newGuarded(t, r)
	b := c.browser()
	b.setUp(t, "ann")
	d := openDecision()
	path := "/decisions/" + d.Digest(coord.SiteID{9}).String() + "/approve"
	for _, x := range []struct {
		may  string
		code int
		says string
	}{
		{"", http.StatusBadRequest, "who may not ask for " + d.Kind},
		{"operator:ann " + d.Kind, http.StatusSeeOther, ""},
		{"operator:ann not " + d.Subject, http.StatusBadRequest, "policy-9"},
	} {
		r.may[x.may] = true
		if w := b.post("/decisions", path); w.Code != x.code || !strings.Contains(textOf(w.Body.String()), x.says) {
			t.Errorf("%q: %d %s", x.may, w.Code, textOf(w.Body.String()))
		}
	}
}

// secretAnswer has something to be shown once.
type secretAnswer struct{}

func (secretAnswer) Note() string { return "the token is HF1xyz" }

func TestBoxesAreRemovedAndTokensMadeOnThePage(t *testing.T) {
	var asked []string
	run := func(answer any) func(context.Context, *Caller, Params) (any, error) {
		return func(_ context.Context, x *Caller, p Params) (any, error) {
			asked = append(asked, x.By.Principal+" "+p["box"]+p["ttl"])
			return answer, nil
		}
	}
	d := newDesk(t)
	cn, err := New(Config{
		Site: servingSite(), Metrics: measures(t, servingSite()), Audit: auditLog(t), Desk: d.Desk, Record: d.record, Logger: slog.New(slog.DiscardHandler),
		Access: rights{map[string]bool{"operator:ann console.view": true, "operator:ann member.list": true, "operator:ann member.remove": true, "operator:ann join.token": true}},
		Acts:   []*Act{{Path: "/site/remove", Action: "member.remove", Back: "/boxes", Run: run(nil)}, {Path: "/site/join-token", Action: "join.token", Back: "/boxes", Run: run(secretAnswer{})}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := (&guarded{cn, d}).browser()
	b.setUp(t, "ann")
	if page := b.get("/boxes").Body.String(); !strings.Contains(page, `value="0202020202020202"`) || strings.Contains(page, `value="0101010101010101"`) {
		t.Errorf("%s", textOf(page))
	}
	if w := b.post("/boxes", "/site/remove", "box", "0202020202020202"); w.Code != http.StatusSeeOther {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if w := b.post("/boxes", "/site/join-token", "ttl", "3600"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "HF1xyz") {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if len(asked) != 2 || asked[0] != "operator:ann 0202020202020202" || asked[1] != "operator:ann 3600" {
		t.Errorf("%q", asked)
	}
}

func TestProgramsShowATokenAndNoCookie(t *testing.T) {
	c := newGuarded(t, rights{map[string]bool{"program:cache console.view": true}})
	b := c.browser()
	for name, tc := range map[string]struct {
		method, path, header string
		code                 int
	}{
		"view":           {"GET", "/api/v1/status", "Bearer hf1good", 200},
		"metrics":        {"GET", "/metrics", "Bearer hf1good", 200},
		"page":           {"GET", "/", "Bearer hf1good", 200},
		"act":            {"POST", "/api/v1/operators/bob/disable", "Bearer hf1good", 403},
		"bad token":      {"GET", "/api/v1/status", "Bearer hf1bad", 401},
		"basic":          {"GET", "/api/v1/status", "Basic YTpi", 401},
		"endless":        {"GET", "/api/v1/status", "Bearer " + strings.Repeat("x", tokenTextMax+1), 401},
		"the audit log":  {"GET", "/api/v1/audit", "Bearer hf1good", 403},
		"the box's only": {"GET", "/api/v1/decisions/00", "Bearer hf1good", 403},
	} {
		if w := b.do(tc.method, tc.path, nil, "Authorization", tc.header); w.Code != tc.code {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if !c.desk.recorded("auth.token", audit.Denied, "") {
		t.Error("a bad token is in no record")
	}
	if !c.desk.recorded("operator.disable", audit.Denied, "token:17") {
		t.Error("whose token does not cover what it was shown for is in no record")
	}
}

func TestTheBoxsOwnSocketNeedsNoLogin(t *testing.T) {
	c := newGuarded(t, rights{})
	body := strings.NewReader(`{"name":"ann","password":"` + secret + `"}`)
	r := httptest.NewRequest("POST", "/api/v1/operators/add", body)
	r.Header.Set("Content-Type", "application/json")
	r.Host = "localhost"
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "holdfast.sock", Net: "unix"}))
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if !c.desk.recorded("operator.add", audit.Allowed, "operator:root") {
		t.Error("the audit log does not say that it was root at the box")
	}
}

func TestGuessingAtTheLoginPageIsToldToWait(t *testing.T) {
	c := newGuarded(t, nil)
	c.browser().setUp(t, "ann")
	b := c.browser()
	b.remote = "198.51.100.7:1"
	for range 20 {
		if w := b.logIn("ann", "wrong and wrong again"); w.Code == http.StatusTooManyRequests {
			if !strings.Contains(w.Body.String(), "wait") {
				t.Errorf("%s", textOf(w.Body.String()))
			}
			if w := b.do("POST", "/api/v1/login", url.Values{"name": {"ann"}, "password": {"x"}}); w.Header().Get("Retry-After") == "" {
				t.Error("programs are not told when")
			}
			return
		}
	}
	t.Error("it may go on for ever")
}

func TestALoginLeadsToNoOtherSite(t *testing.T) {
	for next, want := range map[string]string{
		"/operators": "/operators", "/api/v1/top?n=3": "/api/v1/top?n=3", "": "/", "//evil.example": "/", "https://evil.example/": "/",
		`/\evil.example`: "/", "javascript:alert(1)": "/", "/\tevil": "/", "evil": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}

func TestSessionsAreListedAndEnded(t *testing.T) {
	c := newGuarded(t, nil)
	ann, phone := c.browser(), c.browser()
	ann.setUp(t, "ann")
	phone.logIn("ann", secret)
	if w := ann.get("/operators"); !strings.Contains(w.Body.String(), "(this one)") || strings.Count(w.Body.String(), "/end\"") != 1 {
		t.Fatalf("%s", textOf(w.Body.String()))
	}
	id := regexp.MustCompile(`/sessions/([0-9a-f]+)/end`).FindStringSubmatch(ann.get("/operators").Body.String())
	if w := ann.post("/operators", "/sessions/"+id[1]+"/end"); w.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if w := phone.get("/"); w.Code != http.StatusSeeOther {
		t.Errorf("the session that was ended: %d", w.Code)
	}
	phone.logIn("ann", secret)
	ann.post("/operators", "/sessions/end-others")
	if w := phone.get("/"); w.Code != http.StatusSeeOther {
		t.Errorf("an other session that was ended: %d", w.Code)
	}
	if w := ann.get("/"); w.Code != 200 {
		t.Errorf("my own: %d", w.Code)
	}
}

func TestAPasswordIsInNoPageAnswerOrRecord(t *testing.T) {
	c := newGuarded(t, nil)
	b := c.browser()
	b.setUp(t, "ann")
	for _, w := range []*httptest.ResponseRecorder{b.logIn("ann", secret+"!"), b.get("/operators"), b.do("GET", "/api/v1/operators", nil)} {
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s", w.Body)
		}
	}
	text, err := json.Marshal(c.desk.records)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), secret) || strings.Contains(string(text), code) {
		t.Error("the audit log has a secret")
	}
	if strings.Contains(b.get("/api/v1/operators").Body.String(), "sealed") {
		t.Error("the API gives sealed keys away")
	}
}
