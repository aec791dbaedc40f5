package bft

import (
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// signed is a vote of a member of the rig, for the block that b stands for; 0: of no block.
func (k rigKeys) signed(kind coord.VoteKind, round uint64, b byte) *coord.Vote {
	d := coord.Digest{b}
	return &coord.Vote{Kind: kind, Epoch: 1, Round: round, Digest: d, Voter: uint8(k.id), Sig: k.SignVote(kind, 1, round, d)}
}

func vote(v *coord.Vote) Input { return Input{From: int(v.Voter), Msg: &coord.PeerMsg{Vote: v}} }

func TestEveryPairThatNoHonestBoxSendsIsEvidenceInBothOrders(t *testing.T) {
	type say struct {
		kind  coord.VoteKind
		round uint64
		block byte
	}
	for name, c := range map[string]struct {
		a, b say
		want coord.Rule
	}{
		"two blocks":              {say{1, 3, 1}, say{1, 3, 2}, coord.RuleOneBlock},
		"two final blocks":        {say{2, 3, 1}, say{2, 3, 2}, coord.RuleOneFinal},
		"two levels":              {say{3, 3, 0}, say{3, 4, 0}, coord.RuleOneLevel},
		"final above empty":       {say{2, 5, 1}, say{3, 4, 0}, coord.RuleEmptyIsNotFinal},
		"final at the level":      {say{2, 4, 1}, say{3, 4, 0}, coord.RuleEmptyIsNotFinal},
		"two states":              {say{4, 9, 1}, say{4, 9, 2}, coord.RuleOneState},
		"final below empty":       {say{2, 3, 1}, say{3, 4, 0}, 0},
		"empty of two terms":      {say{3, 4, 0}, say{3, 10, 0}, 0},
		"final of another term":   {say{2, 10, 1}, say{3, 4, 0}, 0},
		"the same vote":           {say{1, 3, 1}, say{1, 3, 1}, 0},
		"notarize and finalize":   {say{1, 3, 1}, say{2, 3, 2}, 0},
		"notarize and empty":      {say{1, 5, 1}, say{3, 4, 0}, 0},
		"states at two heights":   {say{4, 9, 1}, say{4, 10, 2}, 0},
		"checkpoint and notarize": {say{4, 9, 1}, say{1, 9, 2}, 0},
	} {
		for order, pair := range map[string][2]say{"": {c.a, c.b}, ", reversed": {c.b, c.a}} {
			r := newRig(t, 4, 10)
			var ev []coord.Evidence
			for range 3 { // repeating tells nothing new
				for _, s := range pair {
					ev = append(ev, r.step(1, vote(rigKeys{r, 2}.signed(s.kind, s.round, s.block))).Evidence...)
				}
			}
			want := 1
			if c.want == 0 {
				want = 0
			}
			if len(ev) != want {
				t.Errorf("%s%s: %d pairs of evidence, want %d", name, order, len(ev), want)
				continue
			}
			for i := range ev {
				if rule, _ := coord.Conflict(&ev[i].A, &ev[i].B, 10); rule != c.want || ev[i].A.Voter != 2 {
					t.Errorf("%s%s: member %d %v, want member 2 %v", name, order, ev[i].A.Voter, rule, c.want)
				}
			}
		}
	}
}

func TestABadSignatureConvictsNobody(t *testing.T) {
	for _, bad := range []int{0, 1} {
		r := newRig(t, 4, 10)
		for i := range 2 {
			v := rigKeys{r, 2}.signed(coord.VoteNotarize, 3, byte(i+1))
			if i == bad {
				v.Sig[0] ^= 1
			}
			if ev := r.step(1, vote(v)).Evidence; len(ev) > 0 {
				t.Errorf("vote %d with a bad signature became evidence", bad)
			}
		}
	}
}

func TestAVoteInACertificateConvictsItsVoterNotItsSender(t *testing.T) {
	r := newRig(t, 4, 10)
	r.step(1, vote(rigKeys{r, 2}.signed(coord.VoteNotarize, 3, 1)))
	x := &coord.Cert{Kind: coord.VoteNotarize, Epoch: 1, Round: 3, Digest: coord.Digest{2}}
	for _, i := range []int{0, 2, 3} {
		x.Sigs = append(x.Sigs, coord.VoteSig{Voter: uint8(i), Sig: rigKeys{r, i}.signed(coord.VoteNotarize, 3, 2).Sig})
	}
	ev := r.step(1, Input{From: 3, Msg: &coord.PeerMsg{Certs: []*coord.Cert{x}}}).Evidence
	if len(ev) != 1 || ev[0].A.Voter != 2 || ev[0].A.Digest == ev[0].B.Digest {
		t.Fatalf("evidence %v, want member 2's two votes", ev)
	}
	if n := r.cores[1].Suspect(3); n > 0 {
		t.Errorf("the sender of the certificate is suspect %d times", n)
	}
}

func TestAFloodOfContradictionsCostsAFewVerifications(t *testing.T) {
	r := newRig(t, 4, 10)
	v := rigKeys{r, 2}.signed(coord.VoteNotarize, 3, 1)
	r.step(1, vote(v))
	before := r.cores[1].Stats().Verified
	for i := range 1000 {
		w := *v
		w.Digest = coord.Digest{2, byte(i), byte(i >> 8)} // the signature is of another
		r.step(1, vote(&w))
	}
	if n := r.cores[1].Stats().Verified - before; n > 2*doubtsMax {
		t.Errorf("1000 false contradictions cost %d verifications, want at most %d", n, 2*doubtsMax)
	}
}
