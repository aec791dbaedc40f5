package coord

import "unsafe"

// arenaKeyShare is the part of an arena's slabs that is for keys: a fifth. Keys are short, values long.
const arenaKeyShare = 5

// ArenaBytes is the size of an arena that holds one largest batch.
const ArenaBytes = 2 << 20

// ColumnsIn are empty columns whose memory is arena, of any size, which they own from then on; what does not fit
// moves to the heap. arena must start at a multiple of 8 and stays where it is: the garbage collector need not know of it.
//
// Every column starts on a cache line of its own, of lineBytes, and each one line further than a
// multiple of 4096 would have it: columns at equal distances of a power of two would share the same few sets of the
// first cache, and a loop over them would evict one with the other.
func ColumnsIn(arena []byte, lineBytes int) Columns {
	const perMessage = 1 + 8 + 8 + 8 + 4 + 4
	lineBytes = max(lineBytes, 8) &^ 7 // 8: what the widest column needs
	// Eight columns waste at most two lines each.
	rest := arena
	room := len(arena) - 16*lineBytes
	n := min(BatchMessagesMax, room/(2*perMessage))
	if n <= 0 {
		return Columns{}
	}
	columns := 0
	// cut takes the next bytes, on a line of their own.
	cut := func(bytes int) []byte {
		at := uintptr(unsafe.Pointer(unsafe.SliceData(rest)))
		skip := int(-at%uintptr(lineBytes)) + lineBytes*min(columns, 1)
		columns++
		b := rest[skip : skip+bytes : skip+bytes]
		rest = rest[skip+bytes:]
		return b
	}
	slabs := room - n*perMessage
	return Columns{
		Sessions: as[uint64](cut(8 * n)),
		Seqs:     as[uint64](cut(8 * n)),
		Times:    as[int64](cut(8 * n)),
		KeyEnd:   as[uint32](cut(4 * n)),
		ValEnd:   as[uint32](cut(4 * n)),
		Kinds:    as[Kind](cut(n)),
		Keys:     cut(slabs / arenaKeyShare)[:0],
		Vals:     cut(slabs - slabs/arenaKeyShare)[:0],
	}
}

// as is an empty slice over b, whose start suits T.
func as[T any](b []byte) []T {
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(t)))[:0]
}
