package wire

import "github.com/holdfast-edge/holdfast/coord"

// Formats are those of this package, ascending by name.
func Formats() []coord.Format {
	only := func(name string, v uint32) coord.Format { return coord.Format{Name: name, Min: v, Max: v, Writes: v} }
	return []coord.Format{only("wire.body", bodyVersion), only("wire.peer", peerVersion), only("wire.record", storedVersion)}
}
