package nab

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrFormat marks files that are not as the benchmark writes them.
var ErrFormat = errors.New("not in NAB's format")

// fileBytesMax bounds a file after decompression: NAB's largest has 0.6 MB.
const fileBytesMax = 256 << 20

// secondsMax is about where nanoseconds since 1970 end in 64 bits.
const secondsMax = 9e9

// Series is a file of the benchmark.
type Series struct {
	Name   string // category/file.csv
	Times  []time.Time
	Values []float64
	Labels Labels
}

// Category is the folder that the file lies in.
func (s *Series) Category() string {
	c, _, _ := strings.Cut(s.Name, "/")
	return c
}

// Load reads the files that windows names from root, each as NAME or NAME.gz; windows maps names to
// pairs of timestamps, as NAB's combined_windows.json. The files come in the order of their names.
func Load(root fs.FS, windows []byte) ([]Series, error) {
	var spans map[string][][2]string
	if err := json.Unmarshal(windows, &spans); err != nil {
		return nil, fmt.Errorf("nab: windows: %w: %w", ErrFormat, err)
	}
	var all []Series
	for _, name := range slices.Sorted(maps.Keys(spans)) {
		r, err := open(root, name)
		if err != nil {
			return nil, fmt.Errorf("nab: %w", err)
		}
		s, err := Read(r)
		if err != nil {
			return nil, fmt.Errorf("nab: %s: %w", name, err)
		}
		s.Name = name
		for _, span := range spans[name] {
			w, err := s.window(span)
			if err != nil {
				return nil, fmt.Errorf("nab: %s: %w", name, err)
			}
			s.Labels.Windows = append(s.Labels.Windows, w)
		}
		slices.SortFunc(s.Labels.Windows, func(a, b Window) int { return a.First - b.First })
		all = append(all, s)
	}
	return all, nil
}

func open(root fs.FS, name string) (io.Reader, error) {
	plain, err := fs.ReadFile(root, name)
	if err == nil {
		return bytes.NewReader(plain), nil
	}
	packed, gzErr := fs.ReadFile(root, name+".gz")
	if gzErr != nil {
		return nil, err
	}
	return gzip.NewReader(bytes.NewReader(packed))
}

// Read reads `timestamp,value` lines below a heading. An empty or unreadable value is NaN: detectors
// meet such points too.
func Read(r io.Reader) (Series, error) {
	var s Series
	rows := csv.NewReader(bufio.NewReader(io.LimitReader(r, fileBytesMax)))
	rows.ReuseRecord = true
	if _, err := rows.Read(); err != nil {
		return s, fmt.Errorf("%w: no heading: %w", ErrFormat, err)
	}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			s.Labels.Points = len(s.Values)
			return s, nil
		}
		if err != nil {
			return s, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if len(row) < 2 {
			return s, fmt.Errorf("%w: a row without value", ErrFormat)
		}
		at, err := ParseTime(row[0])
		if err != nil {
			return s, err
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(row[1]), 64)
		if err != nil {
			v = math.NaN()
		}
		s.Times, s.Values = append(s.Times, at), append(s.Values, v)
	}
}

// ParseTime reads a time as NAB writes it, as RFC 3339, or as seconds since 1970.
func ParseTime(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	for _, layout := range [...]string{time.DateTime, time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 0 && s < secondsMax {
		return time.Unix(0, int64(s*1e9)).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%w: time %q", ErrFormat, text)
}

func (s *Series) window(span [2]string) (Window, error) {
	var at [2]int
	for i, text := range span {
		want, err := ParseTime(text)
		if err != nil {
			return Window{}, err
		}
		if at[i] = slices.IndexFunc(s.Times, want.Equal); at[i] < 0 {
			return Window{}, fmt.Errorf("%w: no point at a window's edge %s", ErrFormat, text)
		}
	}
	if at[1] < at[0] {
		return Window{}, fmt.Errorf("%w: a window ends before it begins", ErrFormat)
	}
	return Window{at[0], at[1]}, nil
}
