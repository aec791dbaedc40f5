package traces

import (
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/cause"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// A block of an earlier epoch is told with the names that its members had then, also of those that are gone; when nobody knows them any more, by their
// places.
func TestABlockIsToldInTheNamesOfItsEpoch(t *testing.T) {
	gone, still := coord.BoxID{1}, coord.BoxID{2}
	was := &coord.Members{Epoch: 3, List: []coord.Member{{ID: gone, Name: "old"}, {ID: still, Name: "first name"}}}
	e := explainer{
		view:  &site.View{Epoch: 4, Members: []site.MemberView{{Member: coord.Member{ID: still, Name: "second name"}}}},
		names: names{still: "second name"},
	}
	b := &cause.Block{
		Block: &coord.Block{Epoch: 3, Round: 9, ParentRound: 8, Height: 7}, Members: was, Leader: gone,
		Cert: &coord.Cert{Epoch: 3, Sigs: []coord.VoteSig{{Voter: 0}, {Voter: 1}}}, CertAt: 7,
	}
	var j api.WhyNode
	e.block(&j, &cause.Node{Kind: cause.InBlock, Block: b})
	if j.LeaderName != "old" || *j.Leader != gone || j.Label != "block 7, proposed by old" || !slices.Equal(j.Voters, []string{"old", "first name"}) {
		t.Errorf("%+v", j)
	}
	if got := e.name(b, gone); got != "old" {
		t.Error(got)
	}
	unknown := *b
	unknown.Members, unknown.Leader = nil, coord.BoxID{}
	j = api.WhyNode{}
	e.block(&j, &cause.Node{Kind: cause.InBlock, Block: &unknown})
	if j.Leader != nil || j.LeaderName != "" || j.Label != "block 7" || !slices.Equal(j.Voters, []string{"member 0 of epoch 3", "member 1 of epoch 3"}) {
		t.Errorf("%+v", j)
	}
	if got := e.name(&unknown, still); got != "second name" {
		t.Error(got)
	}
}
