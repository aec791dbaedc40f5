package nab

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// FuzzRead: a file that is not the benchmark's is refused, never half read, and a window that is taken
// lies within it.
func FuzzRead(f *testing.F) {
	f.Add("timestamp,value\n2026-01-02 03:04:05,1\n2026-01-02T03:04:06Z,2\n", "2026-01-02 03:04:05", "2026-01-02 03:04:06")
	f.Add("timestamp,value\n1767323047.5,\n\"1767323048\",Inf,more\n", "1767323047.5", "1767323048")
	f.Add("timestamp,value\r\n2026-01-02 03:04,-1e400\r\n", "x", "")
	f.Add("timestamp\n\n", "", "")
	f.Fuzz(func(t *testing.T, text, first, last string) {
		s, err := Read(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("refused for another reason: %v", err)
			}
			return
		}
		if len(s.Times) != len(s.Values) || s.Labels.Points != len(s.Values) {
			t.Fatalf("%d times, %d values, %d points", len(s.Times), len(s.Values), s.Labels.Points)
		}
		w, err := s.window([2]string{first, last})
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("window refused for another reason: %v", err)
			}
			return
		}
		if w.First < 0 || w.Last < w.First || w.Last >= len(s.Values) {
			t.Fatalf("window %+v of %d points", w, len(s.Values))
		}
		s.Labels.Windows = []Window{w}
		if got := s.Labels.Judge(Profiles[0], make([]float64, len(s.Values)), 0.5).Score(); got != 0 {
			t.Fatalf("no alarm at all scores %v", got)
		}
	})
}

func FuzzWindows(f *testing.F) {
	const file = "timestamp,value\n2026-01-02 03:04:05,1\n2026-01-02 03:04:06,2\n"
	f.Add(`{"a/b.csv":[["2026-01-02 03:04:05.000000","2026-01-02 03:04:06"]]}`)
	f.Add(`{"a/b.csv":[],"none.csv":[]}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, windows string) {
		all, err := Load(fstest.MapFS{"a/b.csv": {Data: []byte(file)}}, []byte(windows))
		if err != nil {
			return
		}
		for _, s := range all {
			if s.Name != "a/b.csv" {
				t.Fatalf("read %q", s.Name)
			}
			for _, w := range s.Labels.Windows {
				if w.First < 0 || w.Last < w.First || w.Last > 1 {
					t.Fatalf("window %+v of two points", w)
				}
			}
		}
	})
}

func TestSecondsThatNoClockCountsAreNoTime(t *testing.T) {
	for text, want := range map[string]bool{"1767323047.5": true, "8999999999": true, "9e9": false, "99999999999": false, "-1": false, "NaN": false} {
		at, err := ParseTime(text)
		if (err == nil) != want {
			t.Errorf("%s: %v, %v", text, at, err)
		}
		if want && at.Before(time.Unix(1e9, 0)) {
			t.Errorf("%s is %v", text, at)
		}
	}
}
