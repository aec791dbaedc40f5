package api

import (
	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/rollout"
)

// Update is a box's firmware and how the site's update stands.
type Update struct {
	Version string `json:"version"`
	Board   string `json:"board"`
	Arch    string `json:"arch"`
	// Slot runs; Cannot, if not empty, is why this machine takes no updates.
	Slot   string       `json:"slot,omitempty"`
	Cannot string       `json:"cannot,omitempty"`
	Slots  []UpdateSlot `json:"slots"`
	// Trial says how a release that nobody has blessed yet stands; empty: what runs was good once.
	Trial string `json:"trial,omitempty"`
	// Job is what this box last did about a release.
	Job *UpdateJob `json:"job,omitempty"`
	// Fetch is a bundle on its way to this box, or the last that did not come.
	Fetch *UpdateFetch `json:"fetch,omitempty"`
	// Keys sign firmware for this site; Own says that the site has decided on none and the configuration's count.
	Keys []UpdateKey `json:"keys"`
	Own  bool        `json:"own"`
	// Plan is the site's update, the last one; Turn is the place of the box that it waits for, -1: for none. Waits says what this box waits for.
	Plan  *rollout.Plan `json:"plan,omitempty"`
	Turn  int           `json:"turn"`
	Waits string        `json:"waits,omitempty"`
}

// UpdateSlot is a slot of a box.
type UpdateSlot struct {
	Slot    string `json:"slot"`
	Runs    bool   `json:"runs"`
	Version string `json:"version,omitempty"`
	Bundle  string `json:"bundle,omitempty"` // empty: what is there is not a bundle's
	// State is "good", "tried" (Left starts are left), "given up", "taken" (a bundle, or a part of one, that nothing starts) or "empty"; Reason
	// says why it was given up.
	State  string `json:"state"`
	Left   int    `json:"left,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Have of Bytes of a taken bundle are there.
	Have  int64 `json:"have,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
}

// UpdateJob is what a box did about a release: "armed", "trial", "kept" or "back".
type UpdateJob struct {
	Phase   string       `json:"phase"`
	Bundle  coord.Digest `json:"bundle"`
	Version string       `json:"version"`
	From    string       `json:"from"`
	Slot    string       `json:"slot"`
	By      string       `json:"by,omitempty"`
	Why     string       `json:"why,omitempty"`
	At      string       `json:"at"`
}

// UpdateFetch is a bundle on its way: Have of Bytes are there and verified.
type UpdateFetch struct {
	Bundle  coord.Digest `json:"bundle"`
	Version string       `json:"version"`
	From    string       `json:"from,omitempty"`
	Have    int64        `json:"have"`
	Bytes   int64        `json:"bytes"`
	Error   string       `json:"error,omitempty"`
	Done    bool         `json:"done"`
}

// UpdateKey is a key that signs firmware.
type UpdateKey struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	Key  string `json:"key"`
}
