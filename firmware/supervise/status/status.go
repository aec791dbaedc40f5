// Package status is what the supervisor of an appliance says of itself to the other programs on it: a file in memory that is replaced as a
// whole whenever something changes. The coordinator shows it; `holdfast status` and the support bundle have it.
package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/netconf"
)

// File is where the supervisor writes.
const File = "/run/holdfast/status.json"

// bytesMax bounds what is read: 64 interfaces and 16 crashes are 30 KiB.
const bytesMax = 1 << 20

// Modes of an appliance.
const (
	Starting  = "starting"
	Running   = "running"   // the coordinator runs
	Trouble   = "trouble"   // the coordinator ends again and again; it is still started
	Emergency = "emergency" // the data cannot be used: somebody has to choose
	Stopping  = "stopping"
)

// NotUsed begins what became of a boot medium's file that has a mistake.
const NotUsed = "not used: "

// Status is an appliance as its supervisor sees it.
type Status struct {
	Mode string `json:"mode"`
	// Reason says why it is in Trouble or Emergency.
	Reason   string    `json:"reason,omitempty"`
	Version  string    `json:"version"`
	Board    string    `json:"board,omitempty"`
	Slot     string    `json:"slot,omitempty"`
	Hostname string    `json:"hostname"`
	Booted   time.Time `json:"booted"`
	// Scheme and Port are how the coordinator's console is reached at the machine's address.
	Scheme string `json:"console_scheme,omitempty"`
	Port   string `json:"console_port,omitempty"`
	// Provisioned says what became of holdfast.toml on the boot medium, when there was one.
	Provisioned string        `json:"provisioned,omitempty"`
	Network     netconf.State `json:"network"`
	Clock       Clock         `json:"clock"`
	Data        Data          `json:"data"`
	Watchdog    Watchdog      `json:"watchdog"`
	Coordinator Coordinator   `json:"coordinator"`
	// Crashes are the newest reports, newest first.
	Crashes []Crash `json:"crashes,omitempty"`
}

// Clock is where the time is from.
type Clock struct {
	// From is "ntp HOST", "rtc" (the machine's own clock), "disk" (the last time that was written down) or "build".
	From   string    `json:"from"`
	Synced time.Time `json:"synced,omitzero"`
	// OffsetNS is what the last answer of a server corrected.
	OffsetNS int64  `json:"offset_ns,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Data is the data partition.
type Data struct {
	Device string `json:"device,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	// Recovered says that the journal was played back at this start, as after a power cut.
	Recovered bool `json:"recovered,omitempty"`
	// Grown is by how much it was grown at this start.
	Grown int64 `json:"grown_bytes,omitempty"`
	// Errors is how many errors the kernel has met in it and written down.
	Errors   uint32 `json:"errors,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Watchdog is the hardware's.
type Watchdog struct {
	Name    string        `json:"name,omitempty"`
	Timeout time.Duration `json:"timeout_ns,omitempty"`
	Error   string        `json:"error,omitempty"`
}

// Coordinator is the process that the supervisor runs.
type Coordinator struct {
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts"`
	// Answers says whether it answered when it was last asked.
	Answers bool `json:"answers"`
}

// Crash is one report.
type Crash struct {
	File  string        `json:"file"`
	At    time.Time     `json:"at"`
	How   string        `json:"how"`
	After time.Duration `json:"after_ns"`
}

// Write replaces the file.
func Write(file string, s *Status) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err := os.WriteFile(file+".new", b, 0o644); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

// Read reads the file. On a machine that is no appliance there is none: fs.ErrNotExist.
func Read(file string) (*Status, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, bytesMax))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	s := new(Status)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return s, nil
}
