package trust_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// finding is a box that voted for two blocks in one round.
func finding(t testing.TB) *coord.Finding {
	t.Helper()
	ids, _ := newSite(t, 1)
	id := ids[0]
	f := &coord.Finding{Found: time.Unix(1, 0).UTC(), Site: coord.SiteID{7}, Box: id.ID(), Name: "b", Key: id.PublicKey(), TermRounds: 1000}
	for i, v := range []*coord.Vote{&f.A, &f.B} {
		*v = coord.Vote{Kind: coord.VoteNotarize, Epoch: 1, Round: 5, Digest: coord.Digest{byte(i)}, Voter: 2}
		v.Sig = id.SignVote(f.Site, v.Kind, v.Epoch, v.Round, v.Digest)
	}
	return f
}

func TestAFindingProvesItselfAndSurvivesItsFile(t *testing.T) {
	f := finding(t)
	data, err := json.Marshal(coord.Exhibit{Site: f.Site, Findings: []coord.Finding{*f}})
	if err != nil {
		t.Fatal(err)
	}
	x, err := coord.ReadExhibit(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	rule, at, err := trust.CheckFinding(&x.Findings[0])
	if err != nil || rule != coord.RuleOneBlock || at != 5 {
		t.Errorf("%v at %d, %v; want the proof of two blocks in round 5", rule, at, err)
	}
}

func TestWhatDoesNotProveALieIsRefused(t *testing.T) {
	other := finding(t)
	for name, spoil := range map[string]func(*coord.Finding){
		"the same vote twice":       func(f *coord.Finding) { f.B = f.A },
		"different epochs":          func(f *coord.Finding) { f.B.Epoch++ },
		"different rounds":          func(f *coord.Finding) { f.B.Round++ },
		"another digest":            func(f *coord.Finding) { f.B.Digest[9]++ },
		"a bad signature":           func(f *coord.Finding) { f.A.Sig[0] ^= 1 },
		"another member's vote":     func(f *coord.Finding) { f.B.Sig = other.B.Sig },
		"another site":              func(f *coord.Finding) { f.Site[0]++ },
		"a key of another box":      func(f *coord.Finding) { f.Key = other.Key },
		"a name without its key":    func(f *coord.Finding) { f.Box[0]++ },
		"no key":                    func(f *coord.Finding) { f.Key = nil },
		"no term":                   func(f *coord.Finding) { f.TermRounds = 0 },
		"kinds that go together":    func(f *coord.Finding) { f.B.Kind = coord.VoteFinalize },
		"kinds that do not exist":   func(f *coord.Finding) { f.A.Kind, f.B.Kind = 9, 9 },
		"an empty vote of a digest": func(f *coord.Finding) { f.A.Kind, f.B.Kind, f.B.Round = coord.VoteEmpty, coord.VoteEmpty, 6 },
	} {
		f := finding(t)
		spoil(f)
		if _, _, err := trust.CheckFinding(f); !errors.Is(err, coord.ErrEvidence) {
			t.Errorf("%s: %v, want ErrEvidence", name, err)
		}
	}
}

// FuzzReadExhibit: no file makes the check panic, and nothing but what was signed convicts.
func FuzzReadExhibit(f *testing.F) {
	// Workers are processes of their own, so that a key made here would be another in each.
	data, err := os.ReadFile("testdata/evidence.json")
	if err != nil {
		f.Fatal(err)
	}
	known, err := coord.ReadExhibit(bytes.NewReader(data))
	if err != nil {
		f.Fatal(err)
	}
	g := &known.Findings[0]
	if _, _, err := trust.CheckFinding(g); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"findings":[{"a":{"kind":"empty"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := coord.ReadExhibit(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range x.Findings {
			h := &x.Findings[i]
			rule, at, err := trust.CheckFinding(h)
			if err == nil && (rule != coord.RuleOneBlock || at != 5 || h.Box != g.Box || h.A.Digest == h.B.Digest) {
				t.Errorf("convicted of %v at %d: %+v", rule, at, h)
			}
		}
	})
}
