package liar

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

type noKeys struct{}

func (noKeys) SignVote(coord.VoteKind, uint64, uint64, coord.Digest) coord.Signature {
	return coord.Signature{1}
}

func members(n int) *coord.Members {
	m := &coord.Members{Epoch: 1}
	for i := range n {
		m.List = append(m.List, coord.Member{ID: coord.BoxID{byte(i + 1)}})
	}
	return m
}

func honest(round uint64) []*coord.PeerMsg {
	parent := &coord.Block{Epoch: 1, Round: round - 1, Height: round - 1}
	parent.Root = coord.RefsRoot(nil)
	b := &coord.Block{Epoch: 1, Round: round, ParentRound: round - 1, Height: round, Parent: parent.Digest()}
	b.Refs = []coord.BatchRef{{Author: coord.BoxID{1}, Seq: round}, {Author: coord.BoxID{2}, Seq: round}}
	b.Root = coord.RefsRoot(b.Refs)
	return []*coord.PeerMsg{
		{Epoch: 1, Proposal: &coord.Proposal{Block: b, Parent: parent}},
		{Epoch: 1, Vote: &coord.Vote{Kind: coord.VoteFinalize, Epoch: 1, Round: round, Digest: b.Digest()}},
		{Epoch: 1, Status: &coord.Status{Height: round, Round: round}},
		{Epoch: 1, Batch: &coord.Batch{Author: coord.BoxID{1}, Seq: round}},
		{Epoch: 1, CatchUp: &coord.CatchUp{Blocks: []*coord.Block{parent, b}, Cert: &coord.Cert{Kind: coord.VoteFinalize, Epoch: 1, Round: round, Digest: b.Digest()}}},
		{Epoch: 1, SnapshotPart: &coord.SnapshotPart{Height: round, Data: []byte("piece")}},
	}
}

// Each liar lies: what leaves it is not what an honest box says, and what it was given is not changed.
func TestEveryKindLies(t *testing.T) {
	for _, k := range Kinds() {
		l := New(k, Config{
			Self: 0, Members: members(4), Keys: noKeys{}, Rand: rand.New(rand.NewPCG(1, 2)), Timeout: 500 * time.Millisecond, TermRounds: 8,
		})
		differs := false
		for round := uint64(2); round < 60; round++ {
			for i, m := range honest(round) {
				before := honest(round)[i]
				l.In(1, m)
				out := l.Out(coord.Out{To: coord.ToAll, Msg: m}, int64(round)*int64(100*time.Millisecond))
				if !reflect.DeepEqual(m, before) {
					t.Fatalf("%s changed a message that was sent", k)
				}
				same := len(out) == 3
				for _, s := range out {
					if s.To == 0 || s.To > 3 || s.After < 0 || s.Msg == nil {
						t.Fatalf("%s sends %+v", k, s)
					}
					same = same && s.Msg == m && s.After == 0
				}
				differs = differs || !same
			}
		}
		if honest := k == Twins || k == OldDisk; differs == honest && k != Forger {
			t.Errorf("%s: lies %v", k, differs)
		}
	}
}

func TestAForgerAnswersStatuses(t *testing.T) {
	l := New(Forger, Config{Self: 2, Members: members(4), Keys: noKeys{}, Rand: rand.New(rand.NewPCG(1, 2)), Timeout: time.Second, TermRounds: 8})
	kinds := map[string]bool{}
	for range 200 {
		for _, s := range l.In(1, &coord.PeerMsg{Epoch: 1, Status: &coord.Status{Height: 7, Round: 9, FinalRound: 8}}) {
			if s.To != 1 {
				t.Fatalf("it answers box %d", s.To)
			}
			v := reflect.ValueOf(*s.Msg)
			for i := range v.NumField() {
				if !v.Field(i).IsZero() {
					kinds[v.Type().Field(i).Name] = true
				}
			}
		}
	}
	for _, want := range []string{"CatchUp", "Certs", "Status", "Checkpoint"} {
		if !kinds[want] {
			t.Errorf("never a forged %s", want)
		}
	}
}
