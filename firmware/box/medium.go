package box

import (
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
)

// mediumNotice is what is wrong with the settings on an appliance's boot medium, for people; empty: nothing, or no appliance.
func mediumNotice(file string) string {
	s, err := status.Read(file)
	if err != nil {
		return ""
	}
	why, bad := strings.CutPrefix(s.Provisioned, status.NotUsed)
	if !bad {
		return ""
	}
	return "The holdfast.toml on the boot medium was not used, and waits there to be corrected: " + why
}
