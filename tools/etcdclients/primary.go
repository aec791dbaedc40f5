package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// sighting is a node seen as primary, by a write that it acknowledged or by its own word, some time between start
// and end. The timeline is PostgreSQL's: a promotion begins a new one.
type sighting struct {
	node       int
	timeline   int64
	start, end time.Time
}

// onePrimary says whether there was only one primary at any time: a timeline has one node, and once a timeline was
// seen, no older one is seen any more. What overlaps in time is not ordered, and not judged.
func onePrimary(what string, ss []sighting) error {
	owner := map[int64]int{}
	for _, s := range ss {
		if o, ok := owner[s.timeline]; ok && o != s.node {
			return fmt.Errorf("%s: nodes %d and %d are both primary of timeline %d", what, o, s.node, s.timeline)
		}
		owner[s.timeline] = s.node
	}
	byStart := slices.SortedFunc(slices.Values(ss), func(a, b sighting) int { return a.start.Compare(b.start) })
	byEnd := slices.SortedFunc(slices.Values(ss), func(a, b sighting) int {
		return cmp.Or(a.end.Compare(b.end), cmp.Compare(a.timeline, b.timeline))
	})
	var newest sighting // of those that had ended
	for _, s := range byStart {
		for len(byEnd) > 0 && byEnd[0].end.Before(s.start) {
			if byEnd[0].timeline > newest.timeline {
				newest = byEnd[0]
			}
			byEnd = byEnd[1:]
		}
		if s.timeline < newest.timeline {
			return fmt.Errorf("%s: node %d is primary of timeline %d, %v after node %d was of %d",
				what, s.node, s.timeline, s.start.Sub(newest.end), newest.node, newest.timeline)
		}
	}
	return nil
}
