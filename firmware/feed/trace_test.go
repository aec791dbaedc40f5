package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

const web07 = "../../testdata/traces/web07.trace.xz"

func TestWeb07IsReadWhole(t *testing.T) {
	tr, err := Open(web07)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	seen := map[uint32]bool{}
	if err := tr.Each(func(objects []uint32) error {
		for _, o := range objects {
			seen[o] = true
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if tr.Accesses() != 76118 || len(seen) != 20484 {
		t.Errorf("%d accesses of %d objects, want 76118 of 20484", tr.Accesses(), len(seen))
	}
}

func compressed(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func raw(n int) []byte {
	b := make([]byte, 0, 4*n)
	for i := range n {
		b = binary.BigEndian.AppendUint32(b, uint32(i*i))
	}
	return b
}

func TestRawAndCompressedTracesAreTheSame(t *testing.T) {
	for _, n := range []int{1, 2, readObjects - 1, readObjects, readObjects + 1, 3 * readObjects} {
		for name, data := range map[string][]byte{"raw": raw(n), "xz": compressed(t, raw(n)), "two xz streams": append(compressed(t, raw(n)[:4]), compressed(t, raw(n)[4:])...)} {
			var got []byte
			err := decode(bytes.NewReader(data), false, func(objects []uint32) error {
				for _, o := range objects {
					got = binary.BigEndian.AppendUint32(got, o)
				}
				return nil
			})
			if err != nil || !bytes.Equal(got, raw(n)) {
				t.Errorf("%d accesses, %s: %d bytes, error %v", n, name, len(got), err)
			}
		}
	}
}

func TestADamagedTraceIsRefusedInOneLineBeforeAnythingIsSent(t *testing.T) {
	whole, err := os.ReadFile(web07)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, tc := range map[string]struct {
		file string
		data []byte
	}{
		"cut off in the middle":     {"a.trace.xz", whole[:len(whole)/2]},
		"last byte missing":         {"a.trace.xz", whole[:len(whole)-1]},
		"footer missing":            {"a.trace.xz", whole[:len(whole)-12]},
		"header only":               {"a.trace.xz", whole[:12]},
		"one bit flipped":           {"a.trace.xz", flipped},
		"magic destroyed":           {"a.trace.xz", append([]byte{0}, whole[1:]...)},
		"something follows":         {"a.trace.xz", append(bytes.Clone(whole), "junk"...)},
		"empty":                     {"a.trace.xz", nil},
		"empty raw":                 {"a.trace", nil},
		"compressed nothing":        {"a.trace.xz", compressed(t, nil)},
		"ends within an access":     {"a.trace", raw(5)[:18]},
		"ends within an access, xz": {"a.trace.xz", compressed(t, raw(5)[:18])},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tc.file)
			if err := os.WriteFile(path, tc.data, 0o600); err != nil {
				t.Fatal(err)
			}
			tr, err := Open(path)
			if tr != nil || !errors.Is(err, ErrTrace) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) {
				t.Errorf("trace %v, error %v", tr, err)
			}
		})
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrTrace) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Open("none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestATraceThatAsksForTooMuchMemoryIsRefusedBeforeItIsAllocated(t *testing.T) {
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 27, CheckSum: xz.CRC32}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw(3)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = decode(&b, true, func([]uint32) error { return nil })
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrTrace) || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("error %v", err)
	}
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 1<<20 {
		t.Errorf("%d bytes were allocated", grew)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(raw(3))
	f.Add(compressed(f, raw(3)))
	f.Add(compressed(f, raw(3))[:30])
	f.Add([]byte(xzMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		err := decode(bytes.NewReader(data), false, func(objects []uint32) error { n += len(objects); return nil })
		if err != nil && !errors.Is(err, ErrTrace) {
			t.Fatalf("error %v is not ErrTrace", err)
		}
		if err == nil && !bytes.HasPrefix(data, []byte(xzMagic)) && n*4 != len(data) {
			t.Fatalf("%d accesses in %d bytes", n, len(data))
		}
	})
}
