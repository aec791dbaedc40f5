package cli

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// look of the terminal: whether it has colours and letters beyond ASCII, and how wide it is.
type style struct {
	color, unicode bool
	width          int
}

// widthPlain is for pipes and files.
const widthPlain = 80

// styleOf is how w is to be written to. NO_COLOR (no-color.org) and TERM=dumb are heeded.
func styleOf(w io.Writer) style {
	s := style{width: widthPlain}
	locale := cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG"))
	s.unicode = strings.Contains(strings.ToUpper(strings.ReplaceAll(locale, "-", "")), "UTF8")
	if isTerminal(w) {
		s.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if cols, _ := sizeOf(w); cols > 0 {
			s.width = cols
		}
	}
	return s
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (s style) paint(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// pick is one of two texts, by what the terminal can show.
func (s style) pick(unicode, ascii string) string {
	if s.unicode {
		return unicode
	}
	return ascii
}

// spark is a small graph of the newest values, as many as n, from 0 to their largest.
func (s style) spark(points []remote.Point, n int) string {
	bars := []rune(s.pick("▁▂▃▄▅▆▇█", "_.-=+*#@"))
	points = points[max(0, len(points)-n):]
	most := 0.0
	for _, p := range points {
		most = max(most, p.Value)
	}
	var b strings.Builder
	for _, p := range points {
		i := 0
		if most > 0 && p.Value > 0 {
			i = min(int(math.Ceil(p.Value/most*float64(len(bars)))), len(bars)) - 1
		}
		b.WriteRune(bars[i])
	}
	return b.String()
}

func last(points []remote.Point) (float64, bool) {
	if len(points) == 0 {
		return 0, false
	}
	return points[len(points)-1].Value, true
}

// seconds writes a short time so that it can be read.
func seconds(v float64) string {
	switch {
	case v < 1e-3:
		return fmt.Sprintf("%.0f us", v*1e6)
	case v < 0.1:
		return fmt.Sprintf("%.1f ms", v*1e3)
	case v < 1:
		return fmt.Sprintf("%.0f ms", v*1e3)
	}
	return fmt.Sprintf("%.1f s", v)
}

// bytesOf writes bytes in units of 1024.
func bytesOf(v float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1024 {
			if unit == "B" || v >= 100 {
				return fmt.Sprintf("%.0f %s", v, unit)
			}
			return fmt.Sprintf("%.1f %s", v, unit)
		}
		v /= 1024
	}
	return fmt.Sprintf("%.1f TiB", v)
}

// grouped writes a count with spaces between thousands.
func grouped(n uint64) string {
	t := fmt.Sprint(n)
	var b strings.Builder
	for i, c := range t {
		if i > 0 && (len(t)-i)%3 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// ago is a time in the past, in its two largest units at most.
func ago(d time.Duration) string {
	d = d.Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", max(d, 0)/time.Second)
}

// wrap breaks text into lines of at most width characters, at spaces where there are some.
func wrap(text string, width int) (lines []string) {
	line := ""
	for w := range strings.FieldsSeq(text) {
		switch n := utf8.RuneCountInString(line) + 1 + utf8.RuneCountInString(w); {
		case line == "":
			line = w
		case n > width:
			lines, line = append(lines, line), w
		default:
			line += " " + w
		}
	}
	return append(lines, line)
}

// cut shortens text to width characters.
func (s style) cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	end := s.pick("…", "~")
	return string([]rune(text)[:max(0, width-1)]) + end
}

// padded is text in a column of a width, to the left or to the right of it.
func padded(text string, width int, right bool) string {
	gap := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
	if right {
		return gap + text
	}
	return text + gap
}

// draw gives the lines of an overview, none longer than the terminal is wide.
func (o *overview) draw(s style) (lines []string) {
	st, width := &o.Status, max(40, s.width)
	up := 0
	for i := range st.Members {
		if st.Members[i].Up {
			up++
		}
	}
	mood := green
	switch {
	case !st.Serving || st.Fault != "":
		mood = red
	case len(o.Steps) > 0 || len(o.Alarms) > 0:
		mood = yellow
	}
	for i, l := range wrap(plain(st.Verdict), width-2) {
		dot := "  "
		if i == 0 {
			dot = s.paint(mood, s.pick("●", "*")) + " "
		}
		lines = append(lines, dot+s.paint(bold, l))
	}
	for _, step := range o.Steps {
		for i, l := range wrap(step, width-4) {
			arrow := "    "
			if i == 0 {
				arrow = "  " + s.paint(yellow, s.pick("→", ">")) + " "
			}
			lines = append(lines, arrow+l)
		}
	}
	lines = append(lines, "")
	row := func(name, text string) {
		lines = append(lines, "  "+s.paint(dim, padded(name, 9, false))+s.cut(text, width-11))
	}
	dot := s.pick(" · ", ", ")
	row("box", fmt.Sprintf("%s (%v)%sup %s%s%s", plain(st.Name), st.ID, dot, ago(st.Taken.Sub(st.Started)), dot, plain(st.Version)))
	row("site", fmt.Sprintf("%v%s%d of %d boxes up%s%d may fail%s%d must agree", st.Site, dot, up, st.N, dot, st.F, dot, st.Quorum))
	row("leader", fmt.Sprintf("%s%sround %s%sepoch %d", plain(nameOf(st.Members, st.Leader)), dot, grouped(st.Round), dot, st.Epoch))
	row("height", fmt.Sprintf("%s%srevision %s%s%s messages applied", grouped(st.Height), dot, grouped(st.Revision), dot, grouped(st.Applied)))
	if all := o.Now["disk_bytes"]; all > 0 {
		row("disk", fmt.Sprintf("%s free of %s", bytesOf(o.Now["disk_free_bytes"]), bytesOf(all)))
	}
	if n := len(o.Crashes); n > 0 {
		last := &o.Crashes[0]
		row("crashes", fmt.Sprintf("%d%slast %s ago (%s): holdfast crash show", n, dot, ago(st.Taken.Sub(last.At)), plain(last.How)))
	}
	lines = append(lines, "")
	lines = append(lines, o.graphs(s, width)...)
	lines = append(lines, "")
	lines = append(lines, o.boxes(s, width)...)
	if len(o.Alarms) > 0 {
		lines = append(lines, "", "  "+s.paint(bold, "ALARMS"))
	}
	for i := range o.Alarms {
		a := &o.Alarms[i]
		code := yellow
		if a.Severity == "critical" {
			code = red
		}
		what := cmp.Or(a.Annotations["summary"], a.Name)
		text := s.cut(fmt.Sprintf("%s for %s: %s", a.Severity, ago(time.Since(a.Since)), plain(what)), width-4)
		if a.Ending() {
			note := " (not so for " + ago(time.Since(a.Away)) + ")"
			text, code = s.cut(text, width-4-len(note))+note, dim
		}
		if a.Silenced != "" {
			text, code = s.cut(text, width-15)+" (silenced)", dim
		}
		lines = append(lines, "  "+s.paint(code, s.pick("▲", "!"))+" "+text)
	}
	return lines
}

// graphs are the figures, with how they became what they are.
func (o *overview) graphs(s style, width int) (lines []string) {
	room := min(historySteps, width-11-26-2)
	add := func(name, value string, points []remote.Point) {
		line := "  " + s.paint(dim, padded(name, 9, false)) + padded(value, 26, false)
		if len(points) > 1 && room > 0 {
			line += s.paint(cyan, s.spark(points, room))
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	st := &o.Status
	add("rate", fmt.Sprintf("%.1f messages/s", st.Rate), o.Rate)
	if n := st.Counters.LatencyCount; n > 0 {
		mean := st.Counters.LatencySum.Seconds() / float64(n)
		text := "mean " + seconds(mean) + " since start"
		if v, ok := last(o.Latency); ok {
			text = "mean " + seconds(v)
		}
		add("decision", text, o.Latency)
	}
	if len(o.Phases) > 0 {
		list := slices.Clone(o.Phases) // the whole, then what takes longest
		slices.SortFunc(list, func(a, b phase) int {
			switch "" {
			case a.Name:
				return -1
			case b.Name:
				return 1
			}
			return cmp.Compare(b.Seconds, a.Seconds)
		})
		var parts []string
		for _, p := range list {
			parts = append(parts, strings.TrimSpace(plain(p.Name)+" "+seconds(p.Seconds)))
		}
		lines = append(lines, "  "+s.paint(dim, padded("p99", 9, false))+s.cut(strings.Join(parts, s.pick(" · ", ", ")), width-11))
	}
	if v, ok := last(o.CPU); ok {
		text := fmt.Sprintf("%.0f%% of a core", 100*v)
		if m, ok := o.Now["memory_bytes"]; ok {
			text += ", " + bytesOf(m)
		}
		add("cpu", text, o.CPU)
	}
	if v, ok := o.Now["log_bytes_per_second"]; ok {
		dot := s.pick(" · ", ", ")
		text := fmt.Sprintf("disk %s/s, %.0f syncs/s", bytesOf(v), o.Now["syncs_per_second"])
		if n, ok := o.Now["sent_bytes_per_second"]; ok {
			text += fmt.Sprintf("%slinks %s/s", dot, bytesOf(n))
		}
		if n, ok := o.Now["overhead_ratio"]; ok {
			text += fmt.Sprintf("%s%.1f sent/message", dot, n)
		}
		lines = append(lines, "  "+s.paint(dim, padded("load", 9, false))+s.cut(text, width-11))
	}
	return lines
}

// boxes is the table of the site's boxes.
func (o *overview) boxes(s style, width int) (lines []string) {
	st := &o.Status
	narrow := width < 64
	most := min(24, width-44)
	if narrow { // no room for all columns
		most = min(24, width-26)
	}
	name := 4
	for i := range st.Members {
		name = max(name, min(most, utf8.RuneCountInString(plain(st.Members[i].Label()))))
	}
	columns := func(box, late, rtt, heard string) string {
		if narrow {
			return fmt.Sprintf("%s  %s  ", padded(s.cut(box, name), name, false), padded(late, 8, true))
		}
		return fmt.Sprintf("%s  %s %s %s  ", padded(s.cut(box, name), name, false), padded(late, 8, true), padded(rtt, 9, true), padded(heard, 7, true))
	}
	head := columns("BOX", "LAG", "RTT", "HEARD")
	room := width - 2 - utf8.RuneCountInString(head)
	lines = append(lines, "  "+s.paint(dim, head+"STATE"))
	for i := range st.Members {
		m := &st.Members[i]
		state, code, rtt, heard := "up", green, "", ""
		if m.Heard.Year() > 1 {
			heard = ago(st.Taken.Sub(m.Heard))
		}
		switch {
		case m.Self:
			state, heard = "this box", ""
		case !m.Up:
			state, code = "AWAY", red
		default:
			rtt = seconds(m.RTT.Seconds())
		}
		if m.ID == st.Leader && m.Up {
			state += ", leads"
		}
		if m.Up && m.VotesFrom > st.Round {
			state, code = state+", does not vote yet", yellow
		}
		if m.Suspect > 0 {
			state, code = state+fmt.Sprintf(", %d things did not hold", m.Suspect), yellow
		}
		if m.Twins > 0 {
			state, code = state+", ON TWO MACHINES", red
		}
		late := ""
		if m.Up {
			late = grouped(lag(st, m))
		}
		lines = append(lines, "  "+columns(plain(m.Label()), late, rtt, heard)+s.paint(code, s.cut(state, room)))
	}
	return lines
}
