package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/anomaly"
	"github.com/holdfast-edge/holdfast/coord/anomaly/nab"
)

const testdata = "../../testdata/nab"

func corpus(t *testing.T) []nab.Series {
	t.Helper()
	windows, err := os.ReadFile(testdata + "/windows.json")
	if err != nil {
		t.Fatal(err)
	}
	files, err := nab.Load(os.DirFS(testdata+"/data"), windows)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The figures are the same on every machine: the detector draws no lots and the seeds are fixed.
func TestTheScoreWithEverythingTunedOnTheOtherHalfIsAtLeast72(t *testing.T) {
	const bound = 72
	v := judge(corpus(t))
	five, many := v.tuned.CrossFit(seeds(splitSeeds)), v.tuned.CrossFit(seeds(manySeeds))
	t.Logf("everything tuned: %.2f over seeds 1 to %d, %.2f over seeds 1 to %d", five, splitSeeds, many, manySeeds)
	if five < bound || many < bound {
		t.Errorf("cross-fitted score %.2f and %.2f, at least %d is promised", five, many, bound)
	}

	all := make([]int, len(v.files))
	for f := range all {
		all[f] = f
	}
	chosen, _ := v.tuned.Choose(all)
	if tunings, _ := tunings(); tunings[chosen] != anomaly.Default {
		t.Errorf("all files choose %+v, boxes use %+v", tunings[chosen], anomaly.Default)
	}
}

func TestAnyFileInTheFormatIsScoredPointByPoint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "other.csv")
	var rows strings.Builder
	rows.WriteString("timestamp,value\n")
	for range 200 {
		rows.WriteString("2026-01-02 03:04:05,1\n2026-01-02T03:04:06Z,2\n")
	}
	rows.WriteString("1767323047,50\n2026-01-02 03:04:08,\n")
	if err := os.WriteFile(file, []byte(rows.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run([]string{"-points", file}, &out); err != nil {
		t.Fatal(err)
	}
	got, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1+402 || got[0][2] != "score" {
		t.Fatalf("%d rows under %v", len(got), got[0])
	}
	if spike, none := got[401], got[402]; spike[2] < "0.5" || none[1] != "NaN" || none[2] != "0.0000" {
		t.Errorf("the spike is %v, no value is %v", spike, none)
	}
}

func TestThePageKeepsWhatIsAroundItsMarks(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n"+markBegin+"old\n"+markEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := insert(page, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + markBegin + "new\n" + markEnd + "after\n"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	if insert(page+".none", "") == nil {
		t.Error("a page that does not exist was written")
	}
}
