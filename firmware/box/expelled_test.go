package box

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// withTwoTongues is a site of four whose last box says, when it is told to, that two blocks of one round are final.
func withTwoTongues(t *testing.T) (boxes []*living, lie func()) {
	t.Helper()
	var links site.Links
	var who Wrapped
	boxes = founding(t, 4, func(i int, b *living) {
		if i != 3 {
			return
		}
		b.wrap = func(w Wrapped, connect Connect) Connect {
			return func(h site.Handlers) (site.Links, error) {
				l, err := connect(h)
				links, who = l, w
				return l, err
			}
		}
	})
	return boxes, func() {
		round := boxes[0].site.View().Round + 20
		for _, d := range []coord.Digest{{1}, {2}} {
			links.Send(coord.Parcel{Msg: &coord.PeerMsg{Epoch: 1, Vote: &coord.Vote{
				Kind: coord.VoteFinalize, Epoch: 1, Round: round, Digest: d, Voter: 3, Sig: who.Keys.SignVote(coord.VoteFinalize, 1, round, d),
			}}})
		}
	}
}

// proven waits until a box holds a proof, and judges it as anybody could.
func (b *living) proven(of coord.BoxID) {
	b.t.Helper()
	var x *coord.Exhibit
	b.await("has evidence", func() (ok bool) {
		var err error
		x, err = b.site.Evidence()
		return err == nil && len(x.Findings) > 0
	})
	if _, _, err := trust.CheckFinding(&x.Findings[0]); err != nil || x.Findings[0].Box != of {
		b.t.Errorf("%s has a proof of %v: %v", b.who.Name, x.Findings[0].Box, err)
	}
}

// expelled waits until those that stay are a site of three, and the liar's console says that it is none of them.
func expelled(boxes []*living, epoch uint64) {
	liar := boxes[3]
	for _, b := range boxes[:3] {
		b.awaitEpoch(epoch)
		b.await("goes on without it", func() bool {
			v := b.site.View()
			return v.N == 3 && v.Serving
		})
	}
	liar.await("says that it is out", func() bool { v := liar.site.View(); return v.Removed && v.Index < 0 })
}

func removal(st *state.Machine) *state.OpenDecision {
	open := st.Open()
	for i := range open {
		if open[i].Decision.Kind == "member.remove" {
			return &open[i]
		}
	}
	return nil
}

func TestABoxThatIsProvedToLieIsExpelledWhenOperatorsApprove(t *testing.T) {
	if testing.Short() {
		t.Skip("four boxes")
	}
	boxes, lie := withTwoTongues(t)
	w := writing(t, boxes[0])
	liar := boxes[3].who.ID
	lie()
	for _, b := range boxes[:3] {
		b.proven(liar)
	}
	var d *state.OpenDecision
	boxes[1].await("is asked", func() bool { d = removal(boxes[1].site.State()); return d != nil })
	if len(d.Yes) != 1 || d.Yes[0] != boxes[0].who.ID || !strings.Contains(d.Decision.Subject, liar.String()) {
		t.Errorf("said yes: %v to %s %s", d.Yes, d.Decision.Kind, d.Decision.Subject)
	}
	if boxes[0].site.View().N != 4 {
		t.Error("one box's word expelled it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	for _, b := range boxes[1:3] {
		b.await("knows the decision", func() bool { return removal(b.site.State()) != nil || b.site.View().N == 3 })
		if err := b.site.Word(ctx, d.ID, true); err != nil {
			t.Error(err)
		}
	}
	expelled(boxes, 2)
	w.stop()
}

func TestWhereProofIsEnoughABoxThatLiesIsExpelledAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("four boxes")
	}
	boxes, lie := withTwoTongues(t)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	automatic := &coord.Decision{
		Kind: "setting.put", Subject: access.SettingExpulsion, Principal: "operator:test", Nonce: 1,
		Writes: []coord.DocWrite{{Key: access.SettingExpulsion, Value: []byte(`{"mode":"automatic"}`)}},
	}
	id := automatic.Digest(coord.SiteID{7})
	for _, b := range boxes[1:] {
		go func() {
			b.await("knows the decision", func() bool { open, ended := b.site.State().Decision(id); return open != nil || ended != nil })
			_ = b.site.Word(ctx, id, true) // it may have been decided before
		}()
	}
	if _, err := boxes[0].site.Decide(ctx, automatic); err != nil {
		t.Fatal(err)
	}
	lie()
	for _, b := range boxes[:3] {
		b.proven(boxes[3].who.ID)
	}
	expelled(boxes, 2)
}
