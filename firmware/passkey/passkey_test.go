package passkey

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/passkey/passkeytest"
)

const (
	domain = "box.example.org"
	page   = "https://box.example.org:8443"
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newParty() (*Party, *clock) {
	c := &clock{time.Unix(1_900_000_000, 0)}
	return New(domain, "site-1", c.now), c
}

func registered(t *testing.T, p *Party) (*passkeytest.Authenticator, *Credential) {
	t.Helper()
	return registeredAs(t, p, 1)
}

func registeredAs(t *testing.T, p *Party, number byte) (*passkeytest.Authenticator, *Credential) {
	t.Helper()
	a := passkeytest.New(number)
	c, err := p.Register(a.Create(t, p.Creation("ann", "session", nil), page), page, "session", "ann's phone")
	if err != nil {
		t.Fatal(err)
	}
	return a, c
}

func signIn(p *Party, body []byte, c *Credential) error {
	a, err := p.Read(body)
	if err != nil {
		return err
	}
	return p.Judge(a, page, "ann", c)
}

func TestWhoRegisteredAPasskeySignsInWithIt(t *testing.T) {
	p, _ := newParty()
	a, c := registered(t, p)
	if !bytes.Equal(c.ID, a.ID()) || c.Domain != domain || c.Synced {
		t.Errorf("kept %+v", c)
	}
	for range 3 {
		if err := signIn(p, a.Get(t, p.Request(), page), c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAnswerIsGoodForOneQuestionOnceAndNotForLong(t *testing.T) {
	p, at := newParty()
	a, c := registered(t, p)
	body := a.Get(t, p.Request(), page)
	if err := signIn(p, body, c); err != nil {
		t.Fatal(err)
	}
	if err := signIn(p, body, c); !errors.Is(err, ErrRefused) {
		t.Errorf("a second time: %v", err)
	}
	late := a.Get(t, p.Request(), page)
	at.at = at.at.Add(challengeFor + time.Second)
	if err := signIn(p, late, c); !errors.Is(err, ErrRefused) {
		t.Errorf("late: %v", err)
	}
	other, _ := newParty() // another box, or this one after a restart
	if err := signIn(p, a.Get(t, other.Request(), page), c); !errors.Is(err, ErrRefused) {
		t.Errorf("another box's question: %v", err)
	}
	if err := signIn(p, a.Get(t, p.Creation("ann", "session", nil), page), c); !errors.Is(err, ErrRefused) {
		t.Errorf("a question of another purpose: %v", err)
	}
	made := a.Create(t, p.Creation("ann", "session", nil), page)
	if _, err := p.Register(made, page, "another session", "x"); !errors.Is(err, ErrRefused) {
		t.Errorf("another session's question: %v", err)
	}
	if _, err := p.Register(made, page, "session", "x"); err != nil {
		t.Error(err)
	}
	if _, err := p.Register(made, page, "session", "x"); !errors.Is(err, ErrRefused) {
		t.Errorf("registered twice: %v", err)
	}
}

func TestAPasskeyOfAnotherPageUserOrDeviceIsRefused(t *testing.T) {
	for name, bend := range map[string]func(a *passkeytest.Authenticator, c *Credential) (origin string){
		"a page of another site":   func(*passkeytest.Authenticator, *Credential) string { return "https://box.example.net:8443" },
		"without TLS":              func(*passkeytest.Authenticator, *Credential) string { return "http://box.example.org:8443" },
		"nobody touched it":        func(a *passkeytest.Authenticator, _ *Credential) string { a.Flags = passkeytest.Verified; return page },
		"nobody was verified":      func(a *passkeytest.Authenticator, _ *Credential) string { a.Flags = passkeytest.Present; return page },
		"it may be copied now":     func(a *passkeytest.Authenticator, _ *Credential) string { a.Flags |= passkeytest.Copies; return page },
		"its counter stands still": func(a *passkeytest.Authenticator, _ *Credential) string { a.Count = 0; return page },
		"another key": func(_ *passkeytest.Authenticator, c *Credential) string {
			p, _ := newParty()
			_, other := registeredAs(t, p, 2)
			c.Key = other.Key
			return page
		},
	} {
		p, _ := newParty()
		a, c := registered(t, p)
		origin := bend(a, c)
		err := signIn(p, a.Get(t, p.Request(), origin), c)
		if want := map[bool]error{true: ErrCopied, false: ErrRefused}[name == "its counter stands still"]; !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, _ := newParty()
	a, c := registered(t, p)
	got, err := p.Read(a.Get(t, p.Request(), page))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Judge(got, page, "bob", c); !errors.Is(err, ErrRefused) {
		t.Errorf("as another operator: %v", err)
	}
}

func TestACopyOfAnAuthenticatorIsSeen(t *testing.T) {
	p, _ := newParty()
	a, c := registered(t, p)
	copied := *a
	for range 2 {
		if err := signIn(p, a.Get(t, p.Request(), page), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := signIn(p, copied.Get(t, p.Request(), page), c); !errors.Is(err, ErrCopied) {
		t.Errorf("the copy: %v", err)
	}
}

func TestWhatWasNotAskedForIsNotRegistered(t *testing.T) {
	for name, bend := range map[string]func(a *passkeytest.Authenticator){
		"attestation": func(a *passkeytest.Authenticator) { a.Format = "tpm" },
		"unverified":  func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Present },
	} {
		p, _ := newParty()
		a := passkeytest.New(1)
		bend(a)
		if _, err := p.Register(a.Create(t, p.Creation("ann", "s", nil), page), page, "s", "x"); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, _ := newParty()
	for _, called := range []string{"", strings.Repeat("x", nameBytesMax+1), "a\nb"} {
		a := passkeytest.New(1)
		if _, err := p.Register(a.Create(t, p.Creation("ann", "s", nil), page), page, "s", called); !errors.Is(err, ErrRefused) {
			t.Errorf("named %q: %v", called, err)
		}
	}
	if _, err := p.Register(bytes.Repeat([]byte(" "), BodyBytesMax+1), page, "s", "x"); !errors.Is(err, ErrRefused) {
		t.Errorf("too long: %v", err)
	}
}

func TestQuestionsCostNoMemoryAndAnswersABound(t *testing.T) {
	p, at := newParty()
	a, c := registered(t, p)
	for range 2 * usedMax {
		p.Request()
		p.Creation("ann", "s", nil)
	}
	if n := len(p.used); n != 1 {
		t.Errorf("%d challenges are remembered where one was answered", n)
	}
	for i := len(p.used); i < usedMax; i++ {
		p.used[nonce(fmt.Appendf(nil, "%016d", i))] = at.at
	}
	if err := signIn(p, a.Get(t, p.Request(), page), c); !errors.Is(err, ErrBusy) {
		t.Errorf("with %d answered: %v", usedMax, err)
	}
	at.at = at.at.Add(challengeFor + time.Second)
	if err := signIn(p, a.Get(t, p.Request(), page), c); err != nil {
		t.Errorf("later: %v", err)
	}
	for i := range 2 * countsMax {
		p.mu.Lock()
		err := p.count(&Credential{ID: fmt.Appendf(nil, "%d", i)}, 7)
		p.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(p.counts) > countsMax {
		t.Errorf("%d counters", len(p.counts))
	}
}

func TestPagesHavePasskeysUnderTheirOwnNameOnly(t *testing.T) {
	p, _ := newParty()
	for host, ok := range map[string]bool{
		"box.example.org": true, "box.example.org:8443": true, "BOX.example.org.": true, "a.box.example.org": true,
		"example.org": false, "xbox.example.org": false, "192.0.2.1:8443": false, "[::1]:8443": false, "localhost:8080": false, "": false,
	} {
		if err := p.Here(host); (err == nil) != ok || err != nil && !errors.Is(err, ErrHost) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestABrowserIsAskedForAVerifiedUserAndNoAttestation(t *testing.T) {
	p, _ := newParty()
	_, c := registered(t, p)
	b, err := json.Marshal(p.Creation("ann", "s", []Credential{*c, {ID: []byte("x"), Domain: "elsewhere"}}))
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	sel, _ := o["authenticatorSelection"].(map[string]any)
	known, _ := o["excludeCredentials"].([]any)
	user, _ := o["user"].(map[string]any)
	if sel["userVerification"] != "required" || sel["residentKey"] != "required" || o["attestation"] != "none" || len(known) != 1 {
		t.Errorf("creation options %s", b)
	}
	if id, err := base64.RawURLEncoding.DecodeString(fmt.Sprint(user["id"])); err != nil || len(id) != 32 || bytes.Contains(id, []byte("ann")) {
		t.Errorf("user id %v", user["id"])
	}
	b, err = json.Marshal(p.Request())
	if err != nil || !bytes.Contains(b, []byte(`"userVerification":"required"`)) || !bytes.Contains(b, []byte(`"rpId":"`+domain+`"`)) {
		t.Errorf("request options %s, %v", b, err)
	}
}

// fuzzed is a party whose questions are good in all of a fuzzer's processes.
func fuzzed() *Party {
	p, _ := newParty()
	p.key = [32]byte{}
	return p
}

func FuzzRegister(f *testing.F) {
	p := fuzzed()
	f.Add(passkeytest.New(1).Create(f, p.Creation("ann", "s", nil), page))
	packed := passkeytest.New(1)
	packed.Format = "packed"
	f.Add(packed.Create(f, p.Creation("ann", "s", nil), page))
	f.Fuzz(func(t *testing.T, body []byte) {
		clear(p.used)
		c, err := p.Register(body, page, "s", "x")
		if err == nil && c.Check() != nil {
			t.Errorf("registered what cannot be kept: %+v", c)
		}
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzSignIn(f *testing.F) {
	p := fuzzed()
	a := passkeytest.New(1)
	c, err := p.Register(a.Create(f, p.Creation("ann", "s", nil), page), page, "s", "x")
	if err != nil {
		f.Fatal(err)
	}
	good := a.Get(f, p.Request(), page)
	f.Add(good)
	f.Fuzz(func(t *testing.T, body []byte) {
		clear(p.used)
		clear(p.counts)
		got, err := p.Read(body)
		if err == nil {
			err = p.Judge(got, page, "ann", c)
		}
		if err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrCopied) {
			t.Errorf("%v", err)
		}
		if err != nil {
			return
		}
		if d := got.data.Response.CollectedClientData; d.Origin != page || d.Type != "webauthn.get" || d.CrossOrigin {
			t.Errorf("taken: %q", body)
		}
		if err := p.Judge(got, page, "ann", c); !errors.Is(err, ErrRefused) {
			t.Errorf("taken twice: %v", err)
		}
	})
}
