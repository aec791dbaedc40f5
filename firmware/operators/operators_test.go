package operators

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

func TestTheSetupCodeMakesTheFirstOperatorAndNoSecond(t *testing.T) {
	r := newRig(t)
	if _, err := r.Setup(t.Context(), "WRON-GWRO-NGWR-ONGW", "ann", good, from("192.0.2.1")); !errors.Is(err, ErrCode) {
		t.Fatalf("a wrong code: %v", err)
	}
	e, err := r.Setup(t.Context(), " abcdefghijklmnop ", "ann", good, from("192.0.2.1"))
	if err != nil {
		t.Fatalf("the code without dashes and capitals: %v", err)
	}
	if s, o, err := r.Session(e.Token); err != nil || s.Principal() != "operator:ann" || o.MustChange {
		t.Fatalf("session %v, %v", s, err)
	}
	if _, err := r.Setup(t.Context(), setupCode, "eve", good, from("192.0.2.1")); !errors.Is(err, ErrDone) {
		t.Fatalf("a second setup: %v", err)
	}
}

func TestTheSessionSignsWithTheKeyOfTheDocument(t *testing.T) {
	r := newRig(t)
	e := setUp(t, r)
	o, _, _ := r.Get("ann")
	public, err := publicKey(o.Key)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("a decision"))
	var sig []byte
	if err := e.Session.WithKey(func(k *ecdsa.PrivateKey) (err error) {
		sig, err = ecdsa.SignASN1(nil, k, digest[:])
		return err
	}); err != nil || !ecdsa.VerifyASN1(public, digest[:], sig) {
		t.Fatalf("the signature does not hold (%v)", err)
	}
	r.Logout(t.Context(), e.Session)
	if err := e.Session.WithKey(func(*ecdsa.PrivateKey) error { return nil }); !errors.Is(err, ErrNoSession) {
		t.Errorf("a session that has ended still signs: %v", err)
	}
}

func TestAWrongNameAndAWrongPasswordLookAlike(t *testing.T) {
	r := newRig(t)
	setUp(t, r)
	hashes := 0
	r.hash.hash = func(p string, salt []byte, x Params) []byte { hashes++; return quick(p, salt, x) }
	_, wrong := r.Login(t.Context(), "ann", other, from("192.0.2.7"))
	_, nobody := r.Login(t.Context(), "bob", other, from("192.0.2.7"))
	if !errors.Is(wrong, ErrWrong) || wrong.Error() != nobody.Error() || hashes != 2 {
		t.Errorf("%v, %v, %d hashes", wrong, nobody, hashes)
	}
	for _, rec := range r.records[len(r.records)-2:] {
		if rec.Action != "auth.login" || rec.Outcome != audit.Denied {
			t.Errorf("recorded %+v", rec)
		}
	}
}

func TestADisabledOperatorIsOutAtOnce(t *testing.T) {
	r := newRig(t)
	e := setUp(t, r)
	if err := r.Disable(t.Context(), "ann", true, By{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Session(e.Token); !errors.Is(err, ErrNoSession) {
		t.Errorf("the session goes on: %v", err)
	}
	if _, err := r.Login(t.Context(), "ann", good, from("192.0.2.1")); !errors.Is(err, ErrWrong) {
		t.Errorf("logs in again: %v", err)
	}
}

func TestANewPasswordKeepsTheKeyAndEndsOtherSessions(t *testing.T) {
	r := newRig(t)
	mine := setUp(t, r)
	elsewhere, err := r.Login(t.Context(), "ann", good, from("192.0.2.2"))
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := r.Get("ann")
	if err := r.Change(t.Context(), mine.Session, "not the old one at all", other, from("192.0.2.1")); !errors.Is(err, ErrWrong) {
		t.Fatalf("without the old password: %v", err)
	}
	if err := r.Change(t.Context(), mine.Session, good, other, from("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	after, _, _ := r.Get("ann")
	if string(before.Key) != string(after.Key) {
		t.Error("it is another key")
	}
	if _, _, err := r.Session(mine.Token); err != nil {
		t.Errorf("the session that changed it: %v", err)
	}
	if _, _, err := r.Session(elsewhere.Token); !errors.Is(err, ErrNoSession) {
		t.Errorf("another session goes on: %v", err)
	}
	if _, err := r.Login(t.Context(), "ann", good, from("192.0.2.3")); !errors.Is(err, ErrWrong) {
		t.Errorf("the old password: %v", err)
	}
	if _, err := r.Login(t.Context(), "ann", other, from("192.0.2.3")); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

func TestAResetIsAnotherKeyAndAsksForAnotherPassword(t *testing.T) {
	r := newRig(t)
	setUp(t, r)
	before, _, _ := r.Get("ann")
	if err := r.Reset(t.Context(), "ann", other, Try{Local: true}, By{}); err != nil {
		t.Fatal(err)
	}
	e, err := r.Login(t.Context(), "ann", other, from("192.0.2.1"))
	if err != nil || !e.MustChange {
		t.Fatalf("%+v, %v", e, err)
	}
	if after, _, _ := r.Get("ann"); string(before.Key) == string(after.Key) {
		t.Error("the key that the old password opens still counts")
	}
	err = r.Vouch(t.Context(), "ann", other, from("192.0.2.1"), func(*Document, *ecdsa.PrivateKey) error {
		t.Error("a first password signs")
		return nil
	})
	if !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), "choose your own") {
		t.Error(err)
	}
	if s := (&Wait{For: 400 * time.Millisecond}).Error(); !strings.Contains(s, "wait 1s") {
		t.Error(s)
	}
}

func TestAFoundingOperatorIsWrittenWithTheFirstDecision(t *testing.T) {
	f, err := New("admin", good, 1)
	if err != nil {
		t.Fatal(err)
	}
	value, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.hash = newHasher()
	r.docs["operator/admin"] = coord.Doc{Key: "operator/admin", Value: value}
	r.docs["grant/operator:admin"] = coord.Doc{Key: "grant/operator:admin", Value: []byte(`{"roles":["admin"]}`)}
	e, err := r.Login(t.Context(), "admin", good, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Fresh() {
		t.Error("the site takes a setup code although it has an operator")
	}
	if err := r.Add(t.Context(), "ann", other, "viewer", from("192.0.2.1"), r.cfg.Signer(e.Session)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"operator/admin", "grant/operator:admin", "operator/ann", "grant/operator:ann"} {
		if d := r.docs[key]; d.Version != 1 {
			t.Errorf("%s has version %d: the founding operator is lost with the first of the others", key, d.Version)
		}
	}
}

func TestSessionsEndByThemselvesAndAreBounded(t *testing.T) {
	r := newRig(t)
	e := setUp(t, r)
	r.pass(idleMax - time.Second)
	if _, _, err := r.Session(e.Token); err != nil {
		t.Fatalf("within the idle limit: %v", err)
	}
	r.pass(idleMax + time.Second)
	if _, _, err := r.Session(e.Token); !errors.Is(err, ErrNoSession) {
		t.Fatalf("after the idle limit: %v", err)
	}
	e, err := r.Login(t.Context(), "ann", good, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	for range int(absoluteMax/idleMax) + 2 {
		r.pass(idleMax - time.Second)
		_, _, err = r.Session(e.Token)
	}
	if !errors.Is(err, ErrNoSession) {
		t.Errorf("a session that is used lasts for ever: %v", err)
	}
	for i := range 3 * perOperatorMax {
		if _, err := r.Login(t.Context(), "ann", good, source(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.Sessions()); n != perOperatorMax {
		t.Errorf("%d sessions of one operator", n)
	}
}

func TestAWeakPasswordIsRefusedWithAReason(t *testing.T) {
	for _, p := range []string{"short", "aaaaaaaaaaaaaaa", "password12345678", "1234567890123", "annannannann!", "Qwertz-123456-Admin"} {
		if err := CheckPassword("ann", p); !errors.Is(err, ErrPassword) {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{good, other, "GEZDGNBVGY3TQOJQGEZDGNBVGY", "vier Wörter sind genug"} {
		if err := CheckPassword("ann", p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestADecisionThatFailsMakesNobody(t *testing.T) {
	r := newRig(t)
	r.refuse = errors.New("no quorum")
	if _, err := r.Setup(t.Context(), setupCode, "ann", good, from("192.0.2.1")); err == nil || len(r.docs) > 0 {
		t.Fatalf("%v", err)
	}
	if !r.Fresh() {
		t.Error("the setup code is used up by an attempt that failed")
	}
}

func FuzzDecode(f *testing.F) {
	o, err := New("ann", good, 1)
	if err != nil {
		f.Fatal(err)
	}
	b, err := o.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"name":"ann","sealed":{"time":4294967295,"memory_kib":4294967295,"threads":255}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Decode(b)
		if err != nil {
			return
		}
		if !d.Sealed.ok() || len(d.Passkeys) > passkeysMax {
			t.Fatalf("accepted %+v", d)
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatal(err)
		}
		if _, err := d.unseal(make([]byte, keyBytes)); err == nil {
			t.Fatal("opened with a key of zeros")
		}
	})
}

func TestADocumentCannotBeMovedToAnotherName(t *testing.T) {
	o, key, err := newDocument("ann", 1)
	if err != nil {
		t.Fatal(err)
	}
	p, salt := ParamsDefault(), newSalt()
	secret := quick(good, salt, p)
	if err := o.seal(key, secret, salt, p); err != nil {
		t.Fatal(err)
	}
	if _, err := o.unseal(secret); err != nil {
		t.Fatal(err)
	}
	o.Name = "eve"
	if _, err := o.unseal(secret); !errors.Is(err, ErrWrong) {
		t.Errorf("%v", err)
	}
}

// The cost of one login: what a box pays for a guess, and a person waits.
func BenchmarkHash(b *testing.B) {
	h, salt := newHasher(), newSalt()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.do(context.Background(), "a", false, good, salt, ParamsDefault()); err != nil {
			b.Fatal(err)
		}
	}
}
