package console

import (
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

// ends are handovers of epochs, each with one box more.
func ends(s coord.SiteID, epochs ...uint64) (hs []*coord.Handover) {
	for _, e := range epochs {
		set := func(e uint64) *coord.Members { return &coord.Members{Site: s, Epoch: e, List: make([]coord.Member, e)} }
		hs = append(hs, &coord.Handover{
			Members: set(e), Next: set(e + 1), Header: &coord.Block{Epoch: e, Height: 10 * e}, Sigs: []coord.VoteSig{{Voter: uint8(e)}},
		})
	}
	return hs
}

func TestTheMembersOfEarlierEpochsAndHowTheyChangedCanBeAskedFor(t *testing.T) {
	f := servingSite()
	f.view.Epoch = 6
	c := newConsole(t, f)
	c.cfg.Past = func() ([]*coord.Handover, error) { return ends(f.view.Site, 1, 3, 4, 5), nil } // of 2 it has nothing
	var chain join.Chain
	getJSON(t, c, "/api/v1/members/history", 200, &chain)
	if chain.From.Epoch != 3 || len(chain.Steps) != 3 || chain.Steps[0].Height != 30 || len(chain.Steps[0].Sigs) != 1 || chain.Last().Epoch != 6 {
		t.Errorf("the chain is from %d, steps %+v", chain.From.Epoch, chain.Steps)
	}
	for _, tt := range []struct {
		epoch string
		code  int
		n     int
	}{{"3", 200, 3}, {"4", 200, 4}, {"6", 200, 6}, {"1", 404, 0}, {"7", 404, 0}, {"x", 400, 0}} {
		var m coord.Members
		getJSON(t, c, "/api/v1/members?epoch="+tt.epoch, tt.code, &m)
		if m.N() != tt.n {
			t.Errorf("epoch %s has %d members, want %d", tt.epoch, m.N(), tt.n)
		}
	}
	c.cfg.Past = nil
	getJSON(t, c, "/api/v1/members/history", 200, &chain)
	if chain.From.Epoch != 6 {
		t.Errorf("without a past it is from %d", chain.From.Epoch)
	}
}
