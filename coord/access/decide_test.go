package access

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"
)

func TestShippedRolesDoWhatTheirNamesSay(t *testing.T) {
	r := RulesOf(newState(t))
	if len(r.Faults()) > 0 {
		t.Fatal(r.Faults())
	}
	for _, c := range []struct {
		who    string
		action Action
		on     Resource
		want   bool
	}{
		{"operator:vera", ConsoleView, Site(), true},
		{"operator:vera", KVGet, Key("a"), false},
		{"operator:vera", MemberRemove, Site(), false},
		{"operator:olaf", ConsoleView, Site(), true},
		{"operator:olaf", KVPut, Key("a"), true},
		{"operator:olaf", MemberRemove, Site(), true},
		{"operator:olaf", RoleGrant, Site(), false},
		{"operator:olaf", PolicyPut, Document("policy/x"), false},
		{"operator:ann", RoleGrant, Site(), true},
		{"operator:ann", KVGet, Prefix(""), true},
		{"program:cache", KVPut, Key("a"), true},
		{"program:cache", KVWatch, Prefix("a"), true},
		{"program:cache", ConsoleView, Site(), false},
		{Anyone, KVPut, Key("a"), true},
		{Anyone, ConsoleView, Site(), false},
		{Root, PolicyPut, Document("policy/x"), true},
		{"program:unknown", KVGet, Key("a"), false},
		{"operator:unknown", ConsoleView, Site(), false},
		{Guest, ConsoleView, Site(), false},
		{"box:" + member(t, "box-a").ID.String(), MemberRemove, Site(), false},
		{"nonsense", ConsoleView, Site(), false},
		{"", ConsoleView, Site(), false},
	} {
		if v := r.Decide(c.who, c.action, c.on); v.Allowed != c.want {
			t.Errorf("%s %s on %v: %v (%s), want %v", c.who, c.action, c.on, v.Allowed, v.Reason(), c.want)
		}
	}
}

func TestAnyoneIsNobodyWhenClientsMustShowTokens(t *testing.T) {
	s := newState(t)
	s.set(SettingClient, `{"access":"token"}`)
	if v := RulesOf(s).Decide(Anyone, KVGet, Key("a")); v.Allowed {
		t.Error(v.Reason())
	}
	s.set(SettingClient, `{"access":"tokne"}`) // what cannot be read is the stricter one
	if v := RulesOf(s).Decide(Anyone, KVGet, Key("a")); v.Allowed {
		t.Error(v.Reason())
	}
}

func TestADenialNamesItsPolicy(t *testing.T) {
	s := newState(t)
	s.set("policy/secrets", `forbid (principal, action, resource in Prefix::"secret/") unless { principal in Role::"admin" };
		forbid (principal == Program::"cache", action == Action::"kv.delete", resource);`)
	r := RulesOf(s)
	for _, c := range []struct {
		who    string
		action Action
		on     Resource
		policy string
		says   string
	}{
		{"program:cache", KVDelete, Key("a"), "policy/secrets#2", "forbidden by policy/secrets#2"},
		{"program:cache", KVGet, Key("secret/a"), "policy/secrets#1", "forbidden by policy/secrets#1"},
		{"operator:vera", KVGet, Key("a"), "", "no policy permits it; operator:vera has viewer"},
		{"operator:olaf", PolicyPut, Document("policy/x"), "", "no policy permits it; operator:olaf has operator, viewer"},
		{"program:unknown", KVGet, Key("a"), "", "no policy permits it; program:unknown has no role"},
	} {
		v := r.Decide(c.who, c.action, c.on)
		err := v.Err()
		var d *Denial
		if v.Allowed || v.Policy != c.policy || !strings.Contains(v.Reason(), c.says) || !errors.Is(err, ErrDenied) || !errors.As(err, &d) {
			t.Errorf("%s %s: %+v, %q, %v", c.who, c.action, v, v.Reason(), err)
		}
	}
	v := r.Decide("operator:ann", KVGet, Key("secret/a"))
	if !v.Allowed || v.Policy != "builtin/admin" {
		t.Errorf("%+v: a permit names its policy too", v)
	}
}

func TestARangeIsAllowedOnlyAsAWhole(t *testing.T) {
	s := newState(t)
	s.set("grant/program:p", grantJSON("custom"))
	s.set("policy/p", `permit (principal in Role::"custom", action in Action::"kv", resource in Prefix::"a/");
		permit (principal in Role::"custom", action in Action::"kv", resource == Key::"one");
		forbid (principal in Role::"custom", action == Action::"kv.get", resource in Prefix::"a/x/");
		forbid (principal in Role::"custom", action == Action::"kv.get", resource == Key::"a/m");`)
	r := RulesOf(s)
	for _, c := range []struct {
		action Action
		on     Resource
		want   bool
	}{
		{KVPut, Prefix("a/"), true},
		{KVPut, Prefix("a/b"), true},
		{KVPut, Prefix("a"), false},
		{KVPut, Keys("a/", "a0"), true},
		{KVPut, Keys("a/", "a0\x00"), false},
		{KVPut, Keys("a/", "b"), false},
		{KVPut, Keys("a/", EndOfKeys), false},
		{KVPut, Keys("one", "one\x00"), false}, // only what names it as one key
		{KVPut, Key("one"), true},
		{KVGet, Prefix("a/"), false},
		{KVGet, Keys("a/a", "a/m"), true},
		{KVGet, Keys("a/a", "a/m\x00"), false},
		{KVGet, Keys("a/n", "a/x/"), true},
		{KVGet, Keys("a/n", "a/x/\x00"), false},
		{KVGet, Keys("a/x/3", "a/x/4"), false},
		{KVGet, Key("a/x/3"), false},
		{KVGet, Key("a/x"), true},
		{KVGet, Keys("a/y", "a/z"), true},
	} {
		if v := r.Decide("program:p", c.action, c.on); v.Allowed != c.want {
			t.Errorf("%s on %v: %v (%s)", c.action, c.on, v.Allowed, v.Reason())
		}
	}
}

// reference is the answer of cedar-go alone, for anything but ranges. What Cedar passes over, a forbid that cannot be evaluated, forbids here.
func (r *Rules) reference(principal string, a Action, res Resource) (allowed bool, names []string) {
	return r.askCedar(r.policies(), principal, a, res)
}

func (r *Rules) policies() cedar.PolicyMap {
	set := cedar.PolicyMap{}
	for _, s := range r.statements {
		set[cedar.PolicyID(s.name)] = s.policy
	}
	return set
}

func (r *Rules) askCedar(set cedar.PolicyMap, principal string, a Action, res Resource) (allowed bool, names []string) {
	q := &request{rules: r, principal: principalUID(principal), roles: r.profile(principal).roles, resource: res}
	d, diag := cedar.Authorize(set, q, q.cedar(a))
	var failed []string
	for _, x := range diag.Errors {
		if set[x.PolicyID].Effect() == cedar.Forbid {
			failed = append(failed, string(x.PolicyID))
		}
	}
	for _, x := range diag.Reasons {
		if len(failed) == 0 || set[x.PolicyID].Effect() == cedar.Forbid {
			names = append(names, string(x.PolicyID))
		}
	}
	if len(failed) > 0 {
		return false, append(names, failed...)
	}
	return d == cedar.Allow, names
}

// randomPolicies writes policies over few names, so that they meet.
func randomPolicies(rng *rand.Rand) string {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	name := func() string { return pick("", "a", "ab", "a/", "a/b", "a/b/", "b", "\xc3\xa9") }
	role := func() string { return `Role::"` + pick("r1", "r2", "r3", "viewer", "admin", "program") + `"` }
	who := func() string {
		return pick(`Program::"p1"`, `Program::"p2"`, `Operator::"ann"`, `Token::"t"`, `Program::"none"`)
	}
	principal := func() string {
		return "principal" + pick("", "", " == "+who(), " in "+role(), " in "+who(), " is "+pick("Program", "Operator", "Box"), " is Program in "+role())
	}
	act := func() string {
		return `Action::"` + pick("kv.get", "kv.put", "kv", "read", "write", "kv.delete", "site.read", "policy.put", "govern") + `"`
	}
	action := func() string {
		return "action" + pick("", ` == Action::"kv.get"`, ` == Action::"kv.put"`, " in "+act(), " in ["+act()+", "+act()+"]", " in []")
	}
	resource := func() string {
		return "resource" + pick("", "", ` == Key::"`+name()+`"`, ` in Prefix::"`+name()+`"`, " is Key", " is Doc", ` is Key in Prefix::"`+name()+`"`,
			` == Doc::"policy/`+name()+`"`, ` in Docs::"policy/"`, ` is Box in Prefix::"a"`, ` == Site::"site"`)
	}
	cond := func() string {
		return pick("", "", "", "", ` when { resource.name like "a*" }`, ` unless { principal.name == "p1" }`, ` when { principal in Role::"r3" }`,
			` when { resource in Prefix::"a/b" }`, ` when { resource.nothing == 1 }`, ` when { action in Action::"read" }`, ` unless { context has x }`)
	}
	var b strings.Builder
	for range 1 + rng.IntN(8) {
		fmt.Fprintf(&b, "%s (%s, %s, %s)%s;\n", pick("permit", "permit", "forbid"), principal(), action(), resource(), cond())
	}
	return b.String()
}

func TestCompiledAnswersAreCedars(t *testing.T) {
	questions := 0
	yes := 0
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := newState(t)
		s.set("role/r1", `{"about":"one"}`)
		s.set("role/r2", `{"about":"two","in":["program","r1"]}`)
		s.set("grant/program:p1", grantJSON("r1"))
		s.set("grant/program:p2", grantJSON("r2", "r3"))
		texts := []string{randomPolicies(rng), randomPolicies(rng)}
		for i, text := range texts {
			s.set(fmt.Sprintf("policy/random%d", i), text)
		}
		r := RulesOf(s)
		if len(r.Faults()) > 0 {
			t.Fatalf("seed %d: %v\n%s", seed, r.Faults(), texts)
		}
		keys := []string{"", "a", "a/", "a/b", "a/b/c", "ab", "abc", "b", "c", "é"}
		var resources []Resource
		for _, k := range keys {
			resources = append(resources, Key(k), Document("policy/"+k))
		}
		resources = append(resources, Site(), Resource{Kind: KindBox, Name: "a"}, Resource{Kind: KindOperator, Name: "ann"}, Resource{Kind: KindRole, Name: "r1"})
		for _, who := range []string{"program:p1", "program:p2", "program:stranger", "operator:ann", "operator:vera", "token:t", "box:0123456789abcdef", Anyone} {
			for _, a := range []Action{KVGet, KVPut, KVDelete, SiteRead, PolicyPut} {
				for _, res := range resources {
					want, names := r.reference(who, a, res)
					got := r.Decide(who, a, res)
					questions++
					if want {
						yes++
					}
					if got.Allowed != want || got.Policy != "" && !slices.Contains(names, got.Policy) || got.Policy == "" && len(names) > 0 {
						t.Fatalf("seed %d: %s %s on %v: %v by %q, Cedar says %v by %q\n%s", seed, who, a, res, got.Allowed, got.Policy, want, names, texts)
					}
				}
				checkRanges(t, r, who, a, keys)
			}
		}
	}
	if yes < questions/10 || yes > questions*9/10 {
		t.Errorf("%d of %d are yes: the policies are no test", yes, questions)
	}
}

// checkRanges: a range is allowed only if each key in it is, and never allowed when a part of it is not.
func checkRanges(t *testing.T, r *Rules, who string, a Action, keys []string) {
	t.Helper()
	for i, start := range keys {
		for _, end := range append(keys[i+1:], EndOfKeys, prefixEnd(start)) {
			if end <= start && end != EndOfKeys {
				continue
			}
			if v := r.Decide(who, a, Keys(start, end)); v.Allowed {
				for _, k := range keys {
					if k >= start && below(k, end) {
						if ok, names := r.reference(who, a, Key(k)); !ok {
							t.Fatalf("%s %s may do %v by %s, but not %q by %q", who, a, Keys(start, end), v.Policy, k, names)
						}
					}
				}
			}
		}
	}
}

func TestAPolicyThatCannotBeReadClosesAllButItsMending(t *testing.T) {
	s := newState(t)
	s.set("policy/broken", `forbid (principal, action, resource) when { `)
	r := RulesOf(s)
	if len(r.Faults()) != 1 || r.Faults()[0].Doc != "policy/broken" {
		t.Fatal(r.Faults())
	}
	v := r.Decide("operator:ann", KVGet, Key("a"))
	if v.Allowed || v.Policy != "policy/broken" || !strings.Contains(v.Reason(), "cannot be read") {
		t.Errorf("%+v %s", v, v.Reason())
	}
	for _, a := range []Action{PolicyPut, PolicyRemove, DecisionApprove, ConsoleView} {
		if v := r.Decide("operator:ann", a, Document("policy/broken")); !v.Allowed {
			t.Errorf("%s: %s", a, v.Reason())
		}
	}
	if v := r.Decide("operator:vera", PolicyPut, Document("policy/broken")); v.Allowed {
		t.Error("mending is for those who may")
	}
}

func TestAGrantOrOperatorThatCannotBeReadGivesNothing(t *testing.T) {
	for _, doc := range []string{"grant/operator:ann", "operator/ann"} {
		s := newState(t)
		s.set(doc, `{"roles":["admin"`)
		if v := RulesOf(s).Decide("operator:ann", ConsoleView, Site()); v.Allowed || v.Policy != doc {
			t.Errorf("%s: %+v", doc, v)
		}
	}
	s := newState(t)
	s.set("operator/ann", strings.Replace(operatorJSON(t, "ann"), `{`, `{"disabled":true,`, 1))
	if v := RulesOf(s).Decide("operator:ann", ConsoleView, Site()); v.Allowed || v.Policy != "operator/ann" {
		t.Errorf("disabled: %+v", v)
	}
}

func TestAPolicyThatMayNotBeStoredIsRefusedWithTheReason(t *testing.T) {
	for text, says := range map[string]string{
		"":                                     "0 statements",
		"permit (principal, action, resource)": "parse error",
		`permit (principal, action == Action::"kv.gte", resource);`:                                        "there is no action",
		`permit (principal, action == Action::"kv", resource);`:                                            "there is no action",
		`permit (principal == User::"ann", action, resource);`:                                             "principals are",
		`permit (principal in Group::"ann", action, resource);`:                                            "principals are",
		`permit (principal, action, resource == File::"x");`:                                               "resources are",
		`permit (principal, action, resource in Key::"x");`:                                                "resources are",
		strings.Repeat("permit (principal, action, resource);", 17):                                        "17 statements",
		strings.Repeat(" ", PolicyBytesMax) + "permit (principal, action, resource);":                      "bytes",
		"permit (principal, action, resource) when { " + strings.Repeat("(", 99) + strings.Repeat(")", 99): "nests deeper",
		"permit (principal, action, resource) when { " + strings.Repeat("! ", 99) + "true };":              "in a row",
		"permit (principal, action, resource);\xff":                                                        "UTF-8",
	} {
		if err := CheckPolicy("x", text); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: %v, want %q", text, err, says)
		}
	}
	if err := CheckPolicy("a/b", "permit (principal, action, resource);"); !errors.Is(err, ErrPolicy) {
		t.Error(err)
	}
	if err := CheckPolicy("good", `@why("caches") permit (principal is Program, action in [Action::"kv.get", Action::"lease"], resource in Prefix::"cache/");`); err != nil {
		t.Error(err)
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	r := benchRules(t)
	res := Key("cache/zone-7/object")
	n := testing.AllocsPerRun(100, func() {
		if v := r.Decide("program:p7", KVGet, res); !v.Allowed {
			t.Fatal(v.Reason())
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// benchRules are 64 policies on prefixes for 16 programs, as the facts were measured.
func benchRules(t testing.TB) *Rules {
	s := newState(t)
	for p := range 16 {
		s.set(fmt.Sprintf("grant/program:p%d", p), grantJSON(fmt.Sprintf("zone%d", p%8)))
	}
	for z := range 8 {
		var b strings.Builder
		for i := range 8 {
			fmt.Fprintf(&b, "permit (principal in Role::\"zone%d\", action in Action::\"%s\", resource in Prefix::\"cache/zone-%d/\");\n",
				z, []string{"read", "write"}[i%2], z+8*(i/2))
		}
		s.set(fmt.Sprintf("policy/zone%d", z), b.String())
	}
	r := RulesOf(s)
	if len(r.Faults()) > 0 {
		t.Fatal(r.Faults())
	}
	return r
}

func BenchmarkDecide(b *testing.B) {
	r := benchRules(b)
	res := Key("cache/zone-7/object")
	b.Run("compiled", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if v := r.Decide("program:p7", KVGet, res); !v.Allowed {
				b.Fatal(v.Reason())
			}
		}
	})
	b.Run("compiled-range", func(b *testing.B) {
		on := Prefix("cache/zone-7/objects/")
		b.ReportAllocs()
		for b.Loop() {
			if v := r.Decide("program:p7", KVGet, on); !v.Allowed {
				b.Fatal(v.Reason())
			}
		}
	})
	b.Run("denied", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if v := r.Decide("program:p6", KVGet, res); v.Allowed {
				b.Fatal(v.Reason())
			}
		}
	})
	b.Run("cedar", func(b *testing.B) {
		set := r.policies()
		b.ReportAllocs()
		for b.Loop() {
			if ok, _ := r.askCedar(set, "program:p7", KVGet, res); !ok {
				b.Fatal("denied")
			}
		}
	})
	b.Run("compile-77-statements", func(b *testing.B) {
		s := newState(b)
		for _, st := range r.statements {
			s.set("policy/"+strings.ReplaceAll(strings.ReplaceAll(st.name, "/", "-"), "#", "-"), string(st.policy.MarshalCedar()))
		}
		docs := s.Docs("")
		for b.Loop() {
			Compile(s.members, docs)
		}
	})
}
