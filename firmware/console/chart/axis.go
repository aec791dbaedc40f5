package chart

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// niceTicks are at most about n+1 round values that cover low to high.
func niceTicks(low, high float64, n int, u Unit) []float64 {
	step := niceStep((high-low)/float64(n), u)
	var out []float64
	for i, first := 0, math.Floor(low/step+1e-9); ; i++ {
		v := (first + float64(i)) * step
		out = append(out, v)
		if v >= high-step*1e-9 || i > 4*n {
			return out
		}
	}
}

// niceStep is the next of 1, 2 and 5 times a power of ten; of bytes, times a power of 1024 first.
func niceStep(raw float64, u Unit) float64 {
	scale := 1.0
	if u == Bytes || u == BytesRate {
		for raw/scale >= 1024 {
			scale *= 1024
		}
	}
	raw /= scale
	p := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5, 10} {
		if raw <= m*p*(1+1e-9) {
			return m * p * scale
		}
	}
	return 10 * p * scale
}

// timeSteps are the distances between labels of the time.
var timeSteps = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 7 * 24 * time.Hour, 14 * 24 * time.Hour, 30 * 24 * time.Hour,
}

// labelsMax is how many labels of time fit on a phone.
const labelsMax = 4

func (c *Chart) timeAxis(b *strings.Builder, h int) {
	span := c.To.Sub(c.From)
	if span <= 0 {
		return
	}
	step := max(timeSteps[len(timeSteps)-1], span/labelsMax)
	for _, s := range timeSteps {
		if span/s <= labelsMax {
			step = s
			break
		}
	}
	format := "15:04"
	switch {
	case step < time.Minute:
		format = "15:04:05"
	case step >= 24*time.Hour:
		format = "2 Jan"
	case span > 24*time.Hour:
		format = "2 Jan 15:04"
	}
	for t := c.From.UTC().Truncate(step); !t.After(c.To); t = t.Add(step) {
		at := c.x(t) / width * 100
		if at < 0 {
			continue
		}
		anchor := "middle"
		switch {
		case at < 6:
			anchor = "start"
		case at > 94:
			anchor = "end"
		}
		fmt.Fprintf(b, `<text x="%s%%" y="%d" text-anchor="%s">%s</text>`, num(at), h-6, anchor, t.Format(format))
	}
}
