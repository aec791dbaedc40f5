package audit_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

func TestAHeadIsAcceptedOnlyWhenTheLogGrew(t *testing.T) {
	b := bookOf(t, 100, 10)
	other := newBook() // the same box with another past
	for i := range 120 {
		r := record(i)
		if i == 42 {
			r.Principal = "operator:eve"
		}
		other.add(t, r)
	}
	next := func(k *book, top audit.Top) *audit.Head {
		h, err := k.tree.NextHead(testBox, top)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	b.add(t, record(100), record(101))
	good := next(b, b.top)
	short, same, marks := *good, *good, *good
	forged := audit.Head{Box: testBox, Size: 120, From: 100, Marks: make([]byte, 20*audit.MarkBytes)}
	forged.Root, _ = other.tree.Root(120)
	forged.Path, _ = other.tree.Grown(120, 100)
	short.Size = 50
	same.Size = 100
	marks.Marks = marks.Marks[:8]
	nothing := audit.Head{Box: testBox, Size: b.top.Size, From: b.top.Size, Root: b.top.Root}
	// A restart: a head went on its way, and after it one more that did not know of it.
	earlier := b.heads[9] // goes on from 90
	first := audit.Head{Box: testBox, Size: 5000, Root: good.Root, Marks: make([]byte, 5000*audit.MarkBytes)}
	for name, c := range map[string]struct {
		h    *audit.Head
		last audit.Top
		want error
	}{
		"grown": {good, b.top, nil}, "shortened": {&short, b.top, audit.ErrShortened}, "another root of one size": {&same, b.top, audit.ErrRewritten},
		"another past": {&forged, b.top, audit.ErrRewritten}, "marks missing": {&marks, b.top, audit.ErrHead}, "nothing new": {&nothing, b.top, audit.ErrHead},
		"made before another was ordered": {good, audit.Top{Size: 101, Root: good.Root}, audit.ErrStale}, "ordered twice": {&earlier, b.top, audit.ErrStale},
		"ordered late":     {&earlier, audit.Top{Size: 102, Root: good.Root}, audit.ErrStale},
		"too much at once": {&first, audit.Top{}, audit.ErrHead},
	} {
		if err := c.h.Extends(c.last); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A box whose own log is not the one that it ordered last says so to itself, and orders nothing.
func TestADamagedLogMakesNoHead(t *testing.T) {
	b, other := bookOf(t, 100, 10), newBook()
	for i := range 150 {
		other.add(t, record(i+i/60))
	}
	if _, err := other.tree.NextHead(testBox, b.top); !errors.Is(err, audit.ErrRewritten) {
		t.Errorf("another past: %v", err)
	}
	if _, err := bookOf(t, 99, 10).tree.NextHead(testBox, b.top); !errors.Is(err, audit.ErrShortened) {
		t.Errorf("one record gone: %v", err)
	}
	if h, err := b.tree.NextHead(testBox, b.top); h != nil || err != nil {
		t.Errorf("nothing new: %v %v", h, err)
	}
}

// without and with make a log from another, never changing it.
func without(rs [][]byte, i int) [][]byte { return slices.Delete(slices.Clone(rs), i, i+1) }

func with(rs [][]byte, i int, r audit.Record) [][]byte {
	return slices.Insert(slices.Clone(rs), i, r.Append(nil))
}

func edit(rs [][]byte, i int) [][]byte {
	rs = slices.Clone(rs)
	r, _ := audit.Decode(rs[i])
	r.Principal = "nobody"
	rs[i] = r.Append(nil)
	return rs
}

func swap(rs [][]byte, i, j int) [][]byte {
	rs = slices.Clone(rs)
	rs[i], rs[j] = rs[j], rs[i]
	return rs
}

func TestVerifyNamesTheRecord(t *testing.T) {
	b := bookOf(t, 105, 10) // 100 are signed, 5 are not
	rs := b.records
	type want struct {
		kind      audit.FaultKind
		index, at int64
	}
	for name, c := range map[string]struct {
		log    [][]byte
		proven int64
		want   []want
	}{
		"as it was":              {rs, 100, nil},
		"only what is signed":    {rs[:100], 100, nil},
		"edited":                 {edit(rs, 37), 30, []want{{audit.Edited, 37, 37}}},
		"first edited":           {edit(rs, 0), 0, []want{{audit.Edited, 0, 0}}},
		"last signed edited":     {edit(rs, 99), 90, []want{{audit.Edited, 99, 99}}},
		"unsigned edited":        {edit(rs, 101), 100, nil},
		"dropped":                {without(rs, 37), 30, []want{{audit.Dropped, 37, 0}}},
		"first dropped":          {without(rs, 0), 0, []want{{audit.Dropped, 0, 0}}},
		"end cut":                {rs[:97], 90, []want{{audit.Dropped, 97, 0}, {audit.Dropped, 98, 0}, {audit.Dropped, 99, 0}}},
		"inserted":               {with(rs, 37, record(900)), 30, []want{{audit.Inserted, 37, 37}}},
		"inserted first":         {with(rs, 0, record(900)), 0, []want{{audit.Inserted, 0, 0}}},
		"inserted before a head": {with(rs, 40, record(900)), 40, []want{{audit.Inserted, 40, 40}}},
		"twice":                  {with(rs, 37, record(36)), 30, []want{{audit.Inserted, 37, 37}}},
		"neighbours swapped":     {swap(rs, 37, 38), 30, []want{{audit.Moved, 38, 37}}},
		"moved far":              {with(without(rs, 37), 80, record(37)), 30, []want{{audit.Moved, 37, 80}}},
		"three things at once": {
			with(without(edit(rs, 12), 37), 60, record(901)), 10,
			[]want{{audit.Edited, 12, 12}, {audit.Dropped, 37, 0}, {audit.Inserted, 61, 60}},
		},
		"all gone": {nil, 0, func() (w []want) {
			for i := range int64(100) {
				w = append(w, want{audit.Dropped, i, 0})
			}
			return w
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			r := audit.Verify(&audit.Log{Box: testBox, Records: c.log}, b.heads)
			var got []want
			for _, f := range r.Faults {
				got = append(got, want{f.Kind, f.Index, f.At})
			}
			if !slices.Equal(got, c.want) || r.Proven != c.proven || r.Signed != 100 {
				t.Errorf("proven %d of %d, faults %v; want %d and %v", r.Proven, r.Signed, got, c.proven, c.want)
			}
		})
	}
}

// Whoever has the disk and makes the whole tree anew is found too, by the heads and marks that the site has.
func TestATreeMadeAnewDoesNotHideAnEdit(t *testing.T) {
	b := bookOf(t, 200, 50)
	anew := newBook()
	for i, e := range edit(b.records, 123) {
		r, err := audit.Decode(e)
		if err != nil {
			t.Fatal(i, err)
		}
		anew.add(t, *r)
	}
	p, err := anew.tree.Peaks(60)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []audit.Log{
		{Box: testBox, Records: anew.records},
		{Box: testBox, First: 60, Before: p, Records: anew.records[60:]},
	} {
		if r := audit.Verify(&l, b.heads); len(r.Faults) != 1 || r.Faults[0].Kind != audit.Edited || r.Faults[0].Index != 123 {
			t.Errorf("from %d: %v; want record 123", l.First, r.Faults)
		}
	}
	// An edit in what was pruned cannot be placed, but it is not hidden either.
	p, _ = anew.tree.Peaks(130)
	r := audit.Verify(&audit.Log{Box: testBox, First: 130, Before: p, Records: anew.records[130:]}, b.heads)
	if len(r.Faults) != 1 || r.Faults[0].Kind != audit.Rewritten || r.Faults[0].Index != 0 || r.Faults[0].To != 150 {
		t.Errorf("an edit in what is pruned: %v", r.Faults)
	}
}

func TestWithoutMarksARangeIsNamed(t *testing.T) {
	b := bookOf(t, 100, 10)
	for i := range b.heads {
		b.heads[i].Marks = nil
	}
	r := audit.Verify(&audit.Log{Box: testBox, Records: edit(b.records, 37)}, b.heads)
	if len(r.Faults) != 1 || r.Faults[0] != (audit.Fault{Kind: audit.Rewritten, Index: 30, To: 40}) || r.Proven != 30 {
		t.Errorf("%v, proven %d", r.Faults, r.Proven)
	}
}

func TestALyingHeadIsNamed(t *testing.T) {
	b := bookOf(t, 100, 10)
	heads := slices.Clone(b.heads)
	heads[3].Marks = slices.Clone(heads[3].Marks)
	heads[3].Marks[8] ^= 1
	r := audit.Verify(&audit.Log{Box: testBox, Records: b.records}, heads)
	if len(r.Faults) != 1 || r.Faults[0].Kind != audit.WrongMark || r.Faults[0].Index != 31 {
		t.Errorf("a wrong mark: %v", r.Faults)
	}
	two := heads[5]
	two.Root[0] ^= 1
	r = audit.Verify(&audit.Log{Box: testBox, Records: b.records}, append(slices.Clone(b.heads), two))
	if len(r.Faults) != 1 || r.Faults[0].Kind != audit.Conflict || r.Faults[0].Index != 60 {
		t.Errorf("two heads of one size: %v", r.Faults)
	}
	other := two
	other.Box = coord.BoxID{9}
	if r := audit.Verify(&audit.Log{Box: testBox, Records: b.records}, append(slices.Clone(b.heads), other)); !r.OK() {
		t.Errorf("another box's head: %v", r.Faults)
	}
}

// Any change of what is signed is found, and never more is named than was done.
func TestEveryRandomChangeIsFound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	b := bookOf(t, 100, 7)
	for range 500 {
		rs := b.records
		n := 1 + rnd.IntN(5)
		for range n {
			i := rnd.IntN(min(len(rs), 90))
			switch rnd.IntN(4) {
			case 0:
				rs = edit(rs, i)
			case 1:
				rs = without(rs, i)
			case 2:
				rs = with(rs, i, record(1000+rnd.IntN(1000)))
			case 3:
				rs = swap(rs, i, rnd.IntN(min(len(rs), 90)))
			}
		}
		same := slices.EqualFunc(rs, b.records, slices.Equal)
		r := audit.Verify(&audit.Log{Box: testBox, Records: rs}, b.heads)
		if r.OK() != same || len(r.Faults) > 2*n+n { // a swap is two moves
			t.Fatalf("%d changes, the same %v: %d faults %v", n, same, len(r.Faults), r.Faults)
		}
		for _, f := range r.Faults {
			if f.Kind == audit.Dropped && !slices.ContainsFunc(rs, func(e []byte) bool { return slices.Equal(e, b.records[f.Index]) }) {
				continue
			}
			if f.Kind == audit.Edited || f.Kind == audit.Inserted || f.Kind == audit.Moved {
				if f.Now == nil {
					t.Fatalf("%v does not say what is there", f)
				}
				continue
			}
			t.Fatalf("%v is not so", f)
		}
	}
}
