package trust_test

import (
	"crypto/elliptic"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

func vote(id *trust.Identity, m *coord.Members, voter uint8, k coord.VoteKind, round uint64, d coord.Digest) *coord.Vote {
	return &coord.Vote{
		Kind: k, Epoch: m.Epoch, Round: round, Digest: d, Voter: voter,
		Sig: id.SignVote(m.Site, k, m.Epoch, round, d),
	}
}

func TestAVoteIsItsVotersAndSaysOneThing(t *testing.T) {
	ids, m := newSite(t, 4)
	v := newVerifier(t, m)
	d := coord.Digest{9}
	for _, k := range []coord.VoteKind{coord.VoteNotarize, coord.VoteFinalize, coord.VoteCheckpoint} {
		if !v.VerifyVote(vote(ids[2], m, 2, k, 5, d)) {
			t.Errorf("a good %s vote is refused", k)
		}
	}
	if !v.VerifyVote(vote(ids[2], m, 2, coord.VoteEmpty, 5, coord.Digest{})) {
		t.Error("a good empty vote is refused")
	}
	for name, change := range map[string]func(*coord.Vote){
		"another kind":     func(v *coord.Vote) { v.Kind = coord.VoteFinalize },
		"an unknown kind":  func(v *coord.Vote) { v.Kind = 0 },
		"another epoch":    func(v *coord.Vote) { v.Epoch++ },
		"another round":    func(v *coord.Vote) { v.Round++ },
		"another digest":   func(v *coord.Vote) { v.Digest[0]++ },
		"another voter":    func(v *coord.Vote) { v.Voter = 1 },
		"no member":        func(v *coord.Vote) { v.Voter = 4 },
		"the last number":  func(v *coord.Vote) { v.Voter = 255 },
		"a flipped r":      func(v *coord.Vote) { v.Sig[0] ^= 1 },
		"a flipped s":      func(v *coord.Vote) { v.Sig[63] ^= 1 },
		"no signature":     func(v *coord.Vote) { v.Sig = coord.Signature{} },
		"r of zero":        func(v *coord.Vote) { clear(v.Sig[:32]) },
		"s of zero":        func(v *coord.Vote) { clear(v.Sig[32:]) },
		"r beyond n":       func(v *coord.Vote) { fill(v.Sig[:32]) },
		"s beyond n":       func(v *coord.Vote) { fill(v.Sig[32:]) },
		"digest and empty": func(v *coord.Vote) { v.Kind = coord.VoteEmpty },
	} {
		bad := vote(ids[2], m, 2, coord.VoteNotarize, 5, d)
		change(bad)
		if v.VerifyVote(bad) {
			t.Errorf("%s: accepted", name)
		}
	}
	elsewhere := *m
	elsewhere.Site[0]++
	if newVerifier(t, &elsewhere).VerifyVote(vote(ids[2], m, 2, coord.VoteNotarize, 5, d)) {
		t.Error("a vote of one site is accepted in another")
	}
	signed := vote(ids[0], m, 0, coord.VoteEmpty, 5, d) // a signature over what no honest box says
	if v.VerifyVote(signed) {
		t.Error("an empty vote with a digest is accepted")
	}
}

func fill(b []byte) {
	for i := range b {
		b[i] = 0xff
	}
}

func TestSigningTwiceGivesTheSameBytes(t *testing.T) {
	ids, m := newSite(t, 1)
	first := ids[0].SignVote(m.Site, coord.VoteNotarize, 1, 2, coord.Digest{1})
	if again := ids[0].SignVote(m.Site, coord.VoteNotarize, 1, 2, coord.Digest{1}); again != first {
		t.Error("two signatures over one vote differ: not RFC 6979")
	}
}

// Known and accepted: nothing in Holdfast hashes or compares signatures, so that a second valid form of one
// changes nothing.
func TestTheMirroredSignatureVerifiesToo(t *testing.T) {
	ids, m := newSite(t, 1)
	x := vote(ids[0], m, 0, coord.VoteNotarize, 5, coord.Digest{1})
	n := elliptic.P256().Params().N
	s := new(big.Int).SetBytes(x.Sig[32:])
	s.Sub(n, s).FillBytes(x.Sig[32:])
	if !newVerifier(t, m).VerifyVote(x) {
		t.Error("(r, n-s) is refused; the package comment says otherwise")
	}
}

func TestSmallNumbersInSignaturesAreEncodedRight(t *testing.T) {
	// One in 128 signatures has a leading zero byte in r or s, one in two needs a zero in front in DER.
	ids, m := newSite(t, 1)
	v := newVerifier(t, m)
	short := 0
	for round := uint64(0); short < 2; round++ {
		x := vote(ids[0], m, 0, coord.VoteNotarize, round, coord.Digest{})
		if x.Sig[0] == 0 || x.Sig[32] == 0 {
			short++
		}
		if (round < 16 || x.Sig[0] == 0 || x.Sig[32] == 0) && !v.VerifyVote(x) {
			t.Fatalf("round %d: %x refused", round, x.Sig)
		}
	}
}

func TestABatchIsItsAuthors(t *testing.T) {
	ids, m := newSite(t, 4)
	v := newVerifier(t, m)
	b := &coord.Batch{Seq: 3, Floor: 1, Count: 2, Body: []byte("columns")}
	ids[1].SignBatch(m.Site, b)
	if b.Author != ids[1].ID() || !v.VerifyBatch(b) {
		t.Fatal("a good batch is refused")
	}
	for name, change := range map[string]func(*coord.Batch){
		"another author": func(b *coord.Batch) { b.Author = ids[0].ID() },
		"a stranger":     func(b *coord.Batch) { b.Author = coord.BoxID{} },
		"seq":            func(b *coord.Batch) { b.Seq++ },
		"floor":          func(b *coord.Batch) { b.Floor++ },
		"count":          func(b *coord.Batch) { b.Count++ },
		"body":           func(b *coord.Batch) { b.Body = []byte("column") },
		"signature":      func(b *coord.Batch) { b.Sig[5]++ },
	} {
		bad := *b
		change(&bad)
		if v.VerifyBatch(&bad) {
			t.Errorf("%s changed: accepted", name)
		}
	}
}

func cert(ids []*trust.Identity, m *coord.Members, k coord.VoteKind, round uint64, d coord.Digest, voters ...uint8) *coord.Cert {
	c := &coord.Cert{Kind: k, Epoch: m.Epoch, Round: round, Digest: d}
	for _, i := range voters {
		c.Sigs = append(c.Sigs, coord.VoteSig{Voter: i, Sig: ids[i].SignVote(m.Site, k, m.Epoch, round, d)})
	}
	return c
}

// emptyCert has member i say that nothing from levels[i] on becomes final.
func emptyCert(ids []*trust.Identity, m *coord.Members, levels ...uint64) *coord.Cert {
	c := &coord.Cert{Kind: coord.VoteEmpty, Epoch: m.Epoch}
	for i, l := range levels {
		c.Round = max(c.Round, l)
		c.Sigs = append(c.Sigs, coord.VoteSig{
			Voter: uint8(i), Level: l,
			Sig: ids[i].SignVote(m.Site, coord.VoteEmpty, m.Epoch, l, coord.Digest{}),
		})
	}
	return c
}

func TestACertificateProvesAQuorum(t *testing.T) {
	ids, m := newSite(t, 4)
	v := newVerifier(t, m)
	d := coord.Digest{9}
	for name, c := range map[string]*coord.Cert{
		"a quorum":               cert(ids, m, coord.VoteNotarize, 5, d, 0, 1, 3),
		"in any order":           cert(ids, m, coord.VoteFinalize, 5, d, 3, 0, 2),
		"all":                    cert(ids, m, coord.VoteCheckpoint, 5, d, 0, 1, 2, 3),
		"empty, one level":       emptyCert(ids, m, 5, 5, 5),
		"empty, levels differ":   emptyCert(ids, m, 5, 8, 6, 1),
		"empty, from the origin": emptyCert(ids, m, 0, 0, 0),
	} {
		if err := v.VerifyCert(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := func() *coord.Cert { return cert(ids, m, coord.VoteNotarize, 5, d, 0, 1, 2) }
	empty := func() *coord.Cert { return emptyCert(ids, m, 5, 6, 7) }
	for _, tt := range []struct {
		name   string
		base   func() *coord.Cert
		change func(*coord.Cert)
		says   string
	}{
		{"no signature", good, func(c *coord.Cert) { c.Sigs = nil }, "0 signatures"},
		{"one short of a quorum", good, func(c *coord.Cert) { c.Sigs = c.Sigs[:2] }, "2 signatures"},
		{"one member three times", good, func(c *coord.Cert) { c.Sigs[1], c.Sigs[2] = c.Sigs[0], c.Sigs[0] }, "member 0 twice"},
		{"more than members", good, func(c *coord.Cert) { c.Sigs = append(c.Sigs, c.Sigs...) }, "6 signatures"},
		{"a voter who is no member", good, func(c *coord.Cert) { c.Sigs[0].Voter = 4 }, "member 4 of 4"},
		{"a voter beyond any site", good, func(c *coord.Cert) { c.Sigs[0].Voter = 200 }, "member 200 of 4"},
		{"another epoch", good, func(c *coord.Cert) { c.Epoch++ }, "epoch 8"},
		{"another kind", good, func(c *coord.Cert) { c.Kind = coord.VoteFinalize }, "bad signature of member 0"},
		{"an unknown kind", good, func(c *coord.Cert) { c.Kind = 9 }, "kind 9"},
		{"another round", good, func(c *coord.Cert) { c.Round++ }, "bad signature"},
		{"another digest", good, func(c *coord.Cert) { c.Digest[31]++ }, "bad signature"},
		{"two members swapped", good, func(c *coord.Cert) { c.Sigs[0].Voter, c.Sigs[1].Voter = 1, 0 }, "bad signature"},
		{"one good signature among bad", good, func(c *coord.Cert) { c.Sigs[1].Sig[0]++; c.Sigs[2].Sig[0]++ }, "bad signature of member 1"},
		{"a level where none is", good, func(c *coord.Cert) { c.Sigs[2].Level = 5 }, "a level on a notarize vote"},
		{"empty with a digest", empty, func(c *coord.Cert) { c.Digest = d }, "kind 3 with digest"},
		{"empty above its levels", empty, func(c *coord.Cert) { c.Round = 8 }, "highest level is 7"},
		{"empty below its levels", empty, func(c *coord.Cert) { c.Round = 5 }, "highest level is 7"},
		{"empty, one level moved", empty, func(c *coord.Cert) { c.Sigs[0].Level = 6 }, "bad signature of member 0"},
	} {
		c := tt.base()
		tt.change(c)
		err := v.VerifyCert(c)
		if !errors.Is(err, trust.ErrCert) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want ErrCert with %q", tt.name, err, tt.says)
		}
	}
}

func TestABadMemberSetMakesNoVerifier(t *testing.T) {
	_, m := newSite(t, 2)
	for name, change := range map[string]func(*coord.Members){
		"no members":    func(m *coord.Members) { m.List = nil },
		"too many":      func(m *coord.Members) { m.List = make([]coord.Member, coord.MembersMax+1) },
		"no key":        func(m *coord.Members) { m.List[1].Key = nil },
		"a damaged key": func(m *coord.Members) { m.List[1].Key[40] ^= 1 },
		"a longer key":  func(m *coord.Members) { m.List[1].Key = append(m.List[1].Key, 0) },
		"another's id":  func(m *coord.Members) { m.List[1].ID = m.List[0].ID },
		"twice":         func(m *coord.Members) { m.List[1] = m.List[0] },
	} {
		bad := clone(m)
		change(bad)
		if _, err := trust.NewVerifier(bad); !errors.Is(err, trust.ErrMembers) {
			t.Errorf("%s: error %v, want ErrMembers", name, err)
		}
	}
}

func clone(m *coord.Members) *coord.Members {
	c := *m
	c.List = append([]coord.Member(nil), m.List...)
	for i := range c.List {
		c.List[i].Key = append([]byte(nil), c.List[i].Key...)
	}
	return &c
}

func BenchmarkSignVote(b *testing.B) {
	ids, m := newSite(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		ids[0].SignVote(m.Site, coord.VoteNotarize, 1, 2, coord.Digest{})
	}
}

func BenchmarkVerifyVote(b *testing.B) {
	ids, m := newSite(b, 1)
	v := newVerifier(b, m)
	x := vote(ids[0], m, 0, coord.VoteNotarize, 5, coord.Digest{1})
	b.ReportAllocs()
	for b.Loop() {
		if !v.VerifyVote(x) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkVerifyCertOfThree(b *testing.B) {
	ids, m := newSite(b, 4)
	v := newVerifier(b, m)
	c := cert(ids, m, coord.VoteNotarize, 5, coord.Digest{1}, 0, 1, 2)
	b.ReportAllocs()
	for b.Loop() {
		if err := v.VerifyCert(c); err != nil {
			b.Fatal(err)
		}
	}
}
