package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// member makes an identity, and a site.json of a site that it is alone in.
func member(t *testing.T) (*trust.Identity, *coord.Members, string) {
	t.Helper()
	dir := t.TempDir()
	id, err := trust.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &coord.Members{Site: coord.SiteID{1}, Epoch: 1, List: []coord.Member{{ID: id.ID(), Name: "a", Key: id.PublicKey(), Peer: "127.0.0.1:7400"}}}
	if err := trust.SaveMembers(dir, m); err != nil {
		t.Fatal(err)
	}
	return id, m, filepath.Join(dir, trust.SiteFile)
}

func TestAnExportedLieIsVerifiedOffline(t *testing.T) {
	id, m, siteFile := member(t)
	_, _, strangers := member(t)
	lie := func(terms, roundA, roundB uint64) coord.Finding {
		f := coord.Finding{Site: m.Site, Box: id.ID(), Name: "a", Key: id.PublicKey(), TermRounds: terms}
		f.A = coord.Vote{Kind: coord.VoteEmpty, Epoch: 1, Round: roundA}
		f.B = coord.Vote{Kind: coord.VoteEmpty, Epoch: 1, Round: roundB}
		for _, v := range []*coord.Vote{&f.A, &f.B} {
			v.Sig = id.SignVote(m.Site, v.Kind, v.Epoch, v.Round, v.Digest)
		}
		return f
	}
	proven := lie(site.TermRounds, 5, 6)
	forged := proven
	forged.B.Sig[5] ^= 1
	for name, c := range map[string]struct {
		findings []coord.Finding
		args     []string
		code     int
		say      string
	}{
		"proven":              {[]coord.Finding{proven}, nil, exitDone, "PROVEN: it gave up one term from two rounds (term 0)"},
		"without site.json":   {[]coord.Finding{proven}, nil, exitDone, "give --site"},
		"of the site":         {[]coord.Finding{proven}, []string{"--site", siteFile}, exitDone, "PROVEN"},
		"of another site":     {[]coord.Finding{proven}, []string{"--site", strangers}, exitFailed, "no member of the site"},
		"json":                {[]coord.Finding{proven}, []string{"--json"}, exitDone, `"proven":true`},
		"one of two":          {[]coord.Finding{proven, forged}, nil, exitFailed, "1 of 2 findings prove nothing"},
		"another term length": {[]coord.Finding{lie(9*site.TermRounds, 5, 3*site.TermRounds)}, nil, exitFailed, "terms of 9000 rounds"},
		"two terms":           {[]coord.Finding{lie(site.TermRounds, 5, 3*site.TermRounds)}, nil, exitFailed, "an honest box may send both"},
		"none":                {nil, nil, exitFailed, "proves nothing"},
		"not a site.json":     {[]coord.Finding{proven}, []string{"--site", "members"}, exitFailed, "no such file"},
	} {
		data, err := json.Marshal(coord.Exhibit{Site: m.Site, Findings: c.findings})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "evidence.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		args := append([]string{"debug", "evidence", "verify", file}, c.args...)
		if code := Run(t.Context(), Build{}, args, nil, &out, &out); code != c.code || !strings.Contains(out.String(), c.say) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", name, code, c.code, c.say, out.String())
		}
	}
}
