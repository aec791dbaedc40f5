package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

// chainBytesMax bounds a chain of member sets: 256 steps of 32 members.
const chainBytesMax = 8 << 20

// memberSets are the member sets of one site by which signatures are judged, by epoch.
type memberSets map[uint64]*memberSet

type memberSet struct {
	*coord.Members
	*trust.Verifier
}

// of is the set of an epoch of the site that a head says it is of.
func (s memberSets) of(site coord.SiteID, epoch uint64) (*memberSet, error) {
	for _, m := range s {
		if m.Site != site {
			return nil, fmt.Errorf("it is of site %v, and --site is the site.json of another one, %v", site, m.Site)
		}
	}
	if m := s[epoch]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("its epoch is %d, and the member sets at hand are of others: give the site.json from before it with --site, and --chain", epoch)
}

func (s memberSets) add(m *coord.Members) error {
	v, err := trust.NewVerifier(m)
	if err != nil {
		return err
	}
	s[m.Epoch] = &memberSet{m, v}
	return nil
}

// trusting declares the flags for the member sets that signatures are judged by.
func trusting(f *flag.FlagSet) func() (memberSets, error) {
	file := f.String("site", "", "the site.json that you trust, a `file`")
	chain := f.String("chain", "", "how the members changed since that site.json, a `file` with the chain of member sets; each step is checked")
	return func() (memberSets, error) {
		if *file == "" {
			return nil, fmt.Errorf("%w: give the member keys that you trust with --site", errUsage)
		}
		m, err := trust.LoadMembersFile(*file)
		if err != nil {
			return nil, err
		}
		sets := memberSets{}
		if err := sets.add(m); err != nil || *chain == "" {
			return sets, err
		}
		c, err := fromFile(*chain, readChain)
		if err != nil {
			return nil, err
		}
		return sets, sets.follow(m, c)
	}
}

func readChain(r io.Reader) (*join.Chain, error) {
	c := new(join.Chain)
	if err := json.NewDecoder(io.LimitReader(r, chainBytesMax)).Decode(c); err != nil {
		return nil, fmt.Errorf("%w: %w", join.ErrChain, err)
	}
	return c, nil
}

// follow adds the sets of a chain that begins with one that is trusted. What comes before that in the chain proves nothing of it.
func (s memberSets) follow(trusted *coord.Members, c *join.Chain) error {
	steps := c.Steps
	from := c.From
	for from != nil && from.Epoch < trusted.Epoch && len(steps) > 0 {
		from, steps = steps[0].Next, steps[1:]
	}
	tail := &join.Chain{From: from, Steps: steps}
	if err := tail.Check(join.SiteHash(trusted)); err != nil {
		return err
	}
	for i := range steps {
		if err := s.add(steps[i].Next); err != nil {
			return err
		}
	}
	return nil
}
