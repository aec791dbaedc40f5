package state

import "sort"

// seqSet is a set of numbers from 1: all up to floor, and those in spans. It is what makes
// something happen once: a number is added when its message or batch takes effect.
type seqSet struct {
	floor uint64
	// spans are ascending, do not touch each other, and begin above floor+1.
	spans []span
	// above counts the numbers in spans.
	above uint64
}

// span is lo..hi, both included.
type span struct{ lo, hi uint64 }

// find is the index of the first span that ends at or after n.
func (s *seqSet) find(n uint64) int {
	// Numbers mostly come in order, so the last span is tried first.
	if l := len(s.spans); l > 0 && s.spans[l-1].hi < n {
		return l
	}
	return sort.Search(len(s.spans), func(i int) bool { return s.spans[i].hi >= n })
}

func (s *seqSet) has(n uint64) bool {
	if n <= s.floor {
		return true
	}
	i := s.find(n)
	return i < len(s.spans) && s.spans[i].lo <= n
}

// add puts n into the set. It refuses (false) when that would need more than spansMax spans. n must not be in the set.
func (s *seqSet) add(n uint64, spansMax int) bool {
	if n == s.floor+1 {
		s.floor = n
		s.absorb()
		return true
	}
	i := s.find(n)
	joinsLeft := i > 0 && s.spans[i-1].hi+1 == n
	joinsRight := i < len(s.spans) && s.spans[i].lo == n+1
	switch {
	case joinsLeft && joinsRight:
		s.spans[i-1].hi = s.spans[i].hi
		s.spans = append(s.spans[:i], s.spans[i+1:]...)
	case joinsLeft:
		s.spans[i-1].hi = n
	case joinsRight:
		s.spans[i].lo = n
	case len(s.spans) >= spansMax:
		return false
	default:
		s.spans = append(s.spans, span{})
		copy(s.spans[i+1:], s.spans[i:])
		s.spans[i] = span{n, n}
	}
	s.above++
	return true
}

// raise puts all numbers up to floor into the set.
func (s *seqSet) raise(floor uint64) {
	if floor <= s.floor {
		return
	}
	s.floor = floor
	s.absorb()
}

// absorb restores the rule on spans after floor rose.
func (s *seqSet) absorb() {
	i := 0
	for ; i < len(s.spans) && s.spans[i].lo-1 <= s.floor; i++ {
		sp := s.spans[i]
		s.above -= sp.hi - sp.lo + 1
		s.floor = max(s.floor, sp.hi)
	}
	if i > 0 {
		s.spans = append(s.spans[:0], s.spans[i:]...)
	}
}
