package bft

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

func TestABatchOfTheLeaderIsFinalEverywhereAfterThreeMessageDelays(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	d := r.submit(0, 1)
	// The batch and the proposal leave together; then votes, then finalize votes.
	if hops := r.settle(); hops > 3 {
		t.Errorf("%d message delays, want at most 3", hops)
	}
	r.wantEverywhere(d)
}

func TestABatchOfAnotherBoxTakesOneMoreDelay(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	d := r.submit(2, 1)
	if hops := r.settle(); hops > 4 {
		t.Errorf("%d message delays, want at most 4", hops)
	}
	r.wantEverywhere(d)
}

func TestASiteThatIsWellChecksNoVote(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	for i := range uint64(20) {
		r.submit(int(i%4), i+1)
		r.settle()
	}
	for i, n := range r.verifies {
		if n > 0 {
			t.Errorf("core %d checked %d signatures of votes", i, n)
		}
	}
}

func TestAnIdleSiteMakesNoBlocks(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.submit(0, 1)
	r.settle()
	h := r.cores[0].Height()
	r.wait(5 * time.Second)
	if got := r.cores[0].Height(); got != h {
		t.Errorf("height went from %d to %d without work", h, got)
	}
}

func TestOneBoxAloneOrders(t *testing.T) {
	r := newRig(t, 1, 1000)
	r.wantEverywhere(r.submit(0, 1))
}

func TestADeadLeaderCostsOneTimeoutATerm(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	r.down[0] = true
	ds := []coord.Digest{r.submit(1, 1)}
	r.wait(600 * time.Millisecond)
	r.wantEverywhere(ds...)
	for i := range uint64(10) { // the next leader stays, without further time-outs
		ds = append(ds, r.submit(2, i+1))
		r.settle()
	}
	r.wait(10 * time.Millisecond)
	r.wantEverywhere(ds...)
}

func TestALeaderWhoseLinkIsDownIsGivenUpSooner(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	r.down[0] = true
	for i := 1; i < 4; i++ {
		r.step(i, Input{Link: &Link{Peer: 0}})
	}
	d := r.submit(1, 1)
	r.wait(200 * time.Millisecond)
	r.wantEverywhere(d)
}

func TestABoxThatWasAwayCatchesUp(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	r.down[3] = true
	var ds []coord.Digest
	for i := range uint64(40) {
		ds = append(ds, r.submit(1, i+1))
		r.settle()
		r.wait(3 * time.Millisecond)
	}
	r.boot(3)
	r.wait(3 * time.Second)
	r.wantEverywhere(ds...)
}

func TestAfterARestartNoVoteContradictsAnEarlierOne(t *testing.T) {
	for _, term := range []uint64{1, 3, 1000} {
		r := newRig(t, 4, term)
		type key struct {
			voter int
			kind  coord.VoteKind
			round uint64
		}
		seen := map[key]coord.Digest{}
		r.twist = func(from, _ int, m *coord.PeerMsg) *coord.PeerMsg {
			v := m.Vote
			if p := m.Proposal; p != nil {
				v = &coord.Vote{Kind: coord.VoteNotarize, Round: p.Block.Round, Digest: p.Block.Digest()}
			}
			if v != nil {
				k := key{from, v.Kind, v.Round}
				if o, ok := seen[k]; ok && o != v.Digest {
					t.Fatalf("K=%d: box %d votes twice to %v in round %d", term, from, v.Kind, v.Round)
				}
				seen[k] = v.Digest
			}
			return m
		}
		var ds []coord.Digest
		for i := range uint64(12) {
			ds = append(ds, r.submit(int(i%4), i+1))
			for range i % 4 { // stop in the middle of a round
				now := r.inbox
				r.inbox = nil
				for _, p := range now {
					if p.msg.Batch == nil {
						r.step(p.to, Input{From: p.from, Msg: p.msg})
					}
				}
			}
			r.inbox = nil
			for k := range r.n {
				r.boot(k)
			}
			r.settle()
		}
		r.wait(20 * time.Second)
		r.wantEverywhere(ds...)
	}
}

// A liar's vote with a bad signature completes the notarization of one box, and nobody else gets the vote: that
// box must not bind itself to the round (docs/decisions/0001).
func TestABoxDoesNotVoteToFinalizeWhatItCannotProve(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	r.drop = func(from, to int, m *coord.PeerMsg) bool {
		if m.Proposal != nil && to == 3 {
			return true // box 3 hears nothing of the block
		}
		return m.Vote != nil && m.Vote.Kind == coord.VoteNotarize && (from != 2 || to != 1) && from != 1
	}
	r.twist = func(from, _ int, m *coord.PeerMsg) *coord.PeerMsg {
		if m.Vote != nil && from == 2 {
			v := *m.Vote
			v.Sig[0] ^= 1
			return &coord.PeerMsg{Vote: &v}
		}
		return m
	}
	fins := 0
	r.submit(0, 1)
	for range 6 {
		now := r.inbox
		r.inbox = nil
		for _, p := range now {
			if p.msg.Vote != nil && p.msg.Vote.Kind == coord.VoteFinalize && p.from == 1 {
				fins++
			}
			if p.msg.Batch != nil {
				r.step(p.to, Input{From: p.from, Batch: p.msg.Batch, BatchDigest: p.msg.Batch.Digest(coord.SiteID{})})
				continue
			}
			r.step(p.to, Input{From: p.from, Msg: p.msg})
		}
		r.now += 4 * tms
		r.step(1, Input{})
	}
	if rs := r.cores[1].rounds[1]; rs == nil || rs.notar == nil {
		t.Fatal("the scenario does not notarize the block at box 1")
	}
	if fins > 0 {
		t.Error("box 1 voted to finalize a block whose notarization nobody else can learn of")
	}
	r.drop = nil
	r.wait(5 * time.Second)
	r.wantEverywhere(r.got[0]...)
	if len(r.got[0]) != 1 {
		t.Errorf("%d batches delivered after the links healed, want 1", len(r.got[0]))
	}
}

func TestALeaderThatStarvesAnAuthorIsReplaced(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	// The leader never takes in what box 3 makes, but orders everything else.
	r.drop = func(from, to int, m *coord.PeerMsg) bool {
		return to == 0 && ((m.Batch != nil && m.Batch.Author == member(3)) || m.Announce != nil)
	}
	d := r.submit(3, 1)
	for i := range uint64(120) { // there is finality all the time
		r.submit(1, i+1)
		r.wait(50 * time.Millisecond)
	}
	for i := 1; i < 4; i++ {
		found := false
		for _, g := range r.got[i] {
			found = found || g == d
		}
		if !found {
			t.Errorf("core %d never delivered the starved batch: %v", i, r.cores[i])
		}
	}
}

func TestTwoConflictingVotesAreEvidence(t *testing.T) {
	r := newRig(t, 4, 1000)
	k := rigKeys{r, 2}
	var ev []coord.Evidence
	for _, d := range []coord.Digest{{1}, {2}} {
		v := &coord.Vote{Kind: coord.VoteNotarize, Epoch: 1, Round: 1, Digest: d, Voter: 2, Sig: k.SignVote(coord.VoteNotarize, 1, 1, d)}
		ev = append(ev, r.step(1, Input{From: 2, Msg: &coord.PeerMsg{Vote: v}}).Evidence...)
	}
	if len(ev) != 1 || ev[0].A.Digest == ev[0].B.Digest {
		t.Errorf("evidence %v, want the two votes", ev)
	}
	// A vote that another box relays, or whose signature is bad, convicts nobody.
	v := &coord.Vote{Kind: coord.VoteNotarize, Epoch: 1, Round: 1, Digest: coord.Digest{9}, Voter: 3}
	a := r.step(1, Input{From: 2, Msg: &coord.PeerMsg{Vote: v}})
	b := r.step(1, Input{From: 3, Msg: &coord.PeerMsg{Vote: v}})
	w := *v
	w.Digest = coord.Digest{8}
	c := r.step(1, Input{From: 3, Msg: &coord.PeerMsg{Vote: &w}})
	if len(a.Evidence)+len(b.Evidence)+len(c.Evidence) > 0 {
		t.Error("an unproven contradiction became evidence")
	}
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	r := newRig(t, 4, 1000)
	for name, spoil := range map[string]func(*Config){
		"no members":   func(c *Config) { c.Members = nil },
		"self outside": func(c *Config) { c.Self = 4 },
		"no term":      func(c *Config) { c.TermRounds = 0 },
		"no keys":      func(c *Config) { c.Keys = nil },
		"no timeout":   func(c *Config) { c.Timeout = 0 },
	} {
		c := r.config(0)
		spoil(&c)
		if _, err := New(c, &coord.Block{}, nil); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

// Whatever a member says, once or many times, a core does not panic, does not fault and stays small.
func FuzzStep(f *testing.F) {
	r := newRig(&testing.T{}, 4, 3)
	r.submit(0, 1)
	for _, p := range r.inbox {
		f.Add(byte(p.from), wire.AppendPeer(nil, p.msg))
	}
	r.settle()
	for i := range r.logs[0] {
		if x := r.logs[0][i].Cert; x != nil {
			f.Add(byte(1), wire.AppendPeer(nil, &coord.PeerMsg{Certs: []*coord.Cert{x, nil}}))
		}
	}
	f.Fuzz(func(t *testing.T, from byte, data []byte) {
		m, err := wire.DecodePeer(data)
		if err != nil {
			return
		}
		r := newRig(t, 4, 3)
		in := Input{From: 1 + int(from)%3, Msg: m}
		if b := m.Batch; b != nil {
			in.Msg, in.Batch, in.BatchDigest = nil, b, b.Digest(coord.SiteID{})
		}
		for range 3 {
			r.step(0, in)
			r.now += 20 * tms
		}
		if n := r.cores[0].Live(); n > 2000 {
			t.Errorf("one message made the core remember %d things", n)
		}
	})
}

func TestABoxInThePlaceOfALostOneIsSilentUntilItMayVote(t *testing.T) {
	r := newRig(t, 4, 5)
	r.settle()
	var ds []coord.Digest
	for i := range uint64(3) {
		ds = append(ds, r.submit(0, i+1))
		r.settle()
		r.wait(5 * time.Millisecond)
	}
	// Box 3 loses its disk; its successor may vote from round 10 on.
	r.logs[3] = nil
	early, late := 0, 0
	r.twist = func(from, _ int, m *coord.PeerMsg) *coord.PeerMsg {
		if v := m.Vote; v != nil && from == 3 {
			if v.Round < 10 {
				early++
			} else {
				late++
			}
		}
		return m
	}
	r.votesFrom = 10
	r.boot(3)
	for i := range uint64(12) {
		ds = append(ds, r.submit(1, i+1))
		r.settle()
		r.wait(5 * time.Millisecond)
	}
	r.wait(3 * time.Second)
	r.wantEverywhere(ds...)
	if early > 0 || late == 0 {
		t.Errorf("the successor voted %d times too early and %d times after", early, late)
	}
}

func TestABoxThatVotedEmptyIsNotOverdueOnceTheOthersGoOn(t *testing.T) {
	r := newRig(t, 4, 1000)
	r.settle()
	r.drop = func(from, to int, _ *coord.PeerMsg) bool { return from == 3 || to == 3 } // box 3 hears nobody
	r.submit(3, 1)
	r.wait(700 * time.Millisecond)
	if !r.cores[3].myEmpty().has || !r.cores[3].Overdue(r.now) {
		t.Fatal("the scenario does not make box 3 vote empty")
	}
	r.drop = nil
	r.wait(2 * time.Second)
	if len(r.got[3]) != 1 || r.cores[3].Overdue(r.now) {
		t.Errorf("box 3 delivered %d batches and is overdue: %v", len(r.got[3]), r.cores[3])
	}
}
