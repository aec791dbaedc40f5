package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/firmware/slots"
	"github.com/holdfast-edge/holdfast/firmware/wholefile"
)

// Phase is how far a box is with a release.
type Phase string

// The phases.
const (
	Armed Phase = "armed" // the loader takes it next
	Trial Phase = "trial" // it runs, and shows whether it is good
	Kept  Phase = "kept"  // it was good
	Back  Phase = "back"  // the box went back from it
)

// Job is what a box last did about a release. It is on the disk before what it says is done.
type Job struct {
	Format  int           `json:"format"` // 1
	Phase   Phase         `json:"phase"`
	Bundle  coord.Digest  `json:"bundle"`
	Version string        `json:"version"`
	From    string        `json:"from"` // the version before
	Slot    slots.Slot    `json:"slot"`
	Rules   rollout.Rules `json:"rules"`
	// Plan and Turn are the site's update that it was for, and the second in which the box began; 0: somebody asked this box alone.
	Plan uint64 `json:"plan,omitempty"`
	Turn uint64 `json:"turn,omitempty"`
	By   string `json:"by,omitempty"`
	Why  string `json:"why,omitempty"`
	At   string `json:"at"` // RFC 3339
}

const (
	jobFile     = "update.json"
	jobFormat   = 1
	jobBytesMax = 16 << 10
)

// loadJob reads the journal; nil when there is none. One that cannot be read is told and begun anew: the slots say what is.
func loadJob(dir string) (*Job, error) {
	b, err := os.ReadFile(filepath.Join(dir, jobFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("update: journal: %w", err)
	}
	j := new(Job)
	if len(b) > jobBytesMax {
		return nil, fmt.Errorf("update: journal: %d bytes", len(b))
	}
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("update: journal: %w", err)
	}
	if j.Format != jobFormat {
		return nil, fmt.Errorf("update: journal: format %d", j.Format)
	}
	return j, nil
}

// save replaces the journal, durably.
func (j *Job) save(dir string) error {
	j.Format = jobFormat
	b, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("update: journal: %w", err)
	}
	if err := wholefile.Replace(filepath.Join(dir, jobFile), b, 0o600); err != nil {
		return fmt.Errorf("update: journal: %w", err)
	}
	return nil
}
