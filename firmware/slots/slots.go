package slots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/store"
)

// The files of a slot.
const (
	Kernel   = "vmlinuz"
	Initrd   = "initrd.img"
	Manifest = "manifest" // what the slot holds, signed (firmware/update)
	// reasonFile says why the slot's release was given up.
	reasonFile = "spoiled"
)

const (
	entriesDir = "loader/entries"
	// smallBytesMax bounds entries, manifests and reasons.
	smallBytesMax = 64 << 10
	// entriesMax bounds how many files in /loader/entries are looked at: two are ours, and one while a name changes.
	entriesMax = 64
)

// ESP is a mounted system partition. What changes it is for one goroutine at a time; reading goes beside that.
type ESP struct {
	fs      store.FS
	dir     string
	tryboot bool
}

// Open opens the system partition that is mounted at dir. Errors: ErrNoESP.
func Open(dir string) (*ESP, error) { return OpenFS(store.OS{}, dir) }

// OpenFS does so on another file system.
func OpenFS(f store.FS, dir string) (*ESP, error) {
	e := &ESP{fs: f, dir: dir}
	if _, err := f.List(e.path(entriesDir)); err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNoESP, dir, err)
	}
	var err error
	e.tryboot, err = e.lookTryboot()
	return e, err
}

func (e *ESP) path(elem ...string) string { return path.Join(append([]string{e.dir}, elem...)...) }

// Entries are the entries that name the files of their slot, the one that the loader takes first.
func (e *ESP) Entries() ([]Entry, error) {
	list, _, err := e.entries()
	return list, err
}

// entries also gives the names of files that stand in the way of each other, or that a power cut left half made.
func (e *ESP) entries() (list []Entry, litter []string, err error) {
	names, err := e.fs.List(e.path(entriesDir))
	if err != nil {
		return nil, nil, fmt.Errorf("slots: %w", err)
	}
	slices.Sort(names)
	for _, name := range names[:min(len(names), entriesMax)] {
		x, err := ParseFileName(name)
		if err != nil {
			continue // somebody else's entry
		}
		b, err := e.readSmall(entriesDir, name)
		if err != nil {
			return nil, nil, err
		}
		v, ok := confVersion(b, x.Slot)
		if !ok {
			litter = append(litter, name)
			continue
		}
		x.Version = v
		list = append(list, x)
	}
	// Of two names for one install the blessed one counts, then the one with less tries: the other is what a change of the count left.
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(-cmp.Compare(a.Sequence, b.Sequence), falseFirst(a.Counted, b.Counted), cmp.Compare(a.Left, b.Left))
	})
	list = slices.CompactFunc(list, func(kept, x Entry) bool {
		if kept.Sequence == x.Sequence {
			litter = append(litter, x.FileName())
		}
		return kept.Sequence == x.Sequence
	})
	// As the loader orders them: what has no tries left comes last.
	slices.SortStableFunc(list, func(a, b Entry) int { return falseFirst(!a.Bootable(), !b.Bootable()) })
	return list, litter, nil
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Entry is the newest entry of a slot.
func (e *ESP) Entry(s Slot) (x Entry, found bool, err error) {
	list, _, err := e.entries()
	for _, y := range list {
		if y.Slot == s && (!found || y.Sequence > x.Sequence) {
			x, found = y, true
		}
	}
	return x, found, err
}

// File is a file of an installed release, for reading; the caller closes it. Errors: ErrSlot, fs.ErrNotExist.
func (e *ESP) File(s Slot, name string) (store.File, error) {
	if err := known(s, name); err != nil {
		return nil, err
	}
	f, err := e.fs.Open(e.path(string(s), name))
	if err != nil {
		return nil, fmt.Errorf("slots: %w", err)
	}
	return f, nil
}

// ReadManifest is the manifest of what is in a slot, as it was installed. Errors: ErrSlot, fs.ErrNotExist.
func (e *ESP) ReadManifest(s Slot) ([]byte, error) {
	if !s.valid() {
		return nil, fmt.Errorf("%w: %q", ErrSlot, s)
	}
	return e.readSmall(string(s), Manifest)
}

// Reason is why the release in a slot was given up; empty when it was not.
func (e *ESP) Reason(s Slot) string {
	b, err := e.readSmall(string(s), reasonFile)
	if err != nil {
		return ""
	}
	return string(b)
}

func known(s Slot, name string) error {
	if !s.valid() || name != Kernel && name != Initrd && name != Manifest {
		return fmt.Errorf("%w: %q %q", ErrSlot, s, name)
	}
	return nil
}

func (e *ESP) readSmall(elem ...string) ([]byte, error) {
	f, err := e.fs.Open(e.path(elem...))
	if err != nil {
		return nil, fmt.Errorf("slots: %w", err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, smallBytesMax))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("slots: %s: %w", path.Join(elem...), err)
	}
	return b, nil
}

// Release is what Install puts into a slot.
type Release struct {
	Version string // one word, for people
	Cmdline string // of its kernel, without the slot
	Tries   int    // how often the loader starts it without a blessing; 0: TriesDefault
	Blessed bool   // it needs none: the first release of an image
}

// Install puts a release into a slot: its files, each read to its end, and then its entry. What was in the slot is gone with the first
// step. Errors: ErrSlot, ErrName, ErrLast (the other slot was never good, so this one is all there is), ctx's and the disk's.
func (e *ESP) Install(ctx context.Context, s Slot, r Release, files map[string]io.Reader) error {
	if _, err := Conf(s, r.Version, r.Cmdline); err != nil {
		return err
	}
	if err := e.Clear(s); err != nil {
		return err
	}
	for _, name := range []string{Kernel, Initrd, Manifest} {
		if files[name] == nil {
			return fmt.Errorf("%w: a release without %s", ErrSlot, name)
		}
		if err := e.stageAll(ctx, s, name, files[name]); err != nil {
			return err
		}
	}
	return e.Commit(s, r)
}

func (e *ESP) stageAll(ctx context.Context, s Slot, name string, from io.Reader) error {
	t, err := e.Stage(s, name)
	if err != nil {
		return err
	}
	err = t.Truncate()
	for buf := make([]byte, syncBytes); err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		n, rerr := io.ReadFull(from, buf)
		if _, err = t.Write(buf[:n]); err == nil {
			err = rerr
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = t.Sync()
	}
	if err := errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("slots: stage %s: %w", name, err)
	}
	return nil
}

// Clear takes a slot's release from the loader, so that its files may change. Errors: ErrSlot, ErrLast.
func (e *ESP) Clear(s Slot) error {
	if !s.valid() {
		return fmt.Errorf("%w: %q", ErrSlot, s)
	}
	list, litter, err := e.entries()
	if err != nil {
		return err
	}
	if len(list) > 0 && !slices.ContainsFunc(list, func(x Entry) bool { return x.Slot != s && !x.Counted }) {
		return fmt.Errorf("%w, so slot %s stays as it is", ErrLast, s)
	}
	if len(list) > 0 {
		if err := e.setDefault(s.Other()); err != nil {
			return err
		}
	}
	for _, x := range list {
		if x.Slot == s {
			litter = append(litter, x.FileName())
		}
	}
	if err := e.removeEntries(litter); err != nil {
		return err
	}
	if err := e.fs.Remove(e.path(string(s), reasonFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("slots: %w", err)
	}
	return nil
}

// Commit makes the files that were staged in a slot its release, and the one that the loader takes next. Errors: ErrSlot (also for one that
// was not cleared), ErrLast, ErrName, fs.ErrNotExist when a file was not staged.
func (e *ESP) Commit(s Slot, r Release) error {
	list, _, err := e.entries()
	if err != nil {
		return err
	}
	next, other := 1, len(list) == 0
	for _, x := range list {
		if x.Slot == s {
			return fmt.Errorf("%w: %q was not cleared", ErrSlot, s)
		}
		next = max(next, x.Sequence+1)
		other = other || !x.Counted
	}
	switch {
	case !other:
		return fmt.Errorf("%w, so slot %s gets no entry", ErrLast, s)
	case next > sequenceMax:
		return fmt.Errorf("slots: %d installs: write an image again", next)
	}
	for _, name := range []string{Kernel, Initrd, Manifest} {
		f, err := e.File(s, name)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("slots: %w", err)
		}
	}
	conf, err := Conf(s, r.Version, r.Cmdline)
	if err != nil {
		return err
	}
	if err := e.unpack(s, r.Cmdline); err != nil {
		return err
	}
	x := Entry{Slot: s, Sequence: next}
	switch {
	case r.Blessed:
	case e.tryboot:
		x.Counted, x.Left = true, 1 // all that such a loader has
	default:
		x.Counted, x.Left = true, cmp.Or(r.Tries, TriesDefault)
	}
	return e.writeSmall(entriesDir, x.FileName(), conf)
}

func (e *ESP) removeEntries(names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if err := e.fs.Remove(e.path(entriesDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("slots: %w", err)
		}
	}
	if err := e.fs.SyncDir(e.path(entriesDir)); err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	return nil
}

// writeSmall makes a file of at most a sector, anew.
func (e *ESP) writeSmall(dir, name string, b []byte) error {
	at := e.path(dir, name)
	if err := e.fs.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("slots: %w", err)
	}
	f, err := e.fs.Create(at)
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Datasync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = e.fs.SyncDir(e.path(dir))
	}
	if err != nil {
		return fmt.Errorf("slots: write %s: %w", name, err)
	}
	return nil
}

// Bless makes a slot's release one that was good: the loader counts its starts no more. Once more changes nothing. Errors: ErrSlot.
func (e *ESP) Bless(s Slot) error {
	if _, found, err := e.Entry(s); err != nil || !found {
		return cmp.Or(err, fmt.Errorf("%w: %q holds no release", ErrSlot, s))
	}
	// The loader first: cut in between, the slot is on trial once more.
	if err := e.setDefault(s); err != nil {
		return err
	}
	return e.recount(s, func(x *Entry) { x.Counted, x.Left, x.Done = false, 0, 0 })
}

// Spoil gives a slot's release up: the loader starts the other one from now on. The reason is kept for people. Errors: ErrSlot, ErrLast.
func (e *ESP) Spoil(s Slot, reason string) error {
	other, found, err := e.Entry(s.Other())
	if err != nil {
		return err
	}
	if !found || other.Counted {
		return fmt.Errorf("%w, so slot %s stays as it is", ErrLast, s)
	}
	if err := e.setDefault(s.Other()); err != nil {
		return err
	}
	reason = strings.ToValidUTF8(reason[:min(len(reason), confBytesMax)], "")
	// A partition that has no room for the reason must not keep a bad release.
	kept := e.writeSmall(string(s), reasonFile, []byte(reason))
	return errors.Join(e.recount(s, func(x *Entry) { x.Counted, x.Left, x.Done = true, 0, max(x.Done, 1) }), kept)
}

// recount gives a slot's entry another name: first the new one, then the old one goes.
func (e *ESP) recount(s Slot, change func(*Entry)) error {
	x, found, err := e.Entry(s)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%w: %q holds no release", ErrSlot, s)
	}
	_, litter, err := e.entries()
	if err != nil {
		return err
	}
	to := x
	change(&to)
	if to.FileName() == x.FileName() {
		return e.removeEntries(litter)
	}
	conf, err := e.readSmall(entriesDir, x.FileName())
	if err != nil {
		return err
	}
	if err := e.writeSmall(entriesDir, to.FileName(), conf); err != nil {
		return err
	}
	litter = slices.DeleteFunc(litter, func(n string) bool { return strings.EqualFold(n, to.FileName()) })
	return e.removeEntries(append(litter, x.FileName()))
}
