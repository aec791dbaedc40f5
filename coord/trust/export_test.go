package trust

// For the fuzz targets, which would otherwise measure the disk.
var (
	ParseKey     = parseKey
	ParseMembers = parseMembers
)
