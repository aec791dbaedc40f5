package chart

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Bar is one of several things that are compared.
type Bar struct {
	Name  string
	Value float64
	// Note stands beside the value.
	Note string
}

// Bars compares things by length. Its drawing is a table already.
type Bars struct {
	Title, About string
	Unit         Unit
	Bars         []Bar
	// Full is the value of a whole bar; 0: the greatest.
	Full float64
}

// HTML is a table with a bar in each row.
func (c *Bars) HTML() template.HTML {
	full := c.Full
	if full <= 0 {
		for _, x := range c.Bars {
			if !math.IsInf(x.Value, 0) && x.Value > full { // NaN is not greater
				full = x.Value
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<table class="bars"><caption>%s`, esc(c.Title))
	if c.About != "" {
		fmt.Fprintf(&b, ` <span class="dim">%s</span>`, esc(c.About))
	}
	b.WriteString(`</caption><tbody>`)
	for _, x := range c.Bars {
		part := 0.0
		if full > 0 && x.Value > 0 {
			part = min(x.Value/full*100, 100)
		}
		fmt.Fprintf(&b, `<tr data-key="%s"><th scope="row">%s</th><td class="bar"><svg width="100%%" height="10" aria-hidden="true"><rect class="rail" width="100%%" height="10" rx="2"/><rect class="c1" width="%s%%" height="10" rx="2"/></svg></td><td class="n">%s</td>`,
			esc(x.Name), esc(x.Name), num(part), esc(c.Unit.Text(x.Value)))
		if x.Note != "" {
			fmt.Fprintf(&b, `<td class="dim">%s</td>`, esc(x.Note))
		}
		b.WriteString(`</tr>`)
	}
	b.WriteString(`</tbody></table>`)
	return template.HTML(b.String()) // every text in it was escaped
}

// Spark is a line without axes, beside a figure that says its last value. The label says what a listener should know.
func Spark(label string, points []Point) template.HTML {
	const h = 32
	c := Chart{Series: []Series{{Points: points}}, Zero: true}
	if len(points) > 0 {
		c.From, c.To = points[0].At, points[len(points)-1].At
	}
	stacks := c.stacked()
	low, high := c.extent(stacks)
	y := func(v float64) float64 { return h - 2 - (v-low)/(high-low)*(h-4) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" width="100%%" height="%d" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s">`, h, width, h, esc(label))
	c.Area = true
	c.draw(&b, stacks, y)
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // every text in it was escaped
}
