package console

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/passkey/passkeytest"
)

const passkeyPage = "https://" + passkeyHost + ":8443"

// script is what the console's script sends: JSON, from a page under the console's name.
type script struct {
	*browser
	csrf, host string
}

func newScript(c *guarded) *script {
	c.cfg.Secure = true
	return &script{browser: c.browser(), host: passkeyHost + ":8443"}
}

func (s *script) send(t *testing.T, path string, fields map[string]string, into any) *httptest.ResponseRecorder {
	t.Helper()
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/api/v1"+path, strings.NewReader(string(b)))
	r.Host, r.RemoteAddr = s.host, s.remote
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", "https://"+s.host)
	r.Header.Set("X-CSRF-Token", s.csrf)
	for k, v := range s.cookies {
		r.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	w := httptest.NewRecorder()
	s.c.Handler().ServeHTTP(w, r)
	for _, k := range w.Result().Cookies() {
		s.cookies[k.Name] = k.Value
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	return w
}

// signedIn is what a login answers.
type signedIn struct {
	Operator string `json:"operator"`
	CSRF     string `json:"csrf"`
	Locked   bool   `json:"locked"`
}

// withPasskey is a console whose operator ann has a passkey.
func withPasskey(t *testing.T, a Access) (*guarded, *script, *passkeytest.Authenticator) {
	t.Helper()
	c := newGuarded(t, a)
	s := newScript(c)
	var in signedIn
	s.send(t, "/setup", map[string]string{"code": code, "name": "ann", "password": secret}, &in)
	if s.csrf = in.CSRF; in.Locked {
		t.Fatal("a session of a password is locked")
	}
	key := passkeytest.New(1)
	var o json.RawMessage
	s.send(t, "/passkeys/options", nil, &o)
	var got api.Passkey
	s.send(t, "/passkeys/add", map[string]string{"name": "phone", "credential": string(key.Create(t, o, passkeyPage))}, &got)
	if got.Name != "phone" || got.Domain != passkeyHost || got.ID == "" {
		t.Fatalf("added %+v", got)
	}
	return c, s, key
}

func (s *script) byPasskey(t *testing.T, key *passkeytest.Authenticator) *httptest.ResponseRecorder {
	t.Helper()
	var o json.RawMessage
	s.send(t, "/passkey/options", nil, &o)
	w := s.send(t, "/passkey/login", map[string]string{"credential": string(key.Get(t, o, passkeyPage))}, nil)
	var in signedIn
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &in); err != nil || in.Operator != "ann" || !in.Locked {
			t.Fatalf("signed in: %s", w.Body)
		}
		s.csrf = in.CSRF
	}
	return w
}

func TestAPasskeySignsInAtThePageAndThePasswordUnlocksIt(t *testing.T) {
	c, _, key := withPasskey(t, nil)
	b := newScript(c)
	if w := b.byPasskey(t, key); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := b.get("/api/v1/status"); w.Code != http.StatusOK {
		t.Errorf("looks: %d", w.Code)
	}
	for word, fields := range map[string]map[string]string{"/decisions/00/approve": nil, "/decisions/00/refuse": nil, "/decisions/propose": {"proposal": "{}"}} {
		if w := b.send(t, word, fields, nil); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "/unlock") {
			t.Errorf("%s without the key: %d %s", word, w.Code, w.Body)
		}
	}
	if !c.desk.recorded("decision.approve", audit.Denied, "operator:ann") {
		t.Error("the refusal is not recorded")
	}
	if w := b.send(t, "/unlock", map[string]string{"password": "not the password"}, nil); w.Code != http.StatusForbidden {
		t.Errorf("a wrong password: %d", w.Code)
	}
	keep := b.csrf
	b.csrf = "x"
	if w := b.send(t, "/unlock", map[string]string{"password": secret}, nil); w.Code != http.StatusForbidden {
		t.Errorf("without the session's secret: %d", w.Code)
	}
	b.csrf = keep
	if w := b.send(t, "/unlock", map[string]string{"password": secret}, nil); w.Code != http.StatusOK {
		t.Errorf("the password: %d %s", w.Code, w.Body)
	}
	if w := b.send(t, "/decisions/00/approve", nil, nil); w.Code == http.StatusForbidden {
		t.Errorf("with the key: %d %s", w.Code, w.Body)
	}
	if w := newScript(c).send(t, "/unlock", map[string]string{"password": secret}, nil); w.Code != http.StatusUnauthorized {
		t.Errorf("nobody unlocks: %d", w.Code)
	}
}

func TestPasskeysAreListedAndRemovedByTheirOwnerOrWhoMay(t *testing.T) {
	c, ann, key := withPasskey(t, rights{map[string]bool{"operator:ann operator.add": true, "operator:ann console.view": true, "operator:ann role.list": true}})
	var list api.Operators
	if w := ann.get("/api/v1/operators"); json.Unmarshal(w.Body.Bytes(), &list) != nil || len(list.Operators) != 1 || len(list.Operators[0].Passkeys) != 1 {
		t.Fatalf("listed: %s", w.Body)
	}
	id := list.Operators[0].Passkeys[0].ID
	if strings.Contains(ann.get("/api/v1/operators").Body.String(), "sealed") {
		t.Error("the list shows the sealed key")
	}
	bob := newScript(c)
	if err := c.desk.Add(t.Context(), "bob", secret, "viewer", operators.Try{Local: true}, operators.By{}); err != nil {
		t.Fatal(err)
	}
	e, err := c.desk.Login(t.Context(), "bob", secret, operators.Try{Local: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.desk.Change(t.Context(), e.Session, secret, "quite another staple", operators.Try{Local: true}); err != nil {
		t.Fatal(err)
	}
	var in signedIn
	bob.send(t, "/login", map[string]string{"name": "bob", "password": "quite another staple"}, &in)
	bob.csrf = in.CSRF
	if w := bob.send(t, "/operators/ann/passkeys/"+id+"/remove", nil, nil); w.Code != http.StatusForbidden {
		t.Errorf("another operator removes it: %d", w.Code)
	}
	if w := ann.send(t, "/operators/ann/passkeys/!/remove", nil, nil); w.Code != http.StatusBadRequest {
		t.Errorf("no id: %d", w.Code)
	}
	if w := ann.send(t, "/operators/ann/passkeys/"+id+"/remove", nil, nil); w.Code != http.StatusOK {
		t.Errorf("its owner: %d %s", w.Code, w.Body)
	}
	if w := ann.send(t, "/operators/ann/passkeys/"+id+"/remove", nil, nil); w.Code != http.StatusNotFound {
		t.Errorf("again: %d", w.Code)
	}
	if w := newScript(c).byPasskey(t, key); w.Code != http.StatusUnauthorized {
		t.Errorf("signs in with a removed one: %d", w.Code)
	}
}

func TestPasskeysNeedTheConsolesOwnName(t *testing.T) {
	c, _, key := withPasskey(t, nil)
	b := newScript(c)
	b.host = "127.0.0.1:8443"
	if w := b.send(t, "/passkey/options", nil, nil); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), passkeyHost) {
		t.Errorf("at an address: %d %s", w.Code, w.Body)
	}
	b.host = passkeyHost + ":8443"
	var o json.RawMessage
	b.send(t, "/passkey/options", nil, &o)
	answer := string(key.Get(t, o, "https://evil.example"))
	if w := b.send(t, "/passkey/login", map[string]string{"credential": answer}, nil); w.Code != http.StatusUnauthorized {
		t.Errorf("a page of another site: %d %s", w.Code, w.Body)
	}
	if !c.desk.recorded("auth.passkey", audit.Denied, "operator:ann") {
		t.Error("it is not recorded")
	}
}

func TestAnOperatorsPasskeyWaitsForOtherBoxesAsOtherDecisionsDo(t *testing.T) {
	c, ann, _ := withPasskey(t, nil)
	c.desk.refuse = ErrLater
	key := passkeytest.New(2)
	var o json.RawMessage
	ann.send(t, "/passkeys/options", nil, &o)
	w := ann.send(t, "/passkeys/add", map[string]string{"name": "tablet", "credential": string(key.Create(t, o, passkeyPage))}, nil)
	if w.Code != http.StatusAccepted || !strings.Contains(w.Body.String(), "waits") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
