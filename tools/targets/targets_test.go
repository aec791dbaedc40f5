package main

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/tools/bench/result"
)

var _ site.Codec = plain{}

func TestPlainBodiesCarryWhatColumnsHold(t *testing.T) {
	var in, out coord.Columns
	in.Reset()
	in.Add(coord.KindPut, 7, 1, -3, []byte("key"), []byte("value"))
	in.Add(coord.KindDelete, math.MaxUint64, math.MaxUint64, math.MaxInt64, []byte{0, 0xff}, nil)
	in.Add(coord.KindPut, 0, 0, 0, nil, []byte{0x80, '"'})
	out.Reset()
	out.Add(coord.KindPut, 1, 1, 1, []byte("of before"), nil)
	body := plain{}.AppendBody([]byte("front"), &in)
	if err := (plain{}).DecodeBody(body[len("front"):], &out); err != nil {
		t.Fatal(err)
	}
	if out.Len() != in.Len() {
		t.Fatalf("%d messages of %d", out.Len(), in.Len())
	}
	for i := range in.Len() {
		if in.Kinds[i] != out.Kinds[i] || in.Sessions[i] != out.Sessions[i] || in.Seqs[i] != out.Seqs[i] || in.Times[i] != out.Times[i] ||
			!slices.Equal(in.Key(i), out.Key(i)) || !slices.Equal(in.Value(i), out.Value(i)) {
			t.Errorf("message %d differs", i)
		}
	}
	for _, bad := range []string{"", "[", `[{"kind":256}]`, "[" + strings.Repeat("{},", coord.BatchMessagesMax) + "{}]"} {
		if err := (plain{}).DecodeBody([]byte(bad), &out); err == nil {
			t.Errorf("no error for %.20q", bad)
		}
	}
}

// keys accept what has voter, or author's sequence, 1.
type keys struct{ votes, batches int }

func (*keys) SignVote(coord.VoteKind, uint64, uint64, coord.Digest) coord.Signature {
	return coord.Signature{}
}
func (k *keys) VerifyVote(v *coord.Vote) bool   { k.votes++; return v.Voter == 1 }
func (k *keys) VerifyBatch(b *coord.Batch) bool { k.batches++; return b.Seq == 1 }

func TestBeforeChecksEachVoteAndBatchOnce(t *testing.T) {
	k, arrived := &keys{}, 0
	connect := verifyAll(box.Wrapped{Keys: k}, func(h site.Handlers) (site.Links, error) {
		for _, m := range []*coord.PeerMsg{
			{Vote: &coord.Vote{Voter: 1}},
			{Vote: &coord.Vote{Voter: 2}},
			{Batch: &coord.Batch{Seq: 1}},
			{Batch: &coord.Batch{Seq: 2}},
			{},
		} {
			h.Message(coord.BoxID{}, m)
		}
		return nil, nil
	})
	if _, err := connect(site.Handlers{Message: func(coord.BoxID, *coord.PeerMsg) { arrived++ }}); err != nil {
		t.Fatal(err)
	}
	if k.votes != 2 || k.batches != 2 || arrived != 3 {
		t.Errorf("%d votes and %d batches checked, %d of 5 arrived", k.votes, k.batches, arrived)
	}
}

func TestOverheadIsWhatIsBeyondThreeCopiesAndIdle(t *testing.T) {
	// 348 bytes must go to the three others; 522 go, of which 100,000 a second of 1,000 messages are those of idle.
	w := wireOf(&result.Row{WireMessage: 522, Rate: 1000}, 100_000)
	if w.message != 422 || math.Abs(w.overhead-(422.0/348-1)) > 1e-9 {
		t.Errorf("%+v", w)
	}
}
