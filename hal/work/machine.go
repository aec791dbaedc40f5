// Package work puts plans of package hal to work on a machine: it finds the machine's profile,
// applies a plan under a journal that one program at a time holds and remembers what is in force
// (Ledger), does so again after every event that may undo it (Watch), and runs a program's hot
// loop where the plan wants it (Worker). What to change is decided in hal, how it is written in
// hal/linux; the command line and the box use it from here.
package work

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

// boardBytesMax is more than boards.Decode takes, so that it can say that a file is too long.
const boardBytesMax = 1 << 20

// ErrBoard says that there is no profile of the name that was given.
var ErrBoard = errors.New("no such board")

// Machine is a machine, or a tree of files that stands for one, with its profile.
type Machine struct {
	Root  *linux.Root
	Facts *hal.Facts // of the last Look; a new one each time
	Board boards.Board
	// Why says in a sentence why it is this profile.
	Why  string
	name string
}

// Open looks at the machine below dir, "/" being the one that runs. board is the name or the
// file of a profile; empty, the machine's own is found. Close it.
func Open(dir, board string) (*Machine, error) {
	root, err := linux.Open(dir, nil)
	if err != nil {
		return nil, fmt.Errorf("work: %w", err)
	}
	m := &Machine{Root: root, name: board}
	if err := m.Look(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return m, nil
}

// Look probes again, and writes nothing.
func (m *Machine) Look() (err error) {
	m.Facts = m.Root.Probe()
	if m.name != "" {
		m.Board, err = Board(m.name)
		m.Why = "it was asked for"
		return err
	}
	all, err := boards.All()
	if err != nil {
		return fmt.Errorf("work: %w", err)
	}
	m.Board, m.Why, err = boards.Find(all, m.Facts.Machine)
	if errors.Is(err, boards.ErrUnknown) { // a probe is of use without a profile
		m.Board, m.Why, err = boards.Board{ID: "unknown"}, err.Error(), nil
	}
	return err
}

// Plan is what should change now; it writes nothing.
func (m *Machine) Plan(o hal.Options) hal.Plan { return hal.MakePlan(m.Facts, &m.Board, m.Why, o) }

// Close releases the directory.
func (m *Machine) Close() error { return m.Root.Close() }

// Board returns the profile with this ID, or the one in this file if the name has a slash or
// ends in .toml. ErrBoard if there is none of this ID.
func Board(name string) (boards.Board, error) {
	if strings.ContainsRune(name, '/') || strings.HasSuffix(name, ".toml") {
		return BoardFile(name)
	}
	all, err := boards.All()
	if err != nil {
		return boards.Board{}, fmt.Errorf("work: %w", err)
	}
	ids := make([]string, len(all))
	for i, b := range all {
		if b.ID == name {
			return b, nil
		}
		ids[i] = b.ID
	}
	return boards.Board{}, fmt.Errorf("work: %w: %q; there are %s, or give a file", ErrBoard, name, strings.Join(ids, ", "))
}

// BoardFile reads and checks the profile in a file.
func BoardFile(name string) (boards.Board, error) {
	f, err := os.Open(name)
	if err != nil {
		return boards.Board{}, fmt.Errorf("work: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, boardBytesMax))
	if err != nil {
		return boards.Board{}, fmt.Errorf("work: %w", err)
	}
	b, err := boards.Decode(text)
	if err != nil {
		return boards.Board{}, fmt.Errorf("work: %s: %w", name, err)
	}
	return b, nil
}

// Role is a light or a pin that Holdfast uses, as it is on the machine.
type Role struct {
	Role string `json:"role"` // led status, pin setup...
	hal.Status
	At string `json:"at,omitempty"` // where it is, when it is Loaded
}

// The roles that Holdfast uses.
const (
	StatusLED = "status" // shows the site's verdict
	SetupPin  = "setup"  // held, it prints the setup code
)

// Roles says of the lights and pins of the profile, and of those that Holdfast uses, where they
// are, or why they are not to be had.
func (m *Machine) Roles() []Role {
	return append(m.lights(), m.pins()...)
}

func (m *Machine) lights() []Role {
	var all []Role
	for _, role := range rolesOf(m.Board.LED, StatusLED) {
		r := Role{Role: "led " + role}
		l, ok := m.Board.LED[role]
		switch f := m.Facts.LEDs; {
		case !ok:
			r.Status = hal.Skip("the profile %s names none", m.Board.ID)
		case f.State != hal.Loaded:
			r.Status = f.Status
		default:
			r.Status = hal.Skip("none of %s is among the lights of the machine", strings.Join(l.Names, ", "))
			for _, name := range l.Names {
				if slices.ContainsFunc(f.Value, func(l hal.LED) bool { return l.Name == name }) {
					r.Status, r.At = hal.Status{State: hal.Loaded}, name
					break
				}
			}
		}
		all = append(all, r)
	}
	return all
}

func (m *Machine) pins() []Role {
	var all []Role
	for _, role := range rolesOf(m.Board.Pin, SetupPin) {
		r := Role{Role: "pin " + role}
		p, ok := m.Board.Pin[role]
		switch f := m.Facts.Pins; {
		case !ok:
			r.Status = hal.Skip("the profile %s names none", m.Board.ID)
		case f.State != hal.Loaded:
			r.Status = f.Status
		default:
			at := slices.IndexFunc(f.Value, func(l hal.Line) bool {
				return p.Line != "" && l.Name == p.Line || p.Line == "" && l.Label == p.Chip && l.Offset == p.Offset
			})
			if at < 0 {
				r.Status = hal.Skip("the machine has no line %q, chip %q %d", p.Line, p.Chip, p.Offset)
				break
			}
			l := f.Value[at]
			r.At = strings.TrimSpace(fmt.Sprintf("%s %d %s", l.Chip, l.Offset, l.Name))
			r.Status = hal.Status{State: hal.Loaded}
			switch {
			case p.Input:
				r.At += ", read through its key events"
			case l.User != "":
				r.Status = hal.Status{State: hal.Failed, Why: fmt.Sprintf("%s is held by %q", r.At, l.User)}
			}
		}
		all = append(all, r)
	}
	return all
}

// rolesOf is the profile's roles, sorted, and used even if the profile does not have it.
func rolesOf[T any](profile map[string]T, used string) []string {
	roles := []string{used}
	for role := range profile {
		if role != used {
			roles = append(roles, role)
		}
	}
	slices.Sort(roles)
	return roles
}
