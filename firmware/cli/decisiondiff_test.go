package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

func TestADecisionAboutBoxesShowsWhatDiffersWhateverItSaysOfItself(t *testing.T) {
	box := func(n byte, name, peer string) coord.Member {
		return coord.Member{ID: coord.BoxID{n}, Name: name, Peer: peer, Key: []byte{n}}
	}
	now := coord.Members{Site: coord.SiteID{7}, Epoch: 4, List: []coord.Member{box(1, "box-0", "a:1"), box(2, "box-1", "b:1"), box(3, "box-2", "c:1")}}
	for _, tc := range []struct {
		name string
		next func(m *coord.Members)
		want []string // all that is printed of the list, after the epoch
	}{
		{"an address", func(m *coord.Members) { m.List[0].Peer = "127.0.0.1:9" }, []string{"box-0 0100000000000000: peer a:1 would be 127.0.0.1:9"}},
		{"a name and a port", func(m *coord.Members) { m.List[1].Name, m.List[1].Client = "till", "b:2" }, []string{
			"till 0200000000000000: name box-1 would be till", "till 0200000000000000: client (none) would be b:2",
		}},
		{"one more", func(m *coord.Members) { m.List = append(m.List, box(9, "box-3", "d:1")) }, []string{
			"box-3 0900000000000000 comes", "box-3 0900000000000000: peer (none) would be d:1",
		}},
		{"one less", func(m *coord.Members) { m.List = append(m.List[:0:0], m.List[0], m.List[2]) }, []string{"box-1 0200000000000000 goes"}},
		{"another in its place", func(m *coord.Members) { m.List[2] = box(9, "box-2", "e:1") }, []string{
			"box-2 0300000000000000 goes, and in its place comes box-2 0900000000000000", "box-2 0900000000000000: peer c:1 would be e:1",
		}},
		{"two places", func(m *coord.Members) { m.List[0], m.List[1] = m.List[1], m.List[0] }, []string{
			"box-1 0200000000000000: place 1 would be 0", "box-0 0100000000000000: place 0 would be 1",
		}},
		{"nothing", func(*coord.Members) {}, []string{"no box changes"}},
	} {
		next := now
		next.Epoch, next.List = 5, append([]coord.Member(nil), now.List...)
		tc.next(&next)
		doc := api.DecisionDocument{Key: coord.DocMembers, Now: asJSON(t, &now), Next: asJSON(t, &next)}
		var out strings.Builder
		if err := printWritten(&out, &doc); err != nil {
			t.Fatal(err)
		}
		want := "\ndocument members\n  epoch: 4 would be 5\n  " + strings.Join(tc.want, "\n  ") + "\n"
		if out.String() != want {
			t.Errorf("%s: %q, want %q", tc.name, out.String(), want)
		}
	}
	var out strings.Builder
	if err := printWritten(&out, &api.DecisionDocument{Key: coord.DocMembers, Next: api.Bytes("{")}); err != nil || !strings.Contains(out.String(), "would be: {") {
		t.Errorf("what is no list is shown as it is: %q, %v", out.String(), err)
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
