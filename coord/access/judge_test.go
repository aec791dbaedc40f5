package access

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// rig is a site and a judge on one of its boxes.
type rig struct {
	testing.TB
	*fakeState
	judge Judge
}

func newRig(t testing.TB) *rig { return &rig{t, newState(t), Judge{TermRounds: 1000}} }

// decision writes a document; value nil removes it.
func (r *rig) decision(kind, subject, by, key string, value []byte) *coord.Decision {
	was, _ := r.Doc(key)
	return &coord.Decision{
		Kind: kind, Subject: subject, Principal: by, Made: r.seconds, Seen: r.count + 1,
		Writes: []coord.DocWrite{{Key: key, Was: was.Version, Value: value}},
	}
}

// signed is the decision with its principal's signature.
func (r *rig) signed(d *coord.Decision) *coord.Decision {
	r.Helper()
	kind, name, _ := strings.Cut(d.Principal, ":")
	d.Authority = nil
	var err error
	if kind == Box {
		for i := range r.members.List {
			if m := &r.members.List[i]; m.ID.String() == name {
				err = AsBox(d, r.members.Site, m.ID, testSigner(r, m.Name))
			}
		}
	} else {
		err = AsOperator(d, r.members.Site, name, testSigner(r, name))
	}
	if err != nil {
		r.Fatal(err)
	}
	return d
}

func (r *rig) want(name string, d *coord.Decision, w Word, says string) {
	r.Helper()
	if d == nil {
		r.Fatalf("%s: no decision", name)
	}
	back, err := coord.DecodeDecision(d.Append(nil))
	if err != nil {
		r.Fatalf("%s: %v", name, err)
	}
	j := r.judge.Judge(r.fakeState, back, testNow)
	if j.Word != w || !strings.Contains(j.Why, says) {
		r.Errorf("%s: %v (%s), want %v (%s)", name, j.Word, j.Why, w, says)
	}
}

func (r *rig) set(key, value string) *rig { r.fakeState.set(key, value); return r }

func TestADecisionIsBackedByItsPrincipalsSignature(t *testing.T) {
	r := newRig(t)
	policy := []byte(`forbid (principal, action, resource in Prefix::"secret/");`)
	d := r.decision("policy.put", "policy/p", "operator:ann", "policy/p", policy)
	r.want("nobody signed", d, Wait, "an operator on this box")
	r.want("signed", r.signed(d), Yes, "operator:ann may: permitted by builtin/admin")

	changed := *r.signed(d)
	changed.Reason = "another"
	r.want("changed after it was signed", &changed, Wait, "not by operator:ann")
	changed = *r.signed(d)
	changed.Principal = "operator:olaf"
	r.want("in another's name", &changed, Wait, "operator:ann signed it")
	forged := r.signed(d)
	a, _ := DecodeAuthority(forged.Authority)
	a.Operator.Name, forged.Principal = "olaf", "operator:olaf"
	forged.Authority, _ = a.Encode()
	r.want("another's signature", forged, Wait, "not by operator:olaf")
	forged.Authority = []byte(`{"operator":{"name":"olaf"},"more":1}`)
	r.want("authority that is none", forged, Wait, "authority")

	r.want("by who may not", r.signed(r.decision("policy.put", "policy/p", "operator:olaf", "policy/p", policy)), No, "no policy permits it; operator:olaf has operator, viewer")
	r.want("of a kind unknown", r.signed(r.decision("policy.frobnicate", "policy/p", "operator:ann", "policy/p", policy)), Wait, "does not know the kind")
	r.want("of a kind that is none", r.signed(r.decision("kv.put", "policy/p", "operator:ann", "policy/p", policy)), Wait, "nobody decides")

	old := r.decision("policy.put", "policy/p", "operator:ann", "policy/p", policy)
	old.Made, old.Seen = 0, 0
	r.want("signed without a time", r.signed(old), Wait, "when it was made")
	r.set("operator/ann", strings.Replace(operatorJSON(t, "ann"), `{`, `{"disabled":true,`, 1))
	r.want("by one who is disabled", r.signed(r.decision("policy.put", "policy/p", "operator:ann", "policy/p", policy)), Wait, "disabled")
}

func TestAPolicyOrRoleThatCannotBeIsNotStored(t *testing.T) {
	r := newRig(t)
	ann := func(kind, key, value string) *coord.Decision {
		v := []byte(value)
		if value == "" {
			v = nil
		}
		return r.signed(r.decision(kind, key, "operator:ann", key, v))
	}
	r.want("not Cedar", ann("policy.put", "policy/p", `forbid (principal`), No, "not a policy")
	r.want("everything forbidden", ann("policy.put", "policy/p", `forbid (principal, action, resource);`), No, "nobody would be left")
	if why := r.judge.Judge(r.fakeState, ann("policy.put", "policy/p", `forbid (principal, action, resource);`), testNow).Why; strings.Contains(why, "does not do") {
		t.Errorf("it does what it says, and the reason is %q", why)
	}
	r.want("all but the last admin", ann("policy.put", "policy/p", `forbid (principal, action, resource) unless { principal in Role::"admin" };`), Yes, "")
	r.want("a document elsewhere", ann("policy.put", "role/p", `permit (principal, action, resource);`), No, "it writes role/p")
	r.want("a name that is none", ann("policy.put", "policy/a+b", `permit (principal, action, resource);`), No, "its name")
	r.want("put that removes", func() *coord.Decision {
		r.set("policy/p", `permit (principal, action, resource);`)
		return ann("policy.put", "policy/p", "")
	}(), No, "it writes policy/p")
	r.want("removed", ann("policy.remove", "policy/p", ""), Yes, "")
	r.want("removed, what is not there", ann("policy.remove", "policy/q", ""), No, "there was no policy/q to remove")
	two := ann("policy.put", "policy/q", `permit (principal, action, resource);`)
	two.Writes = append(two.Writes, coord.DocWrite{Key: "setting/joins", Value: []byte(`{"approve":"token"}`)})
	r.want("more than one document", r.signed(two), No, "writes 2 documents")
	fleeting := ann("policy.put", "policy/q", `permit (principal, action, resource);`)
	fleeting.Writes[0].Seconds = 100
	r.want("for a while", r.signed(fleeting), No, "go away by itself")

	r.want("a role", ann("role.put", "role/r", `{"about":"a role","in":["viewer"]}`), Yes, "")
	r.want("a role that ships", ann("role.put", "role/admin", `{"about":"mine"}`), No, "ships with the product")
	r.set("role/a", `{"about":"a","in":["b"]}`)
	r.want("a role in itself", ann("role.put", "role/b", `{"about":"b","in":["a"]}`), No, "would be in itself")
	r.set("grant/program:x", grantJSON("a"))
	r.want("a role that somebody has", ann("role.remove", "role/a", ""), No, "program:x has the role a")

	// Whoever may write policies could give themselves anything: so only admins do, whatever a policy permits.
	r.set("policy/p", `permit (principal == Operator::"olaf", action, resource);`)
	d := r.signed(r.decision("policy.put", "policy/mine", "operator:olaf", "policy/mine", []byte(`permit (principal == Operator::"olaf", action, resource);`)))
	r.want("by one who is not an admin", d, No, "has the role admin, and operator:olaf has not")
}

func TestNobodyGivesMoreThanTheyHave(t *testing.T) {
	r := newRig(t)
	r.set("policy/p", `permit (principal == Operator::"olaf", action in [Action::"role", Action::"operator"], resource);`)
	grant := func(by, kind, to string, roles ...string) *coord.Decision {
		var v []byte
		if len(roles) > 0 {
			v = []byte(grantJSON(roles...))
		}
		return r.signed(r.decision(kind, to, by, "grant/"+to, v))
	}
	r.want("an admin gives admin", grant("operator:ann", "role.grant", "operator:vera", "admin", "viewer"), Yes, "")
	r.want("an operator gives viewer", grant("operator:olaf", "role.grant", "program:new", "viewer"), Yes, "")
	r.want("an operator gives admin", grant("operator:olaf", "role.grant", "operator:vera", "admin", "viewer"), No, "nobody gives or takes more than they have")
	r.want("itself", grant("operator:olaf", "role.grant", "operator:olaf", "admin", "operator"), No, "nobody gives or takes more")
	r.want("takes admin", grant("operator:olaf", "role.revoke", "operator:ann"), No, "")
	r.want("a role that does not exist", grant("operator:ann", "role.grant", "program:new", "wizard"), No, "there is no role wizard")
	r.want("a grant that takes", grant("operator:ann", "role.grant", "operator:olaf", "viewer"), No, "it takes operator")
	r.want("a revoke that gives", grant("operator:ann", "role.revoke", "operator:olaf", "admin", "operator"), No, "gives admin")
	r.want("nothing new", grant("operator:ann", "role.grant", "operator:olaf", "operator"), No, "gives no role")
	r.want("to nobody", grant("operator:ann", "role.grant", "nobody", "viewer"), No, "not a principal")
	r.want("the last admin", grant("operator:ann", "role.revoke", "operator:ann"), No, "nobody would be left")
	r.want("resets an admin's password", r.operator("operator:olaf", "operator.reset", "ann", func(m map[string]any) {
		m["key"], m["sealed"] = testPublic(t, "eve"), map[string]any{"box": []byte("y")}
	}), No, "nobody gives or takes more")
	r.want("resets a viewer's password", r.operator("operator:olaf", "operator.reset", "vera", func(m map[string]any) {
		m["key"], m["sealed"] = testPublic(t, "eve"), map[string]any{"box": []byte("y")}
	}), Yes, "")
	r.set("grant/operator:vera", grantJSON(RoleAdmin))
	r.want("not the last admin", grant("operator:ann", "role.revoke", "operator:ann"), Yes, "")
}

// operator is a decision that changes an operator's document.
func (r *rig) operator(by, kind, name string, change func(map[string]any)) *coord.Decision {
	r.Helper()
	m := map[string]any{}
	if old, ok := r.Doc("operator/" + name); ok {
		if err := json.Unmarshal(old.Value, &m); err != nil {
			r.Fatal(err)
		}
	}
	change(m)
	v, err := json.Marshal(m)
	if err != nil {
		r.Fatal(err)
	}
	return r.signed(r.decision(kind, "operator:"+name, by, "operator/"+name, v))
}

func TestAnOperatorsDocumentChangesOnlyAsItsKindSays(t *testing.T) {
	r := newRig(t)
	sealed := func(m map[string]any) { m["sealed"] = map[string]any{"box": []byte("new")} }
	r.want("own password", r.operator("operator:vera", "operator.password", "vera", sealed), Yes, "itself")
	r.want("another's password", r.operator("operator:vera", "operator.password", "olaf", sealed), No, "no policy permits")
	r.want("by an admin", r.operator("operator:ann", "operator.password", "olaf", sealed), Yes, "")
	r.want("a password that changes the key", r.operator("operator:vera", "operator.password", "vera", func(m map[string]any) { m["key"] = testPublic(t, "eve") }), No, `changes "key"`)
	r.want("a field that nobody knows", r.operator("operator:vera", "operator.password", "vera", func(m map[string]any) { m["admin"] = true }), No, `changes "admin"`)
	r.want("own passkeys", r.operator("operator:vera", "operator.passkey", "vera", func(m map[string]any) { m["passkeys"] = []any{} }), Yes, "itself")
	r.want("disable", r.operator("operator:ann", "operator.disable", "olaf", func(m map[string]any) { m["disabled"] = true }), Yes, "")
	r.want("a disable that does not", r.operator("operator:ann", "operator.disable", "olaf", sealed), No, "does not disable")
	r.want("disable the last admin", r.operator("operator:ann", "operator.disable", "ann", func(m map[string]any) { m["disabled"] = true }), No, "nobody would be left")
	r.want("by one who may not", r.operator("operator:olaf", "operator.disable", "vera", func(m map[string]any) { m["disabled"] = true }), No, "no policy permits")

	add := r.operator("operator:ann", "operator.add", "zoe", func(m map[string]any) { m["name"], m["key"] = "zoe", testPublic(t, "zoe") })
	r.want("add", add, Yes, "")
	with := *add
	with.Writes = append(with.Writes, coord.DocWrite{Key: "grant/operator:zoe", Value: []byte(grantJSON("viewer"))})
	r.want("add with a grant", r.signed(&with), Yes, "")
	with.Writes[1].Key = "grant/operator:vera"
	r.want("add with another's grant", r.signed(&with), Wait, "not as it was")
	with.Writes[1] = coord.DocWrite{Key: "policy/x", Value: []byte("x")}
	r.want("add with a policy", r.signed(&with), No, "it writes policy/x")
	r.want("add one who exists", r.operator("operator:ann", "operator.add", "olaf", sealed), Wait, "not as it was")
	r.want("under another's name", r.operator("operator:ann", "operator.add", "zoe", func(m map[string]any) { m["name"], m["key"] = "vera", testPublic(t, "zoe") }), No, "named")
	r.want("root", r.operator("operator:ann", "operator.add", "root", func(m map[string]any) { m["name"], m["key"] = "root", testPublic(t, "zoe") }), No, "nobody's")

	gone := r.decision("operator.remove", "operator:olaf", "operator:ann", "operator/olaf", nil)
	r.want("a removal that leaves the grant", r.signed(gone), No, "leaves the grant")
	g, _ := r.Doc("grant/operator:olaf")
	gone.Writes = append(gone.Writes, coord.DocWrite{Key: g.Key, Was: g.Version})
	r.want("remove", r.signed(gone), Yes, "")
}

func TestTheFirstOperatorNeedsAMemberAndNoLaterOneDoes(t *testing.T) {
	r := newRig(t)
	box := Box + ":" + r.members.List[1].ID.String()
	add := func() *coord.Decision {
		d := r.operator(box, "operator.add", "zoe", func(m map[string]any) { m["name"], m["key"] = "zoe", testPublic(t, "zoe") })
		d.Writes = append(d.Writes, FirstGrant("zoe"))
		return r.signed(d)
	}
	r.want("there are operators", add(), No, "no policy permits")
	for k := range r.docs {
		if strings.HasPrefix(k, "operator/") || strings.HasPrefix(k, "grant/") {
			delete(r.docs, k)
		}
	}
	r.want("the first", add(), Yes, "the first operator")
	unsigned := add()
	unsigned.Authority = nil
	r.want("without a member", unsigned, Wait, "an operator on this box")
	stranger := add()
	stranger.Authority = nil
	if err := AsBox(stranger, r.members.Site, r.members.List[1].ID, testSigner(t, "eve")); err != nil {
		t.Fatal(err)
	}
	r.want("by a stranger", stranger, Wait, "no member, or the signature")
	weak := add()
	weak.Writes = weak.Writes[:1]
	r.want("who is no admin", r.signed(weak), No, "is an admin")
	r.judge.Founding = []byte(operatorJSON(t, "ann"))
	r.want("where the site was founded with one", add(), No, "no policy permits")
	r.judge.Founding = nil
	r.apply(t, add())
	r.want("the second", r.operator(box, "operator.add", "eve", func(m map[string]any) { m["name"], m["key"] = "eve", testPublic(t, "eve") }), No, "no policy permits")
}

func TestTheFoundingOperatorIsAnAdminUntilThereAreOthers(t *testing.T) {
	r := newRig(t)
	clear(r.docs)
	founding := operatorJSON(t, "ann")
	r.judge.Founding = []byte(founding)
	d := r.operator("operator:ann", "operator.add", "olaf", func(m map[string]any) { m["name"], m["key"] = "olaf", testPublic(t, "olaf") })
	r.want("without the founding one's documents", d, No, "nobody would be left")
	d.Writes = append(d.Writes, coord.DocWrite{Key: "operator/ann", Value: []byte(founding)}, FirstGrant("ann"))
	r.want("with them", r.signed(d), Yes, "")
	other := *d
	other.Writes = append([]coord.DocWrite(nil), d.Writes...)
	other.Writes[1].Value = []byte(operatorJSON(t, "eve"))
	r.want("with another one's", r.signed(&other), No, "it writes operator/ann")
	r.want("a policy", r.signed(r.decision("policy.put", "policy/p", "operator:ann", "policy/p", []byte(`permit (principal is Box, action, resource);`))), Yes, "")
	r.want("a box's word", r.signed(r.decision("policy.put", "policy/p", Box+":"+r.members.List[0].ID.String(), "policy/p", []byte(`permit (principal is Box, action, resource);`))), No, "")
	r.want("its own password", r.operator("operator:ann", "operator.password", "ann", func(m map[string]any) {
		if err := json.Unmarshal([]byte(founding), &m); err != nil {
			t.Fatal(err)
		}
		m["sealed"] = map[string]any{"box": []byte("new")}
	}), No, "nobody would be left") // its grant is missing
	own := r.operator("operator:ann", "operator.password", "ann", func(m map[string]any) {
		if err := json.Unmarshal([]byte(founding), &m); err != nil {
			t.Fatal(err)
		}
		m["sealed"] = map[string]any{"box": []byte("new")}
	})
	own.Writes = append(own.Writes, FirstGrant("ann"))
	r.want("its own password, with its grant", r.signed(own), Yes, "")
}

func TestTokensAndSettingsAreDecidedOnAsTheirKindSays(t *testing.T) {
	r := newRig(t)
	by := func(who, kind, subject, key, value string) *coord.Decision {
		v := []byte(value)
		if value == "" {
			v = nil
		}
		return r.signed(r.decision(kind, subject, who, key, v))
	}
	id := issue(t, nil).ID().String()
	r.want("revoke", by("operator:olaf", "token.revoke", "token:"+id, DocRevoked+id, "{}"), Yes, "")
	r.want("revoke by a viewer", by("operator:vera", "token.revoke", "token:"+id, DocRevoked+id, "{}"), No, "no policy permits")
	r.want("revoke something else", by("operator:olaf", "token.revoke", "token:"+id, DocRevoked+id[1:], "{}"), No, "it writes")
	r.set(DocRevoked+id, "{}")
	r.want("give back", by("operator:ann", "token.revoke", "token:"+id, DocRevoked+id, ""), No, "it writes")
	short := by("operator:olaf", "token.revoke", "token:"+id, DocRevoked+id, "{}")
	short.Writes[0].Seconds = 60
	r.want("revoke for a minute", r.signed(short), No, "is revoked already")
	short.Writes[0].Seconds = 7200
	r.want("forget sooner", r.signed(short), No, "is revoked already")
	r.want("revoke for good", by("operator:olaf", "token.revoke", "token:"+id, DocRevoked+id, "{}"), Yes, "")
	another := issue(t, func(b *Block) { b.Nonce[0]++ }).ID().String()
	short = by("operator:olaf", "token.revoke", "token:"+another, DocRevoked+another, "{}")
	short.Writes[0].Seconds = 60
	r.want("revoke for a minute", r.signed(short), No, "forgotten after 60 s")
	r.want("epoch", by("operator:ann", "token.epoch", "site", DocEpoch, "1"), Yes, "")
	r.want("epoch by an operator", by("operator:olaf", "token.epoch", "site", DocEpoch, "1"), No, "no policy permits")
	r.want("two epochs at once", by("operator:ann", "token.epoch", "site", DocEpoch, "2"), No, "it writes")
	r.set(DocEpoch, "4")
	r.want("epoch of something else", by("operator:ann", "token.epoch", "token:"+id, DocEpoch, "5"), No, "is about")
	r.want("back", by("operator:ann", "token.epoch", "site", DocEpoch, "3"), No, "it writes")
	r.want("on", by("operator:ann", "token.epoch", "site", DocEpoch, "5"), Yes, "")

	r.want("a setting", by("operator:ann", "setting.put", SettingJoins, SettingJoins, `{"approve":"operator"}`), Yes, "")
	r.want("a value that is none", by("operator:ann", "setting.put", SettingJoins, SettingJoins, `{"approve":"never"}`), No, "one of")
	r.want("a setting of a newer release", by("operator:ann", "setting.put", "setting/x", "setting/x", `{}`), Wait, "does not know")
	r.want("by an operator", by("operator:olaf", "setting.put", SettingJoins, SettingJoins, `{"approve":"operator"}`), No, "no policy permits")
	// Nobody could ever say yes to it, and it would be open for a day.
	r.want("back to what ships, where it is", by("operator:ann", "setting.remove", SettingJoins, SettingJoins, ""), No, "there was no setting/joins to remove")
	r.want("a policy that is none", by("operator:ann", "policy.remove", "policy/x", "policy/x", ""), No, "there was no policy/x to remove")
	r.set(SettingJoins, `{"approve":"operator"}`)
	r.want("back to what ships", by("operator:ann", "setting.remove", SettingJoins, SettingJoins, ""), Yes, "")
}

func TestWhichSettingsCanBePutAndRemoved(t *testing.T) {
	r := newRig(t)
	operator := []byte(`{"approve":"operator"}`)
	for _, tc := range []struct {
		key   string
		value []byte
		says  string // empty: it can be
	}{
		{SettingJoins, operator, ""},
		{SettingJoins, []byte(`{"approve":"x"}`), "one of"},
		{"setting/nosuch1", operator, `"nosuch1" is none of joins, expulsion, client`},
		{SettingJoins, nil, "joins is as it ships: token"},
		{"setting/nosuch1", nil, `"nosuch1" is none of`},
	} {
		err := CheckSetting(r, tc.key, tc.value)
		if (err == nil) != (tc.says == "") || err != nil && (!errors.Is(err, ErrSetting) || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s %s: %v", tc.key, tc.value, err)
		}
	}
	r.set(SettingJoins, string(operator))
	r.set("setting/later", "{}")
	for _, key := range []string{SettingJoins, "setting/later"} {
		if err := CheckSetting(r, key, nil); err != nil {
			t.Errorf("%s, which is set, is not removed: %v", key, err)
		}
	}
}

// Who asks is known to the box and proved to nobody: what is judged is the same.
func TestWhomTheBoxKnowsIsJudgedLikeWhoSigns(t *testing.T) {
	r := newRig(t)
	r.set(DocPolicy+"desk", `permit (principal == Operator::"olaf", action in [Action::"role.grant", Action::"operator.add"], resource);`)
	decision := func(kind, subject, key, value string) *coord.Decision {
		return r.decision(kind, subject, "operator:root", key, []byte(value))
	}
	tok := func(actions ...string) *Grant {
		g, err := RulesOf(r.fakeState).Verify(issue(t, func(b *Block) {
			b.Issuer, b.Actions, b.Resources = "operator:olaf", actions, []string{"*"}
		}), testNow)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	admin := decision("role.grant", "operator:eve", DocGrant+"operator:eve", adminGrant)
	program := decision("role.grant", "operator:eve", DocGrant+"operator:eve", `{"roles":["viewer"]}`)
	for _, x := range []struct {
		name string
		d    *coord.Decision
		c    *Credentials
		want Word
		says string
	}{
		{"an admin", admin, &Credentials{Principal: "operator:ann"}, Yes, ""},
		{"one with less", admin, &Credentials{Principal: "operator:olaf"}, No, "nobody gives or takes more than they have"},
		{"what one has", program, &Credentials{Principal: "operator:olaf"}, Yes, ""},
		{"one who may not", program, &Credentials{Principal: "operator:vera"}, No, "no policy permits"},
		{"nobody", program, &Credentials{}, No, "no policy permits"},
		{"a token", program, &Credentials{Grant: tok("role.grant")}, Yes, ""},
		{"a token for more than its issuer has", admin, &Credentials{Grant: tok("role.grant")}, No, "nobody gives or takes more than they have"},
		{"a token for something else", program, &Credentials{Grant: tok("decision.approve")}, No, "does not cover"},
		{"another kind's writes", decision("role.grant", "operator:eve", DocPolicy+"x", "permit (principal, action, resource);"), &Credentials{Principal: "operator:ann"}, No, "it writes"},
	} {
		if j := r.judge.As(r.fakeState, x.d, testNow, x.c); j.Word != x.want || !strings.Contains(j.Why, x.says) {
			t.Errorf("%s: %v (%s), want %v (%s)", x.name, j.Word, j.Why, x.want, x.says)
		}
		r.want(x.name+", without a proof", x.d, map[bool]Word{true: No, false: Wait}[x.says == "it writes"], "")
	}
	g := tok("role.grant")
	r.set(DocRevoked+g.Token().ID().String(), "{}")
	if j := r.judge.As(r.fakeState, program, testNow, &Credentials{Grant: g}); j.Word != No {
		t.Errorf("a token that was revoked since: %+v", j)
	}
}

func TestATokenDecidesWhatItCovers(t *testing.T) {
	r := newRig(t)
	d := r.decision("setting.put", SettingJoins, "", SettingJoins, []byte(`{"approve":"operator"}`))
	holder := testSigner(t, "holder")
	with := func(change func(*Block)) *coord.Decision {
		tok := issue(t, func(b *Block) {
			b.Issuer, b.Actions, b.Resources = "operator:ann", []string{"setting.put"}, []string{"doc:setting/*"}
			if change != nil {
				change(b)
			}
		})
		x := *d
		x.Principal = tok.String()
		var by Signer = holder
		if tok.Carries() {
			by = nil
		}
		if err := AsHolder(&x, tok, by); err != nil {
			t.Fatal(err)
		}
		return &x
	}
	r.want("by the holder", with(nil), Yes, "may")
	r.want("with a key that travels", with(func(b *Block) { b.Bound, b.Holder = false, PublicKey{} }), Yes, "may")
	r.want("that does not cover it", with(func(b *Block) { b.Actions = []string{"setting.remove"} }), No, "does not cover")
	r.want("expired", with(func(b *Block) { b.NotAfter, b.NotBefore = testNow-1, testNow-2 }), Wait, "expired")
	r.want("of another's key", with(func(b *Block) { b.Holder = testSigner(t, "eve").Public() }), Wait, "not signed with its key")
	r.want("of one who may not", with(func(b *Block) { b.Issuer = "operator:olaf" }), No, "operator:olaf may not do it")
	x := *with(nil)
	x.Reason = "changed"
	r.want("changed", &x, Wait, "not signed with its key")

	// A token that an admin has signed for one decision: whoever carries it out asks in the admin's name.
	one := *d
	one.Principal = "operator:ann"
	digest := one.Digest(r.members.Site)
	carry := func(x coord.Decision) *coord.Decision {
		tok := issue(t, func(b *Block) {
			b.Issuer, b.Actions, b.Resources, b.Decision = "operator:ann", []string{"setting.put"}, []string{"doc:setting/*"}, &digest
		})
		if err := AsHolder(&x, tok, holder); err != nil {
			t.Fatal(err)
		}
		return &x
	}
	r.want("for this decision", carry(one), Yes, "may")
	one.Reason = "another"
	r.want("for another decision", carry(one), No, "only")
}

func TestADecisionAboutDocumentsOfNobodyIsNoBodysToMake(t *testing.T) {
	r := newRig(t)
	for _, kind := range []string{"member.add", "member.remove", "join.token", "join.revoke", "operator.add", "role.put", "role.grant", "token.revoke", "token.epoch", "setting.put"} {
		d := r.signed(r.decision(kind, "x", "operator:ann", "policy/x", []byte(`permit (principal, action, resource);`)))
		if j := r.judge.Judge(r.fakeState, d, testNow); j.Word != No {
			t.Errorf("%s writes a policy: %v (%s)", kind, j.Word, j.Why)
		}
		none := &coord.Decision{Kind: kind, Subject: "x", Principal: "operator:ann", Made: 1}
		if j := r.judge.Judge(r.fakeState, r.signed(none), testNow); j.Word != No {
			t.Errorf("%s writes nothing: %v (%s)", kind, j.Word, j.Why)
		}
	}
}
