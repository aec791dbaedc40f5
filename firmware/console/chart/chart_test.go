package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func series(name string, values ...float64) Series {
	s := Series{Name: name}
	for i, v := range values {
		s.Points = append(s.Points, Point{noon.Add(time.Duration(i) * time.Minute), v})
	}
	return s
}

func chart(list ...Series) *Chart {
	return &Chart{ID: "x", Title: "Latency", Unit: Seconds, From: noon, To: noon.Add(10 * time.Minute), Series: list}
}

// wellFormed fails when text is not XML, or has a coordinate that is no number.
func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader("<r>" + text + "</r>"))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		e, ok := token.(xml.StartElement)
		for i := 0; ok && i < len(e.Attr); i++ {
			if v := e.Attr[i].Value; strings.Contains(v, "NaN") || strings.Contains(v, "Inf") {
				t.Errorf("%s %s=%q", e.Name.Local, e.Attr[i].Name.Local, v)
			}
			if e.Attr[i].Name.Local == "style" {
				t.Error("a style attribute, which the policy forbids")
			}
		}
	}
}

func TestOddDataIsDrawnAndIsNumbers(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	many := make([]float64, 5000)
	for name, c := range map[string]*Chart{
		"nothing": chart(), "no points": chart(series("a")), "only gaps": chart(series("a", nan, nan)), "one point": chart(series("a", 1)),
		"all zero": chart(series("a", 0, 0, 0)), "all the same": chart(series("a", 7, 7)), "negative": chart(series("a", -3, 2)),
		"infinite": chart(series("a", 1, inf, -inf, 2)), "tiny": chart(series("a", 1e-300, 2e-300)), "huge": chart(series("a", 1e300, 2e300)),
		"huge and negative": chart(series("a", -1.7e308, 1.7e308)), "many": chart(series("a", many...)),
		"no time": {ID: "x", Series: []Series{series("a", 1, 2)}}, "backwards": {ID: "x", From: noon, To: noon.Add(-time.Hour), Series: []Series{series("a", 1, 2)}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, stack := range []bool{false, true} {
				c.Stack = stack
				wellFormed(t, string(c.HTML()))
			}
			if len(c.Series) > 0 {
				wellFormed(t, string(Spark("a", c.Series[0].Points)))
			}
		})
	}
}

func TestNamesAreTextNotMarkup(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	c := chart(series(evil, 1, 2), series(evil, 2, 3))
	c.ID, c.Title, c.About, c.Mark = evil, evil, evil, &Mark{evil, 2}
	bars := Bars{Title: evil, About: evil, Bars: []Bar{{evil, 1, evil}}}
	for _, text := range []string{string(c.HTML()), string(bars.HTML()), string(Spark(evil, c.Series[0].Points))} {
		if strings.Contains(text, "<script") {
			t.Errorf("markup of a name in %s", text)
		}
		wellFormed(t, text)
	}
}

func TestTheTableHasWhatTheDrawingHas(t *testing.T) {
	text := string(chart(series("propose", .001, math.NaN(), .0035), series("vote", .002)).Table())
	for _, want := range []string{"propose", "vote", "2026-11-28 12:02:00", "3.5\u202fms", "1\u202fms", "2\u202fms"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(text, "NaN") || strings.Count(text, "<tr") != 4 {
		t.Errorf("a head and three times: %s", text)
	}
}

func TestAListenerHearsWhatAReaderSees(t *testing.T) {
	c := chart(series("leader", .004, .002, .003))
	c.About = "How long decisions take."
	text := string(c.SVG())
	for _, want := range []string{`role="img"`, "<title", "Latency</title>", "How long decisions take. leader: from 2\u202fms to 4\u202fms, last 3\u202fms.</desc>"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

func TestAGapIsNotBridged(t *testing.T) {
	text := string(chart(series("a", 1, 2, math.NaN(), 3, 4)).SVG())
	if n := strings.Count(text, `class="line`); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

func TestALevelFarAwayDoesNotFlattenTheRest(t *testing.T) {
	c := chart(series("a", 1, 2))
	c.Mark = &Mark{"budget", 2.5}
	if !strings.Contains(string(c.SVG()), `class="mark"`) {
		t.Error("a level that fits is not drawn")
	}
	c.Mark.Value = 1000
	if strings.Contains(string(c.SVG()), `class="mark"`) {
		t.Error("a level far away is drawn")
	}
}

func TestValuesAreWrittenForPeople(t *testing.T) {
	for _, tc := range []struct {
		unit Unit
		v    float64
		want string
	}{
		{Seconds, .00035, "350 µs"},
		{Seconds, .00421, "4.21 ms"},
		{Seconds, 3.5, "3.5 s"},
		{Seconds, 86400 * 3, "3 d"},
		{Seconds, 0, "0 µs"},
		{Bytes, 1536, "1.5 KiB"},
		{BytesRate, 5 << 20, "5 MiB/s"},
		{Ratio, .4567, "45.7 %"},
		{Rate, 12345, "12.3k/s"},
		{None, 999, "999"},
		{Celsius, 48.25, "48.3 °C"},
		{None, math.NaN(), "none"},
		{None, 1234567, "1.23M"},
	} {
		if got := tc.unit.Text(tc.v); strings.ReplaceAll(got, "\u202f", " ") != tc.want {
			t.Errorf("%v %s is %q, want %q", tc.v, tc.unit, got, tc.want)
		}
	}
}

func TestTicksAreRoundAndCover(t *testing.T) {
	for _, tc := range [][2]float64{{0, .0042}, {0, 97}, {-3, 8}, {1e6, 3e6}, {0, 5 << 20}} {
		ticks := niceTicks(tc[0], tc[1], 3, None)
		if len(ticks) < 2 || len(ticks) > 7 || ticks[0] > tc[0] || ticks[len(ticks)-1] < tc[1]*(1-1e-6) {
			t.Errorf("%v: %v", tc, ticks)
		}
	}
}

func FuzzChart(f *testing.F) {
	f.Add(1.0, 2.0, int64(60), "s")
	f.Fuzz(func(t *testing.T, a, b float64, seconds int64, unit string) {
		c := chart(series("a", a, b))
		c.Unit, c.To = Unit(unit), c.From.Add(time.Duration(seconds))
		wellFormed(t, strings.ToValidUTF8(string(c.SVG()), ""))
	})
}
