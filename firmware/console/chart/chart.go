// Package chart draws figures for people who look and for people who listen: lines, areas, bars and sparklines as SVG that
// the box makes, so that a browser needs no script for it, each with a title, a description and the same data as a table.
//
// Drawings have no colours and no sizes of text: classes c1 to c6 name series, and the page's style says what these are in
// the light and in the dark. They are as wide as their place; only what is drawn is stretched, never text. Given the same
// data they are the same to the byte, so that a page that has not changed is not sent again. All text is escaped.
package chart

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

// Limits of one figure: what a phone can show. What is beyond is left out, and the table says so.
const (
	seriesMax = 12
	pointsMax = 600
	rowsMax   = 300
	colours   = 6
	valueMax  = 1e150 // beyond it nothing is a quantity, and differences of what is below it are finite
)

// Point is a value at a time; NaN is a gap.
type Point struct {
	At    time.Time
	Value float64
}

// Series is a line of a chart. Points ascend in time.
type Series struct {
	Name   string
	Points []Point
}

// Mark is a level to compare with, such as a budget.
type Mark struct {
	Name  string
	Value float64
}

// Chart is values over time.
type Chart struct {
	// ID is the figure's on its page: letters, digits and dashes.
	ID    string
	Title string
	// About says in a sentence what is shown; it is read to who does not see it.
	About    string
	Unit     Unit
	From, To time.Time
	Series   []Series
	// Area fills what is below the lines; Stack adds each series to those before it, and fills too. Zero has the axis begin at 0,
	// which it does anyway unless all values are far above.
	Area, Stack, Zero bool
	Mark              *Mark
	// Height is in CSS pixels; 0: 180.
	Height int
}

const (
	heightDefault = 180
	axisHeight    = 22   // below the drawing, for the time
	topRoom       = 18   // above it, for the highest label
	width         = 1000 // of the drawing's own coordinates; it is stretched to its place
)

// HTML is the whole figure: caption, legend, drawing, and the table in a <details>.
func (c *Chart) HTML() template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<figure class="chart" id="%s" data-key="%s"><figcaption><span>%s</span>`, esc(c.ID), esc(c.ID), esc(c.Title))
	if v, ok := c.last(); ok && len(c.Series) == 1 {
		fmt.Fprintf(&b, `<strong>%s</strong>`, esc(c.Unit.Text(v)))
	}
	b.WriteString(`</figcaption>`)
	c.legend(&b)
	b.WriteString(string(c.SVG()))
	b.WriteString(`<details><summary>As a table</summary>`)
	b.WriteString(string(c.Table()))
	b.WriteString(`</details></figure>`)
	return template.HTML(b.String()) // every text in it was escaped
}

func (c *Chart) legend(b *strings.Builder) {
	if len(c.Series) < 2 && c.Mark == nil {
		return
	}
	b.WriteString(`<ul class="legend">`)
	for i, s := range c.shown() {
		value := ""
		if n := len(s.Points); n > 0 && valid(s.Points[n-1].Value) {
			value = c.Unit.Text(s.Points[n-1].Value)
		}
		fmt.Fprintf(b, `<li class="%s">%s <b>%s</b></li>`, class(i), esc(s.Name), esc(value))
	}
	if c.Mark != nil {
		fmt.Fprintf(b, `<li class="mark">%s <b>%s</b></li>`, esc(c.Mark.Name), esc(c.Unit.Text(c.Mark.Value)))
	}
	b.WriteString(`</ul>`)
}

func (c *Chart) shown() []Series { return c.Series[:min(len(c.Series), seriesMax)] }

func (c *Chart) last() (float64, bool) {
	for _, s := range c.Series {
		for i := len(s.Points) - 1; i >= 0; i-- {
			if v := s.Points[i].Value; valid(v) {
				return v, true
			}
		}
	}
	return 0, false
}

// SVG is the drawing alone.
func (c *Chart) SVG() template.HTML {
	h := c.Height
	if h <= 0 {
		h = heightDefault
	}
	plot := h - axisHeight
	stacks := c.stacked()
	low, high := c.extent(stacks)
	ticks := niceTicks(low, high, max(2, plot/50), c.Unit)
	low, high = min(low, ticks[0]), max(high, ticks[len(ticks)-1])
	y := func(v float64) float64 { return float64(plot) - (v-low)/(high-low)*float64(plot-topRoom) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="plot" width="100%%" height="%d" role="img" aria-labelledby="%s-t %s-d"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>`,
		h, esc(c.ID), esc(c.ID), esc(c.ID), esc(c.Title), esc(c.ID), esc(c.describe()))
	for _, t := range ticks {
		fmt.Fprintf(&b, `<line class="grid" x1="0" x2="100%%" y1="%s" y2="%s"/>`, num(y(t)), num(y(t)))
	}
	fmt.Fprintf(&b, `<svg x="0" y="0" width="100%%" height="%d" viewBox="0 0 %d %d" preserveAspectRatio="none">`, plot, width, plot)
	c.draw(&b, stacks, y)
	b.WriteString(`</svg>`)
	if c.Mark != nil && c.Mark.Value >= low && c.Mark.Value <= high {
		fmt.Fprintf(&b, `<line class="mark" x1="0" x2="100%%" y1="%s" y2="%s"/>`, num(y(c.Mark.Value)), num(y(c.Mark.Value)))
	}
	for _, t := range ticks {
		fmt.Fprintf(&b, `<text x="0" y="%s">%s</text>`, num(y(t)-4), esc(c.Unit.Tick(t, high)))
	}
	c.timeAxis(&b, h)
	if _, any := c.last(); !any {
		fmt.Fprintf(&b, `<text class="none" x="50%%" y="%d" text-anchor="middle">no data in this time</text>`, plot/2)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // every text in it was escaped
}

// x is a time's place, 0 to width.
func (c *Chart) x(t time.Time) float64 {
	return float64(t.Sub(c.From)) / float64(max(c.To.Sub(c.From), 1)) * width
}

func (c *Chart) draw(b *strings.Builder, stacks [][]Point, y func(float64) float64) {
	base := y(0)
	for i := len(stacks) - 1; i >= 0; i-- { // the first lies on top
		for _, run := range runs(stacks[i]) {
			line := c.path(run, y)
			if c.Area || c.Stack {
				fmt.Fprintf(b, `<path class="area %s" d="%sL%s %sL%s %sZ"/>`, class(i), line, num(c.x(run[len(run)-1].At)), num(base), num(c.x(run[0].At)), num(base))
			}
			if len(run) == 1 { // a point alone is a short line, so that it is seen
				line += "h2"
			}
			fmt.Fprintf(b, `<path class="line %s" vector-effect="non-scaling-stroke" d="%s"/>`, class(i), line)
		}
	}
}

func (c *Chart) path(run []Point, y func(float64) float64) string {
	var b strings.Builder
	for i, p := range run {
		b.WriteByte("ML"[min(i, 1)])
		b.WriteString(num(c.x(p.At)) + " " + num(y(p.Value)))
	}
	return b.String()
}

// runs are the stretches of points without a gap.
func runs(list []Point) (out [][]Point) {
	start := 0
	for i := 0; i <= len(list); i++ {
		if i < len(list) && !math.IsNaN(list[i].Value) {
			continue
		}
		if i > start {
			out = append(out, list[start:i])
		}
		start = i + 1
	}
	return out
}

// stacked are the points as they are drawn: thinned, within the time, and one upon the other if the chart stacks.
func (c *Chart) stacked() [][]Point {
	var out [][]Point
	sum := map[time.Time]float64{}
	for _, s := range c.shown() {
		list := make([]Point, 0, len(s.Points))
		for _, p := range thin(s.Points) {
			if p.At.Before(c.From) || p.At.After(c.To) {
				continue
			}
			if !valid(p.Value) {
				p.Value = math.NaN()
			}
			if c.Stack && !math.IsNaN(p.Value) {
				sum[p.At] += p.Value
				p.Value = sum[p.At]
			}
			list = append(list, p)
		}
		out = append(out, list)
	}
	return out
}

// thin keeps every nth point, and the last.
func thin(list []Point) []Point {
	if len(list) <= pointsMax {
		return list
	}
	step := (len(list) + pointsMax - 1) / pointsMax
	out := make([]Point, 0, pointsMax+1)
	for i := (len(list) - 1) % step; i < len(list); i += step {
		out = append(out, list[i])
	}
	return out
}

// extent is what the axis must show.
func (c *Chart) extent(stacks [][]Point) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, s := range stacks {
		for _, p := range s {
			if !math.IsNaN(p.Value) {
				low, high = min(low, p.Value), max(high, p.Value)
			}
		}
	}
	if math.IsInf(low, 1) {
		low, high = 0, 1
	}
	if c.Mark != nil && c.Mark.Value <= high*3 { // a level far away would make the rest flat
		high = max(high, c.Mark.Value)
	}
	if c.Zero || c.Area || c.Stack || low >= 0 && low < high*.7 {
		low, high = min(low, 0), max(high, 0)
	}
	if high-low < math.Abs(high)*1e-9 || high == low {
		low, high = min(low, 0), high+max(math.Abs(high), 1)*.1
	}
	return low, high
}

// describe says what a reader would see.
func (c *Chart) describe() string {
	var b strings.Builder
	b.WriteString(c.About)
	for _, s := range c.shown() {
		low, high, last := math.Inf(1), math.Inf(-1), math.NaN()
		for _, p := range s.Points {
			if valid(p.Value) {
				low, high, last = min(low, p.Value), max(high, p.Value), p.Value
			}
		}
		if math.IsNaN(last) {
			fmt.Fprintf(&b, " %s: no data.", s.Name)
			continue
		}
		fmt.Fprintf(&b, " %s: from %s to %s, last %s.", s.Name, c.Unit.Text(low), c.Unit.Text(high), c.Unit.Text(last))
	}
	return strings.TrimSpace(b.String())
}

// valid says whether v is a quantity.
func valid(v float64) bool { return math.Abs(v) <= valueMax } // NaN is not

func class(i int) string { return fmt.Sprintf("c%d", i%colours+1) }

// esc makes text of anything: what XML has no characters for is replaced.
func esc(s string) string {
	return template.HTMLEscapeString(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0xfffe || r == 0xffff {
			return '\ufffd'
		}
		return r
	}, s))
}

// num is a coordinate with as many digits as can be seen.
func num(v float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
}
