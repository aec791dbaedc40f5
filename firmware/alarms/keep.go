package alarms

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/wholefile"
)

const (
	// keepFile is what a box's alarms keep over a restart, beside its other files.
	keepFile    = "alarms.json"
	keepVersion = 1
	// keepBytesMax is more than all bounds together give.
	keepBytesMax = 64 << 20
)

// kept is what survives a restart. It is a small file that is written anew when something of it changed: transitions are rare.
type kept struct {
	Version  int                 `json:"version"`
	Saved    time.Time           `json:"saved"`
	Alerts   []*Alert            `json:"alerts"`
	Silences []Silence           `json:"silences"`
	Outboxes map[string][]Notice `json:"outboxes"` // by Target.id
}

// loadKept reads what is kept in dir; an empty one if there is nothing. A file that cannot be read is set aside: the error says so, and what
// is given can be used nevertheless.
func loadKept(dir string) (*kept, error) {
	path := filepath.Join(dir, keepFile)
	data, err := readBounded(path, keepBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return &kept{}, nil
	}
	k, err2 := parseKept(data)
	if err = errors.Join(err, err2); err == nil {
		return k, nil
	}
	aside := os.Rename(path, path+".damaged")
	return &kept{}, errors.Join(fmt.Errorf("alarms: %s cannot be read and was set aside; which alarms fire is found out anew, silences are lost: %w", path, err), aside)
}

func parseKept(data []byte) (*kept, error) {
	k := new(kept)
	if len(data) > keepBytesMax {
		return nil, fmt.Errorf("it has more than %d bytes", keepBytesMax)
	}
	if err := json.Unmarshal(data, k); err != nil {
		return nil, err
	}
	if k.Version != keepVersion {
		return nil, fmt.Errorf("its version is %d, and this program writes %d", k.Version, keepVersion)
	}
	for i := range k.Silences {
		s := &k.Silences[i]
		for m := range s.Matchers {
			if err := s.Matchers[m].compile(); err != nil {
				return nil, err
			}
		}
		if err := s.check(s.From); err != nil {
			return nil, err
		}
	}
	if len(k.Silences) > silencesMax {
		return nil, fmt.Errorf("it has more than %d silences", silencesMax)
	}
	for i, a := range k.Alerts {
		if a == nil {
			return nil, fmt.Errorf("alarm %d is null", i)
		}
	}
	return k, nil
}

// save replaces the file by data: whole or not at all, also when the power goes.
func save(dir string, data []byte) error {
	if err := wholefile.Replace(filepath.Join(dir, keepFile), data, 0o600); err != nil {
		return fmt.Errorf("alarms: %w", err)
	}
	return nil
}
