package site_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
)

// become makes the site begin its next epoch by a decision of box i: its members are another list.
func (r *rig) become(i int, list []coord.Member, boxes ...int) {
	r.t.Helper()
	now := r.boxes[i].site.State()
	next := *now.Members()
	next.List = list
	value, err := json.Marshal(&next)
	if err != nil {
		r.t.Fatal(err)
	}
	was, _ := now.Doc(coord.DocMembers)
	d := &coord.Decision{
		Kind: "members.edit", Subject: "members", Principal: "operator:ann",
		Writes: []coord.DocWrite{{Key: coord.DocMembers, Was: was.Version, Value: value}},
	}
	if o, err := r.decide(i, d); err != nil || o.Outcome != state.TookEffect {
		r.t.Fatalf("%+v %v", o, err)
	}
	r.inEpoch(next.Epoch+1, boxes...)
}

// A box that is away while it is taken out and let in again hears of both before it has come to the end of the epoch that it knows. It goes through the
// one in which it is no member, and is one again.
func TestABoxThatWasTakenOutAndLetInWhileItWasAwayIsAMemberAgain(t *testing.T) {
	synctestSite(t, 5, func(r *rig) {
		r.judges = func(int, *state.Machine, *coord.Decision) site.Judgement { return site.Judgement{Word: site.Yes} }
	}, func(r *rig) {
		for _, b := range r.boxes {
			b.log.mu.Lock()
			b.log.keeps = true
			b.log.mu.Unlock()
		}
		all := append([]coord.Member(nil), r.members.List...)
		r.session(0, 1)
		r.must(0, r.put(1, "a", "x"))
		for i := range 4 {
			r.hub.setCut(i, 4, true)
		}
		for k := range 400 { // blocks enough that it hears of both changes before it has them
			r.must(0, r.put(1, fmt.Sprint("key ", k), "v"))
		}
		r.become(0, all[:4], 0, 1, 2, 3)
		r.must(0, r.put(1, "a", "y"))
		r.become(0, all, 0, 1, 2, 3)
		r.must(0, r.put(1, "a", "z"))
		time.Sleep(time.Second)
		for i := range 4 {
			r.hub.setCut(i, 4, false)
		}
		time.Sleep(2 * time.Minute)
		if v := r.view(4); v.Epoch != 3 || v.Removed || v.Index != 4 {
			t.Errorf("it is in epoch %d, removed %v, place %d, verdict %q", v.Epoch, v.Removed, v.Index, v.Verdict)
		}
	})
}
