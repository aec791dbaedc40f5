package bft

import (
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

// recallRig is a site whose boxes ask when they start.
func recallRig(t *testing.T, term uint64) *rig {
	r := newRig(t, 4, 1000)
	r.term, r.nonce = term, 100
	for i := range r.cores {
		r.logs[i] = nil
	}
	for i := range r.cores {
		r.boot(i)
	}
	r.settle()
	return r
}

func (r *rig) silent(i int) (until uint64, asking bool) { return r.cores[i].Silent() }

func TestABoxDoesNotVoteBeforeAQuorumAnswered(t *testing.T) {
	r := recallRig(t, 1000)
	r.submit(0, 1)
	r.settle()
	// Two of four are away: the one that comes back hears one answer, and two are needed.
	r.down[1], r.down[2] = true, true
	r.boot(3)
	r.settle()
	if _, asking := r.silent(3); !asking {
		t.Fatal("one answer of three was enough")
	}
	r.down[1] = false
	r.wait(time.Second)
	if until, asking := r.silent(3); asking || until != 0 {
		t.Errorf("with two answers and a whole log: asking %v, silent until %d", asking, until)
	}
}

// forgetsLog restarts box 3 with only part of its log, and says from which round on it votes.
func forgetsLog(t *testing.T, r *rig, keep func(rec *coord.Record) bool) uint64 {
	t.Helper()
	var log []coord.Record
	for k := range r.logs[3] {
		if keep(&r.logs[3][k]) {
			log = append(log, r.logs[3][k])
		}
	}
	r.logs[3] = log
	r.boot(3)
	r.settle()
	until, asking := r.silent(3)
	if asking {
		t.Fatal("it still asks")
	}
	return until
}

func TestABoxWithAnOldLogIsSilentUntilItCannotContradictItself(t *testing.T) {
	r := recallRig(t, 8)
	for i := range uint64(3) {
		r.submit(0, i+1)
		r.settle()
	}
	round := r.cores[0].Round()
	old := len(r.logs[3])
	// A vote that everybody knows and no final block: the leader's proposal, then its silence.
	r.drop = func(_, _ int, m *coord.PeerMsg) bool { return m.Vote != nil && m.Vote.Kind == coord.VoteFinalize }
	r.submit(0, 9)
	r.settle()
	r.drop = nil
	k := 0
	until := forgetsLog(t, r, func(*coord.Record) bool { k++; return k <= old })
	if want := (round/8 + 2) * 8; until != want {
		t.Fatalf("silent until %d, want %d: two terms after round %d", until, want, round)
	}
	// Whatever comes, it signs nothing before; and the site lets it vote again soon.
	r.sent = nil
	for i := range uint64(5) {
		r.submit(0, 20+i)
		r.wait(2 * time.Second)
	}
	for _, v := range r.sent {
		if v.Voter == 3 && v.Round < until && v.Kind != coord.VoteCheckpoint {
			t.Errorf("it voted to %v round %d", v.Kind, v.Round)
		}
	}
	if u, _ := r.silent(3); u != 0 {
		t.Errorf("still silent until %d, in round %d", u, r.cores[3].Round())
	}
}

func TestAWholeLogIsNotTakenForAnOldOne(t *testing.T) {
	r := recallRig(t, 8)
	for i := range uint64(30) {
		r.submit(int(i%4), i+1)
		r.settle()
		if i%5 == 0 {
			r.boot(3)
			r.settle()
			if until, asking := r.silent(3); until != 0 || asking {
				t.Fatalf("after batch %d: silent until %d, asking %v", i, until, asking)
			}
		}
	}
}

func TestADamagedLogIsSilentEvenIfNobodyKnowsAVote(t *testing.T) {
	r := recallRig(t, 8)
	unknown := coord.Silence{From: coord.SilentUnknown}
	r.logs[3] = append(r.logs[3], coord.Record{Silent: &unknown}) // as store.SetAside says it
	until := forgetsLog(t, r, func(rec *coord.Record) bool { return rec.Silent != nil })
	if until != 16 {
		t.Fatalf("silent until %d, want 16", until)
	}
	// It knows that after another restart, when the log is a new and whole one.
	r.down[0], r.down[1], r.down[2] = true, true, true
	r.boot(3)
	if u, _ := r.silent(3); u != until {
		t.Errorf("after a restart silent until %d, want %d", u, until)
	}
}

func TestAnswersToAnEarlierStartDoNotCount(t *testing.T) {
	r := recallRig(t, 8)
	r.down[0], r.down[1], r.down[2] = true, true, true
	r.boot(3)
	nonce := r.config(3).Nonce
	for i := range 3 {
		r.step(3, Input{From: i, Msg: &coord.PeerMsg{Recalled: &coord.Recalled{Nonce: nonce - 7, Round: 1}}})
	}
	if _, asking := r.silent(3); !asking {
		t.Error("answers with another nonce were taken")
	}
}

func TestWhatALiarSaysOfOurVotesNeedsOurSignature(t *testing.T) {
	r := recallRig(t, 8)
	r.down[0], r.down[1], r.down[2] = true, true, true
	r.boot(3)
	forged := &coord.Vote{Kind: coord.VoteNotarize, Epoch: 1, Round: 5, Digest: coord.Digest{7}, Voter: 3}
	for i := range 2 {
		r.step(3, Input{From: i, Msg: &coord.PeerMsg{Recalled: &coord.Recalled{
			Nonce: r.nonces[3], Round: 1, Votes: []*coord.Vote{forged, nil},
		}}})
	}
	if until, asking := r.silent(3); until != 0 || asking {
		t.Errorf("silent until %d, asking %v: a forged vote was believed", until, asking)
	}
}
