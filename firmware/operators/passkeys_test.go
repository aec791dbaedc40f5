package operators

import (
	"crypto/ecdsa"
	"errors"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
	"github.com/holdfast-edge/holdfast/firmware/passkey/passkeytest"
)

func addPasskey(t *testing.T, r *rig, s *Session, number byte) (*passkeytest.Authenticator, *passkey.Credential) {
	t.Helper()
	a := passkeytest.New(number)
	o, err := r.NewPasskey(s)
	if err != nil {
		t.Fatal(err)
	}
	key, err := r.AddPasskey(t.Context(), s, a.Create(t, o, passkeyPage), passkeyPage, "ann's phone", By{})
	if err != nil {
		t.Fatal(err)
	}
	return a, key
}

func (r *rig) byPasskey(t *testing.T, a *passkeytest.Authenticator, try Try) (*Entry, error) {
	t.Helper()
	return r.LoginPasskey(t.Context(), a.Get(t, r.Passkeys().Request(), passkeyPage), passkeyPage, try)
}

func noKey(*ecdsa.PrivateKey) error { return nil }

func TestAPasskeyLetsInAndThePasswordLetsDecide(t *testing.T) {
	r := newRig(t)
	a, _ := addPasskey(t, r, setUp(t, r).Session, 1)
	e, err := r.byPasskey(t, a, from("192.0.2.9"))
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := r.Session(e.Token); err != nil || s.Principal() != "operator:ann" || !s.Locked() {
		t.Fatalf("session %+v, %v", s, err)
	}
	if err := e.Session.WithKey(noKey); !errors.Is(err, ErrLocked) {
		t.Errorf("it signs: %v", err)
	}
	if _, err := r.AddPasskey(t.Context(), e.Session, nil, passkeyPage, "another", By{}); !errors.Is(err, ErrLocked) {
		t.Errorf("it adds a passkey: %v", err)
	}
	if err := r.Unlock(t.Context(), e.Session, other, from("192.0.2.9")); !errors.Is(err, ErrWrong) || !e.Session.Locked() {
		t.Errorf("with another password: %v", err)
	}
	if err := r.Unlock(t.Context(), e.Session, good, from("192.0.2.9")); err != nil || e.Session.Locked() {
		t.Fatalf("with the password: %v", err)
	}
	if err := e.Session.WithKey(noKey); err != nil {
		t.Errorf("then: %v", err)
	}
	last := r.records[len(r.records)-1]
	if last.Action != "auth.unlock" || last.Outcome != audit.Allowed || last.Principal != "operator:ann" {
		t.Errorf("recorded %+v", last)
	}
}

func TestASessionEndsWithThePasskeyThatItBeganWith(t *testing.T) {
	r := newRig(t)
	by := setUp(t, r)
	a, key := addPasskey(t, r, by.Session, 1)
	b, _ := addPasskey(t, r, by.Session, 2)
	lost, err := r.byPasskey(t, a, from("192.0.2.9"))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := r.byPasskey(t, b, from("192.0.2.9"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.RemovePasskey(t.Context(), "ann", key.ID, By{}); err != nil {
		t.Fatal(err)
	}
	if err := r.RemovePasskey(t.Context(), "ann", key.ID, By{}); !errors.Is(err, ErrPasskey) {
		t.Errorf("removed twice: %v", err)
	}
	if _, _, err := r.Session(lost.Token); !errors.Is(err, ErrNoSession) {
		t.Errorf("the lost one's session: %v", err)
	}
	for _, e := range []*Entry{kept, by} {
		if _, _, err := r.Session(e.Token); err != nil {
			t.Errorf("another session: %v", err)
		}
	}
	if _, err := r.byPasskey(t, a, from("192.0.2.9")); !errors.Is(err, passkey.ErrUnknown) {
		t.Errorf("it signs in again: %v", err)
	}
}

func TestAResetTakesPasskeysAndANewPasswordEndsTheirSessions(t *testing.T) {
	r := newRig(t)
	by := setUp(t, r)
	a, _ := addPasskey(t, r, by.Session, 1)
	e, err := r.byPasskey(t, a, from("192.0.2.9"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Change(t.Context(), by.Session, good, other, from("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Session(e.Token); !errors.Is(err, ErrNoSession) {
		t.Errorf("after another password: %v", err)
	}
	if e, err = r.byPasskey(t, a, from("192.0.2.9")); err != nil {
		t.Fatalf("with the passkey after another password: %v", err)
	}
	if err := r.Change(t.Context(), e.Session, other, good, from("192.0.2.9")); err != nil || e.Session.Locked() {
		t.Errorf("a session of a passkey, with the old password, chooses a new one: %v", err)
	}
	if err := r.Reset(t.Context(), "ann", "some first password", from("192.0.2.1"), By{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.byPasskey(t, a, from("192.0.2.9")); !errors.Is(err, passkey.ErrUnknown) {
		t.Errorf("after a reset: %v", err)
	}
}

func TestADisabledOperatorsPasskeyOpensNothing(t *testing.T) {
	r := newRig(t)
	a, _ := addPasskey(t, r, setUp(t, r).Session, 1)
	if err := r.Disable(t.Context(), "ann", true, By{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.byPasskey(t, a, from("192.0.2.9")); !errors.Is(err, ErrWrong) {
		t.Errorf("%v", err)
	}
	last := r.records[len(r.records)-1]
	if last.Action != "auth.passkey" || last.Outcome != audit.Denied || last.Principal != "operator:ann" {
		t.Errorf("recorded %+v", last)
	}
}

func TestWrongPasskeysSlowTheirSourceAndNotTheOperator(t *testing.T) {
	r := newRig(t)
	a, _ := addPasskey(t, r, setUp(t, r).Session, 1)
	stranger := passkeytest.New(2)
	stranger.Create(t, r.Passkeys().Creation("ann", "", nil), passkeyPage)
	var err error
	for range sourceRule.free + 2 {
		_, err = r.byPasskey(t, stranger, from("198.51.100.1"))
	}
	if !errors.Is(err, ErrWait) {
		t.Errorf("the source is not slowed: %v", err)
	}
	for i := range 2 * nameRule.free { // whoever guesses passwords for the name from everywhere
		_, err = r.Login(t.Context(), "ann", other, source(i))
	}
	if !errors.Is(err, ErrWait) {
		t.Fatalf("guesses are not slowed: %v", err)
	}
	if _, err := r.byPasskey(t, a, from("192.0.2.9")); err != nil {
		t.Errorf("the passkey of who is guessed at: %v", err)
	}
}

func TestAnOperatorHasEightPasskeysAtMostAndEachOnce(t *testing.T) {
	r := newRig(t)
	s := setUp(t, r).Session
	for i := range passkeysMax {
		addPasskey(t, r, s, byte(i+1))
	}
	if _, err := r.NewPasskey(s); !errors.Is(err, passkey.ErrRefused) {
		t.Errorf("a ninth: %v", err)
	}
	if o, _, ok := r.Get("ann"); !ok || len(o.Passkeys) != passkeysMax {
		t.Fatal("they are not in the document")
	} else if err := r.RemovePasskey(t.Context(), "ann", o.Passkeys[7].ID, By{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Add(t.Context(), "bob", good, "viewer", from("192.0.2.1"), By{}); err != nil {
		t.Fatal(err)
	}
	e, err := r.Login(t.Context(), "bob", good, from("192.0.2.2"))
	if err != nil {
		t.Fatal(err)
	}
	o, err := r.NewPasskey(e.Session)
	if err != nil {
		t.Fatal(err)
	}
	again := passkeytest.New(1)
	if _, err := r.AddPasskey(t.Context(), e.Session, again.Create(t, o, passkeyPage), passkeyPage, "ann's", By{}); !errors.Is(err, passkey.ErrRefused) {
		t.Errorf("one that another operator has: %v", err)
	}
}

func TestABoxWithoutADomainTakesNoPasskeys(t *testing.T) {
	r := newRig(t)
	e := setUp(t, r)
	r.cfg.Passkeys = nil
	if _, err := r.NewPasskey(e.Session); !errors.Is(err, ErrNoPasskeys) {
		t.Errorf("%v", err)
	}
	if _, err := r.LoginPasskey(t.Context(), nil, passkeyPage, from("192.0.2.9")); !errors.Is(err, ErrNoPasskeys) {
		t.Errorf("%v", err)
	}
}
