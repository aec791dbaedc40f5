package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/store"
)

// auditLog is a log of three records, of which the first two are under a head.
func auditLog(t *testing.T) *store.Audit {
	t.Helper()
	box := servingSite().view.ID
	a, err := store.OpenAudit(t.TempDir(), store.AuditOptions{Box: box})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	record := func(time int64, who, action string, o audit.Outcome) audit.Record {
		return audit.Record{TimeMs: time, Box: box, Principal: who, Action: action, Outcome: o, Source: "10.0.0.9:1"}
	}
	add := func(rs ...audit.Record) {
		t.Helper()
		if _, err := a.Append(rs); err != nil {
			t.Fatal(err)
		}
	}
	add(record(1000, "operator:ann", "kv.compact", audit.Allowed), record(2000, "program:<cache>", "kv.snapshot", audit.Denied))
	h, err := a.NextHead(audit.Top{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.KeepHead(audit.Accepted(coord.SiteID{1}, 1, 7, h)); err != nil {
		t.Fatal(err)
	}
	add(record(3000, "operator:ann", "site.move_leader", audit.Allowed))
	return a
}

// getOn asks on a listener of a network.
func getOn(t *testing.T, c *Console, path, network string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil)
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Name: "s", Net: network})))
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	return w
}

func TestTheAuditLogIsShownAsItIsAskedFor(t *testing.T) {
	c := newConsole(t, servingSite())
	for query, want := range map[string]string{
		"":                                  "0 1 2",
		"?last=2":                           "1 2",
		"?last=9":                           "0 1 2",
		"?last=1&outcome=allowed":           "2",
		"?principal=operator:ann":           "0 2",
		"?action=kv.":                       "0 1",
		"?outcome=denied":                   "1",
		"?from_ms=2000":                     "1 2",
		"?from_ms=2000&to_ms=3000":          "1",
		"?from=1&to=2":                      "1",
		"?action=auth.":                     "",
		"?last=3&action=auth.":              "",
		"?last=2&principal=operator:ann":    "0 2",
		"?last=2&from=1&outcome=allowed":    "2",
		"?principal=operator:ann&action=kv": "",
	} {
		w := getOn(t, c, "/api/v1/audit"+query, "unix")
		var got []string
		for line := range bytes.Lines(w.Body.Bytes()) {
			var e audit.Entry
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			got = append(got, string(rune('0'+e.Index)))
		}
		if w.Code != http.StatusOK || strings.Join(got, " ") != want {
			t.Errorf("%s: %d %v, want %s", query, w.Code, got, want)
		}
	}
	for _, path := range []string{
		"?outcome=maybe", "?last=-1", "?last=x", "?from_ms=1.5", "?to_ms=-3", "/heads?box=zz", "/proof/x",
	} {
		if w := getOn(t, c, "/api/v1/audit"+path, "unix"); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/proof/2", "/proof/3", "/proof/-1"} { // under no head yet, not there
		if w := getOn(t, c, "/api/v1/audit"+path, "unix"); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for _, path := range []string{"", "/log", "/heads", "/proof/0"} {
		if w := getOn(t, c, "/api/v1/audit"+path, "tcp"); w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "ann") {
			t.Errorf("%s over the network, where everybody may look: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestTheAuditLogLeavesTheBoxProvable(t *testing.T) {
	c := newConsole(t, servingSite())
	l, err := audit.ReadArchive(getOn(t, c, "/api/v1/audit/log", "unix").Body, 1<<20)
	if err != nil || len(l.Records) != 3 || l.Box != servingSite().view.ID {
		t.Fatal(l, err)
	}
	var h audit.SignedHead
	if err := json.Unmarshal(getOn(t, c, "/api/v1/audit/heads", "unix").Body.Bytes(), &h); err != nil {
		t.Fatal(err)
	}
	if r := audit.Verify(l, []audit.Head{h.Head}); !r.OK() || r.Proven != 2 || r.Unsigned != 1 {
		t.Errorf("%+v", r)
	}
	if w := getOn(t, c, "/api/v1/audit/heads?box=00000000000000ff", "unix"); w.Code != http.StatusOK || w.Body.Len() > 0 {
		t.Errorf("heads of a box that nobody knows: %d %s", w.Code, w.Body)
	}
}

func TestRecordsAreMarkedAsExportedOnTheBoxItselfOnly(t *testing.T) {
	c := newConsole(t, servingSite())
	post := func(network, to string) int {
		r := httptest.NewRequest(http.MethodPost, "http://localhost/api/v1/audit/exported", strings.NewReader(`{"to":"`+to+`"}`))
		r.Header.Set("Content-Type", "application/json")
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Name: "s", Net: network})))
		w := httptest.NewRecorder()
		c.Handler().ServeHTTP(w, r)
		return w.Code
	}
	exported := func() int64 { _, _, n := c.cfg.Audit.Span(); return n }
	for _, bad := range []string{"4", "-1", "x", ""} {
		if code := post("unix", bad); code != http.StatusBadRequest || exported() != 0 {
			t.Errorf("%q: %d, %d marked", bad, code, exported())
		}
	}
	if code := post("tcp", "2"); code == http.StatusOK || exported() != 0 {
		t.Errorf("over the network: %d, %d marked", code, exported())
	}
	if code := post("unix", "2"); code != http.StatusOK || exported() != 2 {
		t.Errorf("%d, %d marked", code, exported())
	}
}
