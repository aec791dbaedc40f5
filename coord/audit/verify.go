package audit

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
)

// FaultKind is what was done to a log.
type FaultKind uint8

// The kinds of faults.
const (
	Edited    FaultKind = iota + 1 // record Index is another one now, at At
	Dropped                        // record Index is not there
	Inserted                       // what stands at At was never there; Index is the record that it stands before
	Moved                          // record Index stands at At
	Rewritten                      // something in records Index to To-1 is not as it was, and no mark says which
	Conflict                       // two signed heads of Index records exclude each other: no honest quorum signs both
	WrongMark                      // the box itself gave a wrong mark of record Index; the record is right
)

var faultKinds = [...]string{
	Edited: "edited", Dropped: "dropped", Inserted: "inserted", Moved: "moved", Rewritten: "rewritten", Conflict: "conflict", WrongMark: "wrong mark",
}

// String is a word for people.
func (k FaultKind) String() string {
	if k < Edited || k > WrongMark {
		return "unknown"
	}
	return faultKinds[k]
}

// MarshalText makes JSON show a kind as its String.
func (k FaultKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Fault is one difference between a log and its heads. Index and To are places in the log that was signed, At is one in the log that
// is there.
type Fault struct {
	Kind  FaultKind `json:"kind"`
	Index int64     `json:"index"`
	To    int64     `json:"to,omitempty"`
	At    int64     `json:"at,omitempty"`
	// Now is what stands at At, when it can be read.
	Now *Record `json:"now,omitempty"`
}

// String says it in a sentence.
func (f *Fault) String() string {
	switch f.Kind {
	case Edited:
		return fmt.Sprintf("record %d was edited", f.Index)
	case Dropped:
		return fmt.Sprintf("record %d was dropped", f.Index)
	case Inserted:
		return fmt.Sprintf("a record was inserted before record %d (it stands at %d)", f.Index, f.At)
	case Moved:
		return fmt.Sprintf("record %d was moved (it stands at %d)", f.Index, f.At)
	case Rewritten:
		return fmt.Sprintf("records %d to %d are not those that were signed", f.Index, f.To-1)
	case Conflict:
		return fmt.Sprintf("two heads of %d records exclude each other", f.Index)
	case WrongMark:
		return fmt.Sprintf("the box gave a wrong mark of record %d", f.Index)
	}
	return "unknown"
}

// FaultsMax bounds the faults that a report names; the rest is counted.
const FaultsMax = 1000

// Log is one box's records as they were found.
type Log struct {
	Box coord.BoxID
	// First is the place of Records[0]; what is before was pruned, and Before is the tree up to there (Tree.Peaks).
	First   int64
	Before  Peaks
	Records [][]byte // encoded
}

// Report is what Verify found.
type Report struct {
	Box   coord.BoxID `json:"box"`
	First int64       `json:"first"` // the first record that is there
	Size  int64       `json:"size"`  // the place after the last one
	// Proven is the size of the newest head that the log begins with; records of First to Proven-1 are as they were signed.
	Proven int64 `json:"proven"`
	// Signed is the size of the newest head; what follows no quorum has signed yet, and nothing protects it: Unsigned records.
	Signed   int64   `json:"signed"`
	Unsigned int64   `json:"unsigned"`
	Heads    int     `json:"heads"` // that were compared
	Faults   []Fault `json:"faults"`
	More     int     `json:"more,omitempty"` // faults beyond FaultsMax
}

// OK says that nothing is wrong with what the heads cover.
func (r *Report) OK() bool { return len(r.Faults) == 0 }

func (r *Report) fault(f Fault) {
	if len(r.Faults) >= FaultsMax {
		r.More++
		return
	}
	r.Faults = append(r.Faults, f)
}

// Verify compares a log with the heads that the site accepted of its box; heads of other boxes are passed over. Whether the heads
// are signed is the caller's to check first (SignedHead.Check). It names each record that was edited, dropped, inserted or
// moved as long as the heads have its mark, and otherwise the range between two heads. Where a record is followed by ones
// that nothing signed yet and is gone, it may be called edited and not dropped.
func Verify(l *Log, heads []Head) *Report {
	r := &Report{Box: l.Box, First: l.First, Size: l.First + int64(len(l.Records)), Faults: []Fault{}}
	heads = r.order(heads)
	tree := Peaks{size: l.Before.size, hashes: slices.Clone(l.Before.hashes)}
	if tree.size != l.First {
		r.fault(Fault{Kind: Rewritten, Index: 0, To: l.First})
		return r
	}
	leaves := make([]coord.Digest, len(l.Records))
	for i, rec := range l.Records {
		leaves[i] = LeafHash(rec)
	}
	r.Proven = l.First
	for i := range heads {
		h := &heads[i]
		if h.Size < l.First {
			continue // it is in Before, which the next head binds
		}
		for tree.size < min(h.Size, r.Size) {
			tree.Add(leaves[tree.size-l.First])
		}
		r.Heads++
		if tree.size != h.Size || tree.Root() != h.Root {
			r.locate(l, leaves, heads[i:])
			break
		}
		r.Proven = h.Size
		r.compareMarks(h, l.First, leaves)
	}
	if len(heads) > 0 {
		r.Signed = heads[len(heads)-1].Size
	}
	r.Unsigned = max(0, r.Size-max(r.Signed, l.First))
	return r
}

// order gives the box's heads by size, once each.
func (r *Report) order(all []Head) []Head {
	var heads []Head
	for i := range all {
		if all[i].Box == r.Box {
			heads = append(heads, all[i])
		}
	}
	slices.SortStableFunc(heads, func(a, b Head) int { return cmp.Compare(a.Size, b.Size) })
	return slices.CompactFunc(heads, func(a, b Head) bool {
		if a.Size == b.Size && a.Root != b.Root {
			r.fault(Fault{Kind: Conflict, Index: a.Size})
		}
		return a.Size == b.Size
	})
}

// compareMarks finds marks that the box gave wrong; the root was right.
func (r *Report) compareMarks(h *Head, first int64, leaves []coord.Digest) {
	at := h.Size - int64(len(h.Marks)/MarkBytes)
	for m := h.Marks; len(m) >= MarkBytes; m, at = m[MarkBytes:], at+1 {
		if at >= first && !bytes.Equal(m[:MarkBytes], leaves[at-first][:MarkBytes]) {
			r.fault(Fault{Kind: WrongMark, Index: at})
		}
	}
}

func markOf(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// locate names what differs behind the last head that fits. heads begins with the one that does not.
func (r *Report) locate(l *Log, leaves []coord.Digest, heads []Head) {
	from, to := r.Proven, heads[0].Size
	before := len(r.Faults) + r.More
	var signed []uint64
	for i := range heads {
		next := from + int64(len(signed))
		m := heads[i].Marks
		if begin := heads[i].Size - int64(len(m)/MarkBytes); begin < next && begin >= 0 {
			m = m[min(int64(len(m)), (next-begin)*MarkBytes):]
		} else if begin > next {
			break // the marks between are not known
		}
		for ; len(m) >= MarkBytes; m = m[MarkBytes:] {
			signed = append(signed, markOf(m))
		}
	}
	if from+int64(len(signed)) >= to {
		there := make([]uint64, 0, len(leaves))
		for i := from - l.First; i < int64(len(leaves)); i++ {
			there = append(there, markOf(leaves[i][:]))
		}
		r.diff(l, from, signed, there)
	}
	if len(r.Faults)+r.More == before {
		if r.Heads == 1 && l.First > 0 {
			from = 0 // no head showed that what is before the first record is right
		}
		r.fault(Fault{Kind: Rewritten, Index: from, To: to})
	}
}

// diff names what turned the signed marks into those that are there; both begin at place from. Equal marks are matched in order, the
// longest run of matches in order stays (Fredman 1975), and what lies between two of these was edited, dropped or inserted.
func (r *Report) diff(l *Log, from int64, signed, there []uint64) {
	places := map[uint64][]int{}
	for i, m := range signed {
		places[m] = append(places[m], i)
	}
	match := make([]int, len(there)) // the place in signed, or -1
	lost := make([]bool, len(signed))
	for i := range lost {
		lost[i] = true
	}
	for j, m := range there {
		match[j] = -1
		if p := places[m]; len(p) > 0 {
			match[j], places[m] = p[0], p[1:]
			lost[p[0]] = false
		}
	}
	stays := longestRun(match)
	now := func(j int) *Record {
		rec, err := Decode(l.Records[from-l.First+int64(j)])
		if err != nil {
			return nil
		}
		return rec
	}
	i, j := 0, 0
	for i < len(signed) || j < len(there) {
		// The gap up to the next record that stayed in its place.
		nextJ := j
		for nextJ < len(there) && !stays[nextJ] {
			nextJ++
		}
		nextI := len(signed)
		if nextJ < len(there) {
			nextI = match[nextJ]
		}
		last := nextJ == len(there)
		for i < nextI || j < nextJ {
			for i < nextI && !lost[i] {
				i++
			}
			for j < nextJ && match[j] >= 0 {
				r.fault(Fault{Kind: Moved, Index: from + int64(match[j]), At: from + int64(j), Now: now(j)})
				j++
			}
			switch {
			case i < nextI && j < nextJ:
				r.fault(Fault{Kind: Edited, Index: from + int64(i), At: from + int64(j), Now: now(j)})
				i, j = i+1, j+1
			case i < nextI:
				r.fault(Fault{Kind: Dropped, Index: from + int64(i)})
				i++
			case j < nextJ:
				if !last { // behind the last signed record it is a new one
					r.fault(Fault{Kind: Inserted, Index: from + int64(nextI), At: from + int64(j), Now: now(j)})
				}
				j++
			}
		}
		i, j = nextI+1, nextJ+1
	}
}

// longestRun marks a longest ascending subsequence of the entries that are not -1.
func longestRun(match []int) []bool {
	var ends []int // ends[k]: where the best run of k+1 entries ends
	prev := make([]int, len(match))
	for j, m := range match {
		if m < 0 {
			continue
		}
		k, _ := slices.BinarySearchFunc(ends, m, func(e, m int) int { return cmp.Compare(match[e], m) })
		prev[j] = -1
		if k > 0 {
			prev[j] = ends[k-1]
		}
		if k == len(ends) {
			ends = append(ends, j)
		} else {
			ends[k] = j
		}
	}
	in := make([]bool, len(match))
	if len(ends) > 0 {
		for j := ends[len(ends)-1]; j >= 0; j = prev[j] {
			in[j] = true
		}
	}
	return in
}
