package slots

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/store"
)

// A Raspberry Pi 4 or 5 starts without UEFI. Its loader, in the board's EEPROM, knows partitions (Raspberry Pi documentation, config.txt,
// autoboot.txt and "Fail-safe OS updates"):
//
//	partition 1        autoboot.txt, /loader/entries, holdfast.toml
//	partition 2, 3     slot a, slot b: config.txt, cmdline.txt and what they name; mounted at /a and /b of partition 1
//
//	[all]              autoboot.txt: where the loader goes
//	tryboot_a_b=1
//	boot_partition=2
//	[tryboot]          and where it goes once, when the machine was told so as it was started again
//	boot_partition=3
//
// It counts nothing: a release has one try. The entries are the same as for systemd-boot, and nobody but this package reads them. The try is
// written down before the machine starts again, so a power cut in that moment uses it up. The flag is gone with the next start, whatever that is: a
// kernel that panics, a watchdog's reset, and power that comes back all start the slot that autoboot.txt has under [all].
//
// autoboot.txt is written where it lies and never gets longer or shorter: it is one sector, of which a disk has the old or the new
// content. A rename would be two entries of a folder, and FAT has no journal for them.

const (
	// AutobootFile is what the loader reads first.
	AutobootFile = "autoboot.txt"
	// ConfigFile and CmdlineFile are what it reads in a slot.
	ConfigFile  = "config.txt"
	CmdlineFile = "cmdline.txt"
	// MarkFile has the slot's name: it tells the mounted partition from the empty folder under it.
	MarkFile = "slot.txt"

	// TryOnce is what the kernel passes on to the loader (reboot(2), LINUX_REBOOT_CMD_RESTART2): the default partition, with the flag.
	TryOnce = "0 tryboot"

	autobootBytesMax = 512
)

// Autoboot is the content of autoboot.txt for a default slot. It has the same length for both.
func Autoboot(s Slot) []byte {
	partition := map[Slot]int{A: 2, B: 3}
	return fmt.Appendf(nil, "[all]\ntryboot_a_b=1\nboot_partition=%d\n[tryboot]\nboot_partition=%d\n", partition[s], partition[s.Other()])
}

// lookTryboot says whether the loader is a Raspberry Pi's. Errors: ErrNoESP, when a slot's partition is not there.
func (e *ESP) lookTryboot() (bool, error) {
	_, err := e.readSmall(AutobootFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, s := range []Slot{A, B} {
		if b, err := e.readSmall(string(s), MarkFile); err != nil || Slot(bytes.TrimSpace(b)) != s {
			return false, fmt.Errorf("%w: the partition of slot %s is not mounted at %s", ErrNoESP, s, e.path(string(s)))
		}
	}
	return true, nil
}

// Tryboot says that the loader is a Raspberry Pi's, which knows partitions and one try.
func (e *ESP) Tryboot() bool { return e.tryboot }

// defaultSlot is where the loader goes by itself; "" when autoboot.txt is not as this package writes it.
func (e *ESP) defaultSlot() (Slot, []byte, error) {
	b, err := e.readSmall(AutobootFile)
	if err != nil {
		return "", nil, err
	}
	for _, s := range []Slot{A, B} {
		if bytes.Equal(bytes.TrimRight(b, "\n"), bytes.TrimRight(Autoboot(s), "\n")) {
			return s, b, nil
		}
	}
	return "", b, nil
}

// setDefault has the loader go to a slot from now on, where it reads autoboot.txt.
func (e *ESP) setDefault(s Slot) error {
	if !e.tryboot {
		return nil
	}
	is, b, err := e.defaultSlot()
	if err != nil || is == s {
		return err
	}
	to := Autoboot(s)
	if len(b) < len(to) || len(b) > autobootBytesMax {
		return fmt.Errorf("%w: %s has %d bytes: somebody has changed it", ErrNoESP, AutobootFile, len(b))
	}
	to = append(to, bytes.Repeat([]byte("\n"), len(b)-len(to))...)
	f, err := e.fs.Open(e.path(AutobootFile))
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	_, err = f.WriteAt(to, 0)
	if err == nil {
		err = f.Datasync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("slots: %s: %w", AutobootFile, err)
	}
	return nil
}

// Restart says what the kernel is to tell the loader as the machine starts again, and writes down the try that begins with it. Empty: nothing, as
// with a loader that counts by itself. once, if it is a slot, is where somebody wants to go once whatever the entries say. Errors: ErrSlot, the disk's.
func (e *ESP) Restart(once Slot) (argument string, err error) {
	if !e.tryboot {
		return "", nil
	}
	is, _, err := e.defaultSlot()
	if err != nil {
		return "", err
	}
	if !is.valid() {
		return "", fmt.Errorf("%w: %s names none", ErrSlot, AutobootFile)
	}
	if once.valid() {
		if once == is {
			return "", nil
		}
		return TryOnce, nil
	}
	x, found, err := e.Entry(is.Other())
	if err != nil || !found || !x.Counted || x.Left == 0 {
		return "", err
	}
	if err := e.recount(x.Slot, func(x *Entry) { x.Left, x.Done = x.Left-1, x.Done+1 }); err != nil {
		return "", err
	}
	return TryOnce, nil
}

// unpack puts what the loader reads beside a slot's parcel, all of it durable when it returns.
func (e *ESP) unpack(s Slot, cmdline string) error {
	if !e.tryboot {
		return nil
	}
	f, err := e.File(s, Kernel)
	if err != nil {
		return err
	}
	err = e.unpackFrom(s, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return e.writeSmall(string(s), CmdlineFile, []byte(Options(s, cmdline)+"\n"))
}

func (e *ESP) unpackFrom(s Slot, f store.File) error {
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	kept, dirs := map[string]bool{}, []string{""}
	err = ReadParcel(f, size, func(name string, body []byte) error {
		if dir := path.Dir(name); dir != "." && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
			if err := e.fs.MkdirAll(e.path(string(s), dir)); err != nil {
				return fmt.Errorf("slots: %w", err)
			}
		}
		kept[name] = true
		return e.writeWhole(e.path(string(s), name), body)
	})
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		// What another release left there: a device tree that is not this kernel's must not be found.
		names, err := e.fs.List(e.path(string(s), dir))
		if err != nil {
			return fmt.Errorf("slots: %w", err)
		}
		for _, n := range names {
			if !kept[path.Join(dir, n)] && (strings.HasSuffix(n, ".dtb") || strings.HasSuffix(n, ".dtbo")) {
				if err := e.fs.Remove(e.path(string(s), dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("slots: %w", err)
				}
			}
		}
		if err := e.fs.SyncDir(e.path(string(s), dir)); err != nil {
			return fmt.Errorf("slots: %w", err)
		}
	}
	return nil
}

// writeWhole makes a file anew; its name is durable when its folder is synced.
func (e *ESP) writeWhole(at string, b []byte) error {
	if err := e.fs.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("slots: %w", err)
	}
	f, err := e.fs.Create(at)
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	for i := 0; i < len(b) && err == nil; i += syncBytes {
		if _, err = f.WriteAt(b[i:min(len(b), i+syncBytes)], int64(i)); err == nil {
			err = f.Datasync()
		}
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		return fmt.Errorf("slots: write %s: %w", path.Base(at), err)
	}
	return nil
}
