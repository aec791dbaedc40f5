package store

import (
	"bytes"
	"fmt"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
)

// getter keeps a read transaction and its cursors between two commits: to begin one and to make a cursor costs more than
// the search. A commit puts it away before it starts, so that bbolt may use the pages of older states again, and until
// it is done, so that no read of the state before outlives it.
type getter struct {
	mu      sync.Mutex
	away    int // commits and the like under way
	open    bool
	reading reading
	cursors [coord.SpaceMax + 1]*bolt.Cursor
	key     []byte
}

// pause puts the transaction away until resume.
func (g *getter) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away++
	if g.open {
		g.reading.end()
		g.reading, g.cursors, g.open = reading{}, [coord.SpaceMax + 1]*bolt.Cursor{}, false
	}
}

func (g *getter) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away--
}

// Get gives the value of a key as of the last commit, and whether there is one. The value is a copy and
// belongs to the caller. Errors: ErrDamaged, ErrClosed.
func (b *Base) Get(sp coord.Space, key []byte) (value []byte, ok bool, err error) {
	if sp < 1 || sp > coord.SpaceMax {
		return nil, false, fmt.Errorf("store: get: space %d: %w", sp, ErrFormat)
	}
	if b.get.mu.TryLock() {
		defer b.get.mu.Unlock()
		if b.get.away == 0 {
			value, ok, err = b.kept(sp, key)
			return value, ok, b.condemn(err)
		}
	}
	tx, err := b.begin("get")
	if err != nil {
		return nil, false, err
	}
	defer tx.end()
	err = guard("get", func() error {
		value, ok, err = b.find(tx.Bucket(spaceBucket(sp)).Cursor(), sp, append([]byte{keyMark}, key...))
		return err
	})
	return value, ok, b.condemn(err)
}

// kept searches in the transaction that is kept; the getter's lock is held.
func (b *Base) kept(sp coord.Space, key []byte) (value []byte, ok bool, err error) {
	g := &b.get
	if !g.open {
		if g.reading, err = b.begin("get"); err != nil {
			return nil, false, err
		}
		g.open = true
	}
	err = guard("get", func() (err error) {
		if g.cursors[sp] == nil {
			g.cursors[sp] = g.reading.Bucket(spaceBucket(sp)).Cursor()
		}
		g.key = append(append(g.key[:0], keyMark), key...)
		value, ok, err = b.find(g.cursors[sp], sp, g.key)
		return err
	})
	return value, ok, err
}

// find looks for a key of a space, its mark before it. The value is a copy.
func (b *Base) find(c *bolt.Cursor, sp coord.Space, key []byte) (value []byte, ok bool, err error) {
	k, v := c.Seek(key)
	if !bytes.Equal(k, key) {
		return nil, false, nil
	}
	if b.values.key == nil {
		return append(make([]byte, 0, len(v)), v...), true, nil
	}
	if value, err = b.values.open(make([]byte, 0, len(v)), spaceBucket(sp), key[1:], v); err != nil {
		return nil, false, b.sealBroken(sp, err)
	}
	return value, true, nil
}
