package access

import (
	"bytes"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// rootBlockOf is a token of olaf's for reading and writing below cache/, bound to the key "holder".
func rootBlockOf(t testing.TB) Block {
	return Block{
		Site: coord.SiteID{7, 7}, Nonce: [8]byte{1}, Issuer: "operator:olaf", Holder: testSigner(t, "holder").Public(), Bound: true,
		NotBefore: testNow - 10, NotAfter: testNow + 3600, Actions: []string{"kv.*", "lease.read"}, Resources: []string{"key:cache/*", "site"},
	}
}

func issue(t testing.TB, change func(*Block)) *Token {
	t.Helper()
	b := rootBlockOf(t)
	if change != nil {
		change(&b)
	}
	carried := testKey(t, "carried")
	if b.Bound {
		carried = nil
	}
	tok, err := Issue(b, testSigner(t, strings.TrimPrefix(b.Issuer, "operator:")), carried)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// again is the token as another box gets it.
func again(t testing.TB, tok *Token) *Token {
	t.Helper()
	back, err := ParseToken(tok.Text())
	if err != nil {
		t.Fatal(err)
	}
	if back.Text() != tok.Text() || back.ID() != tok.ID() {
		t.Fatal("the token is another one after its text")
	}
	return back
}

func TestATokenIsGoodForWhatItSaysAndNothingElse(t *testing.T) {
	r := RulesOf(newState(t))
	g, err := r.Verify(again(t, issue(t, nil)), testNow)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a    Action
		on   Resource
		want bool
		says string
	}{
		{KVGet, Key("cache/a"), true, ""},
		{KVPut, Prefix("cache/"), true, ""},
		{KVGet, Key("cache"), false, "does not cover"},
		{KVGet, Prefix("cach"), false, "does not cover"},
		{KVGet, Keys("cache/", "cache1"), false, "does not cover"},
		{LeaseRead, Site(), true, ""},
		{LeaseGrant, Site(), false, "does not cover"},
		{MemberRemove, Site(), false, "does not cover"},
		{KVGet, Document("cache/a"), false, "does not cover"},
	} {
		v := r.DecideToken(g, c.a, c.on)
		if v.Allowed != c.want || !strings.Contains(v.Reason(), c.says) || v.Principal != "token:"+g.Token().ID().String() || v.Policy == "" {
			t.Errorf("%s on %v: %+v %s", c.a, c.on, v, v.Reason())
		}
	}
}

func TestATokenIsWorthNoMoreThanItsIssuerNow(t *testing.T) {
	s := newState(t)
	tok := issue(t, func(b *Block) { b.Actions, b.Resources = []string{"*"}, []string{"*"} })
	g, err := RulesOf(s).Verify(tok, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if v := RulesOf(s).DecideToken(g, RoleGrant, Resource{Kind: KindRole, Name: "viewer"}); v.Allowed || !strings.Contains(v.Reason(), "operator:olaf may not do it") {
		t.Errorf("olaf's token does what olaf may not: %s", v.Reason())
	}
	if v := RulesOf(s).DecideToken(g, KVPut, Key("a")); !v.Allowed {
		t.Error(v.Reason())
	}
	s.set("policy/no", `forbid (principal == Operator::"olaf", action == Action::"kv.put", resource);`)
	if v := RulesOf(s).DecideToken(g, KVPut, Key("a")); v.Allowed || !strings.Contains(v.Reason(), "policy/no") {
		t.Error(v.Reason())
	}
	s.set("policy/no", `forbid (principal is Token, action == Action::"kv.put", resource);`)
	if v := RulesOf(s).DecideToken(g, KVPut, Key("a")); v.Allowed || v.Policy != "policy/no" {
		t.Errorf("a policy about tokens: %+v", v)
	}
	s.set("grant/operator:olaf", grantJSON(RoleViewer))
	if _, err := RulesOf(s).Verify(tok, testNow); !errors.Is(err, ErrMayNotIssue) {
		t.Errorf("%v, want ErrMayNotIssue", err)
	}
}

func TestWhatAReplacedKeySignedCountsNoMore(t *testing.T) {
	s := newState(t)
	g, err := RulesOf(s).Verify(issue(t, nil), testNow)
	if err != nil {
		t.Fatal(err)
	}
	s.set(DocOperator+"olaf", operatorJSON(t, "olaf")) // the same key, another version
	if err := RulesOf(s).Still(g, testNow); err != nil {
		t.Error(err)
	}
	s.set(DocOperator+"olaf", strings.Replace(operatorJSON(t, "another"), `"name":"another"`, `"name":"olaf"`, 1))
	if err := RulesOf(s).Still(g, testNow); !errors.Is(err, ErrIssuer) || !strings.Contains(err.Error(), "another key") {
		t.Errorf("%v, want ErrIssuer", err)
	}
}

func TestEachReasonToRefuseATokenIsToldApart(t *testing.T) {
	holder := testSigner(t, "holder")
	for name, c := range map[string]struct {
		token  func() *Token
		state  func(*fakeState)
		now    uint64
		reason error
	}{
		"good":                      {token: func() *Token { return issue(t, nil) }},
		"wrong site":                {token: func() *Token { return issue(t, func(b *Block) { b.Site[0]++ }) }, reason: ErrSite},
		"expired":                   {token: func() *Token { return issue(t, nil) }, now: testNow + 3601, reason: ErrExpired},
		"too early":                 {token: func() *Token { return issue(t, nil) }, now: testNow - 11, reason: ErrEarly},
		"old epoch":                 {token: func() *Token { return issue(t, nil) }, state: func(s *fakeState) { s.set(DocEpoch, "1") }, reason: ErrEpoch},
		"epoch to come":             {token: func() *Token { return issue(t, func(b *Block) { b.Epoch = 2 }) }, state: func(s *fakeState) { s.set(DocEpoch, "1") }, reason: ErrEpoch},
		"epoch that cannot be read": {token: func() *Token { return issue(t, nil) }, state: func(s *fakeState) { s.set(DocEpoch, "one") }, reason: ErrEpoch},
		"this epoch":                {token: func() *Token { return issue(t, func(b *Block) { b.Epoch = 1 }) }, state: func(s *fakeState) { s.set(DocEpoch, "1") }},
		"unknown issuer":            {token: func() *Token { return issue(t, func(b *Block) { b.Issuer = "operator:eve" }) }, reason: ErrIssuer},
		"disabled issuer": {token: func() *Token { return issue(t, nil) }, state: func(s *fakeState) {
			s.set("operator/olaf", strings.Replace(operatorJSON(t, "olaf"), `{`, `{"disabled":true,`, 1))
		}, reason: ErrIssuer},
		"another's signature": {token: func() *Token {
			tok, err := Issue(rootBlockOf(t), testSigner(t, "eve"), nil)
			if err != nil {
				t.Fatal(err)
			}
			return tok
		}, reason: ErrIssuer},
		"issuer may not issue": {token: func() *Token { return issue(t, func(b *Block) { b.Issuer = "operator:vera" }) }, reason: ErrMayNotIssue},
		"revoked":              {token: func() *Token { return issue(t, nil) }, state: func(s *fakeState) { s.set(DocRevoked+issue(t, nil).ID().String(), "{}") }, reason: ErrRevoked},
		"made of one revoked": {token: func() *Token {
			tok, err := issue(t, nil).Attenuate(Block{Actions: []string{"kv.get"}}, holder, nil)
			if err != nil {
				t.Fatal(err)
			}
			return tok
		}, state: func(s *fakeState) { s.set(DocRevoked+issue(t, nil).ID().String(), "{}") }, reason: ErrRevoked},
		"narrowed by another than its holder": {token: func() *Token {
			tok, err := issue(t, nil).Attenuate(Block{Actions: []string{"kv.get"}}, testSigner(t, "eve"), nil)
			if err != nil {
				t.Fatal(err)
			}
			return tok
		}, reason: ErrHolder},
		"stripped of a block": {token: func() *Token {
			// A token whose key travels with it was narrowed; who got it takes the last block off and has only the last key.
			tok := issue(t, func(b *Block) { b.Bound, b.Holder = false, PublicKey{} })
			narrow, err := tok.Attenuate(Block{Actions: []string{"kv.get"}}, nil, testKey(t, "carried too"))
			if err != nil {
				t.Fatal(err)
			}
			return &Token{blocks: narrow.blocks[:1], secret: narrow.secret}
		}, reason: ErrHolder},
		"without the key that travels": {token: func() *Token {
			tok := *issue(t, func(b *Block) { b.Bound, b.Holder = false, PublicKey{} })
			tok.secret = nil
			return &tok
		}, reason: ErrHolder},
	} {
		s := newState(t)
		if c.state != nil {
			c.state(s)
		}
		if c.now == 0 {
			c.now = testNow
		}
		if _, err := RulesOf(s).Verify(again(t, c.token()), c.now); !errors.Is(err, c.reason) {
			t.Errorf("%s: %v, want %v", name, err, c.reason)
		}
	}
}

func TestABlockThatWidensIsRefused(t *testing.T) {
	holder := testSigner(t, "holder")
	d1, d2 := coord.Digest{1}, coord.Digest{2}
	root := issue(t, func(b *Block) { b.Decision = &d1 })
	for name, b := range map[string]Block{
		"another action":      {Actions: []string{"kv.get", "role.grant"}},
		"all actions":         {Actions: []string{"*"}},
		"a wider area":        {Actions: []string{"lease.*"}},
		"another resource":    {Resources: []string{"key:other"}},
		"a shorter prefix":    {Resources: []string{"key:cach*"}},
		"all resources":       {Resources: []string{"*"}},
		"a longer time":       {NotAfter: testNow + 3601},
		"an earlier time":     {NotBefore: testNow - 11},
		"another decision":    {Decision: &d2},
		"a key that travels":  {Bound: false},
		"an end before begin": {NotBefore: testNow + 20, NotAfter: testNow + 10},
	} {
		carried := testKey(t, "carried")
		if name != "a key that travels" {
			carried = nil
		}
		if _, err := root.Attenuate(b, holder, carried); !errors.Is(err, ErrWidened) {
			t.Errorf("%s: %v, want ErrWidened", name, err)
		}
		// The same from one who does not use this program: signed as it should be.
		if b.Holder == (PublicKey{}) && carried == nil {
			b.Holder, b.Bound = holder.Public(), true
		} else if carried != nil {
			b.Holder = testSigner(t, "carried").Public()
		}
		forged := &Token{blocks: append(slices.Clone(root.blocks), b)}
		last := &forged.blocks[1]
		before := forged.blocks[0].digest
		last.digest = digestOf("holdfast token1", before[:], last.append(nil, false))
		last.sig, _ = holder.SignDigest(last.digest)
		if carried != nil {
			forged.secret, _ = carried.Bytes()
		}
		if _, err := ParseToken(forged.Text()); !errors.Is(err, ErrWidened) {
			t.Errorf("forged, %s: %v, want ErrWidened", name, err)
		}
	}
}

func TestNarrowingNeverGivesMore(t *testing.T) {
	r := RulesOf(newState(t))
	holder := testSigner(t, "holder")
	root := issue(t, nil)
	next, err := root.Attenuate(Block{Actions: []string{"kv.get"}, Resources: []string{"key:cache/a/*"}, NotAfter: testNow + 60, Note: "for the night"}, holder, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := testSigner(t, "other")
	last, err := next.Attenuate(Block{Resources: []string{"key:cache/a/b"}, Holder: other.Public(), Bound: true}, holder, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Verify(again(t, last), testNow)
	if err != nil {
		t.Fatal(err)
	}
	if g.NotAfter() != testNow+60 || !g.NeedsProof() {
		t.Errorf("%+v", g.e)
	}
	for _, c := range []struct {
		a    Action
		on   string
		want bool
	}{{KVGet, "cache/a/b", true}, {KVGet, "cache/a/c", false}, {KVPut, "cache/a/b", false}} {
		if v := r.DecideToken(g, c.a, Key(c.on)); v.Allowed != c.want {
			t.Errorf("%s %s: %s", c.a, c.on, v.Reason())
		}
	}
	if _, err := last.Attenuate(Block{}, holder, nil); err != nil {
		t.Fatal(err)
	} else if bad, _ := last.Attenuate(Block{}, holder, nil); bad != nil {
		if _, err := r.Verify(bad, testNow); !errors.Is(err, ErrHolder) {
			t.Errorf("the former holder narrows what it gave away: %v", err)
		}
	}
	for range BlocksMax {
		if root, err = root.Attenuate(Block{}, holder, nil); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrMalformed) {
		t.Errorf("a chain without end: %v", err)
	}
}

// An ECDSA signature (r, s) has a twin (r, n-s). A token with the twin is the same token: revoked by the same id.
func TestASecondSignatureIsNoSecondToken(t *testing.T) {
	s := newState(t)
	tok := again(t, issue(t, nil))
	twin := &Token{blocks: slices.Clone(tok.blocks)}
	sig := &twin.blocks[0].sig
	n := elliptic.P256().Params().N
	new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:])).FillBytes(sig[32:])
	if twin.Text() == tok.Text() {
		t.Fatal("the twin is the same text")
	}
	twin = again(t, twin)
	if _, err := RulesOf(s).Verify(twin, testNow); err != nil {
		t.Fatalf("the twin does not verify, so this is no test: %v", err)
	}
	if twin.ID() != tok.ID() {
		t.Error("the twin has another id")
	}
	s.set(DocRevoked+tok.ID().String(), "{}")
	if _, err := RulesOf(s).Verify(twin, testNow); !errors.Is(err, ErrRevoked) {
		t.Errorf("%v, want ErrRevoked", err)
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	r := RulesOf(newState(t))
	next, err := issue(t, nil).Attenuate(Block{Actions: []string{"kv.get"}}, testSigner(t, "holder"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := next.Append(nil)
	for i := range b {
		x := bytes.Clone(b)
		x[i] ^= 1 << (i % 8)
		if tok, err := DecodeToken(x); err == nil {
			if _, err := r.Verify(tok, testNow); err == nil {
				t.Errorf("byte %d of %d", i, len(b))
			}
		}
	}
}

func TestTextsThatAreNoTokensAreRefused(t *testing.T) {
	good := issue(t, nil).Text()
	raw, _ := base64.RawURLEncoding.DecodeString(good[4:])
	for name, text := range map[string]string{
		"nothing": "", "no prefix": good[4:], "another prefix": "hf2." + good[4:], "padding": good + "=", "a newline in it": good[:20] + "\n" + good[20:],
		"standard base64": "hf1." + base64.StdEncoding.EncodeToString(raw), "cut": good[:len(good)-4], "more": good + "AAAA",
		"too long": "hf1." + strings.Repeat("A", TokenTextMax), "bits after the end": good[:len(good)-1] + string(good[len(good)-1]+1),
		"no blocks": "hf1.AQAA", "many blocks": "hf1." + base64.RawURLEncoding.EncodeToString(append([]byte{1, 9}, raw[2:]...)),
	} {
		if _, err := ParseToken(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatShouldNotBeIssuedIsNot(t *testing.T) {
	for name, change := range map[string]func(*Block){
		"an unknown action":    func(b *Block) { b.Actions = []string{"kv.gte"} },
		"an unknown area":      func(b *Block) { b.Actions = []string{"vk.*"} },
		"an unknown resource":  func(b *Block) { b.Resources = []string{"file:a"} },
		"a range":              func(b *Block) { b.Resources = []string{"keys:a..b"} },
		"no end":               func(b *Block) { b.NotAfter = 0 },
		"no beginning":         func(b *Block) { b.NotBefore = 0 },
		"for ten years":        func(b *Block) { b.NotAfter = b.NotBefore + 10*TokenSecondsMax },
		"no actions":           func(b *Block) { b.Actions = nil },
		"a control character":  func(b *Block) { b.Note = "\x1b[2J" },
		"an issuer of no kind": func(b *Block) { b.Issuer = "olaf" },
		"too much": func(b *Block) {
			b.Resources = strings.Split(strings.Repeat("key:"+strings.Repeat("x", 200)+" ", 30), " ")[:30]
		},
	} {
		b := rootBlockOf(t)
		change(&b)
		if name == "too much" {
			for i := range b.Resources {
				b.Resources[i] += string(rune('A' + i))
			}
		}
		if _, err := Issue(b, testSigner(t, "olaf"), nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATokenForOneDecisionIsGoodForNothingElse(t *testing.T) {
	r := RulesOf(newState(t))
	d := coord.Digest{9}
	g, err := r.Verify(issue(t, func(b *Block) { b.Decision = &d }), testNow)
	if err != nil {
		t.Fatal(err)
	}
	if v := r.DecideToken(g, KVGet, Key("cache/a")); v.Allowed || !strings.Contains(v.Reason(), "decision 09000000 only") {
		t.Error(v.Reason())
	}
}

func TestAProofIsGoodOnceForOneBoxOverOneChannel(t *testing.T) {
	r := RulesOf(newState(t))
	tok := issue(t, nil)
	g, err := r.Verify(tok, testNow)
	if err != nil {
		t.Fatal(err)
	}
	me, channel := coord.BoxID{1}, coord.Digest{5}
	const ms = testNow * 1000
	prove := func(change func(*Proof), key string) *Proof {
		p := &Proof{Audience: me, TimeMs: ms, Nonce: [16]byte{1}, Binding: channel}
		if change != nil {
			change(p)
		}
		if err := p.Sign(tok, testSigner(t, key)); err != nil {
			t.Fatal(err)
		}
		back, err := ParseProof(p.String())
		if err != nil {
			t.Fatal(err)
		}
		return back
	}
	var seen Replays
	first := prove(nil, "holder")
	if err := g.CheckProof(first, me, channel, ms, &seen); err != nil {
		t.Fatal(err)
	}
	twin := *first
	n := elliptic.P256().Params().N
	new(big.Int).Sub(n, new(big.Int).SetBytes(twin.Sig[32:])).FillBytes(twin.Sig[32:])
	other := issue(t, func(b *Block) { b.Nonce[0]++ })
	foreign := &Proof{Audience: me, TimeMs: ms, Binding: channel}
	if err := foreign.Sign(other, testSigner(t, "holder")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		p    *Proof
		want error
	}{
		"the same again":        {first, ErrReplayed},
		"with a twin signature": {&twin, ErrReplayed},
		"another nonce":         {prove(func(p *Proof) { p.Nonce[0]++ }, "holder"), nil},
		"another key":           {prove(func(p *Proof) { p.Nonce[0] = 9 }, "eve"), ErrHolder},
		"another box":           {prove(func(p *Proof) { p.Audience[0]++ }, "holder"), ErrSite},
		"any box":               {prove(func(p *Proof) { p.Audience, p.Nonce[0] = coord.BoxID{}, 7 }, "holder"), nil},
		"another channel":       {prove(func(p *Proof) { p.Binding[0]++ }, "holder"), ErrHolder},
		"too old":               {prove(func(p *Proof) { p.TimeMs -= ProofWindowMs + 1 }, "holder"), ErrExpired},
		"of tomorrow":           {prove(func(p *Proof) { p.TimeMs += ProofWindowMs + 1 }, "holder"), ErrEarly},
		"of another token":      {foreign, ErrHolder},
	} {
		if err := g.CheckProof(c.p, me, channel, ms, &seen); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, text := range []string{"", "hfp1.", first.String() + "A", strings.Replace(first.String(), "hfp1.A", "hfp1.B", 1), "hfp2" + first.String()[4:]} {
		if _, err := ParseProof(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestOneIssuersTokensLeaveRoomForThoseOfOthers(t *testing.T) {
	var seen Replays
	const now = 1_000_000
	take := func(issuer string, i int, at uint64) error {
		return seen.take(issuer, []TokenID{{byte(i), byte(i >> 8), byte(len(issuer))}}, &Proof{TimeMs: at}, at)
	}
	for i := range replayOfIssuerMax {
		if err := take("operator:ann", i, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := take("operator:ann", replayOfIssuerMax, now); !errors.Is(err, ErrBusy) {
		t.Errorf("one more of ann's: %v", err)
	}
	if err := take("operator:olaf", 0, now); err != nil {
		t.Errorf("one of olaf's: %v", err)
	}
	if err := take("operator:ann", replayOfIssuerMax, now+ProofWindowMs+1); err != nil || len(seen.issuers) != 1 || seen.issuers["operator:ann"] != 1 {
		t.Errorf("when the old ones count no more: %v, %v", err, seen.issuers)
	}
}

func TestReplaysAreRefusedInBoundedMemory(t *testing.T) {
	var seen Replays
	id := []TokenID{{1}}
	proof := func(i uint64) *Proof { return &Proof{TimeMs: 1_000_000 + i} }
	for i := range uint64(10 * replayEach) {
		if err := seen.take("operator:ann", id, proof(i), 1_000_000); err != nil {
			t.Fatal(i, err)
		}
	}
	for i := range uint64(10 * replayEach) { // also those that are forgotten
		if err := seen.take("operator:ann", id, proof(i), 1_000_000); !errors.Is(err, ErrReplayed) {
			t.Fatal(i, err)
		}
	}
	if n := seen.tokens[id[0]].all; n > replayEach {
		t.Errorf("%d proofs kept", n)
	}
	for i := range replayTokensMax - 1 {
		if err := seen.take(fmt.Sprintf("operator:%d", i/replayOfIssuerMax), []TokenID{{2, byte(i), byte(i >> 8)}}, proof(0), 1_000_000); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := seen.take("operator:bob", []TokenID{{3}}, proof(0), 1_000_000); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
	later := uint64(1_000_000 + 10*replayEach + ProofWindowMs + 1)
	if err := seen.take("operator:bob", []TokenID{{3}}, &Proof{TimeMs: later}, later); err != nil {
		t.Errorf("when the others are over: %v", err)
	}
}

func TestWhoFloodsWithProofsIsRefusedAlone(t *testing.T) {
	issued, child, sibling := TokenID{1}, TokenID{2}, TokenID{3}
	const now = 1_000_000
	for name, flood := range map[string]func(i int) []TokenID{
		"by proofs":    func(int) []TokenID { return []TokenID{issued, child} },
		"by narrowing": func(i int) []TokenID { return []TokenID{issued, child, {4, byte(i), byte(i >> 8)}} },
		"deeply":       func(i int) []TokenID { return []TokenID{issued, child, {5}, {6, byte(i), byte(i >> 8)}} },
	} {
		var seen Replays
		take := func(ids []TokenID, at uint64) error { return seen.take("operator:ann", ids, &Proof{TimeMs: at}, now) }
		for i := range uint64(10) {
			for _, ids := range [][]TokenID{{issued}, {issued, sibling}} {
				if err := take(ids, now+i); err != nil {
					t.Fatal(name, err)
				}
			}
		}
		for i := range uint64(10 * replayEach) {
			if err := take(flood(int(i)), now+ProofWindowMs-10*replayEach+i); err != nil {
				t.Fatal(name, i, err)
			}
			if n := seen.tokens[issued].all; n > replayEach {
				t.Fatalf("%s: %d proofs kept", name, n)
			}
		}
		for i := range uint64(10 * replayEach) {
			if err := take(flood(int(i)), now+ProofWindowMs-10*replayEach+i); !errors.Is(err, ErrReplayed) {
				t.Fatalf("%s: the flood's proof %d again: %v", name, i, err)
			}
		}
		for i := range uint64(10) {
			for _, ids := range [][]TokenID{{issued}, {issued, sibling}} {
				if err := take(ids, now+i); !errors.Is(err, ErrReplayed) {
					t.Errorf("%s: proof %d of %v again: %v", name, i, ids, err)
				}
			}
		}
		for _, ids := range [][]TokenID{{issued}, {issued, sibling}, {issued, {7}}, {issued, {7}, {8}}} {
			if err := take(ids, now+20); err != nil {
				t.Errorf("%s: the next proof of %v: %v", name, ids, err)
			}
		}
	}
}

func TestAProofOfBeforeTheStartIsNotTakenAgain(t *testing.T) {
	seen := Replays{since: 1_000_000}
	id := []TokenID{{1}}
	if err := seen.take("operator:ann", id, &Proof{TimeMs: 999_999}, 1_000_500); !errors.Is(err, ErrReplayed) {
		t.Errorf("%v, want ErrReplayed", err)
	}
	if err := seen.take("operator:ann", id, &Proof{TimeMs: 1_000_400}, 1_000_500); err != nil {
		t.Error(err)
	}
	if err := seen.take("operator:ann", id, &Proof{TimeMs: 500_001}, 500_000); err != nil {
		t.Errorf("after the clock was set back: %v", err)
	}
}

func BenchmarkToken(b *testing.B) {
	r := benchRules(b)
	holder := testSigner(b, "holder")
	root := issue(b, nil)
	next, err := root.Attenuate(Block{Actions: []string{"kv.get"}, Resources: []string{"key:cache/zone-7/*"}}, holder, nil)
	if err != nil {
		b.Fatal(err)
	}
	carried := issue(b, func(x *Block) { x.Bound, x.Holder = false, PublicKey{} })
	for name, tok := range map[string]*Token{"verify": root, "verify-attenuated": next, "verify-carried": carried} {
		text := tok.Text()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t, err := ParseToken(text)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := r.Verify(t, testNow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("proof", func(b *testing.B) {
		g, err := r.Verify(root, testNow)
		if err != nil {
			b.Fatal(err)
		}
		p := &Proof{TimeMs: testNow * 1000}
		if err := p.Sign(root, holder); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := g.CheckProof(p, coord.BoxID{}, coord.Digest{}, testNow*1000, new(Replays)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decide", func(b *testing.B) {
		g, err := r.Verify(root, testNow)
		if err != nil {
			b.Fatal(err)
		}
		on := Key("cache/zone-7/object")
		b.ReportAllocs()
		for b.Loop() {
			if v := r.DecideToken(g, KVGet, on); !v.Allowed {
				b.Fatal(v.Reason())
			}
		}
	})
	b.Run("issue", func(b *testing.B) {
		olaf, block := testSigner(b, "olaf"), rootBlockOf(b)
		for b.Loop() {
			if _, err := Issue(block, olaf, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("attenuate", func(b *testing.B) {
		for b.Loop() {
			if _, err := root.Attenuate(Block{Actions: []string{"kv.get"}}, holder, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSignature is what of a token's verification is the signature's.
func BenchmarkSignature(b *testing.B) {
	k := testSigner(b, "olaf")
	d := coord.Digest{1}
	sig, err := k.SignDigest(d)
	if err != nil {
		b.Fatal(err)
	}
	public := k.Public()
	b.Run("verify", func(b *testing.B) {
		key, err := public.parse()
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if !verify(key, d, &sig) {
				b.Fatal("no")
			}
		}
	})
	b.Run("parse-key", func(b *testing.B) {
		for b.Loop() {
			if _, err := public.parse(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
