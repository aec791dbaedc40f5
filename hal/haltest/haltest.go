// Package haltest stands in for hardware in tests: Port and Journal in memory with faults to
// order, trees of files that look like a board (Tree), and machines recorded once and played
// back (Record, Play).
package haltest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/holdfast-edge/holdfast/hal"
)

// Port is hal.Port in memory. It is for one goroutine.
type Port struct {
	Values  map[hal.Target]string // what stands; what is not here is gone
	Refuse  map[hal.Target]error  // answers of Write
	Results map[hal.Target]hal.Result
	Written []string           // every write that was taken, "target = value"
	OnWrite func(t hal.Target) // runs before each write
	// Disturbs are the values that a write of a place sets too; the places are Beside it.
	Disturbs map[hal.Target]map[hal.Target]string
}

var _ hal.Port = (*Port)(nil)

// NewPort returns a port in which every change of the plan has its old value.
func NewPort(p *hal.Plan) *Port {
	f := &Port{Values: map[hal.Target]string{}, Refuse: map[hal.Target]error{}, Results: map[hal.Target]hal.Result{}}
	for _, c := range p.Changes {
		f.Values[c.Target] = c.Old
	}
	return f
}

// Read is hal.Port's.
func (f *Port) Read(_ context.Context, t hal.Target) (string, error) {
	v, ok := f.Values[t]
	if !ok {
		return "", fmt.Errorf("haltest: %s: %w: %w", t, hal.ErrGone, syscall.ENOENT)
	}
	return v, nil
}

// Write is hal.Port's.
func (f *Port) Write(ctx context.Context, t hal.Target, v string) error {
	if f.OnWrite != nil {
		f.OnWrite(t)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.Refuse[t]; err != nil {
		return err
	}
	f.Values[t] = v
	maps.Copy(f.Values, f.Disturbs[t])
	f.Written = append(f.Written, fmt.Sprintf("%s = %s", t, v))
	return nil
}

// Effect is hal.Port's: what Results says, else Applied.
func (f *Port) Effect(_ context.Context, t hal.Target, _ string) (hal.Result, string) {
	if r := f.Results[t]; r != "" {
		return r, "as ordered"
	}
	return hal.Applied, "seen"
}

// Beside is hal.Port's.
func (f *Port) Beside(t hal.Target) []hal.Target { return slices.Collect(maps.Keys(f.Disturbs[t])) }

// State is everything that stands, for comparing.
func (f *Port) State() string {
	var lines []string
	for t, v := range f.Values {
		lines = append(lines, fmt.Sprintf("%s = %s", t, v))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Journal is hal.Journal in memory: what its file would hold after a crash is what it holds.
type Journal struct {
	Open, Kept []hal.Entry
	Err        error // what Begin answers, if set
	OnBegin    func()
}

var _ hal.Journal = (*Journal)(nil)

// Begin is hal.Journal's.
func (j *Journal) Begin(old []hal.Entry) error {
	if j.OnBegin != nil {
		j.OnBegin()
	}
	if j.Err != nil {
		return j.Err
	}
	j.Open = slices.Clone(old)
	return nil
}

// Pending is hal.Journal's.
func (j *Journal) Pending() ([]hal.Entry, error) { return j.Open, nil }

// Committed is hal.Journal's.
func (j *Journal) Committed() ([]hal.Entry, error) { return j.Kept, nil }

// Commit is hal.Journal's.
func (j *Journal) Commit() error {
	for _, e := range j.Open {
		if !slices.ContainsFunc(j.Kept, func(k hal.Entry) bool { return k.Target == e.Target }) {
			j.Kept = append(j.Kept, e)
		}
	}
	j.Open = nil
	return nil
}

// Clear is hal.Journal's.
func (j *Journal) Clear() error {
	if j.Open != nil {
		j.Open = nil
	} else {
		j.Kept = nil
	}
	return nil
}
