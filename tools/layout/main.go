// Command layout measures on this machine what the layout of the hot loop's data is worth: headers of messages as pointers, as
// structs in a row, and as columns; a large table that is looked up at random, with and without touching ahead and prefetching;
// counters that two CPUs share a cache line for; and batches of the product's own columns that are copied message by message; each with and without huge pages where pages can matter.
//
//	layout [-n 1048576] [-table 256] [-rounds 7] [-json]
//
// It prints nanoseconds an element, the median of the rounds, which take turns, and the ratio to the first of its kind. Every
// variant's answer is compared with the others'.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

// header88 is a message as one might write it down: as large as in the trials of the design.
type header88 struct {
	Kind    uint8
	Session uint64
	Seq     uint64
	Time    int64
	KeyAt   uint32
	ValueAt uint32
	Size    uint32
	Digest  [32]byte
	Origin  uint64
}

// header48 is without what the loop does not look at.
type header48 struct {
	Kind    uint8
	Session uint64
	Seq     uint64
	Time    int64
	KeyAt   uint32
	ValueAt uint32
	Size    uint32
}

type columns struct {
	kinds []uint8
	sizes []uint32
}

// data is the same n headers in every layout.
type data struct {
	pointers []*header88 // in an order that has nothing to do with where they are
	large    []header88
	small    []header48
	cols     columns
	sum      uint64
	ofKind   int
}

// arena is memory of its own, page-aligned, with huge pages or surely without.
func arena(bytes int, huge bool) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, bytes+(4<<20), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("layout: %d MiB: %w", bytes>>20, err)
	}
	advice := unix.MADV_NOHUGEPAGE
	if huge {
		advice = unix.MADV_HUGEPAGE
	}
	if err := unix.Madvise(b, advice); err != nil && huge {
		return nil, fmt.Errorf("layout: huge pages: %w", err)
	}
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (2<<20 - 1)
	return b[skip : skip+bytes : skip+bytes], nil
}

// in is a slice of n values in memory that holds no pointers the collector knows of.
func in[T any](n int, huge bool) ([]T, error) {
	var t T
	b, err := arena(n*int(unsafe.Sizeof(t)), huge)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n), nil
}

const wantedKind = 3

func fill(n int, huge bool) (d *data, err error) {
	d = &data{}
	if d.large, err = in[header88](n, huge); err != nil {
		return nil, err
	}
	if d.small, err = in[header48](n, huge); err != nil {
		return nil, err
	}
	if d.cols.kinds, err = in[uint8](n, huge); err != nil {
		return nil, err
	}
	if d.cols.sizes, err = in[uint32](n, huge); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		kind, size := uint8(rng.IntN(8)), rng.Uint32N(1000)
		d.large[i] = header88{Kind: kind, Seq: uint64(i), Size: size}
		d.small[i] = header48{Kind: kind, Seq: uint64(i), Size: size}
		d.cols.kinds[i], d.cols.sizes[i] = kind, size
		d.sum += uint64(size)
		if kind == wantedKind {
			d.ofKind++
		}
	}
	d.pointers = make([]*header88, n)
	for i, j := range rng.Perm(n) {
		d.pointers[i] = &d.large[j]
	}
	return d, nil
}

// The kernels are functions of their own, not inlined: written into a benchmark's loop they ran four times slower.

//go:noinline
func sumPointers(d *data) (s uint64) {
	for _, p := range d.pointers {
		s += uint64(p.Size)
	}
	return s
}

//go:noinline
func sumLarge(d *data) (s uint64) {
	for i := range d.large {
		s += uint64(d.large[i].Size)
	}
	return s
}

//go:noinline
func sumSmall(d *data) (s uint64) {
	for i := range d.small {
		s += uint64(d.small[i].Size)
	}
	return s
}

//go:noinline
func sumColumns(d *data) (s uint64) {
	for _, v := range d.cols.sizes {
		s += uint64(v)
	}
	return s
}

//go:noinline
func kindPointers(d *data) (n uint64) {
	for _, p := range d.pointers {
		if p.Kind == wantedKind {
			n++
		}
	}
	return n
}

//go:noinline
func kindLarge(d *data) (n uint64) {
	for i := range d.large {
		if d.large[i].Kind == wantedKind {
			n++
		}
	}
	return n
}

//go:noinline
func kindSmall(d *data) (n uint64) {
	for i := range d.small {
		if d.small[i].Kind == wantedKind {
			n++
		}
	}
	return n
}

//go:noinline
func kindColumns(d *data) (n uint64) {
	for _, k := range d.cols.kinds {
		if k == wantedKind {
			n++
		}
	}
	return n
}

// table is looked up at places that no hardware can foresee.
type table struct {
	cells []uint64
	at    []uint32
	sum   uint64
}

const (
	ahead   = 32 // lookups
	touched = 64 // lookups in a pass
)

func fillTable(mib, lookups int, huge bool) (t *table, err error) {
	t = &table{at: make([]uint32, lookups)}
	if t.cells, err = in[uint64](mib<<20/8, huge); err != nil {
		return nil, err
	}
	for i := range t.cells {
		t.cells[i] = uint64(i) * 7
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range t.at {
		t.at[i] = rng.Uint32N(uint32(len(t.cells)))
		t.sum += t.cells[t.at[i]]
	}
	return t, nil
}

//go:noinline
func gatherPlain(t *table) (s uint64) {
	for _, i := range t.at {
		s += t.cells[i] ^ s>>63 // depends on the last, as a chain of decisions does
	}
	return s
}

// gatherTouched reads a cell of each of the next lookups first: those reads do not wait for one another.
//
//go:noinline
func gatherTouched(t *table) (s uint64) {
	var keep uint64
	for lo := 0; lo < len(t.at); lo += touched {
		part := t.at[lo:min(lo+touched, len(t.at))]
		for _, i := range part {
			keep |= t.cells[i]
		}
		for _, i := range part {
			s += t.cells[i] ^ s>>63
		}
	}
	runtime.KeepAlive(keep)
	return s
}

//go:noinline
func gatherPrefetched(t *table) (s uint64) {
	for k, i := range t.at {
		if k+ahead < len(t.at) {
			prefetch(unsafe.Pointer(&t.cells[t.at[k+ahead]]))
		}
		s += t.cells[i] ^ s>>63
	}
	return s
}

// batchMessages is how many messages are copied at a time from one batch's columns to another's.
const batchMessages = 4096

// powers are columns whose starts are a power of two apart, so that all of them share sets of the first cache.
func powers(huge bool) (c coord.Columns, err error) {
	const apart = 8 * coord.BatchMessagesMax
	b, err := arena(10*apart, huge)
	if err != nil {
		return c, err
	}
	at := func(i int) unsafe.Pointer { return unsafe.Pointer(&b[i*apart]) }
	const n = coord.BatchMessagesMax
	return coord.Columns{
		Kinds: unsafe.Slice((*coord.Kind)(at(0)), n)[:0], Sessions: unsafe.Slice((*uint64)(at(1)), n)[:0],
		Seqs: unsafe.Slice((*uint64)(at(2)), n)[:0], Times: unsafe.Slice((*int64)(at(3)), n)[:0],
		KeyEnd: unsafe.Slice((*uint32)(at(4)), n)[:0], ValEnd: unsafe.Slice((*uint32)(at(5)), n)[:0],
		Keys: b[6*apart : 8*apart : 8*apart][:0], Vals: b[8*apart : 10*apart : 10*apart][:0],
	}, nil
}

// lines are the product's columns in an arena.
func lines(huge bool) (c coord.Columns, err error) {
	b, err := arena(coord.ArenaBytes, huge)
	if err != nil {
		return c, err
	}
	return coord.ColumnsIn(b, lineBytes()), nil
}

// copies has messages copied one at a time, as the box does with those that programs send: all columns of both
// batches are walked at once.
func copies(make func(bool) (coord.Columns, error), huge bool) (func() uint64, error) {
	from, err := make(huge)
	if err != nil {
		return nil, err
	}
	to, err := make(huge)
	if err != nil {
		return nil, err
	}
	key, value := [16]byte{}, [8]byte{}
	for i := range batchMessages {
		key[0], value[0] = byte(i), byte(i>>8)
		from.Add(coord.KindPut, uint64(i), uint64(i), int64(i), key[:], value[:])
	}
	return func() uint64 {
		to.Reset()
		copyEach(&to, &from)
		return uint64(to.Len())
	}, nil
}

//go:noinline
func copyEach(to, from *coord.Columns) {
	for i := range from.Kinds {
		to.Add(from.Kinds[i], from.Sessions[i], from.Seqs[i], from.Times[i], from.Key(i), from.Value(i))
	}
}

// count has two CPUs add to counters that are stride bytes apart.
func count(stride int, each uint64) uint64 {
	cells := make([]byte, 3*max(stride, 8)+256)
	base := -int(uintptr(unsafe.Pointer(&cells[0]))) & 255
	var wait sync.WaitGroup
	at := func(i int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&cells[base+i*stride])) }
	for i := range 2 {
		wait.Go(func() {
			c := at(i)
			for range each {
				c.Add(1)
			}
		})
	}
	wait.Wait()
	if stride == 0 {
		return at(0).Load()
	}
	return at(0).Load() + at(1).Load()
}

// figure is one line of the table.
type figure struct {
	What    string  `json:"what"`
	Variant string  `json:"variant"`
	Huge    bool    `json:"huge_pages"`
	NS      float64 `json:"ns_per_element"`
	Ratio   float64 `json:"ratio"`
}

// trial is a variant to be measured: run gives its answer.
type trial struct {
	what, variant string
	huge          bool
	elements      int
	want          uint64
	run           func() uint64
	ns            []float64
}

func main() {
	n := flag.Int("n", 1<<20, "headers")
	mib := flag.Int("table", 256, "size of the table that is looked up, in `MiB`")
	rounds := flag.Int("rounds", 7, "how often each variant is measured")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	if flag.NArg() > 0 || *n < 1 || *mib < 1 || *mib > 16<<10 || *rounds < 1 {
		fmt.Fprintln(os.Stderr, "layout: wrong usage; see -help")
		os.Exit(2)
	}
	if err := run(*n, *mib, *rounds, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(n, mib, rounds int, asJSON bool) error {
	line := lineBytes()
	var trials []*trial
	for _, huge := range []bool{false, true} {
		d, err := fill(n, huge)
		if err != nil {
			return err
		}
		for _, k := range []struct {
			what, variant string
			want          uint64
			fn            func(*data) uint64
		}{
			{"sum of sizes", "pointers", d.sum, sumPointers},
			{"sum of sizes", "structs of 88 B", d.sum, sumLarge},
			{"sum of sizes", "structs of 48 B", d.sum, sumSmall},
			{"sum of sizes", "columns", d.sum, sumColumns},
			{"count of a kind", "pointers", uint64(d.ofKind), kindPointers},
			{"count of a kind", "structs of 88 B", uint64(d.ofKind), kindLarge},
			{"count of a kind", "structs of 48 B", uint64(d.ofKind), kindSmall},
			{"count of a kind", "columns", uint64(d.ofKind), kindColumns},
		} {
			trials = append(trials, &trial{what: k.what, variant: k.variant, huge: huge, elements: n, want: k.want, run: func() uint64 { return k.fn(d) }})
		}
		t, err := fillTable(mib, 1<<20, huge)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("lookups in %d MiB", mib)
		for _, k := range []struct {
			variant string
			fn      func(*table) uint64
		}{{"plain", gatherPlain}, {"touched ahead", gatherTouched}, {"prefetched", gatherPrefetched}} {
			trials = append(trials, &trial{what: what, variant: k.variant, huge: huge, elements: len(t.at), want: t.sum, run: func() uint64 { return k.fn(t) }})
		}
	}
	heap := func(bool) (coord.Columns, error) { return coord.Columns{}, nil }
	for _, k := range []struct {
		variant string
		huge    bool
		columns func(bool) (coord.Columns, error)
	}{
		{"columns as append grows them", false, heap},
		{"a power of two apart", false, powers},
		{"on lines of their own", false, lines},
		{"a power of two apart", true, powers},
		{"on lines of their own", true, lines},
	} {
		fn, err := copies(k.columns, k.huge)
		if err != nil {
			return err
		}
		trials = append(trials, &trial{what: "copy of a batch", variant: k.variant, huge: k.huge, elements: 100 * batchMessages, want: batchMessages, run: func() (n uint64) {
			for range 100 {
				n = fn()
			}
			return n
		}})
	}
	const each = 1 << 21
	for _, k := range []struct {
		variant string
		stride  int
	}{{"one", 0}, {"8 B apart", 8}, {fmt.Sprintf("a line of %d B apart", line), line}} {
		trials = append(trials, &trial{what: "counters of two CPUs", variant: k.variant, elements: 2 * each, want: 2 * each, run: func() uint64 { return count(k.stride, each) }})
	}
	for range rounds + 1 { // the first is not counted
		for _, t := range trials {
			began := time.Now()
			got := t.run()
			t.ns = append(t.ns, float64(time.Since(began).Nanoseconds())/float64(t.elements))
			if got != t.want {
				return fmt.Errorf("layout: %s, %s: %d, want %d", t.what, t.variant, got, t.want)
			}
		}
	}
	return print(trials, asJSON)
}

// lineBytes is the cache line of this machine as the kernel says, 64 where it does not.
func lineBytes() int {
	if r, err := linux.Open("/", nil); err == nil {
		if n := r.Probe().Topology.Value.LineBytes; n > 0 {
			return n
		}
	}
	return lineUsual
}

const lineUsual = 64

func print(trials []*trial, asJSON bool) error {
	first := map[string]float64{}
	var out []figure
	for _, t := range trials {
		ns := t.ns[1:]
		slices.Sort(ns)
		m := ns[len(ns)/2]
		if first[t.what] == 0 {
			first[t.what] = m
		}
		out = append(out, figure{t.what, t.variant, t.huge, m, m / first[t.what]})
	}
	slices.SortStableFunc(out, func(a, b figure) int { return order(trials, a.What) - order(trials, b.What) })
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"arch": runtime.GOARCH, "cpus": runtime.NumCPU(), "prefetch": prefetches, "figures": out})
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "what\tvariant\tpages\tns/element\tof the first\n")
	for _, f := range out {
		pages := "usual"
		if f.Huge {
			pages = "huge"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%.2f\n", f.What, f.Variant, pages, f.NS, f.Ratio)
	}
	return errors.Join(w.Flush())
}

func order(trials []*trial, what string) int {
	return slices.IndexFunc(trials, func(t *trial) bool { return t.what == what })
}
