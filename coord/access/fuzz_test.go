package access

import (
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// FuzzPolicy: no text makes the parser panic or the compiled answer differ from Cedar's.
func FuzzPolicy(f *testing.F) {
	for i := range builtin {
		f.Add(builtin[i].policy)
	}
	f.Add(`@id("x") forbid (principal is Program in Role::"r1", action in [Action::"kv.get", Action::"lease"], resource is Key in Prefix::"a/")
		when { resource.name like "a*b" && !(principal.name == "x") } unless { context has y && [1, 2].contains(3) };`)
	f.Add(`permit (principal, action, resource) when { if true then ip("10.0.0.1").isIpv4() else decimal("1.1").lessThan(decimal("2.0")) };`)
	f.Add(strings.Repeat("(", 40) + strings.Repeat("if ", 300))
	s := newState(f)
	s.set("grant/program:p1", grantJSON("r1"))
	asked := []Resource{Site(), Key(""), Key("a/b"), Document("policy/x"), {Kind: KindBox, Name: "a"}}
	f.Fuzz(func(t *testing.T, text string) {
		strict := CheckPolicy("fuzz", text)
		r := Compile(s.members, append(s.Docs(""), coord.Doc{Key: "policy/fuzz", Value: []byte(text)}))
		if strict == nil && len(r.Faults()) > 0 {
			t.Fatalf("may be stored and cannot be used: %v", r.Faults())
		}
		for _, who := range []string{"program:p1", "operator:ann", Anyone} {
			for _, a := range []Action{KVGet, PolicyPut, LeaseGrant} {
				for _, on := range asked {
					v := r.Decide(who, a, on)
					if len(r.Faults()) > 0 {
						if v.Allowed && !mends(a) {
							t.Fatalf("%s may %s on %v with a policy that cannot be read", who, a, on)
						}
						continue
					}
					if want, names := r.reference(who, a, on); v.Allowed != want {
						t.Fatalf("%s %s on %v: %v by %q; Cedar says %v by %q", who, a, on, v.Allowed, v.Policy, want, names)
					}
				}
				r.Decide(who, a, Prefix("a"))
			}
		}
	})
}

// FuzzToken: no bytes make the decoder panic, what it accepts has one form, and nothing verifies but what was signed.
func FuzzToken(f *testing.F) {
	root := issue(f, nil)
	next, err := root.Attenuate(Block{Actions: []string{"kv.get"}}, testSigner(f, "holder"), nil)
	if err != nil {
		f.Fatal(err)
	}
	free := issue(f, func(b *Block) { b.Bound, b.Holder = false, PublicKey{} })
	for _, tok := range []*Token{root, next, free} {
		f.Add(tok.Append(nil))
	}
	r := RulesOf(newState(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := DecodeToken(b)
		if err != nil {
			return
		}
		if again := tok.Append(nil); string(again) != string(b) {
			t.Fatalf("%x is read, and written as %x", b, again)
		}
		if len(tok.Text()) > TokenTextMax {
			t.Fatal("too long as text")
		}
		g, err := r.Verify(tok, testNow)
		if err != nil {
			return
		}
		known := false
		for _, id := range tok.IDs() {
			known = known || id == root.ID() || id == free.ID()
		}
		if !known || r.DecideToken(g, RoleGrant, Site()).Allowed {
			t.Fatalf("%x verifies", b)
		}
	})
}

// FuzzProof: a text is a proof in one form only.
func FuzzProof(f *testing.F) {
	p := &Proof{TimeMs: testNow * 1000}
	if err := p.Sign(issue(f, nil), testSigner(f, "holder")); err != nil {
		f.Fatal(err)
	}
	f.Add(p.String())
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParseProof(s); err == nil && p.String() != s {
			t.Fatalf("%q is read, and written as %q", s, p)
		}
	})
}

// FuzzJudge: whatever a decision holds, judging it does not panic, and without a signature it is never a yes.
func FuzzJudge(f *testing.F) {
	r := newRig(f)
	r.judge.Founding = []byte(operatorJSON(f, "ann"))
	add := r.decision("operator.add", "operator:zoe", "operator:ann", "operator/zoe", []byte(operatorJSON(f, "zoe")))
	f.Add(add.Kind, add.Subject, add.Writes[0].Key, add.Writes[0].Value, []byte(`{"operator":{"name":"ann","sig":"`+strings.Repeat("00", 64)+`"}}`))
	f.Add("role.grant", "program:x", "grant/program:x", []byte(grantJSON("viewer")), []byte(`{"join":"AAAA"}`))
	f.Add("member.remove", "x", "members", []byte(`{"site":"0707000000000000","epoch":4,"members":[]}`), []byte(`{"evidence":{}}`))
	f.Add("token.epoch", "site", "token/epoch", []byte("1"), []byte(`{"token":{"token":"`+issue(f, nil).Text()+`"}}`))
	f.Add("join.token", "x", "join/0123456789abcdef", []byte(`{}`), []byte(`{"box":{"id":"0123456789abcdef"}}`))
	f.Fuzz(func(t *testing.T, kind, subject, key string, value, authority []byte) {
		d := r.decision(kind, subject, "operator:ann", key, value)
		d.Authority = authority
		if j := r.judge.Judge(r.fakeState, d, testNow); j.Word == Yes {
			t.Fatalf("%s on %s: yes (%s)", kind, key, j.Why)
		}
	})
}
