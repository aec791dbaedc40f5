package result

import (
	"fmt"
	"io"
)

// tolerance is how far a median may move without anybody's doing: what two runs of the same program gave here at most,
// with the machine's speed taken out.
const tolerance = 0.25

// Change is one figure of one key in two runs.
type Change struct {
	Key
	Figure Figure
	Old    Span
	New    Span
	// Ratio is new over old, both for the same speed of the machine; above 1 is more.
	Ratio float64
	// Clear says that the ratio is beyond noise: by more than the tolerance, and the two runs' ranges do not touch.
	Clear bool
}

// Worse says that it is a regression.
func (c *Change) Worse() bool { return c.Clear && c.Figure.Less == (c.Ratio > 1) }

// Compare compares what both files have. Where both have a reference, figures of time are given for the same speed of the
// machine.
func Compare(old, now *File, figures []Figure) (all []Change) {
	speed := 1.0 // of now's machine over old's
	if a, b := SpanOf(old.Reference).Median, SpanOf(now.Reference).Median; a > 0 && b > 0 {
		speed = b / a
	}
	for _, s := range now.Series() {
		o := old.Find(s.Key)
		if o == nil {
			continue
		}
		for _, g := range figures {
			c := Change{Key: s.Key, Figure: g, Old: o.Of(g.Of), New: s.Of(g.Of)}
			if c.Old.Median == 0 || c.New.Median == 0 {
				continue
			}
			by := scale(g.Name, speed)
			n := Span{c.New.Low * by, c.New.Median * by, c.New.High * by}
			c.Ratio = n.Median / c.Old.Median
			c.Clear = (c.Ratio > 1+tolerance || c.Ratio < 1/(1+tolerance)) && (n.Low > c.Old.High || n.High < c.Old.Low)
			all = append(all, c)
		}
	}
	return all
}

// scale brings a figure of a machine that is speed times as fast to the speed of the other.
func scale(figure string, speed float64) float64 {
	switch figure {
	case Rate.Name:
		return 1 / speed
	case P50.Name, P90.Name, P99.Name, Max.Name, CPU.Name:
		return speed
	}
	return 1
}

// PrintChanges writes a comparison as a Markdown table and says how many are regressions.
func PrintChanges(w io.Writer, all []Change) (worse int, err error) {
	if _, err := fmt.Fprintf(w, "| load | delay ms | system | figure | before | now | ratio at the same speed | |\n|---|---|---|---|---|---|---|---|\n"); err != nil {
		return 0, err
	}
	for i := range all {
		c := &all[i]
		says := "within noise"
		switch {
		case c.Worse():
			says = "**worse**"
			worse++
		case c.Clear:
			says = "better"
		}
		form := func(s Span) string {
			return fmt.Sprintf(c.Figure.Form+" ("+c.Figure.Form+" to "+c.Figure.Form+")", s.Median, s.Low, s.High)
		}
		if _, err := fmt.Fprintf(w, "| %s | %g | %s | %s | %s | %s | %.2f | %s |\n",
			c.Load, c.Delay, c.System, c.Figure.Name, form(c.Old), form(c.New), c.Ratio, says); err != nil {
			return 0, err
		}
	}
	return worse, nil
}
