package join_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

// fakeSite is a site's documents, with decisions taking effect at once.
type fakeSite struct {
	docs     map[string]coord.Doc
	members  *coord.Members
	now      uint64
	versions uint64
}

func (s *fakeSite) Doc(key string) (coord.Doc, bool) { d, ok := s.docs[key]; return d, ok }
func (s *fakeSite) Members() *coord.Members          { return s.members }
func (s *fakeSite) Seconds() uint64                  { return s.now }

func (s *fakeSite) Docs(prefix string) (list []coord.Doc) {
	for k, d := range s.docs {
		if strings.HasPrefix(k, prefix) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b coord.Doc) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// decide applies d as the state machine would, and says whether it took effect.
func (s *fakeSite) decide(d *coord.Decision) bool {
	for _, w := range d.Writes {
		if s.docs[w.Key].Version != w.Was {
			return false
		}
	}
	s.versions++
	for _, w := range d.Writes {
		if w.Value == nil {
			delete(s.docs, w.Key)
			continue
		}
		s.docs[w.Key] = coord.Doc{Key: w.Key, Version: s.versions, Value: w.Value}
	}
	return true
}

func newBox(t testing.TB) *trust.Identity {
	t.Helper()
	id, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func member(id *trust.Identity, name string) coord.Member {
	return coord.Member{ID: id.ID(), Name: name, Key: id.PublicKey(), Peer: name + ".example:7400"}
}

func newSite(t testing.TB, n int) *fakeSite {
	t.Helper()
	s := &fakeSite{docs: map[string]coord.Doc{}, members: &coord.Members{Site: coord.SiteID{1, 2, 3}, Epoch: 1}, now: 1000}
	for i := range n {
		s.members.List = append(s.members.List, member(newBox(t), fmt.Sprintf("box-%d", i)))
	}
	return s
}

var chance = bytes.Repeat([]byte{0xa5, 0x5a, 0x17}, 16)

// offer makes a token that the site knows.
func (s *fakeSite) offer(t testing.TB, w join.Wish) *join.Token {
	t.Helper()
	s.versions++
	tok, err := join.NewToken(join.SiteHash(s.members), bytes.NewReader(append([]byte{byte(s.versions)}, chance...)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := join.Offer(s, tok, public(t, tok), w, "operator:ann", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := join.CheckOffer(s, d); err != nil {
		t.Fatal(err)
	}
	if !s.decide(d) {
		t.Fatal("the token was not taken")
	}
	return tok
}

func (s *fakeSite) request(t testing.TB, tok *join.Token, box *trust.Identity, name string) *join.Request {
	t.Helper()
	r := &join.Request{Site: s.members.Site, Box: member(box, name), Seconds: s.now, WallMs: 17, Nonce: [16]byte{byte(s.versions)}}
	if err := r.Sign(tok, box); err != nil {
		t.Fatal(err)
	}
	return r
}

// admit lets the box in as every box of the site would.
func (s *fakeSite) admit(r *join.Request) error {
	a, err := r.Admit(s)
	if err != nil {
		return err
	}
	if err := join.CheckAdmission(s, a.Decision, r.Append(nil)); err != nil {
		return err
	}
	if !s.decide(a.Decision) {
		return fmt.Errorf("stale")
	}
	s.members = a.Next
	return nil
}

// public is the public half of a token.
func public(t testing.TB, tok *join.Token) []byte {
	t.Helper()
	k, err := tok.Key()
	if err != nil {
		t.Fatal(err)
	}
	return k.PublicKey()
}
