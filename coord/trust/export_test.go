package trust

import "github.com/holdfast-edge/holdfast/coord"

// For the fuzz targets, which would otherwise measure the disk.
var (
	ParseKey     = parseKey
	ParseMembers = parseMembers
)

// ParseSealed reads identity.tpm: whose it is.
func ParseSealed(data []byte) (box coord.BoxID, public []byte, err error) {
	k, err := parseSealed(data)
	if err != nil {
		return box, nil, err
	}
	return k.Box, k.Public, nil
}
