package state

import (
	"cmp"
	"slices"
)

// Count is one observed object and how often it was observed.
type Count struct {
	Object uint64
	Count  uint64
}

// topSet is the TopMax most observed objects, exactly, at a cost of one comparison for
// an object that is not among them. It can be exact because counts only grow: an object
// that falls out comes back only through an update of its own.
type topSet struct {
	// heap has its least object at index 0 (see less).
	heap []Count
	at   map[uint64]int // object -> index in heap
	// sorted is the answer to the last question; nil since the set changed.
	sorted []Count
}

// less orders by count, and of two equal counts the higher object is the lesser.
func less(a, b Count) bool {
	return a.Count < b.Count || a.Count == b.Count && a.Object > b.Object
}

// update tells the new count of an object.
func (t *topSet) update(c Count) {
	full := len(t.heap) == TopMax
	if full && c.Count < t.heap[0].Count {
		return
	}
	i, in := t.at[c.Object]
	switch {
	case in:
		t.heap[i] = c
		t.down(i)
	case !full:
		t.heap = append(t.heap, c)
		t.at[c.Object] = len(t.heap) - 1
		t.up(len(t.heap) - 1)
	case less(t.heap[0], c):
		delete(t.at, t.heap[0].Object)
		t.heap[0] = c
		t.at[c.Object] = 0
		t.down(0)
	default:
		return
	}
	t.sorted = nil
}

func (t *topSet) up(i int) {
	for i > 0 {
		p := (i - 1) / 2
		if !less(t.heap[i], t.heap[p]) {
			return
		}
		t.swap(i, p)
		i = p
	}
}

func (t *topSet) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(t.heap) {
			return
		}
		if c+1 < len(t.heap) && less(t.heap[c+1], t.heap[c]) {
			c++
		}
		if !less(t.heap[c], t.heap[i]) {
			return
		}
		t.swap(i, c)
		i = c
	}
}

func (t *topSet) swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.at[t.heap[i].Object], t.at[t.heap[j].Object] = i, j
}

// first gives the n greatest, greatest first. The slice belongs to the caller.
func (t *topSet) first(n int) []Count {
	if t.sorted == nil {
		t.sorted = slices.Clone(t.heap)
		slices.SortFunc(t.sorted, func(a, b Count) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Object, b.Object))
		})
	}
	return slices.Clone(t.sorted[:max(0, min(n, len(t.sorted)))])
}
