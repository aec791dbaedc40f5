package update

import (
	"cmp"
	"slices"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/wire"
	"github.com/holdfast-edge/holdfast/store"
)

// Formats are the formats of data that this release reads and writes, ascending by name: what lies on the disk (docs/storage.md) and what boxes
// say to each other. A release that changes one reads the one before and goes on writing it; the next one writes the new one.
func Formats() []release.Format {
	list := slices.Concat(store.Formats(), wire.Formats(), []coord.Format{
		{Name: "links", Min: link.VersionMin, Max: link.VersionMax, Writes: link.VersionMin, Agreed: true},
		{Name: "update.journal", Min: jobFormat, Max: jobFormat, Writes: jobFormat},
	})
	slices.SortFunc(list, func(a, b release.Format) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
