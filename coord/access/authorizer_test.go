package access

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

func TestAnAuthorizerFollowsTheDocumentsAndRecordsRefusals(t *testing.T) {
	var records []audit.Record
	nowMs := uint64(testNow * 1000)
	me := coord.BoxID{1}
	a := NewAuthorizer(me, func(_ context.Context, r audit.Record) error { records = append(records, r); return nil }, func() uint64 { return nowMs })
	ann, anyone, root := &Credentials{Principal: "operator:ann"}, &Credentials{}, &Credentials{Principal: Root}
	if a.Decide(ann, ConsoleView, Site()).Allowed || a.Decide(anyone, KVGet, Key("a")).Allowed || !a.Decide(root, ConsoleView, Site()).Allowed {
		t.Error("before there are rules only root may do things")
	}
	s := newState(t)
	a.Update(1, s)
	if !a.Decide(ann, ConsoleView, Site()).Allowed || !a.Decide(anyone, KVGet, Key("a")).Allowed {
		t.Error("the site's rules do not hold")
	}
	s.set("policy/p", `forbid (principal, action, resource in Prefix::"a");`)
	a.Update(1, s)
	if !a.Decide(ann, KVGet, Key("a")).Allowed {
		t.Error("rules were made anew for nothing")
	}
	a.Update(2, s)
	who := &Credentials{Principal: "operator:ann", Source: "10.0.0.9:1", Request: "q-1"}
	if err := a.Authorize(t.Context(), who, KVGet, Key("b")); err != nil || len(records) > 0 {
		t.Errorf("%v, %v", err, records)
	}
	err := a.Authorize(t.Context(), who, KVGet, Key("a"))
	if !errors.Is(err, ErrDenied) || len(records) != 1 {
		t.Fatalf("%v, %v", err, records)
	}
	want := audit.Record{
		Principal: "operator:ann", Action: "kv.get", Resource: "key:a", Outcome: audit.Denied, Policy: "policy/p", Reason: "forbidden by policy/p",
		Source: "10.0.0.9:1", Request: "q-1",
	}
	if records[0] != want {
		t.Errorf("%+v", records[0])
	}

	tok := issue(t, func(b *Block) { b.Resources = []string{"key:*"} })
	if _, err := a.Token(tok.Text(), "", coord.Digest{}); !errors.Is(err, ErrHolder) {
		t.Errorf("a bound token without a proof: %v", err)
	}
	p := &Proof{Audience: me, TimeMs: nowMs}
	if err := p.Sign(tok, testSigner(t, "holder")); err != nil {
		t.Fatal(err)
	}
	g, err := a.Token(tok.Text(), p.String(), coord.Digest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Token(tok.Text(), p.String(), coord.Digest{}); !errors.Is(err, ErrReplayed) {
		t.Errorf("a proof used twice: %v", err)
	}
	holder := &Credentials{Grant: g}
	if !a.Decide(holder, KVGet, Key("b")).Allowed || a.Decide(holder, KVGet, Key("a")).Allowed || holder.Who() != tok.String() {
		t.Error("a token is worth what its issuer may do")
	}
	s.set(DocRevoked+tok.ID().String(), "{}")
	a.Update(3, s)
	if v := a.Decide(holder, KVGet, Key("b")); v.Allowed || !strings.Contains(v.Reason(), "revoked") {
		t.Errorf("revoked while it is in use: %s", v.Reason())
	}
	s2 := newState(t)
	a.Update(4, s2)
	nowMs += 3601 * 1000
	if v := a.Decide(holder, KVGet, Key("b")); v.Allowed || !strings.Contains(v.Reason(), "expired") {
		t.Errorf("expired while it is in use: %s", v.Reason())
	}
}

func TestATokensNameIsNoSecret(t *testing.T) {
	tok := issue(t, func(b *Block) { b.Bound, b.Holder = false, PublicKey{} })
	for _, s := range []string{tok.String(), tok.GoString()} {
		if strings.Contains(s, "hf1.") || !strings.Contains(s, tok.ID().String()) {
			t.Error(s)
		}
	}
}
