package state

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"

	"github.com/holdfast-edge/holdfast/coord"
)

// MemBackend is a Backend in memory, for tests and for the simulator. It is safe for
// concurrent use; a commit is seen whole or not at all. The zero value is not usable.
type MemBackend struct {
	mu     sync.RWMutex
	spaces [coord.SpaceMax + 1]memSpace
	final  *coord.Final
}

// memSpace has sorted keys only when order is not nil.
type memSpace struct {
	m     map[string][]byte
	order []string
}

// NewMemBackend gives an empty one.
func NewMemBackend() *MemBackend {
	b := new(MemBackend)
	for i := range b.spaces {
		b.spaces[i].m = map[string][]byte{}
	}
	return b
}

// Get implements Backend.
func (b *MemBackend) Get(sp coord.Space, key []byte) ([]byte, bool, error) {
	if err := checkSpace(sp); err != nil {
		return nil, false, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	v, ok := b.spaces[sp].m[string(key)]
	return v, ok, nil
}

// Scan implements Backend. It sees the entries as they were when it began.
func (b *MemBackend) Scan(sp coord.Space, from []byte, fn func(k, v []byte) bool) error {
	if err := checkSpace(sp); err != nil {
		return err
	}
	b.mu.Lock()
	keys, vals := b.spaces[sp].from(string(from))
	b.mu.Unlock()
	for i, k := range keys {
		if !fn([]byte(k), vals[i]) {
			break
		}
	}
	return nil
}

func (s *memSpace) from(from string) (keys []string, vals [][]byte) {
	if s.order == nil {
		s.order = make([]string, 0, len(s.m))
		for k := range s.m {
			s.order = append(s.order, k)
		}
		sort.Strings(s.order)
	}
	i, _ := slices.BinarySearch(s.order, from)
	keys = s.order[i:]
	vals = make([][]byte, len(keys))
	for i, k := range keys {
		vals[i] = s.m[k]
	}
	return keys, vals
}

// Commit makes the changes part of what Get and Scan see. It keeps the changes' values
// without a copy.
func (b *MemBackend) Commit(c *coord.Commit) error {
	for i := range c.Changes {
		if err := checkSpace(c.Changes[i].Space); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range c.Changes {
		ch := &c.Changes[i]
		s := &b.spaces[ch.Space]
		_, had := s.m[string(ch.Key)]
		if had != (ch.Value != nil) {
			s.order = nil
		}
		if ch.Value == nil {
			delete(s.m, string(ch.Key))
		} else {
			s.m[string(ch.Key)] = ch.Value
		}
	}
	b.final = &coord.Final{Header: c.Header, Cert: c.Cert}
	return nil
}

// Committed is the header of the last commit and the certificate that came with it, or
// nil when there was none.
func (b *MemBackend) Committed() *coord.Final {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.final
}

// Clone gives a copy as of now: a disk image, a snapshot.
func (b *MemBackend) Clone() *MemBackend {
	b.mu.RLock()
	defer b.mu.RUnlock()
	c := NewMemBackend()
	for i := range b.spaces {
		maps.Copy(c.spaces[i].m, b.spaces[i].m)
	}
	c.final = b.final
	return c
}

func checkSpace(sp coord.Space) error {
	if sp < 1 || sp > coord.SpaceMax {
		return fmt.Errorf("state: space %d: %w", sp, ErrBackend)
	}
	return nil
}
