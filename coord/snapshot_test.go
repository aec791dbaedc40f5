package coord_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

type entry struct {
	space      coord.Space
	key, value string
}

// cutUp is a state's chunks.
func cutUp(t testing.TB, es []entry) (chunks [][]byte, manifest []byte, state coord.Digest) {
	t.Helper()
	w := coord.NewSnapshotWriter(func(data []byte, d coord.Digest) error {
		if d != sha256.Sum256(data) {
			t.Error("a chunk's digest is not its SHA-256")
		}
		chunks = append(chunks, bytes.Clone(data))
		return nil
	})
	for _, e := range es {
		if err := w.Add(e.space, []byte(e.key), []byte(e.value)); err != nil {
			t.Fatal(err)
		}
	}
	manifest, state, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return chunks, manifest, state
}

func decode(chunk []byte) (es []entry, err error) {
	err = coord.DecodeChunk(chunk, func(sp coord.Space, k, v []byte) error {
		es = append(es, entry{sp, string(k), string(v)})
		return nil
	})
	return es, err
}

// someState has n entries in each space, with values of less than size bytes.
func someState(seed uint64, n, size int) (es []entry) {
	r := rand.New(rand.NewPCG(seed, 2))
	for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
		for i := range n {
			es = append(es, entry{sp, fmt.Sprintf("%06d", i), string(make([]byte, r.IntN(size)))})
		}
	}
	return es
}

func TestAStateComesBackFromItsChunks(t *testing.T) {
	es := someState(1, 200, 4000)
	chunks, manifest, state := cutUp(t, es)
	var back []entry
	for i, c := range chunks {
		if i < len(chunks)-1 && len(c) < coord.SnapshotChunkBytes || len(c) > coord.SnapshotChunkBytesMax {
			t.Errorf("chunk %d of %d has %d bytes", i, len(chunks), len(c))
		}
		if d := sha256.Sum256(c); !bytes.Equal(d[:], manifest[32*i:32*i+32]) {
			t.Errorf("chunk %d is not in the manifest", i)
		}
		part, err := decode(c)
		if err != nil {
			t.Fatal(err)
		}
		back = append(back, part...)
	}
	if len(chunks) < 4 || len(manifest) != 32*len(chunks) || state != sha256.Sum256(manifest) {
		t.Errorf("%d chunks, manifest of %d bytes", len(chunks), len(manifest))
	}
	if !slices.Equal(back, es) {
		t.Error("other entries")
	}
}

func TestAChunkEndsWithTheEntryThatReachesItsSize(t *testing.T) {
	value := string(make([]byte, coord.SnapshotChunkBytes-1-2-3)) // space, key "a" with its length, length of the value
	exact := []entry{{1, "a", value}, {1, "b", ""}}
	if chunks, _, _ := cutUp(t, exact); len(chunks) != 2 || len(chunks[0]) != coord.SnapshotChunkBytes {
		t.Errorf("%d chunks, the first of %d bytes", len(chunks), len(chunks[0]))
	}
	below := []entry{{1, "a", value[1:]}, {1, "b", ""}}
	if chunks, _, _ := cutUp(t, below); len(chunks) != 1 {
		t.Errorf("%d chunks", len(chunks))
	}
}

func TestAnEmptyStateHasNoChunk(t *testing.T) {
	chunks, manifest, state := cutUp(t, nil)
	if len(chunks) != 0 || len(manifest) != 0 || state != sha256.Sum256(nil) {
		t.Errorf("%d chunks", len(chunks))
	}
}

func TestTheWriterRefusesWhatIsNotAState(t *testing.T) {
	long := make([]byte, coord.SnapshotValueBytesMax+1)
	for _, c := range []struct {
		name       string
		space      coord.Space
		key, value []byte
		err        error
	}{
		{"the same key", 2, []byte("k"), nil, coord.ErrSnapshotOrder},
		{"a lower key", 2, []byte("j"), nil, coord.ErrSnapshotOrder},
		{"a lower space", 1, []byte("z"), nil, coord.ErrSnapshotOrder},
		{"space 0", 0, []byte("z"), nil, coord.ErrSnapshotChunk},
		{"a space beyond the last", coord.SpaceMax + 1, []byte("z"), nil, coord.ErrSnapshotChunk},
		{"a long key", 3, long[:coord.SnapshotKeyBytesMax+1], nil, coord.ErrSnapshotLimit},
		{"a long value", 3, []byte("z"), long, coord.ErrSnapshotLimit},
	} {
		w := coord.NewSnapshotWriter(func([]byte, coord.Digest) error { return nil })
		if err := w.Add(2, []byte("k"), nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Add(c.space, c.key, c.value); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	broken := errors.New("no room")
	w := coord.NewSnapshotWriter(func([]byte, coord.Digest) error { return broken })
	if err := w.Add(1, nil, long[1:]); !errors.Is(err, broken) {
		t.Errorf("emit's error is %v", err)
	}
}

func TestHostileChunksAreRefused(t *testing.T) {
	whole, _, _ := cutUp(t, []entry{{1, "a", "1"}, {2, "", "2"}, {2, "b", "3"}})
	for name, data := range map[string][]byte{
		"nothing":                   {},
		"space 0":                   {0, 1, 'a', 0},
		"a space beyond the last":   {coord.SpaceMax + 1, 1, 'a', 0},
		"no key":                    {1},
		"a key beyond the end":      {1, 2, 'a'},
		"a key of 2^63 bytes":       {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 'a'},
		"a length that never ends":  {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a longer form of a length": {1, 0x81, 0x00, 'a', 0},
		"no value":                  {1, 1, 'a'},
		"a value beyond the end":    {1, 1, 'a', 9, 'v'},
		"a value of 4 GiB":          {1, 1, 'a', 0x80, 0x80, 0x80, 0x80, 0x10},
		"the same key twice":        {1, 1, 'a', 0, 1, 1, 'a', 0},
		"a lower key":               {1, 1, 'b', 0, 1, 1, 'a', 0},
		"a lower space":             {2, 1, 'a', 0, 1, 1, 'b', 0},
		"an entry behind the end":   append(append([]byte{1, 1, 'a', 0x80, 0x80, 0x10}, make([]byte, coord.SnapshotChunkBytes)...), 2, 0, 0),
		"more than a chunk can be":  make([]byte, coord.SnapshotChunkBytesMax+1),
	} {
		if _, err := decode(data); !errors.Is(err, coord.ErrSnapshotChunk) && !errors.Is(err, coord.ErrSnapshotOrder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := map[int]bool{5: true, 9: true} // ends of the first entries
	for n := range whole[0] {
		if _, err := decode(whole[0][:n]); (err == nil) != good[n] {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestTheCallersErrorEndsDecoding(t *testing.T) {
	whole, _, _ := cutUp(t, []entry{{1, "a", "1"}, {2, "b", "3"}})
	stop, calls := errors.New("enough"), 0
	err := coord.DecodeChunk(whole[0], func(coord.Space, []byte, []byte) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%d calls: %v", calls, err)
	}
}

// What decodes is what the writer would write: no state has two encodings.
func FuzzDecodeChunk(f *testing.F) {
	for seed := range uint64(3) {
		chunks, _, _ := cutUp(f, someState(seed, 2, 20))
		f.Add(chunks[0])
	}
	f.Add([]byte{1, 1, 'a', 0, 2, 0, 0})
	f.Add([]byte{1, 0x81, 0x00, 'a', 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		es, err := decode(data)
		if err != nil {
			return
		}
		if chunks, _, _ := cutUp(t, es); len(chunks) != 1 || !bytes.Equal(chunks[0], data) {
			t.Fatalf("%d bytes decode, and encode to others", len(data))
		}
	})
}
