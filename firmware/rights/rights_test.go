package rights_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/firmware/console"
	"github.com/holdfast-edge/holdfast/firmware/rights"
)

var now = time.Unix(1_800_000_000, 0)

// site is a site of one box, whose operator ann decides and a judge looks on.
type site struct {
	t    *testing.T
	docs map[string]coord.Doc
	key  *ecdsa.PrivateKey
	n    uint64
}

func (s *site) Doc(key string) (coord.Doc, bool) { d, ok := s.docs[key]; return d, ok }
func (s *site) Members() *coord.Members          { return &coord.Members{Site: coord.SiteID{3}} }
func (s *site) Seconds() uint64                  { return 1000 }

func (s *site) Docs(prefix string) (list []coord.Doc) {
	for _, k := range slices.Sorted(maps.Keys(s.docs)) {
		if strings.HasPrefix(k, prefix) {
			list = append(list, s.docs[k])
		}
	}
	return list
}

func (s *site) set(key, value string) {
	s.n++
	s.docs[key] = coord.Doc{Key: key, Version: s.n, Value: []byte(value)}
}

func (s *site) decide(_ context.Context, by *console.Caller, d *coord.Decision) error {
	d.Made = 1
	k, err := access.NewPrivateKey(s.key)
	if err != nil {
		return err
	}
	if err := access.AsOperator(d, s.Members().Site, strings.TrimPrefix(by.Principal, "operator:"), k); err != nil {
		return err
	}
	if j := (&access.Judge{}).Judge(s, d, uint64(now.Unix())); j.Word != access.Yes {
		return errors.New(j.Why)
	}
	for _, w := range d.Writes {
		delete(s.docs, w.Key)
		if w.Value != nil {
			s.set(w.Key, string(w.Value))
		}
	}
	return nil
}

func newDesk(t *testing.T) (*site, *rights.Desk) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, docs: map[string]coord.Doc{}, key: key}
	doc, err := json.Marshal(map[string]any{"name": "ann", "key": der, "sealed": "the sealed key"})
	if err != nil {
		t.Fatal(err)
	}
	s.set("operator/ann", string(doc))
	s.set("grant/operator:ann", `{"roles":["admin"]}`)
	return s, rights.New(rights.Config{
		State: func() access.State { return s }, Decide: s.decide, Random: rand.Reader, Now: func() time.Time { return now },
		Key: func(_ context.Context, _ *console.Caller, name, password string, fn func(string, *ecdsa.PrivateKey) error) error {
			if password != "right" {
				return errors.New("wrong name or password")
			}
			return fn(name, s.key)
		},
	})
}

func TestEveryChangeThatTheDeskMakesIsOneThatBoxesAgreeTo(t *testing.T) {
	s, d := newDesk(t)
	acts := map[string]*console.Act{}
	for _, a := range d.Acts() {
		acts[a.Path] = a
		if _, ok := access.ParseAction(a.Action); !ok {
			t.Errorf("%s: no action %s", a.Path, a.Action)
		}
	}
	by := &console.Caller{Principal: "operator:ann"}
	do := func(path, says string, fields ...string) *rights.Answer {
		t.Helper()
		p := console.Params{}
		for i := 0; i < len(fields); i += 2 {
			p[fields[i]] = fields[i+1]
		}
		if _, err := access.ParseResource(acts[path].Resource(p)); err != nil && says == "" {
			t.Errorf("%s: %v", path, err)
		}
		a, err := acts[path].Run(t.Context(), by, p)
		if says != "" {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Fatalf("%s %q: %v, want %q", path, fields, err, says)
			}
			return nil
		}
		if err != nil {
			t.Fatalf("%s %q: %v", path, fields, err)
		}
		return a.(*rights.Answer)
	}
	has := func(who string, a access.Action, on access.Resource, want bool) {
		t.Helper()
		if v := access.RulesOf(s).Decide(who, a, on); v.Allowed != want {
			t.Fatalf("%s %s: %s", who, a, v.Reason())
		}
	}
	do("/access/grant", "", "principal", "program:cache", "role", "program")
	do("/access/grant", "has the role program already", "principal", "program:cache", "role", "program")
	do("/access/grant", "there is no role wizard", "principal", "program:cache", "role", "wizard")
	has("program:cache", access.KVPut, access.Key("a"), true)
	do("/access/policy", "", "name", "p", "text", `forbid (principal is Program, action, resource in Prefix::"a");`)
	do("/access/policy", "parse error", "name", "q", "text", `forbid (`)
	has("program:cache", access.KVPut, access.Key("a"), false)
	do("/access/policy", "there is a policy/p already", "name", "p", "version", "0", "text", `forbid (principal, action, resource);`)
	do("/access/policy", "was changed after you read it", "name", "p", "version", "1", "text", `forbid (principal, action, resource);`)
	version := strconv.FormatUint(s.docs["policy/p"].Version, 10)
	do("/access/policy", "", "name", "p", "version", version, "text", `forbid (principal is Program, action, resource in Prefix::"a/");`)
	do("/access/policy/remove", "", "name", "p")
	do("/access/policy", "was removed after you read it", "name", "p", "version", version, "text", `forbid (principal, action, resource);`)
	do("/access/policy/remove", "there is no policy/p", "name", "p")
	do("/access/role", "", "role", "night", "about", "the night shift", "in", "viewer, program")
	if g := do("/access/grant", "", "principal", "operator:bob", "role", "night"); !strings.Contains(g.Note(), "no operator bob") {
		t.Errorf("a page would say %q of a name that nobody has", g.Note())
	}
	has("operator:bob", access.ConsoleView, access.Site(), true)
	do("/access/role/remove", "operator:bob has the role night", "role", "night")
	do("/access/revoke", "", "principal", "operator:bob", "role", "night")
	do("/access/role/remove", "", "role", "night")
	do("/access/revoke", "has no role", "principal", "operator:bob", "role", "night")
	do("/access/revoke", "nobody would be left", "principal", "operator:ann")

	do("/access/token", "wrong name or password", "operator", "ann", "password", "wrong", "actions", "kv.get", "resources", "key:*")
	do("/access/token", "no action", "operator", "ann", "password", "right", "actions", "kv.gte", "resources", "key:*")
	a := do("/access/token", "", "operator", "ann", "password", "right", "actions", "kv.get,lease.*", "resources", "key:*", "ttl", "2h", "note", "a note")
	if !strings.Contains(a.Note(), a.Token) {
		t.Errorf("a page would say %q and not the token", a.Note())
	}
	tok, err := access.ParseToken(a.Token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := access.RulesOf(s).Verify(tok, uint64(now.Unix())+7000); err != nil {
		t.Error(err)
	}
	do("/access/token/revoke", "", "id", a.ID, "until", "1800007200")
	if _, err := access.RulesOf(s).Verify(tok, uint64(now.Unix())); !errors.Is(err, access.ErrRevoked) {
		t.Errorf("%v", err)
	}
	do("/access/token/revoke", "revoked already", "id", a.ID)
	do("/access/token/epoch", "")
	do("/access/token/epoch", "")
	if n := access.RulesOf(s).TokenEpoch(); n != 2 {
		t.Errorf("token epoch %d", n)
	}
}

func TestTheOverviewIsEnoughToAnswerAndHasNoSecrets(t *testing.T) {
	s, d := newDesk(t)
	s.set("policy/p", `forbid (principal, action, resource in Prefix::"a");`)
	o, err := d.Overview()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "sealed") {
		t.Errorf("it shows the operator's sealed key: %s", text)
	}
	back := new(rights.Overview)
	if err := json.Unmarshal(text, back); err != nil {
		t.Fatal(err)
	}
	here, there := access.RulesOf(s), access.RulesOf(back.State())
	for _, on := range []access.Resource{access.Key("a"), access.Key("b")} {
		if a, b := here.Decide("operator:ann", access.KVGet, on), there.Decide("operator:ann", access.KVGet, on); a.Allowed != b.Allowed || a.Policy != b.Policy {
			t.Errorf("%v: %+v and %+v", on, a, b)
		}
	}
}
