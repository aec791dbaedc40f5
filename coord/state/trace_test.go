package state

import (
	"reflect"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// A release that does not know the contexts of traces must have the state of one that does: they are as a kind that nobody knows, of a session
// that nobody can open.
func TestTheContextsOfTracesChangeNothing(t *testing.T) {
	const unknown coord.Kind = 200
	after := func(kind coord.Kind) []coord.Change {
		m, err := New(NewMemBackend())
		if err != nil {
			t.Fatal(err)
		}
		cols := new(coord.Columns)
		cols.Add(coord.KindOpen, 0, 0, 0, []byte("zero"), nil)
		cols.Add(coord.KindOpen, 5, 0, 0, []byte("client"), nil)
		cols.Add(coord.KindPut, 5, 1, 0, []byte("k"), []byte("v"))
		cols.Add(kind, 0, 0, 0, nil, make([]byte, 26))
		m.Begin(&coord.Block{Height: 1})
		rs, took := m.Batch(coord.BoxID{1}, 1<<20, 0, cols, nil)
		if !took || len(rs) != 4 || rs[2].Code != coord.CodeOK || rs[3].Code != coord.CodeNoSession || rs[3].Revision != rs[2].Revision {
			t.Fatalf("%+v", rs)
		}
		m.End()
		return m.Take()
	}
	if a, b := after(coord.KindTrace), after(unknown); len(a) == 0 || !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a, b)
	}
}
