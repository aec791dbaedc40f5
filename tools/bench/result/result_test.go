package result

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run is a file with three rounds of one load, at a machine's speed.
func run(speed float64, rates ...float64) *File {
	f := New("c", "m")
	for i, r := range rates {
		f.Reference = append(f.Reference, speed)
		f.Rows = append(f.Rows, Row{System: "s-4", Load: "put-64", Round: i, Rate: r * speed, P50: 5 / speed, P99: 9 / speed, CPU: 100 / speed, WireMessage: 500})
	}
	return f
}

func TestARegressionIsSeenAndNoiseIsNot(t *testing.T) {
	old := run(1, 1000, 1040, 980)
	for name, c := range map[string]struct {
		now    *File
		worse  int
		better int
	}{
		"the same":                        {run(1, 990, 1010, 1000), 0, 0},
		"a machine of half the speed":     {run(0.5, 990, 1010, 1000), 0, 0},
		"a machine of twice the speed":    {run(2, 990, 1010, 1000), 0, 0},
		"a third slower":                  {run(1, 650, 660, 640), 1, 0},
		"a third slower, a fast machine":  {run(2, 650, 660, 640), 1, 0},
		"slower in the median, all noise": {run(1, 400, 700, 1100), 0, 0},
		"half as fast again":              {run(1, 1500, 1510, 1490), 0, 1},
	} {
		worse, better := 0, 0
		for _, ch := range Compare(old, c.now, Figures) {
			if ch.Worse() {
				worse++
			} else if ch.Clear {
				better++
			}
		}
		if worse != c.worse || better != c.better {
			t.Errorf("%s: %d worse, %d better", name, worse, better)
		}
	}
	more := run(1, 1000, 1000, 1000)
	for i := range more.Rows {
		more.Rows[i].WireMessage = 900
	}
	all := Compare(old, more, Figures)
	var b bytes.Buffer
	worse, err := PrintChanges(&b, all)
	if err != nil || worse != 1 || !strings.Contains(b.String(), "| wire B/message | 500 (500 to 500) | 900 (900 to 900) | 1.80 | **worse** |") {
		t.Errorf("%d worse, %v\n%s", worse, err, &b)
	}
}

func TestAFileComesBackAndOthersAreRefused(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.json")
	f := run(1, 5, 7, 6)
	if err := f.Write(name); err != nil {
		t.Fatal(err)
	}
	g, err := Read(name)
	if err != nil || g.Find(Key{System: "s-4", Load: "put-64"}).Of(Rate.Of) != (Span{5, 6, 7}) {
		t.Fatal(g, err)
	}
	if g.Find(Key{System: "s-4", Load: "put-65"}) != nil {
		t.Error("found what is not there")
	}
	for _, text := range []string{"", "{}", `{"schema":2}`, "[1]"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(name); !errors.Is(err, ErrFile) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestATableHasTheMediansOfWhatWasMeasured(t *testing.T) {
	var b bytes.Buffer
	if err := run(1, 5, 7, 6).Table(&b, true); err != nil {
		t.Fatal(err)
	}
	want := "| load | delay ms | system | rate /s | p50 ms | p99 ms | CPU-s per million | wire B/message | failed |\n|---|---|---|---|---|---|---|---|---|\n" +
		"| put-64 | 0 | s-4 | 6 | 5.00 | 9.00 | 100.0 | 500 | 0 |\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", &b, want)
	}
}

func TestAPlotIsSVGWithALineForEachSystem(t *testing.T) {
	f := run(1, 5, 7, 6)
	f.Rows = append(f.Rows, Row{System: "other & co", Load: "put-1", Rate: 100, P50: 1, P99: 2}, Row{System: "other & co", Load: "put-9", Rate: 900, P50: 2, P99: 4})
	svg, err := Plot(f, "a <title>", []string{"put-"})
	if err != nil {
		t.Fatal(err)
	}
	paths := 0
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "path" {
			paths++
		}
	}
	if paths != 2 || !bytes.Contains(svg, []byte("other &amp; co")) || bytes.Contains(svg, []byte("NaN")) {
		t.Errorf("%d lines\n%s", paths, svg)
	}
	if _, err := Plot(f, "", []string{"get-"}); err == nil {
		t.Error("nothing was plotted")
	}
}
