package work

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
)

// Measured is the value of a setting that holds what a calibration of this machine found.
const Measured = "measured"

// Setting is one of a box's own settings of its hardware: a key below [hal] of its configuration.
type Setting struct {
	Key  string // of the configuration: hal.busy_poll
	Try  string // the value that a calibration tries
	Does string // in one sentence
}

// Settings are all that a calibration can measure, in the order in which it does: each with those before it
// that were kept.
func Settings() []Setting {
	return []Setting{
		{"hal.apply", "plan", "interrupts and packets go to the CPUs that receive"},
		{"hal.loop", "plan", "the ordering's loop has a CPU of its own"},
		{"hal.receive_sockets", "plan", "client ports have a receive socket for each CPU that receives"},
		{"hal.busy_poll", "50us", "a link between boxes looks at the device's queue itself before it waits"},
		{"hal.huge_pages", "on", "the batches' columns are on huge pages"},
		{"hal.lock_memory", "on", "what the box has touched stays in memory"},
	}
}

// Calibration is what was measured on a machine.
type Calibration struct {
	At      time.Time   `json:"at"`
	Version string      `json:"version"` // of Holdfast
	Machine Mark        `json:"machine"`
	How     string      `json:"how"`   // load, boxes and rounds, in one sentence
	Noise   hal.Verdict `json:"noise"` // the same, with nothing switched
	Trials  []hal.Trial `json:"trials"`
}

// Mark tells machines apart for which figures do not carry over.
type Mark struct {
	Board  string `json:"board"`
	Kernel string `json:"kernel"`
	CPUs   int    `json:"cpus"` // online
}

// Mark is this machine's.
func (m *Machine) Mark() Mark {
	return Mark{m.Board.ID, m.Facts.Kernel, len(m.Facts.Topology.Value.Online())}
}

// Value is what a setting that is Measured stands for on this machine, "off" when nothing says otherwise, and why.
func (c *Calibration) Value(key string, here Mark) (value, why string) {
	if c == nil {
		return "off", "nothing was measured: `holdfast hal calibrate` does"
	}
	if c.Machine != here {
		return "off", fmt.Sprintf("the calibration of %s is for %s, kernel %s, %d CPUs; `holdfast hal calibrate` measures again",
			c.At.Format(time.DateOnly), c.Machine.Board, c.Machine.Kernel, c.Machine.CPUs)
	}
	for _, t := range c.Trials {
		if t.Setting == key {
			if t.Verdict.Keep {
				return t.Value, t.Verdict.Why
			}
			return "off", t.Verdict.Why
		}
	}
	return "off", "the calibration did not try it"
}

// calibrationBytesMax bounds the file: 16 pairs for each of ten settings are some 60 KiB.
const calibrationBytesMax = 1 << 20

func calibrationFile(data string) string { return filepath.Join(LedgerDir(data), "calibrated.json") }

// LoadCalibration reads what was measured for the box with this data directory: nil if nothing was.
func LoadCalibration(data string) (*Calibration, error) {
	c := new(Calibration)
	err := load(calibrationFile(data), calibrationBytesMax, c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("work: calibration: %w; remove the file, or measure again", err)
	}
	return c, nil
}

// Save keeps it for the box with this data directory.
func (c *Calibration) Save(data string) error {
	if err := save(calibrationFile(data), c); err != nil {
		return fmt.Errorf("work: calibration: %w", err)
	}
	return nil
}

// InUse is what became of one of a box's settings, as of its start.
type InUse struct {
	Setting string     `json:"setting"`
	Value   string     `json:"value"` // what the box uses, off among them
	Result  hal.Result `json:"result,omitempty"`
	Why     string     `json:"why,omitempty"`
}

const inUseBytesMax = 64 << 10

func inUseFile(data string) string { return filepath.Join(LedgerDir(data), "box.json") }

// SaveInUse says for the box with this data directory what it uses.
func SaveInUse(data string, all []InUse) error {
	if err := save(inUseFile(data), all); err != nil {
		return fmt.Errorf("work: settings in use: %w", err)
	}
	return nil
}

// LoadInUse reads it: none if the box has never used any.
func LoadInUse(data string) ([]InUse, error) {
	var all []InUse
	err := load(inUseFile(data), inUseBytesMax, &all)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("work: settings in use: %w", err)
	}
	return slices.DeleteFunc(all, func(u InUse) bool { return u.Setting == "" }), nil
}

func load(name string, most int64, to any) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > most {
		return fmt.Errorf("%w: %s has over %d bytes", hal.ErrFormat, name, most)
	}
	if err := json.Unmarshal(b, to); err != nil {
		return fmt.Errorf("%w: %s: %w", hal.ErrFormat, name, err)
	}
	return nil
}

// save replaces a file as a whole, durably.
func save(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
