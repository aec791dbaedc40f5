package box

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/roster"
)

// court is a site of four in which box 3 can be proved to have lied, as one box sees it.
type court struct {
	members  *coord.Members
	docs     map[string]string
	open     []state.OpenDecision
	exhibit  coord.Exhibit
	proposed []*coord.Decision
	answer   error
}

func newCourt(t *testing.T) *court {
	t.Helper()
	c := &court{members: &coord.Members{Site: coord.SiteID{5}, Epoch: 2}, docs: map[string]string{}, answer: site.ErrWaits}
	var liar *trust.Identity
	for _, name := range []string{"a", "b", "c", "d"} {
		id, err := trust.LoadOrCreate(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		liar = id
		c.members.List = append(c.members.List, coord.Member{ID: id.ID(), Name: name, Key: id.PublicKey(), Peer: name + ":1"})
	}
	c.exhibit.Findings = []coord.Finding{c.lie(liar, 7)}
	return c
}

// lie is two votes of a box in one round.
func (c *court) lie(id *trust.Identity, round uint64) coord.Finding {
	f := coord.Finding{Site: c.members.Site, Box: id.ID(), Name: "d", Key: id.PublicKey(), TermRounds: site.TermRounds}
	for i, v := range []*coord.Vote{&f.A, &f.B} {
		*v = coord.Vote{Kind: coord.VoteFinalize, Epoch: 1, Round: round, Digest: coord.Digest{byte(i)}, Voter: 3}
		v.Sig = id.SignVote(c.members.Site, v.Kind, v.Epoch, v.Round, v.Digest)
	}
	return f
}

func (c *court) Doc(key string) (coord.Doc, bool) {
	v, ok := c.docs[key]
	return coord.Doc{Key: key, Version: 1, Value: []byte(v)}, ok
}
func (c *court) Docs(string) []coord.Doc           { return nil }
func (c *court) Members() *coord.Members           { return c.members }
func (c *court) Seconds() uint64                   { return 0 }
func (c *court) Open() []state.OpenDecision        { return c.open }
func (c *court) Evidence() (*coord.Exhibit, error) { return &c.exhibit, nil }

func (c *court) Decide(_ context.Context, d *coord.Decision) (site.Outcome, error) {
	c.proposed = append(c.proposed, d)
	return site.Outcome{}, c.answer
}

// looks lets box i look for a while, and says how often it proposed.
func (c *court) looks(t *testing.T, i int, d time.Duration) int {
	t.Helper()
	x := newExpeller(c.members.List[i].ID, slog.New(slog.DiscardHandler))
	before, at := len(c.proposed), time.Unix(1000, 0)
	for end := at.Add(d); !at.After(end); at = at.Add(expelLook) {
		x.look(t.Context(), c, c, at)
		for _, p := range c.proposed[before:] { // the state has it then
			c.open = []state.OpenDecision{{ID: p.Digest(c.members.Site), Decision: p, Yes: []coord.BoxID{c.members.List[i].ID}}}
		}
	}
	return len(c.proposed) - before
}

func TestAProofIsProposedOnceByTheFirstThatHasIt(t *testing.T) {
	c := newCourt(t)
	if n := c.looks(t, 0, time.Hour); n != 1 {
		t.Fatalf("the first box proposes %d times", n)
	}
	d := c.proposed[0]
	judge := access.Judge{TermRounds: site.TermRounds}
	if j := judge.Judge(c, d, 0); j.Word != access.Wait || !strings.Contains(j.Why, "it is proved") {
		t.Errorf("the others' judge says %v: %s", j.Word, j.Why)
	}
	c.docs[access.SettingExpulsion] = `{"mode":"automatic"}`
	if j := judge.Judge(c, d, 0); j.Word != access.Yes {
		t.Errorf("where proof is enough it says %v: %s", j.Word, j.Why)
	}
	delete(c.docs, access.SettingExpulsion)
	if err := roster.Check(c, d); err != nil || d.Kind != roster.Remove || !strings.Contains(d.Subject, c.members.List[3].ID.String()) {
		t.Errorf("%v: %+v", err, d)
	}
	a, err := access.DecodeAuthority(d.Authority)
	if err != nil || a.Evidence == nil || a.Evidence.Box != c.members.List[3].ID {
		t.Errorf("authority %s: %v", d.Authority, err)
	}
	if n := c.looks(t, 1, time.Hour); n != 0 {
		t.Error("another one does too, with a yes that no operator gave")
	}
}

func TestTheNextBoxProposesWhereTheFirstDoesNot(t *testing.T) {
	c := newCourt(t)
	if n := c.looks(t, 2, 2*expelTurn-time.Second); n != 0 {
		t.Errorf("the third proposes %d times before its turn", n)
	}
	if n := c.looks(t, 2, 2*expelTurn+expelLook); n != 1 {
		t.Errorf("and %d times in it", n)
	}
}

func TestWhereProofIsEnoughAllSayYesOnce(t *testing.T) {
	c := newCourt(t)
	c.docs[access.SettingExpulsion] = `{"mode":"automatic"}`
	for i := range 3 {
		if n := c.looks(t, i, time.Minute); n != 1 {
			t.Errorf("box %d proposes %d times", i, n)
		}
	}
	for _, d := range c.proposed {
		if d.Digest(c.members.Site) != c.proposed[0].Digest(c.members.Site) {
			t.Error("they propose different decisions")
		}
	}
}

func TestOtherProofsOfTheSameBoxMakeTheSameDecision(t *testing.T) {
	c := newCourt(t)
	id, err := trust.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.members.List[3].ID, c.members.List[3].Key = id.ID(), id.PublicKey()
	x, y := c.lie(id, 7), c.lie(id, 9)
	a, errA := expulsion(c, &x)
	b, errB := expulsion(c, &y)
	if errA != nil || errB != nil || a.Digest(c.members.Site) != b.Digest(c.members.Site) || string(a.Authority) == string(b.Authority) {
		t.Errorf("%v %v", errA, errB)
	}
}

func TestWhatProvesNothingExpelsNobody(t *testing.T) {
	c := newCourt(t)
	good := c.exhibit.Findings[0]
	for name, spoil := range map[string]func(f *coord.Finding){
		"a bad signature":          func(f *coord.Finding) { f.B.Sig[5] ^= 1 },
		"of another site":          func(f *coord.Finding) { f.Site[0]++ },
		"with longer terms":        func(f *coord.Finding) { f.TermRounds++ },
		"of a box that is gone":    func(f *coord.Finding) { f.Box[0] ^= 1 },
		"one vote, said twice":     func(f *coord.Finding) { f.B = f.A },
		"of a key that is not its": func(f *coord.Finding) { f.Key = c.members.List[0].Key },
	} {
		f := good
		spoil(&f)
		c.exhibit.Findings = []coord.Finding{f}
		if n := c.looks(t, 0, time.Minute); n != 0 {
			t.Errorf("%s: it is proposed", name)
		}
	}
	c.exhibit.Findings = []coord.Finding{good}
	if n := c.looks(t, 3, time.Hour); n != 0 {
		t.Error("the liar proposes its own expulsion")
	}
}

func TestWhatOperatorsRefusedIsNotProposedAgain(t *testing.T) {
	c := newCourt(t)
	c.answer = site.ErrRefused
	x := newExpeller(c.members.List[0].ID, slog.New(slog.DiscardHandler))
	for i := range 10 {
		x.look(t.Context(), c, c, time.Unix(int64(1000+10*i), 0))
	}
	if len(c.proposed) != 1 {
		t.Errorf("proposed %d times", len(c.proposed))
	}
}
