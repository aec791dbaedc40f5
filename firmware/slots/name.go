package slots

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Slot is "a" or "b".
type Slot string

// The slots.
const (
	A Slot = "a"
	B Slot = "b"
)

// Other is the slot that s is not.
func (s Slot) Other() Slot {
	if s == A {
		return B
	}
	return A
}

func (s Slot) valid() bool { return s == A || s == B }

// Errors.
var (
	// ErrName says that a file is no entry of ours.
	ErrName = errors.New("slots: not the name of an entry")
	// ErrSlot says that there is no such slot, or nothing in it.
	ErrSlot = errors.New("slots: no such slot")
	// ErrLast says that what was asked would leave nothing that can be started.
	ErrLast = errors.New("slots: the other slot has nothing that was good")
	// ErrNoESP says that a directory is not a system partition as an image of Holdfast has it.
	ErrNoESP = errors.New("slots: no system partition of Holdfast")
)

// TriesDefault is how often the loader starts a release that nobody has blessed: once more than a power cut during the first
// start and one during the second can use up.
const TriesDefault = 3

// sequenceMax is what six digits hold.
const sequenceMax = 999_999

// Entry is one entry of the loader.
type Entry struct {
	Slot     Slot
	Sequence int    // counts installs on this box, from 1
	Version  string // of the release, as the entry says; FileName does not have it
	// Counted says that the entry is not blessed: Left tries are left, Done were made.
	Counted    bool
	Left, Done int
}

// Bootable says whether the loader takes the entry while there is another one.
func (e Entry) Bootable() bool { return !e.Counted || e.Left > 0 }

// FileName is the entry's name in /loader/entries.
func (e Entry) FileName() string {
	count := ""
	if e.Counted {
		count = fmt.Sprintf("+%d", e.Left)
		if e.Done > 0 {
			count += fmt.Sprintf("-%d", e.Done)
		}
	}
	return fmt.Sprintf("holdfast-%06d-%s%s.conf", e.Sequence, e.Slot, count)
}

// names may come back from a loader in capitals: FAT does not tell them apart.
var nameForm = regexp.MustCompile(`^holdfast-([0-9]{6})-([ab])(?:\+([0-9]{1,3})(?:-([0-9]{1,3}))?)?\.conf$`)

// ParseFileName reads what FileName wrote, also after the loader has counted. Errors: ErrName.
func ParseFileName(name string) (Entry, error) {
	m := nameForm.FindStringSubmatch(strings.ToLower(name))
	if m == nil {
		return Entry{}, fmt.Errorf("%w: %.100q", ErrName, name)
	}
	n := func(s string) int {
		v, _ := strconv.Atoi(s) // digits, or nothing
		return v
	}
	e := Entry{Slot: Slot(m[2]), Sequence: n(m[1]), Counted: m[3] != "", Left: n(m[3]), Done: n(m[4])}
	if e.Sequence == 0 {
		return Entry{}, fmt.Errorf("%w: %.100q", ErrName, name)
	}
	return e, nil
}

// cmdlineSlot is the word of the kernel's command line that says which slot it came from.
const cmdlineSlot = "holdfast.slot="

// Running finds the slot in a kernel's command line (/proc/cmdline). ok is false when no loader of ours started it.
func Running(cmdline string) (s Slot, ok bool) {
	for word := range strings.FieldsSeq(cmdline) {
		if v, is := strings.CutPrefix(word, cmdlineSlot); is {
			s = Slot(v)
		}
	}
	return s, s.valid()
}

// confBytesMax is a sector: a disk writes it whole or not at all.
const confBytesMax = 512

// Options is the command line of the kernel in a slot.
func Options(s Slot, cmdline string) string {
	words := strings.Fields(cmdline)
	if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "panic=") }) {
		words = append(words, "panic=5")
	}
	return strings.Join(append(words, cmdlineSlot+string(s)), " ")
}

// Conf is the content of the entry for a release in a slot: a kernel that panics starts the machine again after five seconds, so
// that the next try is made. Errors: ErrName, when version is not a word or all of it is too long.
func Conf(s Slot, version, cmdline string) ([]byte, error) {
	// No sort-key: without one the loader goes by the names, highest first (systemd-boot 252, config_entry_compare). What makes it
	// an entry at all, the kernel, comes last.
	b := fmt.Appendf(nil, "title Holdfast %s (%s)\nversion %s\noptions %s\ninitrd /%s/%s\nlinux /%s/%s\n",
		version, s, version, Options(s, cmdline), s, Initrd, s, Kernel)
	if len(strings.Fields(version)) != 1 || strings.ContainsFunc(version+cmdline, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, fmt.Errorf("%w: version %.100q with options %.300q: printable ASCII is needed, and no space in the version", ErrName, version, cmdline)
	}
	if len(b) > confBytesMax {
		return nil, fmt.Errorf("%w: an entry of %d bytes; %d are possible: shorten the kernel's options", ErrName, len(b), confBytesMax)
	}
	return b, nil
}

// confVersion reads the version from what Conf wrote; ok says that it names the files of that slot.
func confVersion(b []byte, s Slot) (version string, ok bool) {
	var linux, initrd bool
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "version":
			version = value
		case "linux":
			linux = value == "/"+string(s)+"/"+Kernel
		case "initrd":
			initrd = value == "/"+string(s)+"/"+Initrd
		}
	}
	return version, linux && initrd
}
