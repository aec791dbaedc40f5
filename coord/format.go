package coord

// Format is a format of data that a release reads and writes: on a box's disk, or between boxes. It reads versions Min to Max and writes
// Writes. Two neighbouring releases read what the other writes, so that a box can go back (coord/release).
type Format struct {
	Name   string `json:"name"`
	Min    uint32 `json:"min"`
	Max    uint32 `json:"max"`
	Writes uint32 `json:"writes"`
	// Agreed says that two sides agree on a version each time, so that it is enough that their ranges meet.
	Agreed bool `json:"agreed,omitempty"`
}
