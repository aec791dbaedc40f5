package chart

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
)

// Table is the data of the chart, a row for each time, the newest first.
func (c *Chart) Table() template.HTML {
	var times []time.Time
	values := make([]map[time.Time]float64, len(c.shown()))
	for i, s := range c.shown() {
		values[i] = map[time.Time]float64{}
		for _, p := range thin(s.Points) {
			values[i][p.At] = p.Value
			times = append(times, p.At)
		}
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	times = slices.CompactFunc(times, time.Time.Equal)
	var b strings.Builder
	fmt.Fprintf(&b, `<div class="wide" tabindex="0" role="region" aria-label="%s, table"><table><thead><tr><th scope="col">Time (UTC)</th>`, esc(c.Title))
	for _, s := range c.shown() {
		fmt.Fprintf(&b, `<th scope="col" class="n">%s</th>`, esc(s.Name))
	}
	b.WriteString(`</tr></thead><tbody>`)
	left := len(times) - rowsMax
	for _, t := range times[:min(len(times), rowsMax)] {
		fmt.Fprintf(&b, `<tr data-key="%d"><th scope="row">%s</th>`, t.Unix(), t.UTC().Format("2006-01-02 15:04:05"))
		for i := range values {
			text := ""
			if v, ok := values[i][t]; ok && valid(v) {
				text = c.Unit.Text(v)
			}
			fmt.Fprintf(&b, `<td class="n">%s</td>`, esc(text))
		}
		b.WriteString(`</tr>`)
	}
	b.WriteString(`</tbody></table></div>`)
	if left > 0 {
		fmt.Fprintf(&b, `<p class="dim">%d older rows are not shown.</p>`, left)
	}
	if hidden := len(c.Series) - seriesMax; hidden > 0 {
		fmt.Fprintf(&b, `<p class="dim">%d more series are not shown.</p>`, hidden)
	}
	return template.HTML(b.String()) // every text in it was escaped
}
