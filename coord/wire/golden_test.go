package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

var update = flag.Bool("update", false, "write testdata anew")

// golden are values whose bytes are pinned: logs of released boxes and boxes of the neighbouring release
// must stay readable. When one of these must change, the version beside it changes too.
func golden() map[string][]byte {
	fill := func(b []byte, x byte) {
		for i := range b {
			b[i] = x
		}
	}
	var box coord.BoxID
	var d coord.Digest
	var s coord.Signature
	fill(box[:], 0xb0)
	fill(d[:], 0xd1)
	fill(s[:], 0x51)
	c := new(coord.Columns)
	c.Add(coord.KindPut, 7, 1, 1763850000000, []byte("/a"), []byte("one"))
	c.Add(coord.KindDelete, 7, 2, 1763850000001, []byte("/bc"), nil)
	observe := new(coord.Columns)
	for i := range byte(20) {
		observe.Add(coord.KindObserve, 7, uint64(i)+1, 1763850000000, []byte{0, 0, 0, 0, 0, 0, 1, i * i}, nil)
	}
	batch := &coord.Batch{Author: box, Seq: 1<<20 + 3, Floor: 1 << 20, Count: 2, Body: NewBodyEncoder().AppendBody(nil, c), Sig: s}
	block := &coord.Block{
		Epoch: 1, Round: 300, ParentRound: 299, Height: 70000, Parent: d, Root: d,
		Refs: []coord.BatchRef{{Author: box, Seq: 1<<20 + 3, Digest: d}},
	}
	vote := &coord.Vote{Kind: coord.VoteFinalize, Epoch: 1, Round: 300, Digest: d, Voter: 3, Sig: s}
	cert := &coord.Cert{Kind: coord.VoteEmpty, Epoch: 1, Round: 301, Sigs: []coord.VoteSig{{Voter: 2, Level: 301, Sig: s}}}
	checkpoint := &coord.Checkpoint{Header: block.Header(), State: d, Cert: cert}
	members := func(epoch uint64) *coord.Members {
		return &coord.Members{Site: coord.SiteID(box), Epoch: epoch, List: []coord.Member{{ID: box, Name: "a", Key: []byte{4}, Peer: "10.0.0.1:7400"}}}
	}
	handover := &coord.Handover{
		Members: members(1), Header: block.Header(), Next: members(2),
		Sigs: []coord.VoteSig{{Voter: 0, Sig: s}},
	}
	silence := &coord.Silence{Epoch: 2, From: 1000}
	ping := uint64(9)
	return map[string][]byte{
		"body-raw":         batch.Body,
		"body-snappy":      NewBodyEncoder().AppendBody(nil, observe),
		"peer-batch":       AppendPeer(nil, &coord.PeerMsg{Batch: batch}),
		"peer-vote":        AppendPeer(nil, &coord.PeerMsg{Vote: vote}),
		"peer-proposal":    AppendPeer(nil, &coord.PeerMsg{Proposal: &coord.Proposal{Block: block, Sig: s, Parent: block.Header(), Proof: []*coord.Cert{cert}}}),
		"peer-handover":    AppendPeer(nil, &coord.PeerMsg{Epoch: 1, Handover: handover}),
		"peer-ask":         AppendPeer(nil, &coord.PeerMsg{SnapshotAsk: &coord.SnapshotAsk{Height: 5, Chunk: -1}}),
		"record-final":     AppendRecord(nil, &coord.Record{Final: &coord.Final{Header: block.Header()}}),
		"record-silence":   AppendRecord(nil, &coord.Record{Silent: silence}),
		"record-block":     AppendRecord(nil, &coord.Record{Block: block}),
		"value-final":      AppendFinal(nil, &coord.Final{Header: block.Header(), Cert: cert}),
		"value-checkpoint": AppendCheckpoint(nil, checkpoint),
		"value-handover":   AppendHandover(nil, handover),
		"client-hello":     AppendClient(nil, &ClientMsg{Hello: &Hello{MinVersion: 1, MaxVersion: 1, Token: []byte("t"), Client: "feed"}}),
		"client-submit":    AppendClient(nil, &ClientMsg{Submit: &Submit{ID: 1, Body: batch.Body}}),
		"client-traced":    AppendClient(nil, &ClientMsg{Submit: &Submit{ID: 1, Body: batch.Body, Trace: &TraceContext{0x4b, 24: 1}}}),
		"client-answer": AppendClient(nil, &ClientMsg{Answer: &Answer{
			ID: 1, Height: 12, RetryAfter: 50 * time.Millisecond,
			Results: []coord.Result{{Revision: 90}, {Revision: 91, Found: true, Value: []byte("one"), Duplicate: true}},
		}}),
		"client-ping": AppendClient(nil, &ClientMsg{Ping: &ping}),
	}
}

func TestTheBytesOfAReleaseStayTheSame(t *testing.T) {
	for name, got := range golden() {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hexLines(got)), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		// Compressed bytes depend on snappy's version: what they hold does not.
		if name == "body-snappy" {
			got, want = inside(t, got), inside(t, want)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is\n%s, was\n%s", name, hexLines(got), hexLines(want))
		}
	}
}

func inside(t *testing.T, b []byte) []byte {
	raw, err := unsqueeze(nil, b, coord.BatchBodyBytesMax)
	if err != nil || b[0] != flagSnappy {
		t.Fatalf("flag %d, %v", b[0], err)
	}
	return raw
}

// hexLines is 32 bytes a line.
func hexLines(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(len(b), 32)
		s.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return s.String()
}
