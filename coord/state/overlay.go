package state

import (
	"cmp"
	"slices"
	"sync"

	"github.com/google/btree"
)

// overlay holds what was written and is not yet durable, and, within a budget, what
// became durable lately so that it need not be read again.
//
// An entry carries the generation of its newest write. take closes a generation and
// hands its entries to a commit; committed, when that commit is durable, makes those
// entries clean that were not written since. So an entry that is dirty, or whose commit
// is under way, is never forgotten, and a value that was handed out is never changed.
type overlay[K cmp.Ordered, V any] struct {
	m map[K]*entry[K, V]
	// order has the entries that are not durable, by key; nil for an overlay that is never walked. Those in late are put into
	// it by the next walk: most are durable before there is one.
	order   *btree.BTreeG[*entry[K, V]]
	late    []*entry[K, V]
	placing *sync.Mutex // readers walk beside each other
	gen     uint64
	dirty   []*entry[K, V]
	// taken are the generations being committed, oldest first.
	taken [][]*entry[K, V]

	// clean lists entries in the order in which they became clean; those written since then
	// have another generation and are skipped.
	clean       []cleanRef[K, V]
	cleanFrom   int // entries of clean before it are used up
	weigh       func(*entry[K, V]) int
	cleanWeight int
	weightMax   int
}

type entry[K cmp.Ordered, V any] struct {
	key  K
	val  V
	gone bool // removed: val is of no use
	// durable: the Backend has this value, or has none as is right.
	durable bool
	placed  bool // in order
	waits   bool // in late
	gen     uint64
}

type cleanRef[K cmp.Ordered, V any] struct {
	e   *entry[K, V]
	gen uint64
}

func newOverlay[K cmp.Ordered, V any](weightMax int, weigh func(*entry[K, V]) int) overlay[K, V] {
	return overlay[K, V]{m: map[K]*entry[K, V]{}, gen: 1, weigh: weigh, weightMax: weightMax}
}

// ordered makes an overlay that can be walked by key.
func ordered[K cmp.Ordered, V any](o overlay[K, V]) overlay[K, V] {
	o.placing = new(sync.Mutex)
	o.order = btree.NewG(32, func(a, b *entry[K, V]) bool { return a.key < b.key })
	return o
}

// from is the first entry that is not durable and has a key of at least k; nil for none.
func (o *overlay[K, V]) from(k K) (first *entry[K, V]) {
	o.placing.Lock()
	for _, e := range o.late {
		e.waits = false
		if !e.durable {
			o.order.ReplaceOrInsert(e)
			e.placed = true
		}
	}
	o.late = o.late[:0]
	o.placing.Unlock()
	o.order.AscendGreaterOrEqual(&entry[K, V]{key: k}, func(e *entry[K, V]) bool {
		first = e
		return false
	})
	return first
}

// insert adds an entry to be written now. There must be none for k.
func (o *overlay[K, V]) insert(k K) *entry[K, V] {
	e := &entry[K, V]{key: k, gen: o.gen}
	o.m[k] = e
	o.dirty = append(o.dirty, e)
	o.unsettled(e)
	return e
}

// unsettled has the next walk find e.
func (o *overlay[K, V]) unsettled(e *entry[K, V]) {
	if o.order != nil && !e.placed && !e.waits {
		e.waits = true
		o.late = append(o.late, e)
	}
}

// write prepares e for a new value; a value that is a slice is replaced, never overwritten: it may have been handed out.
func (o *overlay[K, V]) write(e *entry[K, V]) {
	if e.gen == o.gen {
		return
	}
	if e.durable {
		o.cleanWeight -= o.weigh(e)
		e.durable = false
		o.unsettled(e)
	}
	e.gen = o.gen
	o.dirty = append(o.dirty, e)
}

// set writes k's value, gone for none.
func (o *overlay[K, V]) set(k K, v V, gone bool) {
	e := o.m[k]
	if e == nil {
		e = o.insert(k)
	} else {
		o.write(e)
	}
	e.val, e.gone = v, gone
}

// setKey is set for a key of bytes: a string of its own is made only when the overlay does not have it yet.
func setKey(o *overlay[string, []byte], k, v []byte, gone bool) {
	e := o.m[string(k)]
	if e == nil {
		e = o.insert(string(k))
	} else {
		o.write(e)
	}
	e.val, e.gone = v, gone
}

// take closes the generation and gives its entries by ascending key.
func (o *overlay[K, V]) take() []*entry[K, V] {
	d := o.dirty
	slices.SortFunc(d, func(a, b *entry[K, V]) int { return cmp.Compare(a.key, b.key) })
	o.taken = append(o.taken, d)
	o.dirty = nil
	o.gen++
	return d
}

// committed says that the oldest generation taken is durable.
func (o *overlay[K, V]) committed() {
	gen := o.gen - uint64(len(o.taken))
	for _, e := range o.taken[0] {
		switch {
		case e.gen != gen: // written again since
		case e.gone:
			delete(o.m, e.key)
			o.settled(e)
		default:
			o.settled(e)
			o.cleanWeight += o.weigh(e)
			o.clean = append(o.clean, cleanRef[K, V]{e, gen})
		}
	}
	o.taken = slices.Delete(o.taken, 0, 1)
	o.late = slices.DeleteFunc(o.late, func(e *entry[K, V]) bool {
		if e.durable {
			e.waits = false
		}
		return e.durable
	})
	o.shrink()
}

// settled says that the Backend has e as it is: it need not be walked.
func (o *overlay[K, V]) settled(e *entry[K, V]) {
	e.durable = true
	if e.placed {
		o.order.Delete(e)
		e.placed = false
	}
}

// shrink forgets the entries that have been clean longest until the rest fits the
// budget. The list itself is bounded too, for it may hold one entry many times.
func (o *overlay[K, V]) shrink() {
	for o.cleanFrom < len(o.clean) && (o.cleanWeight > o.weightMax || len(o.clean)-o.cleanFrom > cleanEntriesMax) {
		r := o.clean[o.cleanFrom]
		o.clean[o.cleanFrom] = cleanRef[K, V]{}
		o.cleanFrom++
		if r.e.gen == r.gen {
			o.cleanWeight -= o.weigh(r.e)
			delete(o.m, r.e.key)
		}
	}
	if o.cleanFrom > len(o.clean)/2 {
		o.clean = slices.Delete(o.clean, 0, o.cleanFrom)
		o.cleanFrom = 0
	}
}
