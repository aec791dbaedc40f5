package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// sameColumns compares messages, not memory.
func sameColumns(a, b *coord.Columns) error {
	switch {
	case !slices.Equal(a.Kinds, b.Kinds):
		return errors.New("kinds differ")
	case !slices.Equal(a.Sessions, b.Sessions):
		return errors.New("sessions differ")
	case !slices.Equal(a.Seqs, b.Seqs):
		return errors.New("sequence numbers differ")
	case !slices.Equal(a.Times, b.Times):
		return errors.New("times differ")
	case !slices.Equal(a.KeyEnd, b.KeyEnd) || !bytes.Equal(a.Keys, b.Keys):
		return errors.New("keys differ")
	case !slices.Equal(a.ValEnd, b.ValEnd) || !bytes.Equal(a.Vals, b.Vals):
		return errors.New("values differ")
	}
	return nil
}

func TestABodyDecodesToTheMessagesInIt(t *testing.T) {
	enc, dec, got := NewBodyEncoder(), NewBodyDecoder(), new(coord.Columns)
	for seed := range uint64(300) {
		g := newGen(seed)
		c := g.columns(g.IntN(1 + g.IntN(300)))
		body := enc.AppendBody([]byte("before"), c)
		if err := dec.DecodeBody(body[len("before"):], got); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := sameColumns(got, c); err != nil {
			t.Fatalf("seed %d, %d messages: %v", seed, c.Len(), err)
		}
		if err := CheckColumns(got); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestTheLargestBatchFits(t *testing.T) {
	g, c := newGen(1), new(coord.Columns)
	for i := range coord.BatchMessagesMax {
		n := coord.BatchBytesMax / coord.BatchMessagesMax
		k := n/2 + i%3 - 1 // lengths that differ
		b := g.bytes(n)
		c.Add(coord.Kind(i), g.Uint64(), g.Uint64(), int64(g.Uint64()), b[:k], b[k:])
	}
	body := NewBodyEncoder().AppendBody(nil, c)
	if len(body) > coord.BatchBodyBytesMax {
		t.Fatalf("%d bytes, more than %d", len(body), coord.BatchBodyBytesMax)
	}
	var got coord.Columns
	if err := NewBodyDecoder().DecodeBody(body, &got); err != nil {
		t.Fatal(err)
	}
	if err := sameColumns(&got, c); err != nil {
		t.Fatal(err)
	}
}

func TestTheLongestKeyAndValueFit(t *testing.T) {
	c := new(coord.Columns)
	c.Add(coord.KindPut, 1, math.MaxUint64, math.MinInt64, make([]byte, coord.KeyBytesMax), make([]byte, coord.ValueBytesMax))
	var got coord.Columns
	if err := NewBodyDecoder().DecodeBody(NewBodyEncoder().AppendBody(nil, c), &got); err != nil {
		t.Fatal(err)
	}
	if err := sameColumns(&got, c); err != nil {
		t.Fatal(err)
	}
}

// beyond has messages that break a limit each.
func beyond() map[string]*coord.Columns {
	m := make(map[string]*coord.Columns)
	add := func(name string, fill func(c *coord.Columns)) {
		m[name] = new(coord.Columns)
		fill(m[name])
	}
	add("one message too many", func(c *coord.Columns) {
		for i := range coord.BatchMessagesMax + 1 {
			c.Add(coord.KindPut, 1, uint64(i), 0, nil, nil)
		}
	})
	add("a key too long", func(c *coord.Columns) {
		c.Add(coord.KindPut, 1, 1, 0, make([]byte, coord.KeyBytesMax+1), nil)
	})
	add("a key too long among others", func(c *coord.Columns) {
		c.Add(coord.KindPut, 1, 1, 0, []byte("short"), nil)
		c.Add(coord.KindPut, 1, 1, 0, make([]byte, coord.KeyBytesMax+1), nil)
	})
	add("a value too long", func(c *coord.Columns) {
		c.Add(coord.KindPut, 1, 1, 0, nil, make([]byte, coord.ValueBytesMax+1))
	})
	add("too many bytes together", func(c *coord.Columns) {
		c.Add(coord.KindPut, 1, 1, 0, []byte("k"), make([]byte, coord.ValueBytesMax))
		c.Add(coord.KindPut, 1, 2, 0, nil, make([]byte, coord.ValueBytesMax))
	})
	return m
}

func TestWhatIsBeyondTheLimitsOfABatchIsRefused(t *testing.T) {
	for name, c := range beyond() {
		t.Run(name, func(t *testing.T) {
			var got coord.Columns
			got.Add(1, 1, 1, 1, []byte("old"), nil)
			if err := NewBodyDecoder().DecodeBody(NewBodyEncoder().AppendBody(nil, c), &got); !errors.Is(err, ErrLimit) {
				t.Errorf("decoded: %v", err)
			}
			if got.Len() != 0 || got.Bytes() != 0 {
				t.Error("what was there before, or part of what is refused, remains")
			}
			if err := CheckColumns(c); !errors.Is(err, ErrLimit) {
				t.Errorf("checked: %v", err)
			}
		})
	}
}

func TestColumnsThatDisagreeAreRefusedBeforeTheyAreABatch(t *testing.T) {
	for name, spoil := range map[string]func(c *coord.Columns){
		"a session missing":         func(c *coord.Columns) { c.Sessions = c.Sessions[:9] },
		"a key offset missing":      func(c *coord.Columns) { c.KeyEnd = c.KeyEnd[:9] },
		"key offsets that decrease": func(c *coord.Columns) { c.KeyEnd[3] = c.KeyEnd[2] - 1 },
		"values left over":          func(c *coord.Columns) { c.Vals = append(c.Vals, 1) },
		"keys that end early":       func(c *coord.Columns) { c.Keys = c.Keys[:len(c.Keys)-1] },
	} {
		c := new(coord.Columns)
		for i := range 10 {
			c.Add(1, 1, uint64(i), 0, []byte("key"), []byte("value"))
		}
		spoil(c)
		if err := CheckColumns(c); !errors.Is(err, ErrLength) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWarmCodecAllocatesNothing(t *testing.T) {
	c := newGen(1).columns(0)
	fillState(c, 100)
	enc, dec, got := NewBodyEncoder(), NewBodyDecoder(), new(coord.Columns)
	body := enc.AppendBody(nil, c)
	buf := make([]byte, 0, 2*len(body))
	if n := testing.AllocsPerRun(50, func() { buf = enc.AppendBody(buf[:0], c) }); n != 0 {
		t.Errorf("encoding: %v allocations a batch", n)
	}
	if err := dec.DecodeBody(body, got); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(50, func() { _ = dec.DecodeBody(body, got) }); n != 0 {
		t.Errorf("decoding: %v allocations a batch", n)
	}
}

// What a decoder did before must not show: boxes with different histories apply the same batches.
func TestABodyMeansTheSameToEveryDecoder(t *testing.T) {
	used, a := NewBodyDecoder(), new(coord.Columns)
	for seed := range uint64(200) {
		g := newGen(seed)
		body := NewBodyEncoder().AppendBody(nil, g.columns(g.IntN(100)))
		if g.IntN(2) == 0 {
			body[g.IntN(len(body))] ^= 1 << g.IntN(8)
		}
		b := new(coord.Columns)
		errA, errB := used.DecodeBody(body, a), NewBodyDecoder().DecodeBody(body, b)
		if fmt.Sprint(errA) != fmt.Sprint(errB) {
			t.Fatalf("seed %d: %v and %v", seed, errA, errB)
		}
		if err := sameColumns(a, b); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestDecodedMessagesShareNoMemoryWithTheBody(t *testing.T) {
	for _, compressible := range []bool{false, true} {
		c := new(coord.Columns)
		for i := range 50 {
			v := newGen(uint64(i)).bytes(300 + i%2)
			if compressible {
				clear(v)
			}
			c.Add(coord.KindPut, 1, uint64(i), 0, v[:5], v[5:])
		}
		body, got := NewBodyEncoder().AppendBody(nil, c), new(coord.Columns)
		if (body[0] == flagSnappy) != compressible {
			t.Fatalf("flag %d", body[0])
		}
		if err := NewBodyDecoder().DecodeBody(body, got); err != nil {
			t.Fatal(err)
		}
		clear(body)
		if err := sameColumns(got, c); err != nil {
			t.Error(err)
		}
	}
}

func TestTransposingTwiceGivesBackTheBytes(t *testing.T) {
	g := newGen(1)
	for _, rows := range []int{1, 2, 7, 8, 9, 15, 16, 17, 100, 257} {
		for _, cols := range []int{1, 2, 7, 8, 9, 16, 23, 88} {
			src := g.bytes(rows * cols)
			mid, out := make([]byte, len(src)), make([]byte, len(src))
			transpose(mid, src, rows, cols)
			for r := range rows {
				for c := range cols {
					if mid[c*rows+r] != src[r*cols+c] {
						t.Fatalf("%dx%d: byte %d of row %d is in another place", rows, cols, c, r)
					}
				}
			}
			if transpose(out, mid, cols, rows); !bytes.Equal(out, src) {
				t.Fatalf("%dx%d does not come back", rows, cols)
			}
		}
	}
}
