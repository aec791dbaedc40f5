package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/alarms"
)

// alarmsOf are alarms with the rules that ship, about a site in which all is well.
func alarmsOf(t *testing.T, s Site) *alarms.Service {
	t.Helper()
	rules, err := alarms.LoadRules("", nil, func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	a, err := alarms.New(alarms.Config{
		Rules: rules, Every: time.Minute, View: s.View, Site: "cafe", Box: "box-0", Dir: t.TempDir(), Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
		Query: func(context.Context, string) ([]alarms.Sample, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSilencingIsARightOfItsOwnAndSaysWhoDidIt(t *testing.T) {
	r := rights{map[string]bool{"program:cache alarm.read": true}}
	c := newGuarded(t, r)
	post := func(path, body string) *httptest.ResponseRecorder {
		req := httptest.NewRequest("POST", "/api/v1/alarms/"+path, strings.NewReader(body))
		req.Host, req.RemoteAddr = "127.0.0.1:8080", "192.0.2.1:4711"
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer hf1good")
		w := httptest.NewRecorder()
		c.Handler().ServeHTTP(w, req)
		return w
	}
	const silence = `{"matchers":"HoldfastBoxAway\nmember=~box-.","why":"new disks","for":"3h"}`
	for path, body := range map[string]string{"silence": silence, "unsilence": `{"id":"ab"}`, "test": `{}`} {
		if w := post(path, body); w.Code != http.StatusForbidden {
			t.Errorf("%s without the right: %d %s", path, w.Code, w.Body)
		}
		r.may["program:cache alarm."+path] = true
	}
	for body, says := range map[string]string{
		`{"matchers":"a b","why":"x"}`:                              "no matcher",
		`{"matchers":"A","why":""}`:                                 "say why",
		`{"matchers":"A","why":"x","for":"soon"}`:                   "30m, 2h, 7d",
		`{"matchers":"A","why":"x"}`:                                "no rule of this box is called",
		`{"matchers":"A","why":"x","until":"tomorrow"}`:             "2026-12-24",
		`{"matchers":"A","why":"x","until":"2020-01-01T00:00:00Z"}`: "end before",
		`{"matchers":"a=~\".*\"","why":"x"}`:                        "cover all",
	} {
		if w := post("silence", body); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	w := post("silence", silence)
	var x alarms.Silence
	if err := json.Unmarshal(w.Body.Bytes(), &x); w.Code != http.StatusOK || err != nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if left := time.Until(x.Until); x.By != "program:cache" || x.Why != "new disks" || len(x.Matchers) != 2 || left < 2*time.Hour || left > 3*time.Hour {
		t.Errorf("%+v", x)
	}
	if w := post("unsilence", `{"id":"`+x.ID[:5]+`"}`); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := post("unsilence", `{"id":"`+x.ID+`"}`); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "alarm list") {
		t.Errorf("a silence that is over: %d %s", w.Code, w.Body)
	}
	for _, o := range []audit.Outcome{audit.Failed, audit.Allowed} {
		if !c.desk.recorded("alarm.silence", o, "program:cache") {
			t.Errorf("the audit log has no silence that was %v", o)
		}
	}
	if w := post("test", `{}`); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"receivers":0`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
