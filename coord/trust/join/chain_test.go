package join_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

// history is a site that went through epochs: box i of keys is in epochs from i on, until there are most.
type history struct {
	keys []*trust.Identity
	past []join.Past
	now  *coord.Members
}

func newHistory(t testing.TB, boxes int) *history {
	t.Helper()
	h := &history{now: &coord.Members{Site: coord.SiteID{9}, Epoch: 1}}
	for i := range boxes {
		h.keys = append(h.keys, newBox(t))
		b := member(h.keys[i], fmt.Sprint("box-", i))
		if i == 0 {
			h.now.List = append(h.now.List, b)
			continue
		}
		next := &coord.Members{Site: h.now.Site, Epoch: h.now.Epoch + 1, List: append(slices.Clone(h.now.List), b)}
		h.past = append(h.past, join.Past{Members: h.now, Step: h.step(h.now, next, len(h.now.List))})
		h.now = next
	}
	return h
}

// step is the end of m's epoch, signed by its first n members.
func (h *history) step(m, next *coord.Members, n int) join.Step {
	s := join.Step{Block: coord.Digest{byte(m.Epoch)}, Height: 100 * m.Epoch, Next: next}
	for v := range n {
		sig := h.keys[v].SignVote(m.Site, coord.VoteEpoch, m.Epoch, s.Height, coord.HandoverDigest(s.Block, next.Digest()))
		s.Sigs = append(s.Sigs, join.StepSig{Voter: uint8(v), Sig: sig})
	}
	return s
}

func TestAChainLeadsFromTheTokensEpochToNow(t *testing.T) {
	h := newHistory(t, 6)
	for i := range h.past {
		hash := join.SiteHash(h.past[i].Members)
		c, err := join.Cut(h.past, h.now, hash)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		read := new(join.Chain)
		if err := json.Unmarshal(text, read); err != nil {
			t.Fatal(err)
		}
		if err := read.Check(hash); err != nil || read.Last().Epoch != h.now.Epoch || len(read.Steps) != len(h.past)-i {
			t.Fatalf("from epoch %d: %v", i+1, err)
		}
	}
	c, err := join.Cut(h.past, h.now, join.SiteHash(h.now))
	if err != nil || c.Check(join.SiteHash(h.now)) != nil || c.Last() != h.now {
		t.Fatalf("of today: %v", err)
	}
	if _, err := join.Cut(h.past, h.now, coord.Digest{1}); !errors.Is(err, join.ErrSite) {
		t.Errorf("of another site: %v", err)
	}
	if _, err := join.Cut(slices.Delete(slices.Clone(h.past), 2, 3), h.now, join.SiteHash(h.past[0].Members)); !errors.Is(err, join.ErrChain) {
		t.Errorf("with one epoch missing: %v", err)
	}
}

// One box that lies is not believed, whatever it makes of what others signed.
func TestAChainThatOneLiarMakesIsNotBelieved(t *testing.T) {
	h := newHistory(t, 6)
	hash := join.SiteHash(h.past[0].Members)
	mine := newBox(t)
	for name, lie := range map[string]struct {
		do   func(c *join.Chain)
		want error
	}{
		"another first set": {func(c *join.Chain) {
			c.From = &coord.Members{Site: h.now.Site, Epoch: 1, List: []coord.Member{member(mine, "x")}}
		}, join.ErrSite},
		"no first set": {func(c *join.Chain) { c.From = nil }, join.ErrChain},
		"a set of its own at the end": {func(c *join.Chain) {
			next := &coord.Members{Site: h.now.Site, Epoch: 6, List: []coord.Member{member(mine, "x")}}
			c.Steps[4] = h.step(c.Steps[3].Next, next, 1) // one of five: f = 1, so two must
		}, join.ErrChain},
		"its own signature twice": {func(c *join.Chain) {
			next := &coord.Members{Site: h.now.Site, Epoch: 6, List: []coord.Member{member(mine, "x")}}
			c.Steps[4] = h.step(c.Steps[3].Next, next, 1)
			c.Steps[4].Sigs = append(c.Steps[4].Sigs, c.Steps[4].Sigs[0])
		}, join.ErrChain},
		"another's place":      {func(c *join.Chain) { c.Steps[4].Sigs = c.Steps[4].Sigs[:1]; c.Steps[4].Sigs[0].Voter = 3 }, join.ErrChain},
		"a voter beyond":       {func(c *join.Chain) { c.Steps[4].Sigs = []join.StepSig{{Voter: 200}, {Voter: 255}} }, join.ErrChain},
		"too many signatures":  {func(c *join.Chain) { c.Steps[4].Sigs = make([]join.StepSig, 100) }, join.ErrChain},
		"an address changed":   {func(c *join.Chain) { c.Steps[4].Next.List[0].Peer = "elsewhere:1" }, join.ErrChain},
		"an epoch left out":    {func(c *join.Chain) { c.Steps = slices.Delete(c.Steps, 1, 2) }, join.ErrChain},
		"a step for another":   {func(c *join.Chain) { c.Steps[2].Height++ }, join.ErrChain},
		"another block":        {func(c *join.Chain) { c.Steps[2].Block[0]++ }, join.ErrChain},
		"another site's step":  {func(c *join.Chain) { c.Steps[2].Next.Site[0]++ }, join.ErrChain},
		"a step without a set": {func(c *join.Chain) { c.Steps[4].Next = nil }, join.ErrChain},
		"a set that cannot be": {func(c *join.Chain) { c.Steps[4].Next.List[1] = c.Steps[4].Next.List[0] }, join.ErrChain},
		"more steps than may":  {func(c *join.Chain) { c.Steps = make([]join.Step, join.ChainStepsMax+1) }, join.ErrChain},
		"nobody signed at all": {func(c *join.Chain) { c.Steps[0].Sigs = nil }, join.ErrChain},
		"a first set unsound":  {func(c *join.Chain) { c.From.List = nil }, join.ErrChain},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := join.Cut(h.past, h.now, hash)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := json.Marshal(c)
			own := new(join.Chain)
			if err := json.Unmarshal(text, own); err != nil {
				t.Fatal(err)
			}
			lie.do(own)
			if err := own.Check(hash); !errors.Is(err, lie.want) {
				t.Fatal(err)
			}
		})
	}
}

func FuzzChain(f *testing.F) {
	h := newHistory(f, 3)
	hash := join.SiteHash(h.past[0].Members)
	c, err := join.Cut(h.past, h.now, hash)
	if err != nil {
		f.Fatal(err)
	}
	text, _ := json.Marshal(c)
	f.Add(text)
	good := h.now.Digest()
	f.Fuzz(func(t *testing.T, b []byte) {
		c := new(join.Chain)
		if json.Unmarshal(b, c) != nil || c.Check(hash) != nil {
			return
		}
		// With f = 0 in both epochs that were, nobody but the two keys could have made another.
		if d := c.Last().Digest(); d != good && c.Last().Epoch > 1 && !slices.ContainsFunc(h.past, func(p join.Past) bool { return p.Members.Digest() == d }) {
			t.Fatal("a set that nobody signed is believed")
		}
	})
}
