package coord_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"unsafe"

	"github.com/holdfast-edge/holdfast/coord"
)

// starts are the addresses of the columns, by their names, and the memory each has.
func starts(c *coord.Columns) map[string][2]uintptr {
	all := map[string][2]uintptr{}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		all[v.Type().Field(i).Name] = [2]uintptr{f.Pointer(), uintptr(f.Cap()) * f.Type().Elem().Size()}
	}
	return all
}

func TestColumnsStartOnLinesOfTheirOwnAndDoNotShareSets(t *testing.T) {
	for _, line := range []int{32, 64, 128} {
		arena := make([]byte, coord.ArenaBytes)
		c := coord.ColumnsIn(arena, line)
		from := uintptr(unsafe.Pointer(&arena[0]))
		sets := map[uintptr]string{}
		for name, s := range starts(&c) {
			if s[0]%uintptr(line) != 0 {
				t.Errorf("line %d: %s starts within one", line, name)
			}
			if s[0] < from || s[0]+s[1] > from+uintptr(len(arena)) {
				t.Errorf("line %d: %s lies outside the arena", line, name)
			}
			for other, o := range starts(&c) {
				if other != name && s[0] < o[0]+o[1] && o[0] < s[0]+s[1] {
					t.Errorf("line %d: %s and %s overlap", line, name, other)
				}
			}
			set := s[0] % 4096 / uintptr(line)
			if other, ok := sets[set]; ok {
				t.Errorf("line %d: %s and %s start in the same set", line, name, other)
			}
			sets[set] = name
		}
	}
}

func TestColumnsInAnArenaHoldWhatOthersHold(t *testing.T) {
	for _, size := range []int{0, 100, 2000, 50_000, coord.ArenaBytes} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			in, heap := coord.ColumnsIn(make([]byte, size), 64), coord.Columns{}
			for range 2 { // the second time in memory that was used
				for i := range 3000 {
					key, value := fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{byte(i)}, i%300)
					for _, c := range []*coord.Columns{&in, &heap} {
						c.Add(coord.Kind(i%5+1), uint64(i), uint64(i)<<33, -int64(i), key, value)
					}
				}
				if !reflect.DeepEqual(in, heap) {
					t.Fatal("they differ")
				}
				in.Reset()
				heap.Reset()
			}
		})
	}
}

func TestABatchOfTheArenaStaysInIt(t *testing.T) {
	c := coord.ColumnsIn(make([]byte, coord.ArenaBytes), 64)
	before := starts(&c)
	for range 100 {
		for range 100 {
			c.Add(coord.KindPut, 1, 1, 1, make([]byte, 20), make([]byte, 100))
		}
	}
	if c.Len() != 10_000 { // more messages than a batch may have: only their columns move
		t.Fatal(c.Len())
	}
	c.Reset()
	if after := starts(&c); after["Keys"] != before["Keys"] || after["Vals"] != before["Vals"] {
		t.Errorf("before %v, after %v", before, after)
	}
}
