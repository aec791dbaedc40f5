package bft

import (
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// sight gathers what core 1 sees.
type sight struct {
	*rig
	seen []Seen
}

func newSight(t *testing.T, term uint64) *sight {
	s := &sight{rig: newRig(t, 4, term)}
	for i := range s.n {
		for k := range s.n {
			if k != i {
				s.step(i, Input{Link: &Link{Peer: k, Up: true}})
			}
		}
	}
	s.settle()
	s.watch = func(i int, rd *Ready) {
		if i == 1 {
			s.seen = append(s.seen, rd.Seen...)
		}
	}
	return s
}

func (s *sight) of(k SeenKind, member int) (out []Seen) {
	for _, x := range s.seen {
		if x.Kind == k && x.Member == member {
			out = append(out, x)
		}
	}
	return out
}

// Core 0 leads the first term.
func TestAProposalsDelayIsFromWhenTheLeaderCould(t *testing.T) {
	s := newSight(t, 1000)
	s.wait(300 * time.Millisecond) // there is nothing to propose: nobody is late
	held := true
	s.drop = func(from, _ int, m *coord.PeerMsg) bool { return held && from == 0 && m.Proposal != nil }
	var late []parcel
	s.twist = func(from, to int, m *coord.PeerMsg) *coord.PeerMsg {
		if held && from == 0 && m.Proposal != nil {
			late = append(late, parcel{from, to, m})
		}
		return m
	}
	s.submit(1, 1)
	s.settle()
	s.wait(40 * time.Millisecond)
	held = false
	s.inbox = append(s.inbox, late...)
	s.settle()
	got := s.of(SeenProposal, 0)
	if len(got) != 1 || got[0].Took < 35*tms || got[0].Took > 45*tms {
		t.Fatalf("saw %+v, want one proposal, 40 ms late", got)
	}
	if paces := s.of(SeenNotarized, 0); len(paces) == 0 || paces[0].Took > tms {
		t.Errorf("paces %+v, want one of the network without delay", paces)
	}
}

func TestATurnWithoutAProposalCountsWithItsTimeout(t *testing.T) {
	s := newSight(t, 1000)
	s.drop = func(from, _ int, m *coord.PeerMsg) bool { return from == 0 && m.Proposal != nil }
	s.submit(1, 1)
	s.settle()
	s.wait(700 * time.Millisecond)
	got := s.of(SeenProposal, 0)
	if len(got) != 1 || got[0].Took < 490*tms {
		t.Fatalf("saw %+v, want one turn of 500 ms", got)
	}
}

func TestALeaderWhoseLinkIsDownIsNotLate(t *testing.T) {
	s := newSight(t, 1000)
	s.down[0] = true
	for i := 1; i < s.n; i++ {
		s.step(i, Input{Link: &Link{Peer: 0}})
	}
	s.submit(1, 1)
	s.settle()
	s.wait(700 * time.Millisecond)
	if got := s.of(SeenProposal, 0); len(got) > 0 {
		t.Errorf("saw %+v of a leader that is away", got)
	}
}

// A liar gives a batch to everybody but the leader: that is not the leader's delay.
func TestWhatOthersDidNotGiveTheLeaderDoesNotMakeItLate(t *testing.T) {
	s := newSight(t, 1000)
	s.drop = func(from, to int, m *coord.PeerMsg) bool { return from == 2 && to == 0 && m.Batch != nil }
	s.submit(2, 1)
	s.settle()
	s.wait(700 * time.Millisecond)
	if got := s.of(SeenProposal, 0); len(got) > 0 {
		t.Errorf("saw %+v", got)
	}
}

func TestBadSignaturesAreSeenOfWhoSentThem(t *testing.T) {
	s := newSight(t, 1000)
	s.twist = func(from, _ int, m *coord.PeerMsg) *coord.PeerMsg {
		if from != 2 || m.Vote == nil {
			return m
		}
		v := *m.Vote
		v.Sig[0] ^= 1
		return &coord.PeerMsg{Vote: &v}
	}
	s.drop = func(from, _ int, m *coord.PeerMsg) bool { return from == 3 } // so that its vote is needed
	for seq := range uint64(3) {
		s.submit(1, seq+1)
		s.settle()
		s.wait(20 * time.Millisecond)
	}
	if len(s.of(SeenBadSignature, 2)) == 0 {
		t.Error("nothing was seen")
	}
	for _, i := range []int{0, 1, 3} {
		if got := s.of(SeenBadSignature, i); len(got) > 0 {
			t.Errorf("box %d is blamed: %+v", i, got)
		}
	}
}

func TestStatesAtACheckpointAreSeenOnceTheirSignatureHolds(t *testing.T) {
	s := newSight(t, 1000)
	s.submit(0, 1)
	s.settle()
	b, _ := s.cores[1].Final()
	for i := range 3 {
		s.step(i, Input{State: &State{Header: b}})
	}
	other := coord.CheckpointDigest(b.Digest(), coord.Digest{1})
	s.step(1, Input{From: 3, Msg: &coord.PeerMsg{Vote: &coord.Vote{
		Kind: coord.VoteCheckpoint, Epoch: 1, Round: b.Height, Digest: other, Voter: 3,
		Sig: rigKeys{s.rig, 3}.SignVote(coord.VoteCheckpoint, 1, b.Height, other),
	}}})
	forged := &coord.Vote{Kind: coord.VoteCheckpoint, Epoch: 1, Round: b.Height + 1, Digest: coord.Digest{7}, Voter: 2}
	s.step(1, Input{From: 2, Msg: &coord.PeerMsg{Vote: forged}})
	s.settle()
	for i := range s.n {
		got := s.of(SeenState, i)
		if len(got) != 1 || got[0].Height != b.Height {
			t.Fatalf("of box %d: %+v", i, got)
		}
		if same := got[0].Digest == s.of(SeenState, 1)[0].Digest; same != (i != 3) {
			t.Errorf("box %d: the state of box 1 is its own: %v", i, same)
		}
	}
	if len(s.of(SeenBadSignature, 2)) != 1 {
		t.Error("the forged one was not seen as such")
	}
}

func TestAMemberThatIsSetAsideDoesNotLead(t *testing.T) {
	r := newRig(t, 4, 3)
	r.settle()
	for i := range r.n {
		r.cores[i].SetAside(1 << 2)
	}
	from := len(r.logs[1])
	for seq := range uint64(40) {
		r.submit(1, seq+1)
		r.settle() // no time passes: nothing waits for a time-out
	}
	if len(r.got[1]) != 40 {
		t.Fatalf("%d batches of 40: %v", len(r.got[1]), r.cores[1])
	}
	led := map[int]int{}
	for _, x := range r.logs[1][from:] {
		if x.Final != nil && len(x.Final.Header.Refs) == 0 && x.Final.Header.Round > 0 {
			led[r.cores[1].Leader(x.Final.Header.Round)]++
		}
	}
	if led[2] > 0 || led[0] == 0 || led[1] == 0 || led[3] == 0 {
		t.Errorf("blocks by leader: %v", led)
	}
}
