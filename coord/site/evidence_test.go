package site_test

import (
	"errors"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// lies makes box liar say two finalize votes of one far round to box to.
func (r *rig) lies(liar, to int, round uint64) {
	for _, d := range []coord.Digest{{1}, {2}} {
		v := &coord.Vote{Kind: coord.VoteFinalize, Epoch: 1, Round: round, Digest: d, Voter: uint8(liar)}
		v.Sig = tagKeys{liar, r.members}.SignVote(v.Kind, v.Epoch, v.Round, v.Digest)
		r.hub.ends[to].h.Message(boxID(liar), &coord.PeerMsg{Epoch: 1, Vote: v})
	}
}

func TestALieIsKeptAndShownAfterARestart(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		r.lies(3, 0, 40)
		kept := func() bool {
			x, err := r.boxes[0].site.Evidence()
			return err == nil && len(x.Findings) == 1 && x.Findings[0].Box == r.members.List[3].ID &&
				x.Findings[0].TermRounds == site.TermRounds && x.Findings[0].A.Digest != x.Findings[0].B.Digest
		}
		r.eventually("the evidence is kept", kept)
		r.restart(0)
		if !kept() {
			t.Error("the evidence is gone after a restart")
		}
		if x, err := r.boxes[1].site.Evidence(); err != nil || len(x.Findings) > 0 {
			t.Errorf("a box that was not lied to has evidence: %v, %v", x, err)
		}
		r.must(0, r.put(1, "k", "v"))
	})
}

func TestABoxThatCannotKeepEvidenceGoesOn(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		b := r.boxes[0].base
		b.mu.Lock()
		b.lost = errors.New("no room")
		b.mu.Unlock()
		r.lies(3, 0, 40)
		r.eventually("the lie is counted", func() bool { return r.boxes[0].site.View().Counters.Evidence == 1 })
		r.must(0, r.put(1, "k", "v"))
	})
}
