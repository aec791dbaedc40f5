package hal

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Sample is what a site did in one round of a calibration.
type Sample struct {
	Rate float64       `json:"rate"`             // messages acknowledged, a second
	P50  time.Duration `json:"p50_ns"`           // until a message was acknowledged
	P99  time.Duration `json:"p99_ns"`           // the same
	CPU  float64       `json:"cpu_us"`           // CPU time of the boxes measured, microseconds a message
	Fail int           `json:"failed,omitempty"` // messages that were not acknowledged
}

// Pair is two rounds next to each other in time, without and with a setting.
type Pair struct {
	Off Sample `json:"off"`
	On  Sample `json:"on"`
}

// Trial is one setting, measured.
type Trial struct {
	Setting string  `json:"setting"` // its key in the configuration
	Value   string  `json:"value"`   // what was tried
	Does    string  `json:"does"`    // in one sentence
	Pairs   []Pair  `json:"pairs,omitempty"`
	Verdict Verdict `json:"verdict"`
}

// Verdict is what pairs of rounds say about a setting.
type Verdict struct {
	Keep bool   `json:"keep"`
	Why  string `json:"why"`
	// With the setting divided by without it; above 1 is better for Rate, worse for the others.
	Rate Effect `json:"rate,omitzero"`
	P99  Effect `json:"p99,omitzero"`
	CPU  Effect `json:"cpu,omitzero"`
}

// Effect is how a figure changed.
type Effect struct {
	Ratio float64 `json:"ratio"` // median of the pairs' ratios
	Low   float64 `json:"low"`   // quartiles of the pairs' ratios
	High  float64 `json:"high"`
	// P is the probability of ranks at least as one-sided if the setting did nothing: the exact
	// two-sided signed-rank test (Wilcoxon 1945) of the ratios' logarithms.
	P float64 `json:"p"`
}

const (
	// TrialPairsMin is the fewest pairs that can show anything: with 7, all on one side have
	// P = 2/128, which is below better.
	TrialPairsMin = 7
	// TrialPairsMax bounds a trial: its test looks at 2^pairs signs.
	TrialPairsMax = 16
	// A setting must help in one of three figures, each of which chance gets a third of 5 %
	// for; to be worse in one, it needs less proof.
	better = 0.05 / 3
	worse  = 0.05
	// worthwhile is the least change that matters.
	worthwhile = 0.03
)

// Judge says whether a setting is to be kept: it makes at least one of rate, 99th percentile
// and CPU time better, beyond noise and by 3 %, and none worse.
func Judge(pairs []Pair) Verdict {
	if len(pairs) < TrialPairsMin || len(pairs) > TrialPairsMax {
		return Verdict{Why: fmt.Sprintf("%d pairs of rounds; it takes %d to %d to tell an effect from noise", len(pairs), TrialPairsMin, TrialPairsMax)}
	}
	v := Verdict{
		Rate: effect(pairs, func(s *Sample) float64 { return s.Rate }),
		P99:  effect(pairs, func(s *Sample) float64 { return float64(s.P99) }),
		CPU:  effect(pairs, func(s *Sample) float64 { return s.CPU }),
	}
	var off, on int
	for _, p := range pairs {
		off, on = off+p.Off.Fail, on+p.On.Fail
	}
	if on > off {
		v.Why = fmt.Sprintf("%d messages failed with it, %d without", on, off)
		return v
	}
	figures := []struct {
		name string
		e    Effect
		sign float64 // 1: more is better
	}{{"rate", v.Rate, 1}, {"99th percentile", v.P99, -1}, {"CPU time a message", v.CPU, -1}}
	for _, f := range figures {
		if gain := f.sign * math.Log(f.e.Ratio); !(gain > -math.Log1p(worthwhile)) && f.e.P <= worse {
			v.Why = fmt.Sprintf("it makes the %s worse: %.2f times", f.name, f.e.Ratio)
			return v
		}
	}
	for _, f := range figures {
		if gain := f.sign * math.Log(f.e.Ratio); gain >= math.Log1p(worthwhile) && f.e.P <= better {
			v.Keep, v.Why = true, fmt.Sprintf("%s is %.2f times, beyond noise", f.name, f.e.Ratio)
			return v
		}
	}
	v.Why = "no figure changes beyond noise"
	return v
}

func effect(pairs []Pair, of func(*Sample) float64) Effect {
	logs := make([]float64, len(pairs))
	for i := range pairs {
		off, on := of(&pairs[i].Off), of(&pairs[i].On)
		// A figure of zero, such as CPU time too short to be counted, says nothing.
		if off > 0 && on > 0 {
			logs[i] = math.Log(on / off)
		}
	}
	sorted := slices.Clone(logs)
	slices.Sort(sorted)
	at := func(q float64) float64 {
		x := q * float64(len(sorted)-1)
		i := int(x)
		if i+1 == len(sorted) {
			return math.Exp(sorted[i])
		}
		return math.Exp(sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i]))
	}
	return Effect{Ratio: at(0.5), Low: at(0.25), High: at(0.75), P: signedRank(logs)}
}

// signedRank is the exact two-sided P of Wilcoxon's test: the part of all signs that make the
// sum of ranks as one-sided as it is. Zeros count half on either side, ties share their ranks.
func signedRank(x []float64) float64 {
	type ranked struct{ size, sign, rank float64 }
	r := make([]ranked, len(x))
	for i, v := range x {
		r[i] = ranked{size: math.Abs(v), sign: float64(cmp.Compare(v, 0))}
	}
	slices.SortFunc(r, func(a, b ranked) int { return cmp.Compare(a.size, b.size) })
	for i := 0; i < len(r); {
		j := i
		for j < len(r) && r[j].size == r[i].size {
			j++
		}
		for k := i; k < j; k++ {
			r[k].rank = float64(i+j+1) / 2
		}
		i = j
	}
	seen := 0.0
	for _, v := range r {
		seen += v.sign * v.rank
	}
	seen = math.Abs(seen)
	as, all := 0, 1<<len(r)
	for signs := range all {
		sum := 0.0
		for i, v := range r {
			if signs>>i&1 == 1 {
				sum += v.rank
			} else {
				sum -= v.rank
			}
		}
		if math.Abs(sum) >= seen {
			as++
		}
	}
	return float64(as) / float64(all)
}
