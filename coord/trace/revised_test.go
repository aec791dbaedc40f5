package trace

import (
	"reflect"
	"testing"
)

func TestARevisionIsFoundInItsBatch(t *testing.T) {
	list := []Revised{{From: 1, To: 2, Height: 7}, {From: 2, To: 90, Height: 7, Batch: 3}, {From: 90, To: 91, Height: 1 << 40}}
	b := AppendRevised(nil, list)
	got, err := DecodeRevised(b)
	if err != nil || !reflect.DeepEqual(got, list) {
		t.Fatalf("%+v, %v", got, err)
	}
	for rev, want := range map[uint64]int{2: 0, 3: 1, 90: 1, 91: 2} {
		if e, ok := Locate(got, rev); !ok || e != list[want] {
			t.Errorf("%d: %+v, %v", rev, e, ok)
		}
	}
	gap := []Revised{list[0], {From: 50, To: 60, Height: 9}}
	for _, rev := range []uint64{0, 1, 3, 50, 61} {
		if e, ok := Locate(gap, rev); ok {
			t.Errorf("%d is found: %+v", rev, e)
		}
	}
	if gap[1].Follows(&gap[0]) || !list[1].Follows(&list[0]) {
		t.Error("what follows")
	}
}

func FuzzRevised(f *testing.F) {
	f.Add(AppendRevised(nil, []Revised{{From: 1, To: 2, Height: 7}, {From: 2, To: 90, Height: 7, Batch: 3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := DecodeRevised(b)
		if err != nil {
			return
		}
		for i := range list[1:] {
			if !list[i+1].Follows(&list[i]) {
				t.Fatalf("%+v", list)
			}
		}
		if got := AppendRevised(nil, list); string(got) != string(b) {
			t.Fatalf("%x\n%x", got, b)
		}
	})
}
