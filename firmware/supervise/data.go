package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
	"github.com/holdfast-edge/holdfast/firmware/supervise/disk"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"golang.org/x/sys/unix"
)

const (
	// diskMax is how long a disk may take to show up: USB takes seconds.
	diskMax = 20 * time.Second
	// growMin is what is not worth growing for.
	growMin = 4 << 20
	sysDir  = "/sys"
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
	p, err := disk.Await(ctx, sysDir, disk.ESPName, "")
	if err != nil {
		m.log.Error("no system partition", "err", err)
		return
	}
	if err := os.MkdirAll(espDir, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		m.log.Error("no system partition", "err", err)
		return
	}
	if err := unix.Mount(device(p.Device), espDir, "vfat", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "umask=0077"); err != nil {
		m.log.Error("the system partition is not mounted", "device", p.Device, "err", err)
		return
	}
	m.esp = espDir
	m.log.Info("the system partition is mounted", "device", p.Device)
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
		switch how := m.emergencyBoot(ctx, err); how {
		case actReboot, actPowerOff:
			return nil, how
		case actReset:
			m.reset()
		case actReadOnly, actRetry, actRestart: // the first two are done, or are done now
		}
	}
}

// mountData does so.
func (m *machine) mountData(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, diskMax)
	defer cancel()
	prefer := ""
	if list, err := disk.Find(sysDir, disk.ESPName); err == nil && len(list) > 0 {
		prefer = list[0].Disk
	}
	p, err := disk.Await(ctx, sysDir, disk.DataName, prefer)
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

// secrets are the files of a box that must not be found on a disk that was given away.
func secrets(dir string) []string {
	return []string{
		filepath.Join(dir, "identity.key"), filepath.Join(dir, "identity.tpm"), filepath.Join(dir, "setup.code"), tokenFile(dir),
	}
}

// reset makes the data partition anew, and forgets what the boot medium's file said. Errors are shown: the machine starts again and
// says what it finds.
func (m *machine) reset() {
	m.log.Warn("factory reset: everything on this box is removed")
	for _, f := range secrets(dataDir) {
		if err := erase(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.log.Error("a secret is not overwritten", "err", err)
		}
	}
	unmount(m.log, dataDir)
	m.data = nil
	if m.esp != "" {
		if err := os.Remove(filepath.Join(m.esp, appliedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.log.Error("the boot medium keeps its settings", "err", err)
		}
	}
	list, err := disk.Find(sysDir, disk.DataName)
	if err != nil || len(list) == 0 {
		m.log.Error("no data partition to reset", "err", err)
		return
	}
	if err := format(device(list[0].Device), list[0].Bytes); err != nil {
		m.log.Error("factory reset failed", "err", err)
	}
}

// format makes an empty file system; it grows to its partition when it is mounted.
func format(dev string, size int64) error {
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
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
