package store

import "github.com/holdfast-edge/holdfast/coord"

// Formats are those of this package's files, ascending by name. Version 2 is that of encrypted ones; a box writes the version that its
// directory has.
func Formats() []coord.Format {
	return []coord.Format{
		{Name: "store.base", Min: formatVersion, Max: formatSealed, Writes: formatVersion},
		{Name: "store.log", Min: formatVersion, Max: formatSealed, Writes: formatVersion},
	}
}
