package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

func openTraces(t *testing.T, dir string, o TracesOptions) *Traces {
	t.Helper()
	x, err := OpenTraces(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func trace(n int64, value string) KeptTrace {
	k := KeptTrace{Begin: n, Value: []byte(value)}
	binary.BigEndian.PutUint64(k.ID[:], uint64(n)+1)
	return k
}

func each(t *testing.T, x *Traces, since int64) (all []string) {
	t.Helper()
	if err := x.Each(since, func(v []byte) bool { all = append(all, string(v)); return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTracesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	x := openTraces(t, dir, TracesOptions{Box: coord.BoxID{1}})
	revs := []KeptRevisions{{From: 10, Value: []byte("10")}, {From: 20, Value: []byte("20")}}
	if err := x.Keep([]KeptTrace{trace(1, "a"), trace(2, "b"), trace(3, "c"), trace(2, "b2")}, revs); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Get(trace(1, "").ID); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	x = openTraces(t, dir, TracesOptions{Box: coord.BoxID{1}})
	if got := each(t, x, 2); len(got) != 2 || got[0] != "c" || got[1] != "b2" {
		t.Error(got)
	}
	if v, err := x.Get(trace(2, "").ID); err != nil || string(v) != "b2" {
		t.Error(string(v), err)
	}
	if _, err := x.Get(trace(9, "").ID); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for rev, want := range map[uint64]string{11: "10", 20: "10", 21: "20", 1000: "20"} {
		if v, err := x.Revisions(rev); err != nil || string(v) != want {
			t.Errorf("revision %d: %q, %v", rev, v, err)
		}
	}
	if _, err := x.Revisions(10); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	used, _, oldest, err := x.Size()
	if err != nil || oldest != 1 || used != 3*traceOverhead+4 {
		t.Error(used, oldest, err)
	}
}

func TestTheOldestTracesGoWhenThereIsNoRoom(t *testing.T) {
	x := openTraces(t, t.TempDir(), TracesOptions{BytesMax: 1})
	value := string(make([]byte, 1000))
	for i := range int64(1000) {
		if err := x.Keep([]KeptTrace{trace(i, value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	used, limit, oldest, err := x.Size()
	if err != nil || used > limit || limit-used > 2*1000+traceOverhead || oldest == 0 || oldest == math.MaxInt64 {
		t.Error(used, limit, oldest, err)
	}
	if n := int64(len(each(t, x, 0))); n != 1000-oldest {
		t.Errorf("%d traces, the oldest is %d", n, oldest)
	}
	if _, err := x.Get(trace(oldest-1, "").ID); !errors.Is(err, ErrNotFound) {
		t.Error("one that went is still named:", err)
	}
	fi, err := os.Stat(filepath.Join(filepath.Dir(x.path), tracesName))
	if err != nil || fi.Size() > 4<<20 {
		t.Error(fi.Size(), err)
	}
	for i := range uint64(300) {
		if err := x.Keep(nil, []KeptRevisions{{From: i, Value: bytes.Repeat([]byte{1}, 64<<10)}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.Revisions(100); !errors.Is(err, ErrNotFound) {
		t.Error("revisions are not bounded:", err)
	}
	if v, err := x.Revisions(300); err != nil || len(v) == 0 {
		t.Error(err)
	}
}

// Traces are not worth a box that does not start.
func TestTracesThatCannotBeUsedAreThrownAway(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"garbage":   func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("x"), 64<<10), 0o600) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"cut":       func(path string) error { return os.Truncate(path, 4096) },
		"half made": func(path string) error { return os.Rename(path, path+newSuffix) },
	} {
		dir := t.TempDir()
		x := openTraces(t, dir, TracesOptions{})
		if err := errors.Join(x.Keep([]KeptTrace{trace(1, "a")}, nil), x.Close(), spoil(x.path)); err != nil {
			t.Fatal(err)
		}
		if x = openTraces(t, dir, TracesOptions{}); len(each(t, x, 0)) != 0 {
			t.Error(name, "has traces")
		}
		if err := x.Keep([]KeptTrace{trace(1, "a")}, nil); err != nil {
			t.Error(name, err)
		}
	}
	dir := t.TempDir()
	x := openTraces(t, dir, TracesOptions{Box: coord.BoxID{1}})
	if err := errors.Join(x.Keep([]KeptTrace{trace(1, "a")}, nil), x.Close()); err != nil {
		t.Fatal(err)
	}
	if x = openTraces(t, dir, TracesOptions{Box: coord.BoxID{2}}); len(each(t, x, 0)) != 0 {
		t.Error("another box's traces are shown")
	}
}
