package box

import (
	"fmt"
	"syscall"

	"github.com/holdfast-edge/holdfast/firmware/console"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

// machine tells the console of the hardware; it reads only.
type machine struct{ dataDir string }

// Facts implements console.Machine.
func (machine) Facts() (*hal.Facts, error) {
	r, err := linux.Open("/", nil)
	if err != nil {
		return nil, fmt.Errorf("box: look at the machine: %w", err)
	}
	return r.Probe(), r.Close()
}

// Crashes implements console.Machine: the supervisor of an appliance writes them down.
func (m machine) Crashes() ([]crash.Report, error) { return crash.List(m.dataDir) }

// Crash implements console.Machine.
func (m machine) Crash(file string) (*crash.Report, error) { return crash.Read(m.dataDir, file) }

// Disk implements console.Machine.
func (m machine) Disk() (console.Disk, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(m.dataDir, &s); err != nil {
		return console.Disk{}, fmt.Errorf("box: look at the disk of %s: %w", m.dataDir, err)
	}
	return console.Disk{Path: m.dataDir, Total: s.Blocks * uint64(s.Bsize), Free: s.Bavail * uint64(s.Bsize)}, nil
}
