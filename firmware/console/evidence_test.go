package console

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
)

func TestALieAndATwinAreOnThePageAndInTheAPI(t *testing.T) {
	f := servingSite()
	f.view.Members[1].Twins = 1
	lie := coord.Finding{Found: time.Unix(1, 0), Box: f.view.Members[2].ID, Name: "<liar>", TermRounds: 1000}
	lie.A = coord.Vote{Kind: coord.VoteFinalize, Epoch: 1, Round: 5, Digest: coord.Digest{0xaa}}
	lie.B = lie.A
	lie.B.Digest[0] = 0xbb
	c := newConsole(t, f)
	if p := get(t, c, "/trust").Body.String(); !strings.Contains(p, "No box was caught lying.") {
		t.Error("the page does not say that nobody lied")
	}
	if p := get(t, c, "/").Body.String(); !strings.Contains(p, "on two machines") {
		t.Error("the page does not say that an identity is used twice")
	}
	f.lies = []coord.Finding{lie}
	p := get(t, c, "/trust").Body.String()
	for _, want := range []string{"&lt;liar&gt;", "called two blocks of one round final", "aa000000", "bb000000"} {
		if !strings.Contains(p, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	var x coord.Exhibit
	getJSON(t, c, "/api/v1/evidence", 200, &x)
	if len(x.Findings) != 1 || x.Findings[0].A != lie.A || x.Findings[0].B != lie.B {
		t.Errorf("the API says %+v", x)
	}
}
