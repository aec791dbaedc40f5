package linux

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-edge/holdfast/hal"
)

// journalBytesMax bounds a journal: a plan for 128 CPUs and 64 queues has some 30 KiB.
const journalBytesMax = 1 << 20

// Journal is hal.Journal in a directory: open.json while a plan is open, committed.json after.
// Each file is written whole under another name, synced, renamed, and the directory synced, so
// that a power cut leaves the old one or the new one.
//
// What the kernel was told ends with it, and after a start an interrupt's number may be another
// device's. So a file says for which start of the machine it holds, and one of another is empty.
type Journal struct{ dir, boot string }

// page is a journal's file.
type page struct {
	Boot    string      `json:"boot"` // /proc/sys/kernel/random/boot_id
	Entries []hal.Entry `json:"entries"`
}

var _ hal.Journal = Journal{}

// NewJournal returns the journal in dir, which it creates.
func NewJournal(dir string) (Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Journal{}, fmt.Errorf("linux: journal: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Journal{}, fmt.Errorf("linux: journal: %w", err)
	}
	return Journal{dir, strings.TrimSpace(string(boot))}, nil
}

func (j Journal) open() string      { return filepath.Join(j.dir, "open.json") }
func (j Journal) committed() string { return filepath.Join(j.dir, "committed.json") }

// Begin is hal.Journal's.
func (j Journal) Begin(old []hal.Entry) error { return j.save(j.open(), old) }

// Pending is hal.Journal's.
func (j Journal) Pending() ([]hal.Entry, error) { return j.load(j.open()) }

// Committed is hal.Journal's.
func (j Journal) Committed() ([]hal.Entry, error) { return j.load(j.committed()) }

// Commit is hal.Journal's. A crash between its two steps leaves the plan open, and Recover then
// puts back what was about to be committed.
func (j Journal) Commit() error {
	oldest, err := j.Committed()
	if err != nil {
		return err
	}
	newer, err := j.Pending()
	if err != nil {
		return err
	}
	known := map[hal.Target]bool{}
	for _, e := range oldest {
		known[e.Target] = true
	}
	for _, e := range newer {
		if !known[e.Target] {
			oldest = append(oldest, e)
		}
	}
	if err := j.save(j.committed(), oldest); err != nil {
		return err
	}
	return j.remove(j.open())
}

// Clear is hal.Journal's.
func (j Journal) Clear() error {
	pending, err := j.Pending()
	if err != nil {
		return err
	}
	if pending != nil {
		return j.remove(j.open())
	}
	return j.remove(j.committed())
}

func (j Journal) save(name string, entries []hal.Entry) error {
	b, err := json.Marshal(page{j.boot, entries})
	if err != nil {
		return fmt.Errorf("linux: journal: %w", err)
	}
	if len(b) > journalBytesMax { // load would refuse it, and nothing could be put back
		return fmt.Errorf("linux: journal: %d values have %d bytes, at most %d", len(entries), len(b), journalBytesMax)
	}
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("linux: journal: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("linux: journal: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("linux: journal: %w", err)
	}
	return j.sync()
}

func (j Journal) remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("linux: journal: %w", err)
	}
	return j.sync()
}

func (j Journal) sync() error {
	d, err := os.Open(j.dir)
	if err != nil {
		return fmt.Errorf("linux: journal: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("linux: journal: %w", err)
	}
	return nil
}

// load reads a file's entries; nil when there is none, or none of this start of the machine.
func (j Journal) load(name string) ([]hal.Entry, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("linux: journal: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, journalBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("linux: journal: %w", err)
	}
	p := page{Entries: []hal.Entry{}}
	bad := func(why string) error {
		return fmt.Errorf("linux: journal: %s: %w: %s; if nothing else helps remove it and restart the machine, which forgets all settings", name, hal.ErrFormat, why)
	}
	if len(b) > journalBytesMax {
		return nil, bad(fmt.Sprintf("over %d bytes", journalBytesMax))
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, bad(err.Error())
	}
	if p.Boot == "" {
		return nil, bad("no boot")
	}
	if p.Boot != j.boot {
		return nil, nil
	}
	return p.Entries, nil
}
