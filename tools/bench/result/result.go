// Package result holds what a benchmark measured: rows in a JSON file, their medians, tables, comparisons and plots. It
// measures nothing itself.
package result

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Schema is the version of File. Readers refuse others.
const Schema = 1

// fileBytesMax bounds what is read of a file: a full matrix of ten rounds is below 2 MB.
const fileBytesMax = 16 << 20

// ErrFile says that a file is not one of this package's, or of another version.
var ErrFile = errors.New("not a file of results")

// Row is one load on one system in one round. A figure that was not measured is 0.
type Row struct {
	System string  `json:"system"` // such as holdfast-4, etcd-3
	Load   string  `json:"load"`   // such as put-64
	Delay  float64 `json:"delay_ms,omitempty"`
	Round  int     `json:"round"`

	Clients int     `json:"clients"`
	Rate    float64 `json:"rate"`    // messages a second
	Failed  int64   `json:"failed"`  // requests
	P50     float64 `json:"p50_ms"`  // of a request, from sending to the answer
	P90     float64 `json:"p90_ms"`  //
	P99     float64 `json:"p99_ms"`  //
	Max     float64 `json:"max_ms"`  //
	CPU     float64 `json:"cpu_s_m"` // CPU-seconds of all servers for a million messages
	Memory  float64 `json:"mib"`     // resident memory of the largest server that is not a file's, at the end, MiB

	WireMessage float64 `json:"wire_b_msg,omitempty"`     // bytes between the servers for a message, all servers' together
	WirePayload float64 `json:"wire_b_b,omitempty"`       // the same for a byte of payload
	DiskPayload float64 `json:"disk_b_b,omitempty"`       // bytes that reached the device for a byte of payload, a server's
	Syncs       float64 `json:"syncs_msg,omitempty"`      // syncs of the log for a message, a server's
	Fill        float64 `json:"messages_block,omitempty"` // messages in a block

	// Of a system that has nothing to do: percent of a core, and MiB written an hour, both of one server.
	IdleCPU     float64 `json:"idle_cpu_percent,omitempty"`
	IdleWritten float64 `json:"idle_mib_hour,omitempty"`
}

// File is the rows of one run and where it was made.
type File struct {
	Schema  int     `json:"schema"`
	Made    string  `json:"made"` // date
	Commit  string  `json:"commit"`
	Machine string  `json:"machine"`
	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"seconds"` // of a load
	Steal   float64 `json:"steal"`   // share of the machine's time that its host took away, 0 to 1
	// Reference is how fast the machine was, in the rounds' order: pieces of fixed work a second (load.Reference).
	Reference []float64 `json:"reference,omitempty"`
	Notes     []string  `json:"notes,omitempty"`
	Rows      []Row     `json:"rows"`
}

// New is an empty file of now.
func New(commit, machine string) *File {
	return &File{Schema: Schema, Made: time.Now().UTC().Format(time.DateOnly), Commit: commit, Machine: machine}
}

// Read reads a file. Errors: ErrFile, and those of the file system.
func Read(name string) (*File, error) {
	r, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, fileBytesMax+1))
	if err != nil {
		return nil, err
	}
	f := new(File)
	if err := json.Unmarshal(b, f); err != nil || len(b) > fileBytesMax || f.Schema != Schema {
		return nil, fmt.Errorf("%s: schema %d, wanted %d: %w: %w", name, f.Schema, Schema, ErrFile, err)
	}
	return f, nil
}

// Write writes a file.
func (f *File) Write(name string) error {
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// Key is what rows must share to be compared.
type Key struct {
	System, Load string
	Delay        float64
}

// Series are the rows of one key, in the order of the rounds.
type Series struct {
	Key
	Rows []Row
}

// Series groups the rows, in the order in which they were first measured.
func (f *File) Series() []Series {
	var all []Series
	at := map[Key]int{}
	for _, r := range f.Rows {
		k := Key{r.System, r.Load, r.Delay}
		i, ok := at[k]
		if !ok {
			i = len(all)
			at[k] = i
			all = append(all, Series{Key: k})
		}
		all[i].Rows = append(all[i].Rows, r)
	}
	return all
}

// Find is the series of a key, nil if there is none.
func (f *File) Find(k Key) *Series {
	for _, s := range f.Series() {
		if s.Key == k {
			return &s
		}
	}
	return nil
}

// Span is the median of some figures and the range they came from.
type Span struct{ Low, Median, High float64 }

// Of takes one figure of every row.
func (s *Series) Of(figure func(*Row) float64) Span {
	v := make([]float64, len(s.Rows))
	for i := range s.Rows {
		v[i] = figure(&s.Rows[i])
	}
	return SpanOf(v)
}

// SpanOf is the span of some figures.
func SpanOf(v []float64) Span {
	if len(v) == 0 {
		return Span{}
	}
	v = slices.Sorted(slices.Values(v))
	return Span{v[0], (v[(len(v)-1)/2] + v[len(v)/2]) / 2, v[len(v)-1]}
}

// Figure is one column of a row.
type Figure struct {
	Name string
	Of   func(*Row) float64
	// Form prints it.
	Form string
	// Less says that less is better.
	Less bool
}

// The figures, in the order of a table's columns.
var (
	Rate    = Figure{"rate /s", func(r *Row) float64 { return r.Rate }, "%.0f", false}
	P50     = Figure{"p50 ms", func(r *Row) float64 { return r.P50 }, "%.2f", true}
	P90     = Figure{"p90 ms", func(r *Row) float64 { return r.P90 }, "%.2f", true}
	P99     = Figure{"p99 ms", func(r *Row) float64 { return r.P99 }, "%.2f", true}
	Max     = Figure{"max ms", func(r *Row) float64 { return r.Max }, "%.0f", true}
	CPU     = Figure{"CPU-s per million", func(r *Row) float64 { return r.CPU }, "%.1f", true}
	Memory  = Figure{"MiB", func(r *Row) float64 { return r.Memory }, "%.0f", true}
	Wire    = Figure{"wire B/message", func(r *Row) float64 { return r.WireMessage }, "%.0f", true}
	WireB   = Figure{"wire B/B", func(r *Row) float64 { return r.WirePayload }, "%.2f", true}
	Disk    = Figure{"disk B/B", func(r *Row) float64 { return r.DiskPayload }, "%.1f", true}
	Syncs   = Figure{"syncs/message", func(r *Row) float64 { return r.Syncs }, "%.4f", true}
	Fill    = Figure{"messages/block", func(r *Row) float64 { return r.Fill }, "%.0f", false}
	IdleCPU = Figure{"idle CPU %", func(r *Row) float64 { return r.IdleCPU }, "%.2f", true}
	Idle    = Figure{"idle MiB/h", func(r *Row) float64 { return r.IdleWritten }, "%.1f", true}
	Figures = []Figure{Rate, P50, P90, P99, Max, CPU, Memory, Wire, WireB, Disk, Syncs, Fill, IdleCPU, Idle}
)

// Table writes the medians as a Markdown table; rows are sorted by load and delay if byLoad, so that systems stand below
// each other.
func (f *File) Table(w io.Writer, byLoad bool) error {
	all := f.Series()
	if byLoad {
		order := map[string]int{}
		for _, s := range all {
			if _, ok := order[s.Load]; !ok {
				order[s.Load] = len(order)
			}
		}
		slices.SortStableFunc(all, func(a, b Series) int {
			return cmp.Or(cmp.Compare(order[a.Load], order[b.Load]), cmp.Compare(a.Delay, b.Delay))
		})
	}
	used := slices.DeleteFunc(slices.Clone(Figures), func(g Figure) bool {
		return !slices.ContainsFunc(f.Rows, func(r Row) bool { return g.Of(&r) != 0 })
	})
	head, line := "| load | delay ms | system |", "|---|---|---|"
	for _, g := range used {
		head += " " + g.Name + " |"
		line += "---|"
	}
	if _, err := fmt.Fprintf(w, "%s failed |\n%s---|\n", head, line); err != nil {
		return err
	}
	for _, s := range all {
		var row strings.Builder
		row.WriteString(fmt.Sprintf("| %s | %g | %s |", s.Load, s.Delay, s.System))
		for _, g := range used {
			if m := s.Of(g.Of).Median; m != 0 {
				row.WriteString(" " + fmt.Sprintf(g.Form, m))
			}
			row.WriteString(" |")
		}
		failed := int64(0)
		for _, r := range s.Rows {
			failed += r.Failed
		}
		if _, err := fmt.Fprintf(w, "%s %d |\n", row.String(), failed); err != nil {
			return err
		}
	}
	return nil
}
