package state

import (
	"reflect"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

func opinionRig(t *testing.T) (r *rig, order func(of ...coord.BoxID) coord.Code) {
	r = newRig(t)
	r.m.SetSite(siteOf(boxA, boxB, coord.BoxID{0xc}, coord.BoxID{0xd}), boxA)
	return r, func(of ...coord.BoxID) coord.Code {
		return r.one(coord.KindOpinion, 0, 0, "", string(AppendOpinion(nil, of))).Code
	}
}

func TestTheLastOpinionOfAMemberCountsAndSurvivesARestart(t *testing.T) {
	r, order := opinionRig(t)
	want := func(what string, of ...Opinion) {
		t.Helper()
		if got := r.m.Opinions(); len(got)+len(of) > 0 && !reflect.DeepEqual(got, of) {
			t.Errorf("%s: %v, want %v", what, got, of)
		}
	}
	if c := order(boxB, coord.BoxID{0xc}); c != coord.CodeOK {
		t.Fatal(c)
	}
	if !r.m.TakeOpinions() || r.m.TakeOpinions() {
		t.Error("a change is told once")
	}
	order(coord.BoxID{0xd})
	want("the second", Opinion{boxA, []coord.BoxID{{0xd}}})
	r.commit()
	r.restart()
	want("after a restart", Opinion{boxA, []coord.BoxID{{0xd}}})
	r.m.SetSite(siteOf(boxA, boxB, coord.BoxID{0xc}, coord.BoxID{0xd}), boxA)
	order()
	want("taken back")
	r.commit()
	r.restart()
	want("and after another restart")
}

func TestAnOpinionThatCannotBeIsRefused(t *testing.T) {
	r, order := opinionRig(t)
	for name, of := range map[string][]coord.BoxID{
		"of itself": {boxA}, "twice": {boxB, boxB}, "descending": {{0xc}, boxB}, "too many": make([]coord.BoxID, coord.MembersMax+1),
	} {
		if c := order(of...); c != coord.CodeBad {
			t.Errorf("%s: %v", name, c)
		}
	}
	for name, v := range map[string]string{"empty": "", "another format": "\x09", "half an id": "\x01abc"} {
		if c := r.one(coord.KindOpinion, 0, 0, "", v).Code; c != coord.CodeBad {
			t.Errorf("%s: %v", name, c)
		}
	}
	r.m.SetSite(siteOf(boxB, coord.BoxID{0xc}, coord.BoxID{0xd}, coord.BoxID{0xe}), boxB)
	if c := order(coord.BoxID{0xc}); c != coord.CodeBad {
		t.Errorf("of a box that is no member: %v", c)
	}
	if len(r.m.Opinions()) > 0 {
		t.Error("one of them was kept")
	}
}

func TestOpinionsOfFormerMembersAreForgotten(t *testing.T) {
	r, order := opinionRig(t)
	order(boxB)
	r.m.SetSite(siteOf(boxB, coord.BoxID{0xc}, coord.BoxID{0xd}, coord.BoxID{0xe}), boxB)
	r.begin()
	r.m.Batch(boxB, 1, 0, cols(coord.KindOpinion, 0, 0, "", string(AppendOpinion(nil, []coord.BoxID{{0xc}}))), nil)
	r.m.End()
	if got := r.m.Opinions(); len(got) != 1 || got[0].Box != boxB {
		t.Errorf("%v, want that of box b alone", got)
	}
}

func FuzzOpinions(f *testing.F) {
	f.Add(AppendOpinion(nil, []coord.BoxID{boxA, boxB}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if of, err := decodeOpinion(b); err == nil && string(AppendOpinion(nil, of)) != string(b) {
			t.Errorf("%x is not the encoding of %v", b, of)
		}
	})
}
