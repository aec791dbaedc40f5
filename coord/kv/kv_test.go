package kv

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func samples() []Op {
	put := Op{Put: &Put{Key: []byte("k"), Value: []byte("v"), Lease: -5, PrevKV: true, IgnoreLease: false}}
	del := Op{Delete: &Delete{Key: []byte("a"), End: []byte("b"), PrevKV: true}}
	rng := Op{Range: &Range{
		Key: []byte("a"), End: OpenEnded, Limit: 7, Revision: -1, Order: SortDescending, Target: SortValue, KeysOnly: true, CountOnly: true,
		MinMod: 1, MaxMod: 2, MinCreate: 3, MaxCreate: 4,
	}}
	return []Op{put, del, rng, {Txn: &Txn{
		Compares: []Compare{{Key: []byte("c"), End: []byte("d"), Target: TargetValue, Relation: NotEqual, Value: []byte("x")}, {Key: []byte("e"), Target: TargetLease, Number: -9}},
		Then:     []Op{put, rng, {Txn: &Txn{Then: []Op{{Put: &Put{Key: []byte("z")}}}}}},
		Else:     []Op{del},
	}}}
}

func TestOperationsTravel(t *testing.T) {
	for _, o := range samples() {
		for _, outside := range []bool{false, o.Put != nil} {
			got, err := Decode([]byte("k"), o.Append(nil, outside))
			if err != nil || !bytes.Equal(got.Append(nil, false), o.Append(nil, false)) {
				t.Errorf("%+v became %+v (%v)", o, got, err)
			}
		}
	}
}

func TestWhatIsNoOperationIsRefused(t *testing.T) {
	deep := Op{Put: &Put{Key: []byte("k")}}
	for range TxnOpsMax + 1 {
		deep = Op{Txn: &Txn{Then: []Op{deep}}}
	}
	put := samples()[0]
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":                  {nil, ErrMalformed},
		"an unknown tag":           {[]byte{9}, ErrMalformed},
		"unknown flags":            {[]byte{tagDelete, 2, 1, 'a', 0}, ErrMalformed},
		"a length beyond the end":  {[]byte{tagDelete, 0, 200, 1, 'a'}, ErrMalformed},
		"something behind":         {append(put.Append(nil, false), 0), ErrMalformed},
		"a key outside, nested":    {append([]byte{tagTxn, 0, 1}, append(put.Append(nil, true), 0)...), ErrMalformed},
		"nested too deep":          {deep.Append(nil, false), ErrMalformed},
		"a million operations":     {[]byte{tagTxn, 0, 0xc0, 0x84, 0x3d}, ErrMalformed},
		"more than are allowed":    {(&Op{Txn: &Txn{Then: []Op{{Txn: &Txn{Then: make128()}}}}}).Append(nil, false), ErrTooManyOps},
		"no key":                   {(&Op{Delete: &Delete{}}).Append(nil, false), ErrEmptyKey},
		"a value that is ignored":  {(&Op{Put: &Put{Key: []byte("k"), Value: []byte("v"), IgnoreValue: true}}).Append(nil, false), ErrValueProvided},
		"a sort order of tomorrow": {(&Op{Range: &Range{Key: []byte("k"), Order: 3}}).Append(nil, false), ErrSort},
	} {
		if _, err := Decode([]byte("k"), c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func make128() (list []Op) {
	for i := range TxnOpsMax {
		list = append(list, Op{Put: &Put{Key: []byte{'k', byte(i)}}})
	}
	return list
}

// The rules of etcd's checkIntervals: what may be in one transaction.
func TestNoKeyIsChangedTwice(t *testing.T) {
	put := func(k string) Op { return Op{Put: &Put{Key: []byte(k)}} }
	del := func(k, end string) Op { return Op{Delete: &Delete{Key: []byte(k), End: []byte(end)}} }
	txn := func(then, otherwise []Op) Op { return Op{Txn: &Txn{Then: then, Else: otherwise}} }
	for name, c := range map[string]struct {
		ops []Op
		bad bool
	}{
		"two keys":                       {[]Op{put("a"), put("b")}, false},
		"one key twice":                  {[]Op{put("a"), put("a")}, true},
		"put and deleted":                {[]Op{put("a"), del("a", "")}, true},
		"put in a deleted span":          {[]Op{del("a", "c"), put("b")}, true},
		"put beside a deleted span":      {[]Op{del("a", "c"), put("c")}, false},
		"two deletes":                    {[]Op{del("a", "c"), del("b", "d")}, false},
		"in both branches of one nested": {[]Op{txn([]Op{put("a")}, []Op{put("a")})}, false},
		"in two nested ones":             {[]Op{txn([]Op{put("a")}, nil), txn([]Op{put("a")}, nil)}, true},
		"in the others' branches":        {[]Op{txn([]Op{put("a")}, nil), txn(nil, []Op{put("a")})}, true},
		"nested and outside":             {[]Op{put("a"), txn(nil, []Op{put("a")})}, true},
		"nested delete, put outside":     {[]Op{put("a"), txn([]Op{del("a", "b")}, nil)}, true},
		"put nested, deleted outside":    {[]Op{del("a", "b"), txn(nil, []Op{put("a")})}, true},
		"put nested beside, earlier":     {[]Op{txn([]Op{put("a")}, nil), txn([]Op{del("a", "b")}, nil)}, true}, // not in etcd
		"put or deleted, nested":         {[]Op{txn([]Op{put("a")}, []Op{del("a", "b")})}, false},
	} {
		o := txn(c.ops, nil)
		if err := o.Check(); (err != nil) != c.bad {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is accepted has one meaning: encoded and decoded again it is the same.
func FuzzDecode(f *testing.F) {
	for _, o := range samples() {
		f.Add(o.Append(nil, false))
		f.Add(o.Append(nil, o.Put != nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := Decode([]byte("key"), b)
		if err != nil {
			return
		}
		again, err := Decode([]byte("key"), o.Append(nil, false))
		if err != nil || !reflect.DeepEqual(o, again) && !bytes.Equal(o.Append(nil, false), again.Append(nil, false)) {
			t.Errorf("%+v became %+v (%v)", o, again, err)
		}
	})
}

func TestNumbersOfLeasesAndTicks(t *testing.T) {
	a, id, ttl, err := DecodeLease(AppendLease(nil, LeaseGrant, -7, 60))
	if err != nil || a != LeaseGrant || id != -7 || ttl != 60 {
		t.Error(a, id, ttl, err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "no lease": AppendLease(nil, LeaseRevoke, 0, 0), "an unknown action": AppendLease(nil, 9, 1, 0), "something behind": append(AppendLease(nil, LeaseGrant, 1, 2), 0),
	} {
		if _, _, _, err := DecodeLease(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, _, err := DecodeLease(AppendLease(nil, LeaseGrant, 1, LeaseTTLMax+1)); !errors.Is(err, ErrLeaseTTL) {
		t.Error(err)
	}
	if v, err := DecodeNumber(AppendNumber(nil, 300)); err != nil || v != 300 {
		t.Error(v, err)
	}
	for _, b := range [][]byte{nil, {0x80}, {1, 2}, bytes.Repeat([]byte{0xff}, 9)} {
		if _, err := DecodeNumber(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("% x: %v", b, err)
		}
	}
}
