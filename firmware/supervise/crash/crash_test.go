package crash

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReportsAreBoundedInNumberAndSize(t *testing.T) {
	dir := t.TempDir()
	if list, err := List(dir); err != nil || len(list) != 0 {
		t.Fatalf("before the first: %v, %v", list, err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range ReportsMax + 5 {
		r := &Report{
			At: at.Add(time.Duration(i) * time.Minute), How: "exit status 1\nhow: not this", After: time.Duration(i) * time.Second,
			Version: strings.Repeat("v", 2000), Text: bytes.Repeat([]byte("a line\n\n"), 100_000),
		}
		if err := Save(dir, r); err != nil {
			t.Fatal(err)
		}
	}
	list, err := List(dir)
	if err != nil || len(list) != ReportsMax {
		t.Fatalf("%d reports, %v", len(list), err)
	}
	newest := list[0]
	if !newest.At.Equal(at.Add((ReportsMax+4)*time.Minute)) || newest.After != (ReportsMax+4)*time.Second || newest.How != "exit status 1 how: not this" || newest.Text != nil {
		t.Errorf("%+v", newest)
	}
	full, err := Read(dir, newest.File)
	if err != nil || !bytes.HasPrefix(full.Text, []byte("a line\n\na line\n\n")) || len(full.Text) > TextBytesMax {
		t.Fatalf("%d bytes, %v", len(full.Text), err)
	}
	info, err := os.Stat(filepath.Join(dir, dirName, newest.File))
	if err != nil || info.Size() > fileBytesMax || info.Mode().Perm() != 0o600 {
		t.Errorf("%d bytes, %v, %v", info.Size(), info.Mode(), err)
	}
}

func TestNothingButAReportIsRead(t *testing.T) {
	dir := t.TempDir()
	if err := Save(dir, &Report{At: time.Unix(1e9, 0), How: "exit status 1"}); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"box.key.txt": "a secret", "crash/other": "a secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../box.key.txt", filepath.Join(dir, dirName, "link.txt")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../box.key.txt", "other", "link.txt", "nosuch.txt", strings.Repeat("x", 300) + ".txt"} {
		if r, err := Read(dir, name); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v, %v", name, r, err)
		}
	}
	if list, err := List(dir); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func FuzzAReportThatSomebodyChangedIsReadAsWellAsItCan(f *testing.F) {
	f.Add([]byte("how: exit status 2\nafter: 1s\nat: 2026-01-02T03:04:05Z\nversion: v1\n\ntext"))
	f.Add([]byte("how\n: : \n\n\n"))
	f.Add([]byte{0, '\n', '\n'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := parse("20260102T030405.000Z.txt", b)
		if len(r.Text) > len(b) || strings.ContainsRune(r.How, '\n') || r.At.IsZero() && !bytes.Contains(b, []byte("at: ")) {
			t.Errorf("%+v", r)
		}
	})
}

func TestReportsOfAClockThatWasAheadDoNotPushOutNewOnes(t *testing.T) {
	dir := t.TempDir()
	ahead := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range ReportsMax {
		if err := Save(dir, &Report{At: ahead.Add(time.Duration(i) * time.Minute), How: "ahead"}); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 3 {
		if err := Save(dir, &Report{At: now.Add(time.Duration(i) * time.Minute), How: "now"}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := List(dir)
	if err != nil || len(list) != ReportsMax {
		t.Fatalf("%d, %v", len(list), err)
	}
	n := 0
	for _, c := range list {
		if c.How == "now" {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d of 3 new reports are kept", n)
	}
}
