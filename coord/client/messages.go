package client

import (
	"encoding/binary"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
)

// Messages are messages to be submitted together: they travel as one request and take
// effect in order, each once, though others' may come between. The zero value is empty
// and ready; it may be used again after Submit returns. Keys and values are copied.
type Messages struct{ cols coord.Columns }

// Put sets key to value.
func (m *Messages) Put(key, value []byte) { m.cols.Add(coord.KindPut, 0, 0, 0, key, value) }

// Delete removes key.
func (m *Messages) Delete(key []byte) { m.cols.Add(coord.KindDelete, 0, 0, 0, key, nil) }

// Get reads key at its place in the order.
func (m *Messages) Get(key []byte) { m.cols.Add(coord.KindGet, 0, 0, 0, key, nil) }

// Observe adds count, at least 1, to the counter of object.
func (m *Messages) Observe(object, count uint64) {
	var k [8]byte
	binary.BigEndian.PutUint64(k[:], object)
	var v [binary.MaxVarintLen64]byte
	n := 0
	if count != 1 {
		n = binary.PutUvarint(v[:], count)
	}
	m.cols.Add(coord.KindObserve, 0, 0, 0, k[:], v[:n])
}

// Len is the number of messages; at most coord.BatchMessagesMax can be submitted.
func (m *Messages) Len() int { return m.cols.Len() }

// Bytes is the size of keys and values; at most coord.BatchBytesMax can be submitted.
func (m *Messages) Bytes() int { return m.cols.Bytes() }

// Reset empties m and keeps its memory.
func (m *Messages) Reset() { m.cols.Reset() }

// check compares m with the limits.
func (m *Messages) check() error {
	c := &m.cols
	if c.Len() > coord.BatchMessagesMax || c.Bytes() > coord.BatchBytesMax {
		return fmt.Errorf("client: %d messages of %d bytes: %w", c.Len(), c.Bytes(), ErrTooLarge)
	}
	for i := range c.Len() {
		if k, v := len(c.Key(i)), len(c.Value(i)); k > coord.KeyBytesMax || v > coord.ValueBytesMax {
			return fmt.Errorf("client: message %d: key of %d, value of %d bytes: %w", i, k, v, ErrTooLarge)
		}
	}
	return nil
}
