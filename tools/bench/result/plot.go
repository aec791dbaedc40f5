package result

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Size of a plot, in SVG units.
const (
	plotWidth, plotHeight                        = 860.0, 480.0
	plotLeft, plotRight, plotTop, plotBottom     = 70.0, 190.0, 50.0, 60.0
	axisLetter, plotDotRadius, plotLineThickness = 13, 4, 2
)

// hues tell systems apart, also for those who see few colours: each has a dash of its own, too.
var (
	hues   = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f"}
	dashes = []string{"", "6 3", "2 3", "8 3 2 3", "12 4", "1 4", "4 4", "10 2"}
)

type dot struct{ rate, low, mid, high float64 }

// Plot draws latency against rate, both in powers of ten: a line for each system and delay through its loads whose names
// begin with one of these, from the median of p50 (dot) up to that of p99 (whisker). It reads well on light and dark ground.
func Plot(f *File, title string, loads []string) ([]byte, error) {
	lines := map[string][]dot{}
	var names []string
	for _, s := range f.Series() {
		// Clients that share connections are another line, which two points do not make.
		if strings.Contains(s.Load, "/") || !slices.ContainsFunc(loads, func(p string) bool { return strings.HasPrefix(s.Load, p) }) {
			continue
		}
		name := s.System
		if s.Delay > 0 {
			name += fmt.Sprintf(", %g ms", s.Delay)
		}
		d := dot{s.Of(Rate.Of).Median, s.Of(P50.Of).Median, s.Of(P90.Of).Median, s.Of(P99.Of).Median}
		if d.rate <= 0 || d.low <= 0 {
			continue
		}
		if lines[name] == nil {
			names = append(names, name)
		}
		lines[name] = append(lines[name], d)
	}
	if len(names) == 0 {
		return nil, errors.New("nothing to plot")
	}
	x, y := axis{low: math.Inf(1)}, axis{low: math.Inf(1)}
	for _, ds := range lines {
		for _, d := range ds {
			x.take(d.rate)
			y.take(d.low)
			y.take(max(d.low, d.high))
		}
	}
	x.from, x.to = plotLeft, plotWidth-plotRight
	y.from, y.to = plotHeight-plotBottom, plotTop
	x.widen()
	y.widen()
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="%d" role="img" aria-label="%s">
<style>text{fill:#333}line.g{stroke:#8884;stroke-width:1}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>
<text x="%g" y="26" font-size="17">%s</text>
`, plotWidth, plotHeight, axisLetter, html.EscapeString(title), plotLeft, html.EscapeString(title))
	for _, v := range x.ticks() {
		p := x.at(v)
		fmt.Fprintf(&b, `<line class="g" x1="%.1f" y1="%g" x2="%.1f" y2="%g"/><text x="%.1f" y="%g" text-anchor="middle">%s</text>`+"\n", p, y.from, p, y.to, p, y.from+18, short(v))
	}
	for _, v := range y.ticks() {
		p := y.at(v)
		fmt.Fprintf(&b, `<line class="g" x1="%g" y1="%.1f" x2="%g" y2="%.1f"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`+"\n", x.from, p, x.to, p, x.from-8, p+4, short(v))
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle">messages a second</text>`+"\n", (x.from+x.to)/2, plotHeight-16)
	fmt.Fprintf(&b, `<text x="18" y="%g" transform="rotate(-90 18 %g)" text-anchor="middle">milliseconds, p50 to p99</text>`+"\n", (y.from+y.to)/2, (y.from+y.to)/2)
	for i, name := range names {
		ds := lines[name]
		slices.SortStableFunc(ds, func(a, c dot) int { return cmp.Compare(a.rate, c.rate) })
		hue, dash := hues[i%len(hues)], dashes[i%len(dashes)]
		var path strings.Builder
		for k, d := range ds {
			px, py := x.at(d.rate), y.at(d.low)
			fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[k == 0], px, py)
			fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" opacity="0.6"/><circle cx="%.1f" cy="%.1f" r="%d" fill="%s"/>`+"\n",
				px, py, px, y.at(max(d.low, d.high)), hue, px, py, plotDotRadius, hue)
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="%d" stroke-dasharray="%s"/>`+"\n", path.String(), hue, plotLineThickness, dash)
		ly := plotTop + 8 + 20*float64(i)
		fmt.Fprintf(&b, `<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="%s" stroke-width="%d" stroke-dasharray="%s"/><text x="%g" y="%g">%s</text>`+"\n",
			x.to+12, ly, x.to+40, ly, hue, plotLineThickness, dash, x.to+46, ly+4, html.EscapeString(name))
	}
	b.WriteString("</svg>\n")
	return b.Bytes(), nil
}

// axis maps values to places, by their logarithm.
type axis struct{ low, high, from, to float64 }

func (a *axis) take(v float64) { a.low, a.high = min(a.low, v), max(a.high, v) }

func (a *axis) widen() { a.low, a.high = a.low/1.3, a.high*1.3 }

func (a *axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
}

// ticks are 1, 2 and 5 times powers of ten.
func (a *axis) ticks() (all []float64) {
	for e := math.Floor(math.Log10(a.low)); e <= math.Log10(a.high); e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); v >= a.low && v <= a.high {
				all = append(all, v)
			}
		}
	}
	return all
}

func short(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%gk", v/1000)
	}
	return fmt.Sprintf("%g", math.Round(v*100)/100)
}
