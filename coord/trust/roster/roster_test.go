package roster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
)

type fakeSite struct {
	docs    map[string]coord.Doc
	members *coord.Members
}

func (s *fakeSite) Doc(key string) (coord.Doc, bool) { d, ok := s.docs[key]; return d, ok }
func (s *fakeSite) Members() *coord.Members          { return s.members }
func (s *fakeSite) Seconds() uint64                  { return 0 }

func (s *fakeSite) decide(t testing.TB, kind string, m *coord.Members) {
	t.Helper()
	w, err := roster.Writes(s, m)
	if err != nil {
		t.Fatal(err)
	}
	d := &coord.Decision{Kind: kind, Subject: roster.Subject(kind, s.members, m), Writes: w}
	if err := roster.Check(s, d); err != nil {
		t.Fatal(err)
	}
	for _, w := range d.Writes {
		if s.docs[w.Key].Version != w.Was {
			t.Fatalf("%s is stale", w.Key)
		}
		s.docs[w.Key] = coord.Doc{Key: w.Key, Version: m.Epoch, Value: w.Value}
	}
	s.members = m
}

// keys are made once: a test of thousands of changes needs many.
func keys(t testing.TB, n int) (list [][]byte) {
	t.Helper()
	for range n {
		id, err := trust.LoadOrCreate(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, id.PublicKey())
	}
	return list
}

func member(key []byte, name string) coord.Member {
	return coord.Member{ID: coord.BoxIDOf(key), Name: name, Key: key, Peer: name + ".example:7400"}
}

func newSite(t testing.TB, list [][]byte) *fakeSite {
	t.Helper()
	s := &fakeSite{docs: map[string]coord.Doc{}, members: &coord.Members{Site: coord.SiteID{1}, Epoch: 1}}
	for i, k := range list {
		s.members.List = append(s.members.List, member(k, fmt.Sprint("box-", i)))
	}
	return s
}

// at is the id of the box at a place.
func (s *fakeSite) at(i int) coord.BoxID { return s.members.List[i].ID }

func names(m *coord.Members) (s string) {
	for i := range m.List {
		s += m.List[i].Name + " "
	}
	return strings.TrimSpace(s)
}

func TestPlacesStayThroughEveryChange(t *testing.T) {
	k := keys(t, 7)
	s := newSite(t, k[:4])
	must := func(m *coord.Members, err error) *coord.Members {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, step := range []struct {
		kind string
		next func() *coord.Members
		want string
	}{
		{roster.Add, func() *coord.Members { b := member(k[4], "new"); return must(roster.Adding(s, &b)) }, "box-0 box-1 box-2 box-3 new"},
		{roster.Remove, func() *coord.Members { return must(roster.Removing(s, s.at(1))) }, "box-0 box-2 box-3 new"},
		{roster.Replace, func() *coord.Members { b := member(k[5], "other"); return must(roster.Replacing(s, s.at(1), &b)) }, "box-0 other box-3 new"},
		{roster.Rotate, func() *coord.Members { return must(roster.Rotating(s, s.at(0), k[6])) }, "box-0 other box-3 new"},
	} {
		m := step.next()
		s.decide(t, step.kind, m)
		if names(s.members) != step.want {
			t.Fatalf("%s: %s, want %s", step.kind, names(s.members), step.want)
		}
	}
	if s.members.Epoch != 5 || s.members.List[0].ID != coord.BoxIDOf(k[6]) {
		t.Fatalf("%+v", s.members)
	}
	for i, gone := range [][]byte{k[1], k[2], k[0]} { // removed, replaced, and the old key of one that rotated
		b := member(gone, "back")
		if _, err := roster.Adding(s, &b); !errors.Is(err, roster.ErrRemoved) {
			t.Errorf("removed key %d comes back: %v", i, err)
		}
	}
}

func TestWhatCannotBeAMember(t *testing.T) {
	k := keys(t, 3)
	s := newSite(t, k[:2])
	known, name, bad, votes, lie := member(k[0], "x"), member(k[2], "box-1"), member(k[2], ""), member(k[2], "x"), member(k[2], "x")
	votes.VotesFrom = 7
	lie.ID = coord.BoxID{1}
	for want, b := range map[error]*coord.Member{roster.ErrKnown: &known, roster.ErrName: &name, roster.ErrMember: &bad} {
		if _, err := roster.Adding(s, b); !errors.Is(err, want) {
			t.Errorf("%v: %v", want, err)
		}
	}
	for _, b := range []*coord.Member{&votes, &lie} {
		if _, err := roster.Adding(s, b); !errors.Is(err, roster.ErrMember) {
			t.Errorf("%v", err)
		}
	}
	one := newSite(t, k[:1])
	if _, err := roster.Removing(one, one.at(0)); !errors.Is(err, roster.ErrLast) {
		t.Errorf("the last box: %v", err)
	}
	for one.members.N() < coord.MembersMax {
		one.members.List = append(one.members.List, one.members.List[0])
	}
	b := member(k[2], "x")
	if _, err := roster.Adding(one, &b); !errors.Is(err, roster.ErrFull) {
		t.Errorf("one too many: %v", err)
	}
}

func TestADecisionThatIsNotWhatItSaysIsNotGivenAWord(t *testing.T) {
	k := keys(t, 6)
	for name, tc := range map[string]struct {
		kind string
		edit func(m *coord.Members, d *coord.Decision) bool // whether m is to be written anew
	}{
		"removes another too": {roster.Add, func(m *coord.Members, _ *coord.Decision) bool { m.List = slices.Delete(m.List, 0, 1); return true }},
		"moves a box": {roster.Add, func(m *coord.Members, _ *coord.Decision) bool {
			m.List[0], m.List[1] = m.List[1], m.List[0]
			return true
		}},
		"changes an address": {roster.Add, func(m *coord.Members, _ *coord.Decision) bool { m.List[0].Peer = "x:1"; return true }},
		"skips an epoch":     {roster.Add, func(m *coord.Members, _ *coord.Decision) bool { m.Epoch++; return true }},
		"another site":       {roster.Add, func(m *coord.Members, _ *coord.Decision) bool { m.Site[0]++; return true }},
		"two at once": {roster.Add, func(m *coord.Members, _ *coord.Decision) bool {
			m.List = append(m.List, member(k[5], "y"))
			return true
		}},
		"a key that is not its":        {roster.Add, func(m *coord.Members, _ *coord.Decision) bool { m.List[4].Key = k[5]; return true }},
		"nothing":                      {roster.Add, func(m *coord.Members, _ *coord.Decision) bool { m.List = m.List[:4]; return true }},
		"another kind":                 {roster.Remove, func(*coord.Members, *coord.Decision) bool { return false }},
		"says it is about another box": {roster.Add, func(_ *coord.Members, d *coord.Decision) bool { d.Subject = "box-3 b259"; return false }},
		"no members":                   {roster.Add, func(_ *coord.Members, d *coord.Decision) bool { d.Writes = nil; return false }},
		"no JSON":                      {roster.Add, func(_ *coord.Members, d *coord.Decision) bool { d.Writes[0].Value = []byte("{"); return false }},
		"another version":              {roster.Add, func(_ *coord.Members, d *coord.Decision) bool { d.Writes[0].Was = 9; return false }},
		"more": {roster.Add, func(_ *coord.Members, d *coord.Decision) bool {
			d.Writes = append(d.Writes, coord.DocWrite{Key: "role/x", Value: []byte("{}")})
			return false
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, k[:4])
			b := member(k[4], "new")
			m, err := roster.Adding(s, &b)
			if err != nil {
				t.Fatal(err)
			}
			w, _ := roster.Writes(s, m)
			d := &coord.Decision{Kind: tc.kind, Subject: roster.Subject(tc.kind, s.members, m), Writes: w}
			if tc.edit(m, d) {
				d.Writes[0].Value, _ = json.Marshal(m)
			}
			if err := roster.Check(s, d); !errors.Is(err, roster.ErrDecision) {
				t.Fatal(err)
			}
		})
	}
	s := newSite(t, k[:4])
	m, _ := roster.Removing(s, s.at(2))
	w, _ := roster.Writes(s, m)
	if err := roster.Check(s, &coord.Decision{Kind: roster.Remove, Subject: roster.Subject(roster.Remove, s.members, m), Writes: w[:1]}); !errors.Is(err, roster.ErrDecision) {
		t.Errorf("the key that goes is not remembered: %v", err)
	}
	if err := roster.Check(s, &coord.Decision{Kind: roster.Remove, Subject: roster.Subject(roster.Remove, s.members, m), Writes: append(w, coord.DocWrite{Key: "join/1"})}, "join/1"); err != nil {
		t.Errorf("a document that another judges: %v", err)
	}
}

// A site goes on while somebody asks for a change: whatever was read before is of a list that may be gone.
func TestAListThatChangesMeanwhileIsNotWrittenOver(t *testing.T) {
	k := keys(t, 5)
	s := newSite(t, k[:4])
	gone := s.at(3)
	late, err := roster.Rotating(s, s.at(0), k[4])
	if err != nil {
		t.Fatal(err)
	}
	m, err := roster.Removing(s, gone)
	if err != nil {
		t.Fatal(err)
	}
	s.decide(t, roster.Remove, m)
	if _, err := roster.Writes(s, late); !errors.Is(err, roster.ErrChanged) {
		t.Errorf("the list of before is written: %v", err)
	}
	b := member(k[4], "new")
	for what, err := range map[string]error{
		"removed":     second(roster.Removing(s, gone)),
		"replaced":    second(roster.Replacing(s, gone, &b)),
		"given a key": second(roster.Rotating(s, gone, k[4])),
		"edited":      second(roster.Editing(s, gone, func(*coord.Member) {})),
	} {
		if !errors.Is(err, roster.ErrUnknown) {
			t.Errorf("a box that is gone is %s: %v", what, err)
		}
	}
}

func second(_ *coord.Members, err error) error { return err }

// Thousands of random changes: the list stays one that can be, epochs count, no key comes back.
func TestAnySequenceOfChangesKeepsTheListWhole(t *testing.T) {
	k := keys(t, 48)
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := newSite(t, k[:1])
		used := map[coord.BoxID]bool{s.members.List[0].ID: true}
		for step := range 100 {
			key, i := k[r.IntN(len(k))], r.IntN(s.members.N())
			b := member(key, fmt.Sprint("n", step))
			var m *coord.Members
			var err error
			kind := [...]string{roster.Add, roster.Remove, roster.Replace, roster.Rotate, roster.Edit}[r.IntN(5)]
			switch kind {
			case roster.Add:
				m, err = roster.Adding(s, &b)
			case roster.Remove:
				m, err = roster.Removing(s, s.at(i))
			case roster.Replace:
				m, err = roster.Replacing(s, s.at(i), &b)
			case roster.Rotate:
				m, err = roster.Rotating(s, s.at(i), key)
			case roster.Edit:
				m, err = roster.Editing(s, s.at(i), func(b *coord.Member) { b.Console = fmt.Sprint("c:", 1+step) })
			}
			fresh := kind == roster.Add || kind == roster.Replace || kind == roster.Rotate
			if fresh && used[b.ID] && err == nil {
				t.Fatalf("seed %d step %d: %s let a used key in", seed, step, kind)
			}
			if err != nil {
				continue
			}
			epoch := s.members.Epoch
			s.decide(t, kind, m)
			if fresh {
				used[b.ID] = true
			}
			if err := trust.CheckMembers(s.members); err != nil || s.members.Epoch != epoch+1 {
				t.Fatalf("seed %d step %d: %s: %v", seed, step, kind, err)
			}
		}
	}
}

func TestABoxIsFoundByNameIdOrBeginning(t *testing.T) {
	s := newSite(t, keys(t, 3))
	for i := range s.members.List {
		b := &s.members.List[i]
		for _, name := range []string{b.Name, b.ID.String(), b.ID.String()[:12]} {
			if got, err := roster.Find(s.members, name); err != nil || got != i {
				t.Errorf("%q: %d, %v", name, got, err)
			}
		}
	}
	for _, name := range []string{"", "box", "ab", "0000000000000000"} {
		if _, err := roster.Find(s.members, name); !errors.Is(err, roster.ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWeighing(t *testing.T) {
	k := keys(t, 8)
	for _, tc := range []struct {
		name   string
		n      int
		change string
		down   []int
		waits  bool
		want   roster.Verdict
		text   string
	}{
		{"4 to 3 loses f", 4, "-", nil, false, roster.Forced, "now 4 boxes: f = 1, quorum 3; after: 3 boxes: f = 0, quorum 3: a single box that lies or is away stops or forks the site"},
		{"taking away a dead one of 4 needs force, and can be", 4, "-", []int{3}, false, roster.Forced, "a single box"},
		{"taking away a living one of 4 when one is dead locks", 4, "-", []int{0}, false, roster.Never, "2 of the 3 boxes would be reached"},
		{"5 to 4 is fine", 5, "-", nil, false, roster.Fine, "now 5 boxes: f = 1, quorum 4; after: 4 boxes: f = 1, quorum 3"},
		{"7 to 6 says that fewer may lie", 7, "-", nil, false, roster.Fine, "fewer boxes may lie"},
		{"1 to 2 with one that waits", 1, "+", nil, true, roster.Fine, "the site waits for the new box"},
		{"1 to 2 with one that may not run", 1, "+", nil, false, roster.Forced, "stands still until the new box runs"},
		{"2 to 3 with one that waits", 2, "+", nil, true, roster.Fine, "no box may lie or be away yet"},
		{"3 to 4", 3, "+", nil, true, roster.Fine, "now 3 boxes: f = 0, quorum 3; after: 4 boxes: f = 1, quorum 3"},
		{"4 to 5 with one that may not run", 4, "+", nil, false, roster.Fine, "until the new box runs no other may be away"},
		{"3 to 4 without the new one", 3, "+", nil, false, roster.Fine, "f = 1"},
		{"4 to 5 with one dead and one that waits", 4, "+", []int{0}, true, roster.Fine, "waits for the new box"},
		{"4 to 5 with one dead and one that may not run", 4, "+", []int{0}, false, roster.Forced, "stands still"},
		{"without a quorum nothing is decided", 4, "+", []int{0, 1}, true, roster.Never, "only 2 of 4 boxes are reached"},
		{"a lost box is replaced", 4, "=", []int{3}, false, roster.Fine, "after: 4 boxes"},
		{"2 to 1 is going back to nothing", 2, "-", nil, false, roster.Fine, "after: 1 box: f = 0, quorum 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t, k[:tc.n])
			b := member(k[7], "new")
			var next *coord.Members
			var err error
			switch tc.change {
			case "+":
				next, err = roster.Adding(s, &b)
			case "-":
				next, err = roster.Removing(s, s.at(tc.n-1))
			case "=":
				next, err = roster.Replacing(s, s.at(tc.n-1), &b)
			}
			if err != nil {
				t.Fatal(err)
			}
			up := func(id coord.BoxID) bool { return !slices.Contains(tc.down, s.members.Index(id)) }
			a := roster.Weigh(s.members, next, up, tc.waits)
			if a.Verdict != tc.want || !strings.Contains(a.String(), tc.text) {
				t.Fatalf("%v: %s", a.Verdict, a.String())
			}
		})
	}
	for _, v := range []roster.Verdict{roster.Fine, roster.Forced, roster.Never} {
		text, _ := json.Marshal(roster.Advice{Verdict: v})
		var got roster.Advice
		if err := json.Unmarshal(text, &got); err != nil || got.Verdict != v {
			t.Errorf("%s is read as %v: %v", text, got.Verdict, err)
		}
	}
	if got, want := roster.SumsOf(7), (roster.Sums{Boxes: 7, Faulty: 2, Quorum: 5}); !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}
