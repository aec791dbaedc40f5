package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

// epochs is a site whose members changed: sets[i] is of epoch i+1, and only the boxes keys[i] sign in it.
type epochs struct {
	sets []*coord.Members
	keys [][]*trust.Identity
}

func newEpochs(t *testing.T, n int) *epochs {
	t.Helper()
	e := new(epochs)
	for i := range n {
		id, err := trust.LoadOrCreate(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		e.keys = append(e.keys, []*trust.Identity{id})
		e.sets = append(e.sets, &coord.Members{Site: coord.SiteID{1}, Epoch: uint64(i + 1), List: []coord.Member{
			{ID: id.ID(), Name: "a", Key: id.PublicKey(), Peer: "127.0.0.1:7400"},
		}})
	}
	return e
}

// chain is how the set at from became the last one.
func (e *epochs) chain(from int) *join.Chain {
	c := &join.Chain{From: e.sets[from]}
	for i := from; i+1 < len(e.sets); i++ {
		s := join.Step{Block: coord.Digest{byte(i + 1)}, Height: uint64(10 * (i + 1)), Next: e.sets[i+1]}
		sig := e.keys[i][0].SignVote(e.sets[i].Site, coord.VoteEpoch, e.sets[i].Epoch, s.Height, coord.HandoverDigest(s.Block, s.Next.Digest()))
		s.Sigs = []join.StepSig{{Voter: 0, Sig: sig}}
		c.Steps = append(c.Steps, s)
	}
	return c
}

// An archive outlives the members that signed it: its old heads are judged by the sets of their time.
func TestAnArchiveOverChangesOfMembersIsVerified(t *testing.T) {
	e := newEpochs(t, 3)
	box := e.keys[0][0].ID()
	l := &audit.Log{Box: box}
	var tree audit.Tree
	tiles := map[[2]int64][]byte{}
	tree.Tile = func(level int, n int64) []byte { return tiles[[2]int64{int64(level), n}] }
	dir := t.TempDir()
	heads := new(bytes.Buffer)
	var top audit.Top
	for i := range e.sets {
		r := audit.Record{TimeMs: int64(1000 + i), Box: box, Principal: "operator:ann", Action: "kv.put", Outcome: audit.Allowed}
		b := r.Append(nil)
		l.Records = append(l.Records, b)
		err := tree.Add([]coord.Digest{audit.LeafHash(b)}, func(level int, at int64, tile []byte) error {
			tiles[[2]int64{int64(level), at}] = bytes.Clone(tile)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		h, err := tree.NextHead(box, top)
		if err != nil {
			t.Fatal(err)
		}
		top = audit.Top{Size: h.Size, Root: h.Root}
		s := audit.Accepted(e.sets[i].Site, e.sets[i].Epoch, uint64(5+10*i), h)
		s.Sigs = []coord.ReadSig{{Voter: 0, Sig: e.keys[i][0].SignReading(s.Digest())}}
		if err := json.NewEncoder(heads).Encode(s); err != nil {
			t.Fatal(err)
		}
	}
	archive := audit.AppendArchive(nil, box, &l.Before)
	for i := range l.Records {
		r, err := audit.Decode(l.Records[i])
		if err != nil {
			t.Fatal(err)
		}
		archive = audit.AppendLine(archive, r)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sites := make([]string, len(e.sets))
	for i := range e.sets {
		d := t.TempDir()
		if err := trust.SaveMembers(d, e.sets[i]); err != nil {
			t.Fatal(err)
		}
		sites[i] = filepath.Join(d, trust.SiteFile)
	}
	text := func(c *join.Chain) []byte { b, _ := json.Marshal(c); return b }
	log, headFile, whole := write("log.jsonl", archive), write("heads.jsonl", heads.Bytes()), write("chain.json", text(e.chain(0)))
	forged := e.chain(0)
	forged.Steps[1].Next.List[0].Name = "b"
	broken := write("forged.json", text(forged))
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"the whole chain":         {[]string{"--site", sites[0], "--chain", whole}, exitDone, "3 heads compared, the newest covers 3"},
		"from the second on":      {[]string{"--site", sites[1], "--chain", whole}, exitDone, "2 heads compared, the newest covers 3"},
		"the last alone":          {[]string{"--site", sites[2]}, exitDone, "1 heads compared, the newest covers 3"},
		"the first alone":         {[]string{"--site", sites[0]}, exitDone, "1 heads compared, the newest covers 1"},
		"a chain that was forged": {[]string{"--site", sites[0], "--chain", broken}, exitFailed, "members signed it"},
		"no chain":                {[]string{"--site", sites[0], "--chain", log}, exitFailed, "chain of member sets does not hold"},
	} {
		code, text := said(t, "", append([]string{"audit", "verify", "--heads", headFile, log}, tc.args...)...)
		if code != tc.code || !strings.Contains(text, tc.says) {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	other := newEpochs(t, 2)
	if err := (memberSets{}).follow(e.sets[0], other.chain(0)); !errors.Is(err, join.ErrSite) {
		t.Errorf("a chain of another site: %v", err)
	}
}
