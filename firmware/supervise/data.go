package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
	"github.com/holdfast-edge/holdfast/firmware/setupcode"
	"github.com/holdfast-edge/holdfast/firmware/slots"
	"github.com/holdfast-edge/holdfast/firmware/supervise/disk"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"golang.org/x/sys/unix"
)

const (
	// diskMax is how long a disk may take to show up: USB takes seconds.
	diskMax = 20 * time.Second
	// bootDiskMax is how long the disk that the loader was on may take to show up behind another one, and bootDiskLook how often that is looked at.
	bootDiskMax  = 5 * time.Second
	bootDiskLook = 100 * time.Millisecond
	// growMin is what is not worth growing for.
	growMin = 4 << 20
	sysDir  = "/sys"
	// resetMax is how long a disk may take to forget all it has before the watchdog takes it to hang.
	resetMax = 3 * time.Minute
)

// dataPartition is the data partition while it is mounted.
type dataPartition struct {
	disk.Partition
	checked *disk.Ext4
	grown   int64
}

func device(name string) string { return filepath.Join("/dev", name) }

// mountESP mounts the system partition. A machine that has none, or one that cannot be read, starts all the same.
func (m *machine) mountESP(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, diskMax)
	defer cancel()
	p, err := m.findESP(ctx, sysDir, "/dev", bootedFrom(efivarsDir))
	if err != nil {
		m.log.Error("no system partition", "err", err)
		return
	}
	if err := os.MkdirAll(espDir, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		m.log.Error("no system partition", "err", err)
		return
	}
	if err := mountFAT(p, espDir); err != nil {
		m.log.Error("the system partition is not mounted", "device", p.Device, "err", err)
		return
	}
	m.esp, m.espDisk = espDir, p.Disk
	m.log.Info("the system partition is mounted", "device", p.Device)
	m.mountSlots(p.Disk)
}

func mountFAT(p disk.Partition, at string) error {
	return unix.Mount(device(p.Device), at, "vfat", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "umask=0077")
}

// mountSlots mounts the slots of a board that has them as partitions, beside the system partition. Where one is not mounted, the slots cannot be
// opened (firmware/slots), and the box takes no updates.
func (m *machine) mountSlots(of string) {
	for _, s := range []slots.Slot{slots.A, slots.B} {
		list, err := disk.Find(sysDir, disk.SlotName+strings.ToUpper(string(s)))
		i := slices.IndexFunc(list, func(p disk.Partition) bool { return p.Disk == of })
		if err != nil || i < 0 {
			continue // a board without
		}
		at := filepath.Join(espDir, string(s))
		if err = os.MkdirAll(at, 0o755); err == nil {
			err = mountFAT(list[i], at)
		}
		if err != nil {
			m.log.Error("a slot is not mounted", "slot", s, "device", list[i].Device, "err", err)
			continue
		}
		m.log.Info("a slot is mounted", "slot", s, "device", list[i].Device)
	}
}

// findESP gives the system partition whose number in its disk's table is id, which is the one that the loader was on: a box that was started from
// a stick must not bless or change the slots of the disk inside. Where none is, or id is not known, it is the first.
func (m *machine) findESP(ctx context.Context, sys, dev, id string) (disk.Partition, error) {
	first, err := disk.Await(ctx, sys, disk.ESPName, "")
	if err != nil || id == "" {
		return first, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootDiskMax)
	defer cancel()
	for {
		list, err := disk.Find(sys, disk.ESPName)
		if err != nil {
			return first, err
		}
		for _, p := range list {
			if strings.EqualFold(partitionID(sys, dev, p), id) {
				return p, nil
			}
		}
		if pauseOr(ctx, bootDiskLook, nil) {
			m.log.Warn("no disk has the partition that the loader was on; the first of its name is taken", "id", id, "device", first.Device)
			return first, nil
		}
	}
}

// partitionID is the GUID of a partition in its disk's table; "" where that cannot be read.
func partitionID(sys, dev string, p disk.Partition) string {
	size, err := disk.DiskBytes(sys, p.Disk)
	if err != nil {
		return ""
	}
	f, err := os.Open(filepath.Join(dev, p.Disk))
	if err != nil {
		return ""
	}
	defer f.Close()
	t, err := gpt.Read(f, size)
	if err != nil || p.Number < 1 || p.Number > len(t.Partitions) {
		return ""
	}
	return t.Partitions[p.Number-1].ID.String()
}

// openData checks, grows and mounts the data partition, and says what the boot medium's file is about. What fails is shown until somebody
// has chosen what to do; an act that is not "" is one that ends the machine.
func (m *machine) openData(ctx context.Context) (*provisioned, act) {
	for {
		err := m.mountData(ctx)
		if err == nil {
			p := m.provision()
			return p, ""
		}
		m.log.Error("the data partition cannot be used", "err", err)
		if m.giveUpTrial(fmt.Sprintf("the data cannot be used: %v", err)) { // nobody is there to choose, and the release before could use it
			return nil, actReboot
		}
		switch how := m.emergencyBoot(ctx, err); how {
		case actReboot, actPowerOff:
			return nil, how
		case actReset:
			m.reset(m.dog)
		case actReadOnly, actRetry, actRestart: // the first two are done, or are done now
		}
	}
}

// findData gives the data partition of the disk that the system partition is on, as every use of it must: a second disk with an image of
// Holdfast, in a reader or on a stick, is not this box's.
func (m *machine) findData(ctx context.Context, sys string) (disk.Partition, error) {
	return disk.Await(ctx, sys, disk.DataName, m.espDisk)
}

// mountData does so.
func (m *machine) mountData(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, diskMax)
	defer cancel()
	p, err := m.findData(ctx, sysDir)
	if err != nil {
		return err
	}
	d := &dataPartition{Partition: p}
	if err := m.check(d); err != nil {
		m.change(func(s *status.Status) { s.Data = status.Data{Device: p.Device, Bytes: p.Bytes} })
		return err
	}
	if err := m.growPartition(d); err != nil { // what is there can still be used
		m.log.Error("the data partition does not grow", "err", err)
	}
	if err := os.MkdirAll(dataDir, 0o755); err != nil && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("mount: %w", err)
	}
	if err := unix.Mount(device(p.Device), dataDir, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mount %s: %w; the kernel's log on the console says more", p.Device, err)
	}
	if err := os.Chmod(dataDir, 0o700); err != nil {
		return errors.Join(fmt.Errorf("mount: %w", err), unix.Unmount(dataDir, 0))
	}
	if d.Bytes-d.checked.Bytes >= growMin {
		if err := disk.GrowExt4(dataDir, d.Bytes); err != nil {
			m.log.Error("the data's file system does not grow", "err", err)
		} else {
			d.grown = d.Bytes - d.checked.Bytes
		}
	}
	m.data = d
	m.log.Info("the data is mounted", "device", p.Device, "bytes", d.Bytes, "recovered", d.checked.Recover, "grown", d.grown)
	m.change(func(s *status.Status) {
		s.Data = status.Data{Device: p.Device, Bytes: d.Bytes, Recovered: d.checked.Recover, Grown: d.grown, Errors: d.checked.Errors}
	})
	m.showCrashes()
	return nil
}

func (m *machine) check(d *dataPartition) error {
	f, err := os.Open(device(d.Device))
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	d.checked, err = disk.CheckExt4(f, d.Bytes)
	return err
}

// synced writes in order: what was written before is on the disk before what comes next.
type synced struct{ *os.File }

func (s synced) WriteAt(b []byte, at int64) (int, error) {
	n, err := s.File.WriteAt(b, at)
	return n, errors.Join(err, s.Sync())
}

// growPartition gives the data partition all that is behind it on its disk. A power cut at any write leaves one of the two tables whole, and the
// kernel takes that (it is started with "gpt").
func (m *machine) growPartition(d *dataPartition) error {
	size, err := disk.DiskBytes(sysDir, d.Disk)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(device(d.Disk), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("grow: %w", err)
	}
	defer f.Close()
	p, grown, err := gpt.Grow(synced{f}, size, disk.DataName)
	if err != nil || !grown && p.Bytes() <= d.Bytes {
		return err
	}
	if err := disk.Tell(f, d.Number, p.Offset(), p.Bytes()); err != nil {
		return err
	}
	d.Bytes = p.Bytes()
	return nil
}

// secret says whether a file of a box must not be in a copy of its data: keys, also the next one (coord/trust, NextDir), the setup code and the
// token; and what a power cut left of their making.
func secret(name string) bool {
	return begins(name, "identity.key", "identity.tpm", setupcode.File, joinTokenFile)
}

func begins(name string, with ...string) bool {
	name = strings.TrimPrefix(filepath.Base(name), ".")
	return slices.ContainsFunc(with, func(s string) bool { return strings.HasPrefix(name, s) })
}

// eraseSecrets overwrites and removes them, wherever they are below dir, and the key that the data is encrypted with, which is of use to
// who has its passphrase.
func eraseSecrets(log *slog.Logger, dir string) {
	_ = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !secret(at) && !begins(at, "encryption.json") {
			return nil // what cannot be read cannot be erased either
		}
		if err := erase(at); err != nil {
			log.Error("a secret is not overwritten", "err", err)
		}
		return nil
	})
}

// reset makes the data partition anew, and forgets what the boot medium's file said. Errors are shown: the machine starts again and
// says what it finds.
func (m *machine) reset(dog *dog) {
	defer m.feedFor(dog, resetMax)()
	m.log.Warn("factory reset: everything on this box is removed")
	eraseSecrets(m.log, dataDir)
	p := disk.Partition{}
	if m.data != nil {
		p = m.data.Partition
	}
	unmount(m.log, dataDir)
	m.data = nil
	if m.esp != "" {
		if err := os.Remove(filepath.Join(m.esp, appliedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.log.Error("the boot medium keeps its settings", "err", err)
		}
	}
	if p.Device == "" {
		ctx, cancel := context.WithTimeout(context.Background(), diskMax)
		defer cancel()
		var err error
		if p, err = m.findData(ctx, sysDir); err != nil {
			m.log.Error("no data partition to reset", "err", err)
			return
		}
	}
	err := format(device(p.Device), p.Bytes)
	if errors.Is(err, unix.EBUSY) { // something still uses it: no new file system may come under it
		err = empty(dataDir)
	}
	if err != nil {
		m.log.Error("factory reset failed", "err", err)
	}
}

// empty removes what is in a directory.
func empty(dir string) error {
	list, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range list {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// format makes an empty file system; it grows to its partition when it is mounted.
func format(dev string, size int64) error {
	f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0) // the kernel refuses one that is mounted
	if err != nil {
		return fmt.Errorf("format: %w", err)
	}
	defer f.Close()
	// A card that can forget does: what was there cannot be read any more. One that cannot says so, and is written over where it counts.
	var all [2]uint64
	all[1] = uint64(size)
	_ = discard(f, &all)
	return errors.Join(makeExt4(f, size), f.Sync())
}
