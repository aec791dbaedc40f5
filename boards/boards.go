// Package boards holds the profiles of the boards that Holdfast knows, as data: one TOML file a
// board, compiled in. A profile says what a running kernel cannot say of itself, or not before it
// is too late: which network port is the WAN, which LED shows the site's state, which core class
// runs the hot loop, whether a NIC's interrupts can be moved at all. Every fact carries where it
// was learned. The files are read here and used by hal, which never takes a fact from a profile
// when the kernel tells it.
package boards

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// fileBytesMax bounds a profile before it is decoded; the largest of ours is 4 KiB.
const fileBytesMax = 64 << 10

// Errors of this package.
var (
	// ErrSyntax says that a profile is not TOML, has a key nobody knows, or a value of a wrong type.
	ErrSyntax = errors.New("cannot be read")
	// ErrValue says that a profile says something that cannot be.
	ErrValue = errors.New("bad value")
	// ErrUnknown says that no profile fits the machine, not even a generic one.
	ErrUnknown = errors.New("no profile fits")
)

//go:embed data/*.toml
var data embed.FS

// Board is one profile. Parts that a board does not have are nil or empty.
type Board struct {
	ID             string              `toml:"id" json:"id"`
	Name           string              `toml:"name" json:"name"`
	Arch           string              `toml:"arch" json:"arch"`                         // GOARCH
	CacheLineBytes int                 `toml:"cache_line_bytes" json:"cache_line_bytes"` // of the data caches
	Match          Match               `toml:"match" json:"match"`
	CPU            map[string]CPUClass `toml:"cpu" json:"cpu,omitempty"` // by class: big, little...
	Roles          Roles               `toml:"roles" json:"roles"`
	NIC            map[string]NIC      `toml:"nic" json:"nic,omitempty"` // by a name of ours: wan, lan1...
	LED            map[string]LED      `toml:"led" json:"led,omitempty"` // by role: status, wan...
	Pin            map[string]Pin      `toml:"pin" json:"pin,omitempty"` // by role: setup...
	Watchdog       *Watchdog           `toml:"watchdog" json:"watchdog,omitempty"`
	Thermal        *Thermal            `toml:"thermal" json:"thermal,omitempty"`
	RTC            *RTC                `toml:"rtc" json:"rtc,omitempty"`
	Budget         Budget              `toml:"budget" json:"budget"`
	// Provenance says where each fact was learned: the key is the fact's dotted path or a
	// leading part of it (the longest that fits counts), the value a Source, optionally with
	// ": " and a text.
	Provenance map[string]string `toml:"provenance" json:"provenance"`
}

// Match is how a machine is recognised.
type Match struct {
	// Compatible are device-tree compatible strings; a last * stands for any ending.
	Compatible []string `toml:"compatible,omitempty" json:"compatible,omitempty"`
	DMI        []DMI    `toml:"dmi,omitempty" json:"dmi,omitempty"`
	// Generic says that the profile fits every machine of its Arch that nothing else fits.
	Generic bool `toml:"generic,omitempty" json:"generic,omitempty"`
}

// DMI is what the firmware of a machine without a device tree calls it. In a profile an empty
// field fits anything, and not all are empty.
type DMI struct {
	Vendor  string `toml:"vendor,omitempty" json:"vendor,omitempty"`
	Product string `toml:"product,omitempty" json:"product,omitempty"`
	Board   string `toml:"board,omitempty" json:"board,omitempty"`
}

// CPUClass is one kind of core, recognised by two fields of its MIDR (Arm ARM, MIDR_EL1).
type CPUClass struct {
	Core        string `toml:"core" json:"core"` // the name on the data sheet
	Implementer int    `toml:"implementer" json:"implementer"`
	Part        int    `toml:"part" json:"part"`
	Count       int    `toml:"count" json:"count"`
	Capacity    int    `toml:"capacity,omitempty" json:"capacity,omitempty"` // cpu_capacity, 1024 is the largest; 0 if all are alike
}

// Roles name core classes, best first. A class may stand in several roles.
type Roles struct {
	Loop         []string `toml:"loop,omitempty" json:"loop,omitempty"`                 // the hot loops
	Receive      []string `toml:"receive,omitempty" json:"receive,omitempty"`           // interrupts of receive queues
	Housekeeping []string `toml:"housekeeping,omitempty" json:"housekeeping,omitempty"` // everything else
}

// NIC is a network port, recognised by its place on the bus and not by its name.
type NIC struct {
	Role      string `toml:"role" json:"role"`                     // wan, lan
	Bus       string `toml:"bus" json:"bus"`                       // the parent device's name: 0004:41:00.0, fe1c0000.ethernet
	Port      int    `toml:"port,omitempty" json:"port,omitempty"` // dev_port, where several share one device
	Driver    string `toml:"driver" json:"driver"`
	IRQsMove  string `toml:"irqs_move" json:"irqs_move"` // yes, no, unknown
	Fallback  string `toml:"fallback" json:"fallback"`   // where they do not: rps, none
	QueuesMax int    `toml:"queues_max,omitempty" json:"queues_max,omitempty"`
}

// LED is a light of the LED class.
type LED struct {
	Names []string `toml:"names" json:"names"` // under /sys/class/leds, the first that exists
}

// Pin is a GPIO line, by its name, or by chip label and offset where the line has none.
type Pin struct {
	Line      string `toml:"line,omitempty" json:"line,omitempty"`
	Chip      string `toml:"chip,omitempty" json:"chip,omitempty"`
	Offset    int    `toml:"offset,omitempty" json:"offset,omitempty"`
	ActiveLow bool   `toml:"active_low" json:"active_low"`
	// Input says that a kernel driver (gpio-keys) holds the line, so that its key events and
	// not the line are to be read.
	Input bool `toml:"input,omitempty" json:"input,omitempty"`
}

// Watchdog is the hardware watchdog.
type Watchdog struct {
	Driver        string `toml:"driver" json:"driver"`
	TimeoutMaxSec int    `toml:"timeout_max_s" json:"timeout_max_s"`
}

// Thermal names the zone to look at and its limits in degrees Celsius.
type Thermal struct {
	Zone      string `toml:"zone" json:"zone"` // the zone's type
	ThrottleC int    `toml:"throttle_c" json:"throttle_c"`
	CriticalC int    `toml:"critical_c" json:"critical_c"`
}

// RTC is the battery-backed clock.
type RTC struct {
	Driver string `toml:"driver" json:"driver"`
}

// Budget is what Holdfast may use of the board.
type Budget struct {
	MemoryMiB int `toml:"memory_mib" json:"memory_mib"`
	CPUShare  int `toml:"cpu_share_percent" json:"cpu_share_percent"` // of all cores together
}

// Source is where a fact was learned.
type Source string

// The sources, best first.
const (
	Captured   Source = "captured"   // read on the machine itself
	DTB        Source = "dtb"        // the device tree of a released kernel
	Issue      Source = "issue"      // a public bug report or forum thread
	Unverified Source = "unverified" // from memory, a data sheet or a guess
)

// Machine is what a running machine says about itself.
type Machine struct {
	Compatible []string `json:"compatible,omitempty"` // the device tree's, most specific first; empty without one
	DMI        DMI      `json:"dmi,omitzero"`
	Arch       string   `json:"arch"` // GOARCH
}

// All returns the compiled-in profiles in the order of their IDs. The caller owns them.
func All() ([]Board, error) {
	files, err := data.ReadDir("data")
	if err != nil {
		return nil, fmt.Errorf("boards: %w", err)
	}
	var all []Board
	for _, f := range files {
		text, err := data.ReadFile(path.Join("data", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("boards: %w", err)
		}
		b, err := Decode(text)
		if err != nil {
			return nil, fmt.Errorf("boards: %s: %w", f.Name(), err)
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Board) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Decode reads one profile and checks it (see Check).
func Decode(text []byte) (Board, error) {
	if len(text) > fileBytesMax {
		return Board{}, fmt.Errorf("boards: %w: %d bytes, at most %d", ErrSyntax, len(text), fileBytesMax)
	}
	var b Board
	meta, err := toml.Decode(string(text), &b)
	if err != nil {
		return Board{}, fmt.Errorf("boards: %w: %w", ErrSyntax, err)
	}
	if u := meta.Undecoded(); len(u) > 0 {
		return Board{}, fmt.Errorf("boards: %w: unknown key %s", ErrSyntax, u[0])
	}
	return b, b.Check()
}

// Encode writes a profile as Decode reads it.
func Encode(b Board) ([]byte, error) {
	var w bytes.Buffer
	if err := toml.NewEncoder(&w).Encode(b); err != nil {
		return nil, fmt.Errorf("boards: encode: %w", err)
	}
	return w.Bytes(), nil
}

// Find returns the profile of all that fits m best, and in one sentence why. A compatible string
// decides before DMI does, an earlier (more specific) string before a later one, and an exact
// one before one with a *. ErrUnknown if not even a generic profile fits.
func Find(all []Board, m Machine) (Board, string, error) {
	for i, c := range m.Compatible {
		where := "is in the device tree's compatible list"
		if i == 0 {
			where = "is the device tree's most specific compatible string"
		}
		for _, b := range all {
			if slices.Contains(b.Match.Compatible, c) {
				return b, fmt.Sprintf("%s %s", c, where), nil
			}
		}
		for _, b := range all {
			for _, p := range b.Match.Compatible {
				if head, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(c, head) {
					return b, fmt.Sprintf("%s, which %s fits, %s", c, p, where), nil
				}
			}
		}
	}
	for _, b := range all {
		for _, d := range b.Match.DMI {
			if b.Arch == m.Arch && d.fits(m.DMI) {
				return b, fmt.Sprintf("the firmware says %s", d), nil
			}
		}
	}
	for _, b := range all {
		if b.Match.Generic && b.Arch == m.Arch {
			why := "the machine has neither a device tree nor DMI"
			if len(m.Compatible) > 0 {
				why = fmt.Sprintf("no profile knows %s", m.Compatible[0])
			} else if m.DMI != (DMI{}) {
				why = fmt.Sprintf("no profile knows %s", m.DMI)
			}
			return b, why, nil
		}
	}
	return Board{}, "", fmt.Errorf("boards: %w: %v, %v, %q", ErrUnknown, m.Compatible, m.DMI, m.Arch)
}

func (d DMI) fits(m DMI) bool {
	return d != (DMI{}) &&
		(d.Vendor == "" || d.Vendor == m.Vendor) &&
		(d.Product == "" || d.Product == m.Product) &&
		(d.Board == "" || d.Board == m.Board)
}

// String is for people: the fields that are set.
func (d DMI) String() string {
	parts := slices.DeleteFunc([]string{d.Vendor, d.Product, d.Board}, func(s string) bool { return s == "" })
	return strings.Join(parts, " / ")
}

// Class returns the name of the core class with this implementer and part number, "" if none has it.
func (b *Board) Class(implementer, part int) string {
	for _, name := range slices.Sorted(maps.Keys(b.CPU)) {
		if c := b.CPU[name]; c.Implementer == implementer && c.Part == part {
			return name
		}
	}
	return ""
}

// NICAt returns the name of the port on this bus device, "" if the profile has none there.
func (b *Board) NICAt(bus string, port int) string {
	for _, name := range slices.Sorted(maps.Keys(b.NIC)) {
		if n := b.NIC[name]; n.Bus == bus && n.Port == port {
			return name
		}
	}
	return ""
}
