package nab

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

const testdata = "../../../testdata/nab"

// corpus loads the files that ship with the project.
func corpus(t *testing.T) []Series {
	t.Helper()
	windows, err := os.ReadFile(testdata + "/windows.json")
	if err != nil {
		t.Fatal(err)
	}
	all, err := Load(os.DirFS(testdata+"/data"), windows)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// anchors reads the table of published scores: detector -> one score a profile.
func anchors(t *testing.T) map[string][3]float64 {
	t.Helper()
	page, err := os.ReadFile(testdata + "/ANCHORS.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][3]float64{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 {
			continue
		}
		var row [3]float64
		for i := range row {
			v, err := strconv.ParseFloat(strings.TrimSpace(cells[2+i]), 64)
			if err != nil {
				row[0] = math.NaN()
			} else {
				row[i] = v
			}
		}
		if !math.IsNaN(row[0]) {
			table[strings.TrimSpace(cells[1])] = row
		}
	}
	return table
}

// published reads the point scores of the detectors beside the anchors: column -> file -> point.
func published(t *testing.T, files []Series) map[string][][]float64 {
	t.Helper()
	columns := map[string][][]float64{}
	for i, f := range files {
		packed, err := os.ReadFile(testdata + "/scores/" + f.Name + ".gz")
		if err != nil {
			t.Fatal(err)
		}
		unpacked, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(unpacked).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows)-1 != len(f.Values) {
			t.Fatalf("%s has %d points and %d scores", f.Name, len(f.Values), len(rows)-1)
		}
		for c, name := range rows[0] {
			points := make([]float64, len(f.Values))
			for j := range points {
				if points[j], err = strconv.ParseFloat(rows[j+1][c], 64); err != nil {
					t.Fatal(err)
				}
			}
			if columns[name] == nil {
				columns[name] = make([][]float64, len(files))
			}
			columns[name][i] = points
		}
	}
	return columns
}

// windowedGaussian is the detector of that name in NAB's repository: one less a value's tail
// probability under the mean and deviation of the last 6,400 values, which move on by hundreds. The
// scores were published with the twelve digits that Python 2 wrote.
func windowedGaussian(values []float64) []float64 {
	scores := make([]float64, len(values))
	mean, dev := 0.0, 1.0
	for i, v := range values {
		if i > 0 {
			scores[i] = math.Round((1-0.5*math.Erfc(math.Abs(v-mean)/dev/1.4142))*1e12) / 1e12
		}
		if i < 6400 || (i+1-6400)%100 == 0 {
			mean, dev = moments(values[max(0, i+1-6400) : i+1])
		}
	}
	return scores
}

func moments(values []float64) (mean, dev float64) {
	for _, v := range values {
		mean += v
	}
	mean /= float64(len(values))
	for _, v := range values {
		dev += (v - mean) * (v - mean)
	}
	dev /= float64(len(values))
	if dev == 0 {
		return mean, 0.000001
	}
	return mean, math.Sqrt(dev)
}

func TestPublishedPointScoresGetThePublishedScores(t *testing.T) {
	files, table := corpus(t), anchors(t)
	labels := make([]Labels, len(files))
	for i := range files {
		labels[i] = files[i].Labels
	}
	columns := published(t, files)
	// Six digits (beside the anchors) tie the windowed Gaussian's highest scores, where its threshold lies.
	for i := range files {
		full := windowedGaussian(files[i].Values)
		for j, v := range full {
			if math.Abs(v-columns["windowedGaussian"][i][j]) > 1e-5 {
				t.Fatalf("%s, point %d: windowed Gaussian %v, published %v", files[i].Name, j, v, columns["windowedGaussian"][i][j])
			}
		}
		columns["windowedGaussian"][i] = full
	}
	for column, anchor := range map[string]string{
		"ARTime": "ARTime", "numenta": "Numenta HTM (numenta)", "contextOSE": "CAD-OSE (contextOSE)", "windowedGaussian": "windowed Gaussian",
	} {
		want, ok := table[anchor]
		if !ok || columns[column] == nil {
			t.Fatalf("%s: no anchor or no point scores", column)
		}
		for i, p := range Profiles {
			threshold, got := Sweep(p, labels, columns[column])
			if math.Abs(got-want[i]) > 0.01 {
				t.Errorf("%s, %s: %.2f, published %.2f", column, p.Name, got, want[i])
			}
			var sum Tally
			for f := range files {
				sum = sum.Add(labels[f].Judge(p, columns[column][f], threshold))
			}
			if math.Abs(sum.Score()-got) > 1e-9 {
				t.Errorf("%s, %s: the sweep says %.4f, its threshold gets %.4f", column, p.Name, got, sum.Score())
			}
		}
	}
}
