// Command nab judges the anomaly detector by the Numenta Anomaly Benchmark: cross-fitted, on the files
// that ship with the project or on any others in NAB's format. With -points it prints what the detector
// says of each point of one file instead.
package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord/anomaly"
	"github.com/holdfast-edge/holdfast/coord/anomaly/nab"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "nab:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("nab", flag.ContinueOnError)
	data := flags.String("data", "testdata/nab/data", "folder of CATEGORY/FILE.csv or .csv.gz")
	windows := flags.String("windows", "testdata/nab/windows.json", "labelled windows, as NAB's combined_windows.json")
	points := flags.String("points", "", "score each point of this CSV file (- is the standard input): CSV with two more columns")
	page := flags.String("out", "", "put the tables into this page, between its marks")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return errors.New("wrong usage: no arguments are expected")
	case *points != "":
		return scorePoints(*points, out)
	}
	labels, err := os.ReadFile(*windows)
	if err != nil {
		return err
	}
	files, err := nab.Load(os.DirFS(*data), labels)
	if err != nil {
		return err
	}
	if len(files) < 2 {
		return errors.New("cross-fitting needs two files at least")
	}
	tables := judge(files).tables()
	if *page == "" {
		_, err = io.WriteString(out, tables)
		return err
	}
	return insert(*page, tables)
}

// Marks around what the program writes in a page.
const (
	markBegin = "<!-- nab: written by make nab -->\n"
	markEnd   = "<!-- nab: end -->\n"
)

func insert(page, tables string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), markBegin)
	_, tail, closed := strings.Cut(rest, markEnd)
	if !ok || !closed {
		return fmt.Errorf("%s has no marks %q and %q", page, markBegin, markEnd)
	}
	return os.WriteFile(page, []byte(head+markBegin+tables+markEnd+tail), 0o644)
}

// scorePoints copies a file's points with their scores and chances.
func scorePoints(name string, out io.Writer) error {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	s, err := nab.Read(in)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(out)
	rows := csv.NewWriter(buffered)
	if err := rows.Write([]string{"timestamp", "value", "score", "chance"}); err != nil {
		return err
	}
	d := anomaly.New(anomaly.Default)
	for i, v := range s.Values {
		p := d.Push(s.Times[i], v)
		if err := rows.Write([]string{
			s.Times[i].Format(time.DateTime),
			strconv.FormatFloat(v, 'g', -1, 64),
			strconv.FormatFloat(p.Score, 'f', 4, 64),
			strconv.FormatFloat(p.Chance, 'g', 3, 64),
		}); err != nil {
			return err
		}
	}
	rows.Flush()
	return errors.Join(rows.Error(), buffered.Flush())
}

// seen is a point's sight; a value that is no number has none.
type seen struct {
	sight anomaly.Sight
	ok    bool
}

func look(f *nab.Series) []seen {
	eye := anomaly.NewEye()
	all := make([]seen, len(f.Values))
	for i, v := range f.Values {
		all[i].sight, all[i].ok = eye.See(f.Times[i], v)
	}
	return all
}

// tell is the score of every point.
func tell(all []seen, t anomaly.Tuning) []float64 {
	teller := anomaly.NewTeller(t)
	scores := make([]float64, len(all))
	for i, s := range all {
		if s.ok {
			scores[i] = teller.Tell(s.sight)
		}
	}
	return scores
}

// categories of the files, sorted.
func categories(files []nab.Series) []string {
	var all []string
	for i := range files {
		all = append(all, files[i].Category())
	}
	slices.Sort(all)
	return slices.Compact(all)
}
