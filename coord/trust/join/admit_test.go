package join_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
)

func TestABoxJoinsWithATokenAndTheTokenIsSpent(t *testing.T) {
	s := newSite(t, 1)
	tok := s.offer(t, join.Wish{})
	box := newBox(t)
	r := s.request(t, tok, box, "box-1")
	again, err := join.DecodeRequest(r.Append(nil))
	if err != nil || again.Digest() != r.Digest() || !bytes.Equal(again.Append(nil), r.Append(nil)) {
		t.Fatalf("not read back: %v", err)
	}
	if err := s.admit(r); err != nil {
		t.Fatal(err)
	}
	if s.members.Epoch != 2 || s.members.Index(box.ID()) != 1 {
		t.Fatalf("members %+v", s.members)
	}
	if err := s.admit(r); !errors.Is(err, join.ErrReplayed) {
		t.Errorf("the same request again: %v", err)
	}
	if err := s.admit(s.request(t, tok, newBox(t), "box-2")); !errors.Is(err, join.ErrUsed) {
		t.Errorf("another box with the token: %v", err)
	}
}

func TestOfTwoBoxesWithOneTokenAtOnceOneGetsIn(t *testing.T) {
	s := newSite(t, 4)
	tok := s.offer(t, join.Wish{})
	a, err := s.request(t, tok, newBox(t), "a").Admit(s)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.request(t, tok, newBox(t), "b").Admit(s) // judged by another box before the first took effect
	if err != nil {
		t.Fatal(err)
	}
	if !s.decide(a.Decision) || s.decide(b.Decision) {
		t.Fatal("both took effect, or none")
	}
}

func TestTwoBoxesThatProposeOneRequestProposeOneDecision(t *testing.T) {
	s := newSite(t, 4)
	r := s.request(t, s.offer(t, join.Wish{}), newBox(t), "a")
	x, err := r.Admit(s)
	y, err2 := r.Admit(s)
	if err = errors.Join(err, err2); err != nil || x.Decision.Digest(s.members.Site) != y.Decision.Digest(s.members.Site) {
		t.Fatalf("two decisions (%v)", err)
	}
}

// Every refusal, with the word that travels for it.
func TestWhoDoesNotGetInAndWhy(t *testing.T) {
	sign := func(t *testing.T, r *join.Request, tok *join.Token, box join.Signer) {
		t.Helper()
		if err := r.Sign(tok, box); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		want error
		word string
		do   func(t *testing.T, s *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request)
	}{
		{"another site's id", join.ErrSite, "wrong-site", func(t *testing.T, _ *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request) {
			r.Site[0]++
			sign(t, r, tok, box)
		}},
		{"another site's hash", join.ErrSite, "wrong-site", func(t *testing.T, _ *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request) {
			tok.Site[0]++
			sign(t, r, tok, box)
		}},
		{"a token that never was", join.ErrUnknown, "unknown-token", func(t *testing.T, _ *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request) {
			tok.ID[0]++
			sign(t, r, tok, box)
		}},
		{"a token that was withdrawn", join.ErrUnknown, "unknown-token", func(t *testing.T, s *fakeSite, tok *join.Token, _ *trust.Identity, _ *join.Request) {
			d, err := join.Withdraw(s, tok.ID, "operator:ann", 9)
			if err != nil || !s.decide(d) {
				t.Fatal(err)
			}
		}},
		{"the right id and a guessed secret", join.ErrSignature, "bad-signature", func(t *testing.T, _ *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request) {
			text := []byte(tok.Text())
			last := &text[len(text)-1]
			*last = "10"[min(int(*last-'0'), 1)]
			guess, err := join.ParseToken(string(text))
			if err != nil {
				t.Fatal(err)
			}
			sign(t, r, guess, box)
		}},
		{"a key that the box does not have", join.ErrSignature, "bad-signature", func(t *testing.T, _ *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request) {
			sign(t, r, tok, liar{box, newBox(t)})
		}},
		{"an address changed on the way", join.ErrSignature, "bad-signature", func(_ *testing.T, _ *fakeSite, _ *join.Token, _ *trust.Identity, r *join.Request) {
			r.Box.Peer = "elsewhere.example:7400"
		}},
		{"expired", join.ErrExpired, "expired-token", func(_ *testing.T, s *fakeSite, _ *join.Token, _ *trust.Identity, _ *join.Request) {
			s.now += join.TTLSecondsDefault + 1
		}},
		{"of tomorrow", join.ErrStale, "stale", func(t *testing.T, _ *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request) {
			r.Seconds += 3600
			sign(t, r, tok, box)
		}},
		{"another's name", join.ErrName, "bad-name", func(t *testing.T, _ *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request) {
			r.Box.Name = "box-2"
			sign(t, r, tok, box)
		}},
		{"a member already", join.ErrKnown, "known-key", func(t *testing.T, s *fakeSite, tok *join.Token, box *trust.Identity, r *join.Request) {
			if err := s.admit(s.request(t, s.offer(t, join.Wish{}), box, "early")); err != nil {
				t.Fatal(err)
			}
		}},
		{"removed before", join.ErrRemoved, "removed-key", func(t *testing.T, s *fakeSite, _ *join.Token, box *trust.Identity, _ *join.Request) {
			if err := s.admit(s.request(t, s.offer(t, join.Wish{}), box, "early")); err != nil {
				t.Fatal(err)
			}
			m, err := roster.Removing(s, box.ID())
			if err != nil {
				t.Fatal(err)
			}
			w, err := roster.Writes(s, m)
			if err != nil || !s.decide(&coord.Decision{Writes: w}) {
				t.Fatal(err)
			}
			s.members = m
		}},
		{"the site is full", join.ErrFull, "full", func(t *testing.T, s *fakeSite, _ *join.Token, _ *trust.Identity, _ *join.Request) {
			for i := s.members.N(); i < coord.MembersMax; i++ {
				s.members.List = append(s.members.List, member(newBox(t), fmt.Sprint("more-", i)))
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t, 4)
			tok, box := s.offer(t, join.Wish{}), newBox(t)
			r := s.request(t, tok, box, "new")
			tc.do(t, s, tok, box, r)
			err := s.admit(r)
			if !errors.Is(err, tc.want) || join.Code(err) != tc.word || !errors.Is(join.Refusal(tc.word), tc.want) {
				t.Fatalf("%v (word %q), want %v (%q)", err, join.Code(err), tc.want, tc.word)
			}
		})
	}
}

// liar says it is one box and signs as another.
type liar struct{ says, is *trust.Identity }

func (l liar) PublicKey() []byte                         { return l.says.PublicKey() }
func (l liar) SignDigest(d coord.Digest) coord.Signature { return l.is.SignDigest(d) }

func TestARequestThatWaitedLongerThanADayIsStale(t *testing.T) {
	s := newSite(t, 1)
	tok := s.offer(t, join.Wish{TTL: join.TTLSecondsMax})
	r := s.request(t, tok, newBox(t), "new")
	s.now += coord.DecisionSecondsDefault + 1
	if err := s.admit(r); !errors.Is(err, join.ErrStale) {
		t.Fatal(err)
	}
}

func TestATokenForANameAndAPlaceIsForNothingElse(t *testing.T) {
	s := newSite(t, 4)
	lost := s.members.List[2]
	tok := s.offer(t, join.Wish{Name: "box-2", Replaces: &lost.ID})
	if err := s.admit(s.request(t, tok, newBox(t), "other")); !errors.Is(err, join.ErrName) {
		t.Fatalf("another name: %v", err)
	}
	box := newBox(t)
	if err := s.admit(s.request(t, tok, box, "box-2")); err != nil {
		t.Fatal(err)
	}
	if s.members.N() != 4 || s.members.List[2].ID != box.ID() {
		t.Fatalf("not in the place of the old box: %+v", s.members.List)
	}
	if _, ok := s.docs[roster.DocRemoved(lost.ID)]; !ok {
		t.Error("the old box is not remembered as removed")
	}
	// The box that a token replaces may be gone when somebody comes with it.
	gone := s.members.List[3]
	late := s.offer(t, join.Wish{Replaces: &gone.ID})
	s.members.List = s.members.List[:3]
	if err := s.admit(s.request(t, late, newBox(t), "x")); !errors.Is(err, join.ErrReplaces) {
		t.Fatalf("a box that is gone: %v", err)
	}
}

func TestATokenIsNotMadeForWhatCannotBe(t *testing.T) {
	s := newSite(t, 4)
	tok := token(t)
	for name, tc := range map[string]struct {
		w    join.Wish
		want error
	}{
		"a second":           {join.Wish{TTL: 1}, join.ErrMalformed},
		"a year":             {join.Wish{TTL: 366 * 86400}, join.ErrMalformed},
		"a stranger's place": {join.Wish{Replaces: &coord.BoxID{1}}, join.ErrReplaces},
		"a member's name":    {join.Wish{Name: "box-1"}, join.ErrName},
	} {
		if _, err := join.Offer(s, tok, public(t, tok), tc.w, "operator:ann", 1); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range join.OpenMax {
		s.offer(t, join.Wish{})
	}
	if _, err := join.Offer(s, tok, public(t, tok), join.Wish{}, "operator:ann", 1); !errors.Is(err, join.ErrMalformed) {
		t.Errorf("one token more than may be open: %v", err)
	}
	s.now += join.TTLSecondsDefault + 1
	if _, err := join.Offer(s, tok, public(t, tok), join.Wish{}, "operator:ann", 1); err != nil {
		t.Errorf("those that are over count: %v", err)
	}
}

func TestADecisionThatDoesMoreThanItSaysIsNotGivenAWord(t *testing.T) {
	for name, edit := range map[string]func(s *fakeSite, d *coord.Decision){
		"another document": func(_ *fakeSite, d *coord.Decision) {
			d.Writes = append(d.Writes, coord.DocWrite{Key: "role/admin", Value: []byte("{}")})
		},
		"the token stays open": func(_ *fakeSite, d *coord.Decision) { d.Writes = d.Writes[:1] },
		"another box": func(s *fakeSite, d *coord.Decision) {
			var m coord.Members
			if err := json.Unmarshal(d.Writes[0].Value, &m); err != nil {
				panic(err)
			}
			m.List[len(m.List)-1].Peer = "elsewhere:1"
			d.Writes[0].Value, _ = json.Marshal(m)
		},
		"another version": func(_ *fakeSite, d *coord.Decision) { d.Writes[0].Was++ },
		"another kind":    func(_ *fakeSite, d *coord.Decision) { d.Kind = "member.remove" },
		"another subject": func(_ *fakeSite, d *coord.Decision) { d.Subject = "nothing to see" },
		"a text":          func(_ *fakeSite, d *coord.Decision) { d.Reason = "approved by ann" },
		"without end":     func(_ *fakeSite, d *coord.Decision) { d.Seconds = 1 << 40 },
		"for a while":     func(_ *fakeSite, d *coord.Decision) { d.Writes[0].Seconds = 60 },
		"twice one":       func(_ *fakeSite, d *coord.Decision) { d.Writes[1] = d.Writes[0] },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, 4)
			r := s.request(t, s.offer(t, join.Wish{}), newBox(t), "new")
			a, err := r.Admit(s)
			if err != nil {
				t.Fatal(err)
			}
			edit(s, a.Decision)
			if err := join.CheckAdmission(s, a.Decision, r.Append(nil)); !errors.Is(err, join.ErrDecision) {
				t.Fatal(err)
			}
		})
	}
	s := newSite(t, 4)
	d, err := join.Offer(s, token(t), public(t, token(t)), join.Wish{}, "operator:ann", 1)
	if err != nil {
		t.Fatal(err)
	}
	good := d.Writes[0]
	for name, edit := range map[string]func(w *coord.DocWrite, doc *join.Doc){
		"another's place":   func(w *coord.DocWrite, _ *join.Doc) { w.Key = "join/0000000000000000" },
		"a role":            func(w *coord.DocWrite, _ *join.Doc) { w.Key = "role/admin" },
		"changes one":       func(w *coord.DocWrite, _ *join.Doc) { w.Was = 3 },
		"for ever":          func(w *coord.DocWrite, _ *join.Doc) { w.Seconds = 0 },
		"for years":         func(w *coord.DocWrite, doc *join.Doc) { doc.NotAfter += 1 << 30; w.Seconds += 1 << 30 },
		"of the future":     func(_ *coord.DocWrite, doc *join.Doc) { doc.Made += 1 << 30; doc.NotAfter += 1 << 30 },
		"over before it is": func(_ *coord.DocWrite, doc *join.Doc) { doc.NotAfter = doc.Made - 1 },
		"used":              func(_ *coord.DocWrite, doc *join.Doc) { doc.Used = &join.Use{} },
		"no key":            func(_ *coord.DocWrite, doc *join.Doc) { doc.Key = nil },
		"no site":           func(_ *coord.DocWrite, doc *join.Doc) { doc.SiteHash = "x" },
	} {
		w, doc := good, new(join.Doc)
		if err := json.Unmarshal(good.Value, doc); err != nil {
			t.Fatal(err)
		}
		edit(&w, doc)
		w.Value, _ = json.Marshal(doc)
		if err := join.CheckOffer(s, &coord.Decision{Kind: join.MakeToken, Writes: []coord.DocWrite{w}}); !errors.Is(err, join.ErrDecision) {
			t.Errorf("a token's decision, %s: %v", name, err)
		}
	}
	for name, w := range map[string][]coord.DocWrite{
		"nothing": nil, "two": {good, good}, "removes": {{Key: good.Key}}, "not a document": {{Key: good.Key, Value: []byte("{}")}},
	} {
		if err := join.CheckOffer(s, &coord.Decision{Kind: join.MakeToken, Writes: w}); !errors.Is(err, join.ErrDecision) {
			t.Errorf("a token's decision, %s: %v", name, err)
		}
	}
}

// Whatever one byte of a request is changed to, nobody gets in by it.
func TestNoChangedRequestIsGranted(t *testing.T) {
	s := newSite(t, 1)
	good := s.request(t, s.offer(t, join.Wish{}), newBox(t), "new").Append(nil)
	rnd := rand.New(rand.NewPCG(7, 7))
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= byte(1 + rnd.IntN(255))
		r, err := join.DecodeRequest(b)
		if err == nil {
			_, err = r.Admit(s)
		}
		if err == nil || join.Code(err) == "" {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range good {
		if _, err := join.DecodeRequest(good[:n]); !errors.Is(err, join.ErrMalformed) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestARequestBeyondTheLimitsIsNotMade(t *testing.T) {
	tok, box := token(t), newBox(t)
	for name, m := range map[string]coord.Member{
		"no peer":      {Name: "a"},
		"no name":      {Peer: "a:1"},
		"long name":    {Name: strings.Repeat("n", 65), Peer: "a:1"},
		"long address": {Name: "a", Peer: strings.Repeat("a", 300) + ":1"},
		"a bell":       {Name: "a\a", Peer: "a:1"},
	} {
		r := &join.Request{Box: m}
		if err := r.Sign(tok, box); !errors.Is(err, join.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := strings.Repeat("a", 253) + ":65535"
	r := &join.Request{Seconds: 1<<64 - 1, WallMs: 1<<64 - 1, Box: coord.Member{Name: strings.Repeat("n", 64), Peer: long, Client: long, Native: long, Console: long}}
	if err := r.Sign(tok, box); err != nil || len(r.Append(nil)) > join.RequestBytesMax {
		t.Errorf("the longest request has %d bytes: %v", len(r.Append(nil)), err)
	}
}

func FuzzRequest(f *testing.F) {
	s := newSite(f, 1)
	f.Add(s.request(f, s.offer(f, join.Wish{}), newBox(f), "new").Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := join.DecodeRequest(b)
		if err != nil {
			if !errors.Is(err, join.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(r.Append(nil), b) {
			t.Fatal("two encodings of one request")
		}
	})
}

func FuzzDoc(f *testing.F) {
	s := newSite(f, 1)
	s.offer(f, join.Wish{Name: "x"})
	for _, d := range s.docs {
		f.Add(d.Value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := join.ParseDoc(b); err != nil && !errors.Is(err, join.ErrMalformed) {
			t.Fatal(err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	s := newSite(b, 4)
	r := s.request(b, s.offer(b, join.Wish{}), newBox(b), "new")
	for b.Loop() {
		if _, err := r.Check(s); err != nil {
			b.Fatal(err)
		}
	}
}
