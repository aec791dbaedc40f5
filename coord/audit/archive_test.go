package audit_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// archive writes records from to to-1 of a book.
func (b *book) archive(t testing.TB, from, to int64) []byte {
	t.Helper()
	p, err := b.tree.Peaks(from)
	if err != nil {
		t.Fatal(err)
	}
	out := audit.AppendArchive(nil, testBox, &p)
	for _, e := range b.records[from:to] {
		r, err := audit.Decode(e)
		if err != nil {
			t.Fatal(err)
		}
		out = audit.AppendLine(out, r)
	}
	return out
}

func readArchive(t testing.TB, b []byte) *audit.Log {
	t.Helper()
	l, err := audit.ReadArchive(bytes.NewReader(b), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What left the box in several files is verified as the log that it was, and a line that was changed is named.
func TestArchivesAreVerifiedAsOneLog(t *testing.T) {
	b := bookOf(t, 100, 10)
	first, second, third := b.archive(t, 0, 37), b.archive(t, 37, 64), b.archive(t, 64, 100)
	verify := func(parts ...[]byte) *audit.Report {
		l := readArchive(t, parts[0])
		for _, p := range parts[1:] {
			if err := l.Join(readArchive(t, p)); err != nil {
				t.Fatal(err)
			}
		}
		return audit.Verify(l, b.heads)
	}
	for _, parts := range [][][]byte{{first, second, third}, {second, third}, {third}, {b.archive(t, 0, 100)}} {
		if r := verify(parts...); !r.OK() || r.Proven != 100 || r.Unsigned != 0 {
			t.Errorf("%d parts: %+v", len(parts), r)
		}
	}
	if err := readArchive(t, first).Join(readArchive(t, third)); !errors.Is(err, audit.ErrArchive) {
		t.Errorf("a part is missing: %v", err)
	}
	other := readArchive(t, second)
	other.Box[0] ^= 1
	if err := readArchive(t, first).Join(other); !errors.Is(err, audit.ErrArchive) {
		t.Errorf("another box's part: %v", err)
	}
	hidden := readArchive(t, second) // as if nothing had been before
	hidden.Before = audit.Peaks{}
	if r := audit.Verify(hidden, b.heads); r.OK() || r.Faults[0].Kind != audit.Rewritten || r.Faults[0].To != 37 {
		t.Errorf("without what is before: %+v", r)
	}
	line := func(f func(lines []string) []string) []byte { // of the second part; its line 6 is record 42
		return []byte(strings.Join(f(strings.SplitAfter(string(second), "\n")), ""))
	}
	for name, c := range map[string]struct {
		part []byte
		want audit.FaultKind
	}{
		"principal edited": {line(func(l []string) []string { l[6] = strings.Replace(l[6], "operator:ann", "operator:eve", 1); return l }), audit.Edited},
		"a field twice": {line(func(l []string) []string {
			l[6] = strings.Replace(l[6], `{`, `{"principal":"operator:eve",`, 1)
			return l
		}), audit.Edited},
		"a space more": {line(func(l []string) []string { l[6] = " " + l[6]; return l }), audit.Edited},
		"not JSON":     {line(func(l []string) []string { l[6] = "rubbish\n"; return l }), audit.Edited},
		"line removed": {line(func(l []string) []string { return slices.Delete(l, 6, 7) }), audit.Dropped},
		"line doubled": {line(func(l []string) []string { return slices.Insert(l, 6, l[5]) }), audit.Inserted},
	} {
		l := readArchive(t, c.part)
		rest := readArchive(t, third)
		rest.First = l.First + int64(len(l.Records)) // that it does not fit any more is the first sign
		if err := l.Join(rest); err != nil {
			t.Fatal(err)
		}
		if r := audit.Verify(l, b.heads); len(r.Faults) != 1 || r.Faults[0].Kind != c.want || r.Faults[0].Index != 42 {
			t.Errorf("%s: %+v, want record 42 %v", name, r.Faults, c.want)
		}
	}
	// The hashes of what is before are bound by the next head.
	p, _ := b.tree.Peaks(37)
	hs := slices.Clone(p.Hashes())
	hs[1][0] ^= 1
	forged, err := audit.PeaksOf(37, hs)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(second, []byte("\n"))
	if r := verify(append(audit.AppendArchive(nil, testBox, &forged), rest...), third); r.OK() || r.Proven != 37 {
		t.Errorf("forged hashes of what is before: %+v", r)
	}
}

func TestWhatIsNoArchiveIsRefused(t *testing.T) {
	b := bookOf(t, 40, 10)
	good := string(b.archive(t, 10, 40))
	for name, text := range map[string]string{
		"empty": "", "not JSON": "x\n", "another version": strings.Replace(good, `"holdfast_audit":1`, `"holdfast_audit":2`, 1),
		"hashes missing": strings.Replace(good, `"first":10`, `"first":11`, 1), "negative": strings.Replace(good, `"first":10`, `"first":-1`, 1),
		"a long line": good + strings.Repeat("x", 1<<17) + "\n",
	} {
		if _, err := audit.ReadArchive(strings.NewReader(text), 1<<20); !errors.Is(err, audit.ErrArchive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := audit.ReadArchive(strings.NewReader(good), 1000); !errors.Is(err, audit.ErrArchive) {
		t.Errorf("more than the limit: %v", err)
	}
}

// A line is what AppendLine writes or it is no record.
func FuzzReadArchive(f *testing.F) {
	b := bookOf(f, 12, 6)
	r := record(3)
	r.Reason = "\u2028<&>\x00\""
	b.add(f, r)
	f.Add(b.archive(f, 3, 13))
	f.Add(b.archive(f, 0, 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := audit.ReadArchive(bytes.NewReader(data), 1<<16)
		if err != nil {
			return
		}
		lines := bytes.Split(data, []byte("\n"))
		for i, e := range l.Records {
			r, err := audit.Decode(e)
			if err != nil {
				continue
			}
			if want := audit.AppendLine(nil, r); !bytes.Equal(bytes.TrimSuffix(lines[i+1], []byte("\r")), bytes.TrimSuffix(want, []byte("\n"))) {
				t.Errorf("%q is read as %q", lines[i+1], want)
			}
		}
		_ = audit.Verify(l, append(b.heads, audit.Head{Box: l.Box, Size: l.First + 2, Marks: make([]byte, 40)}))
		_ = l.Join(&audit.Log{Box: coord.BoxID{1}})
	})
}
