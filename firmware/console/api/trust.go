package api

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// Trust answers /api/v1/trust: what this box thinks of each member, in their order.
type Trust struct {
	Site    coord.SiteID     `json:"site"`
	Taken   time.Time        `json:"taken"`
	Members []site.TrustView `json:"members"`
}
