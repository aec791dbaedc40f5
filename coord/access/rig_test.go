package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// testKey is a key that is the same at each run.
func testKey(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	h := sha256.Sum256([]byte("a test's key: " + name))
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), h[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testSigner(t testing.TB, name string) *PrivateKey {
	t.Helper()
	k, err := NewPrivateKey(testKey(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testPublic(t testing.TB, name string) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&testKey(t, name).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// testNow is Unix seconds in all tests.
const testNow = 1_800_000_000

// fakeState is a site in memory.
type fakeState struct {
	docs    map[string]coord.Doc
	members *coord.Members
	seconds uint64
	count   uint64
}

func (s *fakeState) Doc(key string) (coord.Doc, bool) { d, ok := s.docs[key]; return d, ok }
func (s *fakeState) Members() *coord.Members          { return s.members }
func (s *fakeState) Seconds() uint64                  { return s.seconds }

func (s *fakeState) Docs(prefix string) (list []coord.Doc) {
	for _, k := range slices.Sorted(maps.Keys(s.docs)) {
		if strings.HasPrefix(k, prefix) {
			list = append(list, s.docs[k])
		}
	}
	return list
}

func (s *fakeState) set(key, value string) {
	s.count++
	s.docs[key] = coord.Doc{Key: key, Version: s.count, Value: []byte(value)}
}

// apply does what a decision that took effect does; it fails the test if the decision is stale.
func (s *fakeState) apply(t testing.TB, d *coord.Decision) {
	t.Helper()
	for _, w := range d.Writes {
		if s.docs[w.Key].Version != w.Was {
			t.Fatalf("%s was at %d, not %d", w.Key, s.docs[w.Key].Version, w.Was)
		}
	}
	for _, w := range d.Writes {
		if w.Value == nil {
			delete(s.docs, w.Key)
			continue
		}
		s.set(w.Key, string(w.Value))
		if w.Key == coord.DocMembers {
			m := new(coord.Members)
			if err := json.Unmarshal(w.Value, m); err != nil {
				t.Fatal(err)
			}
			s.members = m
		}
	}
}

func member(t testing.TB, name string) coord.Member {
	der := testPublic(t, name)
	return coord.Member{ID: coord.BoxIDOf(der), Name: name, Key: der, Peer: name + ":7400"}
}

// newState is a site of four boxes with an admin ann, an operator olaf, a viewer vera, and the program cache.
func newState(t testing.TB) *fakeState {
	t.Helper()
	s := &fakeState{docs: map[string]coord.Doc{}, seconds: 1000, members: &coord.Members{Site: coord.SiteID{7, 7}, Epoch: 3}}
	for _, b := range []string{"box-a", "box-b", "box-c", "box-d"} {
		s.members.List = append(s.members.List, member(t, b))
	}
	for name, role := range map[string]string{"ann": RoleAdmin, "olaf": RoleOperator, "vera": RoleViewer} {
		s.set(DocOperator+name, operatorJSON(t, name))
		s.set(DocGrant+Operator+":"+name, grantJSON(role))
	}
	s.set(DocGrant+"program:cache", grantJSON(RoleProgram))
	return s
}

func operatorJSON(t testing.TB, name string) string {
	v, err := json.Marshal(map[string]any{"name": name, "key": testPublic(t, name), "sealed": map[string]any{"box": []byte("x")}, "created": 1})
	if err != nil {
		t.Fatal(err)
	}
	return string(v)
}

func grantJSON(roles ...string) string {
	slices.Sort(roles)
	v, err := json.Marshal(GrantDoc{Roles: roles})
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return string(v)
}
