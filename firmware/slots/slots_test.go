package slots

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/store/faultfs"
)

const root = "esp"

// content is a file of a release: its first word is the release, and it ends as it begins, so that a torn one shows.
func content(version, name string) []byte {
	return slices.Concat([]byte(version+" "+name+" "), bytes.Repeat([]byte{7}, 3000), []byte(" "+version))
}

func filesOf(version string) map[string]io.Reader {
	m := map[string]io.Reader{}
	for _, name := range []string{Kernel, Initrd, Manifest} {
		m[name] = bytes.NewReader(content(version, name))
	}
	return m
}

// boots is what a loader does with a disk: systemd-boot's order, and a kernel and initrd that are whole or a machine that stands still.
// It gives the version that runs, and the name of its entry.
func boots(t *testing.T, f *faultfs.FS) (version string, x Entry) {
	t.Helper()
	names, err := f.List(root + "/" + entriesDir)
	if err != nil {
		t.Fatal(err)
	}
	var list []Entry
	for _, name := range names {
		x, err := ParseFileName(name)
		conf := string(f.Data(root + "/" + entriesDir + "/" + name))
		if err == nil && strings.Contains(conf, "linux /") {
			x.Version = conf
			list = append(list, x)
		}
	}
	if len(list) == 0 {
		t.Fatalf("the loader finds no entry: %q", names)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(falseFirst(a.Counted && a.Left == 0, b.Counted && b.Left == 0), -cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(b.Left, a.Left))
	})
	x = list[0]
	for line := range strings.Lines(x.Version) {
		if v, ok := strings.CutPrefix(line, "version "); ok {
			version = strings.TrimSpace(v)
		}
	}
	for _, name := range []string{Kernel, Initrd} {
		if got := f.Data(root + "/" + string(x.Slot) + "/" + name); !bytes.Equal(got, content(version, name)) {
			t.Fatalf("the loader starts %s, whose %s is %d bytes that begin %.20q", x.FileName(), name, len(got), got)
		}
	}
	return version, x
}

func open(t *testing.T, f *faultfs.FS) *ESP {
	t.Helper()
	e, err := OpenFS(f, root)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// flashed is a partition as an image has it: release 1 in slot a, good.
func flashed(t *testing.T) *faultfs.FS {
	t.Helper()
	f := faultfs.NewFAT()
	if err := open(t, f).Install(context.Background(), A, Release{Version: "1", Blessed: true}, filesOf("1")); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestANameIsReadAsItWasWrittenAndAsTheLoaderCountsIt(t *testing.T) {
	for name, want := range map[string]Entry{
		"holdfast-000001-a.conf":     {Slot: A, Sequence: 1},
		"holdfast-000012-b+3.conf":   {Slot: B, Sequence: 12, Counted: true, Left: 3},
		"holdfast-000012-b+2-1.conf": {Slot: B, Sequence: 12, Counted: true, Left: 2, Done: 1},
		"holdfast-999999-b+0-3.conf": {Slot: B, Sequence: 999999, Counted: true, Done: 3},
	} {
		got, err := ParseFileName(name)
		if err != nil || got != want || got.FileName() != name {
			t.Errorf("%s: %+v %v, written %s", name, got, err, got.FileName())
		}
		if upper, err := ParseFileName(strings.ToUpper(name)); err != nil || upper != want {
			t.Errorf("%s in capitals: %+v %v", name, upper, err)
		}
	}
	for _, name := range []string{"", "holdfast-000000-a.conf", "holdfast-1-a.conf", "holdfast-000001-c.conf", "holdfast-000001-a+.conf", "holdfast-000001-a+3-1", "debian.conf", "holdfast-000001-a+3.conf.new", "holdfast-000001-a-3.conf", "holdfast-000001-a+3333.conf"} {
		if e, err := ParseFileName(name); !errors.Is(err, ErrName) {
			t.Errorf("%q is an entry: %+v", name, e)
		}
	}
}

func FuzzParseFileName(f *testing.F) {
	f.Add("holdfast-000012-b+2-1.conf")
	f.Fuzz(func(t *testing.T, name string) {
		e, err := ParseFileName(name)
		if err != nil {
			return
		}
		again, err := ParseFileName(e.FileName())
		if err != nil || again != e {
			t.Fatalf("%q is %+v, written %q, read %+v %v", name, e, e.FileName(), again, err)
		}
	})
}

func TestTheKernelsCommandLineSaysTheSlot(t *testing.T) {
	b, err := Conf(B, "1.2", "console=ttyAMA0 loglevel=4")
	if err != nil {
		t.Fatal(err)
	}
	_, options, _ := strings.Cut(string(b), "options ")
	options, _, _ = strings.Cut(options, "\n")
	if s, ok := Running(options); !ok || s != B || !strings.Contains(options, "console=ttyAMA0 loglevel=4 panic=5 ") {
		t.Errorf("%q: %v %v", options, s, ok)
	}
	if s, ok := Running("quiet root=/dev/sda1"); ok {
		t.Errorf("a stranger's kernel came from slot %q", s)
	}
	for _, bad := range [][2]string{{"1 2", ""}, {"", ""}, {"1", "a\nlinux /evil"}, {"1", strings.Repeat("x", 600)}} {
		if _, err := Conf(A, bad[0], bad[1]); !errors.Is(err, ErrName) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func TestAReleaseIsTriedUntilItIsBlessedOrItsTriesAreUsedUp(t *testing.T) {
	f := flashed(t)
	e := open(t, f)
	if err := e.Install(context.Background(), B, Release{Version: "2"}, filesOf("2")); err != nil {
		t.Fatal(err)
	}
	for try := range 3 {
		v, x := boots(t, f)
		if v != "2" || x.Left != 3-try {
			t.Fatalf("try %d: %s by %s", try, v, x.FileName())
		}
		dir := root + "/" + entriesDir + "/"
		was := x.FileName()
		x.Left, x.Done = x.Left-1, x.Done+1
		if err := f.Rename(dir+was, dir+x.FileName()); err != nil {
			t.Fatal(err)
		}
	}
	if v, x := boots(t, f); v != "1" || x.Counted {
		t.Fatalf("after three tries: %s by %s", v, x.FileName())
	}
	if err := e.Bless(B); err != nil {
		t.Fatal(err)
	}
	if v, x := boots(t, f); v != "2" || x.Counted {
		t.Fatalf("after the blessing: %s by %s", v, x.FileName())
	}
	if err := e.Spoil(B, "the site is slow with it"); err != nil {
		t.Fatal(err)
	}
	if v, _ := boots(t, f); v != "1" || e.Reason(B) != "the site is slow with it" {
		t.Fatalf("after it was given up: %s, because %q", v, e.Reason(B))
	}
	if err := e.Spoil(A, "no"); !errors.Is(err, ErrLast) {
		t.Fatalf("both slots may be given up: %v", err)
	}
	if err := e.Install(context.Background(), A, Release{Version: "3"}, filesOf("3")); !errors.Is(err, ErrLast) {
		t.Fatalf("the only good slot may be written: %v", err)
	}
	if err := e.Install(context.Background(), B, Release{Version: "3"}, filesOf("3")); err != nil || e.Reason(B) != "" {
		t.Fatalf("%v; the reason is still %q", err, e.Reason(B))
	}
	if v, _ := boots(t, f); v != "3" {
		t.Fatalf("after the next install: %s", v)
	}
}

// What can be done to a partition, with what may run after a power cut in the middle of it.
var changes = []struct {
	name   string
	before func(e *ESP) error
	change func(e *ESP) error
	may    []string // versions
	then   string   // when it is done again after the cut
}{
	{
		"install over an older release",
		func(e *ESP) error {
			return errors.Join(e.Install(context.Background(), B, Release{Version: "0"}, filesOf("0")), e.Bless(B))
		},
		func(e *ESP) error {
			return e.Install(context.Background(), B, Release{Version: "2"}, filesOf("2"))
		},
		[]string{"0", "1", "2"},
		"2",
	},
	{
		"bless",
		func(e *ESP) error { return e.Install(context.Background(), B, Release{Version: "2"}, filesOf("2")) },
		func(e *ESP) error { return e.Bless(B) },
		[]string{"2"},
		"2",
	},
	{
		"give up",
		func(e *ESP) error {
			return errors.Join(e.Install(context.Background(), B, Release{Version: "2"}, filesOf("2")), e.Bless(B))
		},
		func(e *ESP) error { return e.Spoil(B, "because") },
		[]string{"1", "2"},
		"1",
	},
}

func TestAPowerCutAtAnyStepLeavesASlotThatBoots(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			cuts := 0
			for after := 0; ; after++ {
				done := false
				for seed := range uint64(40) {
					mode := []faultfs.Mode{faultfs.Lost, faultfs.Kept, faultfs.Torn}[min(seed, 2)]
					f := flashed(t)
					e := open(t, f)
					if err := c.before(e); err != nil {
						t.Fatal(err)
					}
					f.CutAfter(after)
					err := c.change(e)
					if err != nil && !errors.Is(err, faultfs.ErrCut) {
						t.Fatal(err)
					}
					done = err == nil
					g := f.Crash(mode, seed)
					v, x := boots(t, g)
					if !slices.Contains(c.may, v) {
						t.Fatalf("cut after %d operations, %v of them kept (seed %d): version %s runs, by %s", after, mode, seed, v, x.FileName())
					}
					if done && v != c.then {
						t.Fatalf("done, and after a power cut then: version %s runs", v)
					}
					if err := c.change(open(t, g)); err != nil {
						t.Fatalf("again after the cut: %v", err)
					}
					if v, x := boots(t, g.Crash(faultfs.Lost, 0)); v != c.then {
						t.Fatalf("cut after %d operations, and done again: version %s runs, by %s", after, v, x.FileName())
					}
					cuts++
				}
				if done {
					t.Logf("%d operations, %d cuts", after, cuts)
					return
				}
			}
		})
	}
}

func TestAFileGoesOnWhereItWasCut(t *testing.T) {
	f := flashed(t)
	e := open(t, f)
	s, err := e.Stage(B, Kernel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Sync(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = open(t, f.Crash(faultfs.Lost, 0)).Stage(B, Kernel); err != nil || s.Size() != 10 {
		t.Fatalf("%v, %d bytes", err, s.Size())
	}
	s.Resume(4)
	if _, err := s.Write([]byte("xyz")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if _, err := s.ReadAt(b, 0); err != nil || string(b) != "0123xyz789" || s.Size() != 7 {
		t.Fatalf("%q %d %v", b, s.Size(), err)
	}
	if err := s.Truncate(); err != nil || s.Size() != 0 {
		t.Fatal(err, s.Size())
	}
	if _, err := e.Stage(A, Kernel); !errors.Is(err, ErrSlot) {
		t.Fatalf("a file of a slot with an entry may change: %v", err)
	}
	if err := e.Commit(B, Release{Version: "2"}); err == nil {
		t.Fatal("a slot without an initrd got an entry")
	}
}

func TestItWorksOnADirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, ErrNoESP) {
		t.Fatalf("an empty directory is a system partition: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, entriesDir), 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := errors.Join(e.Install(ctx, A, Release{Version: "1", Blessed: true}, filesOf("1")), e.Install(ctx, B, Release{Version: "2"}, filesOf("2"))); err != nil {
		t.Fatal(err)
	}
	list, err := e.Entries()
	if want := []Entry{{B, 2, "2", true, 3, 0}, {A, 1, "1", false, 0, 0}}; err != nil || !slices.Equal(list, want) {
		t.Fatalf("%+v %v", list, err)
	}
	m, err := e.ReadManifest(B)
	if err != nil || !bytes.Equal(m, content("2", Manifest)) {
		t.Fatalf("%.20q %v", m, err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := e.Install(stopped, B, Release{Version: "3"}, filesOf("3")); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if list, err := e.Entries(); err != nil || fmt.Sprint(list) != "[{a 1 1 false 0 0}]" {
		t.Fatalf("%v %v", list, err)
	}
}
