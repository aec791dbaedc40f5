package state

import "github.com/holdfast-edge/holdfast/coord"

// Backend is the durable state as of the last commit. store implements it with bbolt,
// MemBackend in memory. It must be safe for reads while a commit is being written.
type Backend interface {
	// Get gives the value of a key and whether it exists. The value is not changed by
	// anybody afterwards.
	Get(sp coord.Space, key []byte) (value []byte, ok bool, err error)
	// Scan calls fn for every entry of a space with a key of at least from, in ascending
	// order, until fn returns false. k and v belong to the backend and are valid during
	// the call only.
	Scan(sp coord.Space, from []byte, fn func(k, v []byte) bool) error
}
