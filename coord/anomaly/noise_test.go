package anomaly

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// noises are stationary series: none of their points is an event. step is the seconds between points.
var noises = map[string]func(r *rand.Rand, step float64) func() float64{
	"Gaussian": func(r *rand.Rand, _ float64) func() float64 {
		return func() float64 { return 100 + 5*r.NormFloat64() }
	},
	// Student's t with three degrees of freedom: its variance exists, its kurtosis does not.
	"heavy-tailed": func(r *rand.Rand, _ float64) func() float64 {
		return func() float64 {
			chi2 := 0.0
			for range 3 {
				v := r.NormFloat64()
				chi2 += v * v
			}
			return 100 + 5*r.NormFloat64()/math.Sqrt(chi2/3)
		}
	},
	"waiting times": func(r *rand.Rand, _ float64) func() float64 { // log-normal, as latencies are
		return func() float64 { return 0.005 * math.Exp(0.5*r.NormFloat64()) }
	},
	"AR(1)": func(r *rand.Rand, _ float64) func() float64 {
		x := 0.0
		return func() float64 { x = 0.9*x + r.NormFloat64(); return 50 + x }
	},
	// What a counter counts in a step, and what a clock of few digits says, take few values.
	"a counter's rate": func(r *rand.Rand, step float64) func() float64 {
		return func() float64 { return float64(poisson(r, 3)) / step }
	},
	"a rare counter's rate": func(r *rand.Rand, step float64) func() float64 {
		return func() float64 { return float64(poisson(r, 0.02)) / step }
	},
	"a busy counter's rate": func(r *rand.Rand, step float64) func() float64 {
		return func() float64 { return float64(poisson(r, 30)) / step }
	},
	"quantised": func(r *rand.Rand, _ float64) func() float64 {
		return func() float64 { return math.Round(20 + 1.2*r.NormFloat64()) }
	},
	"two levels": func(r *rand.Rand, _ float64) func() float64 {
		return func() float64 { return float64(b2i(r.IntN(1000) == 0)) }
	},
	"slow AR(1)": func(r *rand.Rand, _ float64) func() float64 { // a quarter of an hour's memory
		x := 0.0
		return func() float64 { x = 0.983*x + r.NormFloat64(); return 50 + x }
	},
	"a day with noise": func(r *rand.Rand, step float64) func() float64 {
		at := 0.0
		return func() float64 {
			at += step
			return 100 + 40*math.Sin(at/86400*2*math.Pi) + 5*r.NormFloat64()
		}
	},
}

// poisson is Knuth's method (The Art of Computer Programming 2, 3.4.1).
func poisson(r *rand.Rand, mean float64) int {
	n, product := 0, r.Float64()
	for limit := math.Exp(-mean); product > limit; n++ {
		product *= r.Float64()
	}
	return n
}

// alarmsInAMonth counts how often one of the series that a box watches is an alarm in 30 days of noise.
// Of a detector it asks odds alone, which is all that a chance comes from.
func alarmsInAMonth(kind string, seed uint64) int {
	next := noises[kind](rand.New(rand.NewPCG(seed, 1)), Step.Seconds())
	o, limit, alarms := new(odds), ChanceLimit(SeriesMax, Step), 0
	for range int(month / Step) {
		if o.add(next()) < limit {
			alarms++
		}
	}
	return alarms
}

func TestAChanceDependsOnValuesAlone(t *testing.T) {
	for kind := range noises {
		r := rand.New(rand.NewPCG(1, 2))
		next, d, o := noises[kind](r, Step.Seconds()), New(Default), new(odds)
		for i := range 3000 {
			v := next()
			if got, want := d.Push(epoch.Add(time.Duration(i)*Step), v).Chance, o.add(v); got != want {
				t.Fatalf("%s, point %d: chance %v, of the values alone %v", kind, i, got, want)
			}
		}
	}
}

func TestARareEventIsNoAlarmWhenItComesAgain(t *testing.T) {
	limit := ChanceLimit(SeriesMax, Step)
	for _, every := range []int{900, 7000, 40_000} {
		d := New(Default)
		for i := range 10 * every {
			v := float64(b2i(i%every == every/2))
			if p := d.Push(epoch.Add(time.Duration(i)*Step), v); p.Chance < limit {
				t.Errorf("one in %d is an alarm at point %d: chance %.1e", every, i, p.Chance)
			}
		}
	}
}

// The short form simulates a quarter of a box's series for the whole month, against the whole box's limit;
// HOLDFAST_NOISE=128 all of them.
func TestStationaryNoiseAlarmsAtMostOnceABoxAMonth(t *testing.T) {
	series := SeriesMax / 4
	if s := os.Getenv("HOLDFAST_NOISE"); s != "" {
		fmt.Sscan(s, &series)
	}
	for kind := range noises {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			alarms := 0
			for s := range series {
				alarms += alarmsInAMonth(kind, uint64(s))
			}
			t.Logf("%d alarms of %d series in a month", alarms, series)
			if alarms > max(1, series/SeriesMax) {
				t.Errorf("%d series had %d alarms in a month; a box of %d may have one", series, alarms, SeriesMax)
			}
		})
	}
}

func TestAnAlarmHearsWhatIsGross(t *testing.T) {
	limit := ChanceLimit(SeriesMax, Step)
	for _, c := range []struct {
		noise, event string
		after        func(v float64) float64
	}{
		{"Gaussian", "doubles", func(v float64) float64 { return 2 * v }},
		{"Gaussian", "stops", func(float64) float64 { return 0 }},
		{"heavy-tailed", "times 100", func(v float64) float64 { return 100 * v }},
		{"waiting times", "times 100", func(v float64) float64 { return 100 * v }},
		{"AR(1)", "doubles", func(v float64) float64 { return 2 * v }},
		{"a day with noise", "times five", func(v float64) float64 { return 5 * v }},
		{"a counter's rate", "times ten", func(v float64) float64 { return 10 * v }},
		{"a busy counter's rate", "times five", func(v float64) float64 { return 5 * v }},
		{"quantised", "doubles", func(v float64) float64 { return 2 * v }},
	} {
		for _, days := range []int{1, 7} {
			next := noises[c.noise](rand.New(rand.NewPCG(9, 9)), Step.Seconds())
			d := New(Default)
			event := days * int(24*time.Hour/Step)
			least, usual := 1.0, 1.0
			for i := range event + 40 {
				v := next()
				if i >= event {
					v = c.after(v)
				}
				p := d.Push(epoch.Add(time.Duration(i)*Step), v)
				if i >= event {
					least = min(least, p.Chance)
				} else {
					usual = min(usual, p.Chance)
				}
			}
			t.Logf("%s %s after %d days: chance %.1e, before at least %.1e, limit %.1e", c.noise, c.event, days, least, usual, limit)
			if least >= limit {
				t.Errorf("%s %s after %d days: not an alarm", c.noise, c.event, days)
			}
		}
	}
}
