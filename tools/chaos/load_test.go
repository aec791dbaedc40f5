package main

import (
	"testing"
	"time"
)

func at(o call, called, returned int) call {
	o.key, o.called, o.returned = "k0", time.Duration(called), time.Duration(returned)
	return o
}

func TestHistoriesThatNoRegisterCanHaveAreFound(t *testing.T) {
	put := func(value string, revision uint64) call { return call{value: value, found: true, revision: revision} }
	get := func(value string) call { return call{verb: verbGet, value: value, found: value != ""} }
	unknown := put("b", 0)
	unknown.unknown = true
	for _, tc := range []struct {
		name string
		good bool
		h    []call
	}{
		{"a read sees the last write", true, []call{at(put("a", 1), 1, 2), at(put("b", 2), 3, 4), at(get("b"), 5, 6)}},
		{"a stale read", false, []call{at(put("a", 1), 1, 2), at(put("b", 2), 3, 4), at(get("a"), 5, 6)}},
		{"a lost write", false, []call{at(put("a", 1), 1, 2), at(get(""), 3, 4)}},
		{"a concurrent read sees either", true, []call{at(put("a", 1), 1, 2), at(put("b", 2), 3, 9), at(get("a"), 4, 5), at(get("b"), 6, 7)}},
		{"a read goes back", false, []call{at(put("a", 1), 1, 2), at(put("b", 2), 3, 9), at(get("b"), 4, 5), at(get("a"), 6, 7)}},
		{"an unknown write takes effect late", true, []call{at(put("a", 1), 1, 2), at(unknown, 3, 4), at(get("a"), 5, 6), at(get("b"), 7, 8)}},
		{"revisions go back", false, []call{at(put("a", 2), 1, 2), at(put("b", 1), 3, 4)}},
	} {
		if err := checkHistory(tc.h); (err == nil) != tc.good {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
