package sim

import (
	"math/rand/v2"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/liar"
)

// Twins (Bano et al., OPODIS 2021): a box that lies is two honest machines with one identity. Which machine can
// reach which, phase by phase, is enumerated; the network is quiet otherwise.
const (
	twinsPhases = 3
	twinsSplits = 16 // of five machines into at most two sides; the first machine's side is the first
	twinsPhase  = 1200 * time.Millisecond
)

// twinsTerms are the lengths of a term: with 1 the leader changes in each round.
var twinsTerms = [...]uint64{1, 3}

// TwinsCount is the number of scenarios of four boxes: every twinned box, every term length, every split in
// each phase.
func TwinsCount() int {
	count := 4 * len(twinsTerms)
	for range twinsPhases {
		count *= twinsSplits
	}
	return count
}

// TwinsOptions is scenario i of TwinsCount.
func TwinsOptions(i int) Options {
	o := Options{N: 4, Seed: uint64(i)}
	p := twinsPlan(twinsPhases)
	p.Liars = []Liar{{Box: i % 4, Kind: liar.Twins}}
	i /= 4
	o.Term = twinsTerms[i%len(twinsTerms)]
	i /= len(twinsTerms)
	for phase := range twinsPhases {
		split := make([]uint8, 5)
		for m := range 4 {
			split[m+1] = uint8(i >> m & 1)
		}
		i /= twinsSplits
		p.phase(phase, split)
	}
	o.Plan = p
	return o
}

func twinsPlan(phases int) *Plan {
	return &Plan{
		End: time.Duration(phases) * twinsPhase, Net: Net{DelayLo: 5 * time.Millisecond, DelayHi: time.Millisecond},
		Clients: []Client{{Gap: 80 * time.Millisecond}},
	}
}

func (p *Plan) phase(i int, split []uint8) {
	p.Faults = append(p.Faults, Fault{
		Kind: faultPartition, At: time.Duration(i) * twinsPhase, For: twinsPhase, Box: -1, Split: split,
	})
}

// TwinsRandom draws a scenario of four, seven or ten boxes, up to f of them twinned, in up to three sides.
func TwinsRandom(seed uint64) Options {
	r := rand.New(rand.NewPCG(seed, 0x7477696e73))
	o := Options{N: []int{4, 7, 10}[r.IntN(3)], Seed: seed}
	phases := 2 + r.IntN(4)
	p := twinsPlan(phases)
	twins := 1 + r.IntN(coord.MaxFaulty(o.N))
	for _, b := range r.Perm(o.N)[:twins] {
		p.Liars = append(p.Liars, Liar{Box: b, Kind: liar.Twins})
	}
	sides := 2 + r.IntN(2)
	for i := range phases {
		split := make([]uint8, o.N+twins)
		for m := range split {
			split[m] = uint8(r.IntN(sides))
		}
		p.phase(i, split)
	}
	o.Plan = p
	return o
}
