// Package crash keeps reports of how the coordinator of an appliance ended when nobody had asked it to: the supervisor writes one
// for each such end, and everybody who is asked about the box reads them. They lie in the data directory, a text file each:
//
//	how: exit status 2
//	after: 1h2m3s
//	at: 2026-01-02T03:04:05.678Z
//	version: v1.2.3
//
//	(the last lines that it printed, and of a panic the beginning)
package crash

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/wholefile"
)

const (
	// ReportsMax is how many reports are kept: as many as somebody reads, in at most 2.1 MiB.
	ReportsMax = 16
	// TextBytesMax is how much of what a coordinator printed a report has.
	TextBytesMax  = 144 << 10
	headBytesMax  = 1 << 10
	fileBytesMax  = headBytesMax + 2 + TextBytesMax
	dirName       = "crash"
	suffix        = ".txt"
	nameByTime    = "20060102T150405.000Z"
	nameBytesMax  = 64
	directoryMode = 0o700
	fileMode      = 0o600
)

// ErrUnknown says that there is no such report.
var ErrUnknown = errors.New("crash: there is no such report")

// Report is one end that nobody asked for.
type Report struct {
	// File is its name, which sorts by time.
	File string    `json:"file"`
	At   time.Time `json:"at"`
	// How is how the kernel says it ended: "exit status 2", "signal: killed".
	How string `json:"how"`
	// After is how long the coordinator had run.
	After   time.Duration `json:"after_ns"`
	Version string        `json:"version,omitempty"`
	// Text is the end of what it printed.
	Text []byte `json:"-"`
}

// Save writes a report below the data directory, gives it its File, and removes the oldest beyond ReportsMax.
func Save(data string, r *Report) error {
	dir := filepath.Join(data, dirName)
	if err := os.MkdirAll(dir, directoryMode); err != nil {
		return fmt.Errorf("crash: save: %w", err)
	}
	r.File = r.At.UTC().Format(nameByTime) + suffix
	head := fmt.Sprintf("how: %s\nafter: %s\nat: %s\nversion: %s\n", oneLine(r.How), r.After, r.At.UTC().Format(time.RFC3339Nano), oneLine(r.Version))
	body := slices.Concat([]byte(head[:min(len(head), headBytesMax)]), []byte("\n"), r.Text[:min(len(r.Text), TextBytesMax)])
	if err := wholefile.Replace(filepath.Join(dir, r.File), body, fileMode); err != nil {
		return fmt.Errorf("crash: save: %w", err)
	}
	names, err := names(dir)
	if err != nil {
		return err
	}
	// Those behind the new one are of a clock that was ahead: they go first.
	if i, there := slices.BinarySearch(names, r.File); there {
		names = slices.Concat(names[i+1:], names[:i+1])
	}
	for _, n := range names[:max(0, len(names)-ReportsMax)] {
		if err := os.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("crash: save: %w", err)
		}
	}
	return nil
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' }), " ")
}

// names gives the reports in dir, the oldest first.
func names(dir string) (names []string, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("crash: list: %w", err)
	}
	for _, e := range list {
		if n := e.Name(); strings.HasSuffix(n, suffix) && e.Type().IsRegular() {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

// List gives the reports below the data directory, the newest first, at most ReportsMax, without their text. There is none on a
// machine whose coordinator nobody supervises.
func List(data string) ([]Report, error) {
	dir := filepath.Join(data, dirName)
	names, err := names(dir)
	if err != nil {
		return nil, err
	}
	var list []Report
	for _, n := range slices.Backward(names) {
		if len(list) == ReportsMax {
			break
		}
		b, err := readFile(filepath.Join(dir, n), headBytesMax)
		if err != nil {
			continue // it has just been removed
		}
		r := parse(n, b)
		r.Text = nil
		list = append(list, r)
	}
	return list, nil
}

// Read gives one of List's reports with its text. Errors: ErrUnknown, and those of reading.
func Read(data, file string) (*Report, error) {
	if len(file) > nameBytesMax || filepath.Base(file) != file || !strings.HasSuffix(file, suffix) {
		return nil, fmt.Errorf("%w: %.64q", ErrUnknown, file)
	}
	at := filepath.Join(data, dirName, file)
	if info, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %.64q", ErrUnknown, file)
	}
	b, err := readFile(at, fileBytesMax)
	if err != nil {
		return nil, fmt.Errorf("crash: read: %w", err)
	}
	r := parse(file, b)
	return &r, nil
}

func readFile(file string, bytesMax int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, bytesMax))
	return b, errors.Join(err, f.Close())
}

// parse reads a report as well as it can: somebody may have changed it, and an older release wrote it.
func parse(name string, b []byte) Report {
	r := Report{File: name}
	head, text, _ := strings.Cut(string(b), "\n\n")
	r.Text = []byte(text)
	for line := range strings.Lines(head[:min(len(head), headBytesMax)]) {
		k, v, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		switch k {
		case "how":
			r.How = v
		case "after":
			r.After, _ = time.ParseDuration(v)
		case "at":
			r.At, _ = time.Parse(time.RFC3339Nano, v)
		case "version":
			r.Version = v
		}
	}
	if r.At.IsZero() {
		r.At, _ = time.Parse(nameByTime, strings.TrimSuffix(name, suffix))
	}
	return r
}
