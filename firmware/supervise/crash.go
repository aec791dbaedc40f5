package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// tailBytesMax is what is kept of the last lines, and dumpBytesMax of what follows a panic: the first goroutines of a dump say why.
	tailBytesMax = 16 << 10
	dumpBytesMax = 112 << 10
	// reportsMax is how many reports are kept; with their heads they are below 2.1 MiB.
	reportsMax      = 16
	reportHeadBytes = 1 << 10
	crashDir        = "crash"
	// crashFile sorts by time.
	crashFile = "20060102T150405.000Z"
)

// marks are how Go's runtime begins to say why a program ends.
func marks() [][]byte {
	return [][]byte{[]byte("panic: "), []byte("fatal error: "), []byte("SIGABRT: "), []byte("SIGQUIT: "), []byte("SIGSEGV: "), []byte("unexpected fault address"), []byte("runtime: ")}
}

// tail keeps the end of what a program prints, and of a panic the beginning. Writes come from one goroutine, reads from any.
type tail struct {
	mu   sync.Mutex
	last []byte // at most 2*tailBytesMax
	line []byte // the one that is not complete yet
	dump []byte
	in   bool
}

func newTail() *tail { return &tail{} }

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := b; len(rest) > 0; {
		line := rest
		whole := false
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, whole = rest[:i+1], true
		}
		rest = rest[len(line):]
		if t.line = append(t.line, line...); !whole && len(t.line) < tailBytesMax {
			continue
		}
		t.take(t.line)
		t.line = t.line[:0]
	}
	return len(b), nil
}

func (t *tail) take(line []byte) {
	if !t.in {
		for _, m := range marks() {
			if bytes.HasPrefix(line, m) {
				t.in = true
			}
		}
	}
	if t.in {
		t.dump = append(t.dump, line[:min(len(line), dumpBytesMax-len(t.dump))]...)
		return
	}
	if t.last = append(t.last, line...); len(t.last) > 2*tailBytesMax {
		t.last = append(t.last[:0], t.last[len(t.last)-tailBytesMax:]...)
	}
}

// text is what is kept; the caller owns it.
func (t *tail) text() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last[max(0, len(t.last)-tailBytesMax):]
	return slices.Concat(last, t.dump, t.line)
}

// Crash is a report of an end that nobody asked for.
type Crash struct {
	File string    `json:"file"`
	At   time.Time `json:"at"`
	How  string    `json:"how"`
	// After is how long the coordinator had run.
	After time.Duration `json:"after_ns"`
	// Text is the end of what it printed.
	Text []byte `json:"-"`
}

// saveCrash writes a report below dir and removes the oldest beyond reportsMax.
func saveCrash(dir string, c *Crash, version string) error {
	dir = filepath.Join(dir, crashDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("crash report: %w", err)
	}
	c.File = c.At.UTC().Format(crashFile) + ".txt"
	head := fmt.Sprintf("how: %s\nafter: %s\nat: %s\nversion: %s\n", oneLine(c.How), c.After, c.At.UTC().Format(time.RFC3339Nano), version)
	body := slices.Concat([]byte(head[:min(len(head), reportHeadBytes)]), []byte("\n"), c.Text)
	if err := writeFile(filepath.Join(dir, c.File), body, 0o600); err != nil {
		return fmt.Errorf("crash report: %w", err)
	}
	names, err := crashNames(dir)
	if err != nil {
		return err
	}
	for _, n := range names[:max(0, len(names)-reportsMax)] {
		if err := os.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("crash report: %w", err)
		}
	}
	return nil
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' }), " ")
}

// crashNames gives the reports in dir, the oldest first.
func crashNames(dir string) (names []string, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("crash reports: %w", err)
	}
	for _, e := range list {
		if n := e.Name(); strings.HasSuffix(n, ".txt") && e.Type().IsRegular() {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

// crashes gives the reports below dir, the newest first, without their text.
func crashes(dir string) ([]Crash, error) {
	dir = filepath.Join(dir, crashDir)
	names, err := crashNames(dir)
	if err != nil {
		return nil, err
	}
	var list []Crash
	for _, n := range slices.Backward(names) {
		if len(list) == reportsMax {
			break
		}
		b, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			continue // it has just been removed
		}
		list = append(list, parseCrash(n, b))
	}
	return list, nil
}

// parseCrash reads a report's head, as well as it can: a power cut may have left half of one.
func parseCrash(name string, b []byte) Crash {
	c := Crash{File: name}
	head, text, _ := bytes.Cut(b[:min(len(b), reportHeadBytes+tailBytesMax+dumpBytesMax)], []byte("\n\n"))
	c.Text = text
	for line := range strings.Lines(string(head)) {
		k, v, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		switch k {
		case "how":
			c.How = v
		case "after":
			c.After, _ = time.ParseDuration(v)
		case "at":
			c.At, _ = time.Parse(time.RFC3339Nano, v)
		}
	}
	return c
}

// writeFile writes a file as a whole or not at all.
func writeFile(path string, body []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
