package join

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// ErrChain says that a chain of member sets does not prove what it should.
var ErrChain = errors.New("chain of member sets does not hold")

// ChainStepsMax bounds a chain. A token is good for 30 days at most; a site that changed its members more often since needs a new token.
const ChainStepsMax = 256

// Chain is how the member set of a token's epoch became today's.
type Chain struct {
	// From is the set that the token's SiteHash is of.
	From  *coord.Members `json:"from"`
	Steps []Step         `json:"steps,omitempty"`
}

// Step is one change of epoch, as much of it as is needed to believe it.
type Step struct {
	// Block and Height name the block that ended the epoch.
	Block  coord.Digest   `json:"block"`
	Height uint64         `json:"height"`
	Next   *coord.Members `json:"next"`
	Sigs   []StepSig      `json:"signatures"`
}

// StepSig is a member's word that the epoch ended so.
type StepSig struct {
	Voter uint8           `json:"voter"`
	Sig   coord.Signature `json:"signature"`
}

// Last is the newest member set of the chain.
func (c *Chain) Last() *coord.Members {
	if n := len(c.Steps); n > 0 {
		return c.Steps[n-1].Next
	}
	return c.From
}

// Past is how the epoch of Members ended.
type Past struct {
	Members *coord.Members
	Step    Step
}

// PastOf is what a handover says of it.
func PastOf(h *coord.Handover) Past {
	p := Past{Members: h.Members, Step: Step{Block: h.Header.Digest(), Height: h.Header.Height, Next: h.Next}}
	for _, v := range h.Sigs {
		p.Step.Sigs = append(p.Step.Sigs, StepSig{v.Voter, v.Sig})
	}
	return p
}

// Cut makes the chain from the epoch that hash names to now: of the ends of epochs that a box has kept, ascending, and its members now.
// Errors: ErrSite, where hash is of none of them; ErrChain, where the box has not kept what is between.
func Cut(kept []Past, now *coord.Members, hash coord.Digest) (*Chain, error) {
	if SiteHash(now) == hash {
		return &Chain{From: now}, nil
	}
	for i := range kept {
		if SiteHash(kept[i].Members) != hash {
			continue
		}
		c := &Chain{From: kept[i].Members}
		for _, p := range kept[i:] {
			if p.Members.Epoch != c.Last().Epoch {
				return nil, fmt.Errorf("%w: epoch %d is missing", ErrChain, c.Last().Epoch)
			}
			c.Steps = append(c.Steps, p.Step)
		}
		if c.Last().Epoch != now.Epoch || len(c.Steps) > ChainStepsMax {
			return nil, fmt.Errorf("%w: %d steps lead to epoch %d, not %d", ErrChain, len(c.Steps), c.Last().Epoch, now.Epoch)
		}
		return c, nil
	}
	return nil, fmt.Errorf("%w: the token was not made here", ErrSite)
}

// Check says whether the chain begins with the set that the token names and each step is signed by more members of the
// epoch before than may lie, so that one honest member says so. Then Last is the site's, whoever told it; it may be an old one.
// Errors: ErrChain, ErrSite.
func (c *Chain) Check(hash coord.Digest) error {
	if c.From == nil || len(c.Steps) > ChainStepsMax {
		return fmt.Errorf("%w: %d steps", ErrChain, len(c.Steps))
	}
	if err := trust.CheckMembers(c.From); err != nil {
		return fmt.Errorf("%w: %w", ErrChain, err)
	}
	if SiteHash(c.From) != hash {
		return fmt.Errorf("%w: it is not the site that made the token", ErrSite)
	}
	m := c.From
	for i := range c.Steps {
		s := &c.Steps[i]
		if err := s.check(m); err != nil {
			return fmt.Errorf("%w: after epoch %d: %w", ErrChain, m.Epoch, err)
		}
		m = s.Next
	}
	return nil
}

func (s *Step) check(m *coord.Members) error {
	switch {
	case s.Next == nil || s.Next.Site != m.Site || s.Next.Epoch != m.Epoch+1:
		return errors.New("the next set is not of the next epoch of the site")
	case len(s.Sigs) > m.N():
		return fmt.Errorf("%d signatures by %d members", len(s.Sigs), m.N())
	}
	if err := trust.CheckMembers(s.Next); err != nil {
		return err
	}
	b := coord.VoteBytes(m.Site, coord.VoteEpoch, m.Epoch, s.Height, coord.HandoverDigest(s.Block, s.Next.Digest()))
	signed := coord.Digest(sha256.Sum256(b[:]))
	good := map[uint8]bool{}
	for i := range s.Sigs {
		v := &s.Sigs[i]
		if int(v.Voter) < m.N() && trust.VerifyDigest(m.List[v.Voter].Key, signed, &v.Sig) {
			good[v.Voter] = true
		}
	}
	if need := coord.MaxFaulty(m.N()) + 1; len(good) < need {
		return fmt.Errorf("%d members signed it, %d must", len(good), need)
	}
	return nil
}
