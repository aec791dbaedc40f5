package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Where things are on an appliance.
const (
	dataDir = "/var/lib/holdfast"
	espDir  = "/boot"
	runDir  = "/run/holdfast"
)

// mount is one line of what is mounted, in this order.
type mount struct {
	source, at, kind string
	flags            uintptr
	data             string
	// need is a path without which there is nothing to mount.
	need string
}

// early is what a kernel has without any disk.
func early() []mount {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return []mount{
		{source: "proc", at: "/proc", kind: "proc", flags: quiet},
		{source: "sysfs", at: "/sys", kind: "sysfs", flags: quiet},
		{source: "devtmpfs", at: "/dev", kind: "devtmpfs", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "mode=0755"},
		{source: "devpts", at: "/dev/pts", kind: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "mode=0620,ptmxmode=0666"},
		{source: "tmpfs", at: "/run", kind: "tmpfs", flags: quiet, data: "mode=0755,size=32m"},
		{source: "tmpfs", at: "/tmp", kind: "tmpfs", flags: quiet, data: "mode=1777,size=64m"},
		{source: "cgroup2", at: "/sys/fs/cgroup", kind: "cgroup2", flags: quiet, need: "/sys/fs/cgroup"},
		{source: "securityfs", at: "/sys/kernel/security", kind: "securityfs", flags: quiet, need: "/sys/kernel/security"},
	}
}

// efivars is where UEFI keeps its variables; its module may have to be loaded before.
func efivars() mount {
	return mount{
		source: "efivarfs", at: "/sys/firmware/efi/efivars", kind: "efivarfs",
		flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, need: "/sys/firmware/efi/efivars",
	}
}

// do mounts. What is mounted already, by the kernel or by who started it before, stays.
func (m *mount) do() error {
	if m.need != "" {
		if _, err := os.Stat(m.need); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err := os.MkdirAll(m.at, 0o755); err != nil && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("mount %s: %w", m.at, err)
	}
	if err := unix.Mount(m.source, m.at, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s: %w", m.at, err)
	}
	return nil
}

// mountEarly mounts what there is. One that fails is said, and the others go on: a machine without cgroups can still say so.
func mountEarly(log *slog.Logger, all []mount) {
	for i := range all {
		if err := all[i].do(); err != nil {
			log.Error("not mounted", "err", err)
		}
	}
}

// linkRoot puts the files that name resolution wants in a root that will be read-only: links to what changes.
func linkRoot(root string) error {
	var errs []error
	for _, l := range [][2]string{{"/run/resolv.conf", "etc/resolv.conf"}, {"/run/hosts", "etc/hosts"}, {"/proc/self/mounts", "etc/mtab"}} {
		at := filepath.Join(root, l[1])
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := os.Symlink(l[0], at); err != nil && !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sealRoot makes the root read-only: what runs from here on changes nothing in it.
func sealRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("root: read-only: %w", err)
	}
	return nil
}

// unmount lets go of what is mounted at, as well as it can: busy is made read-only, so that what is on the disk is whole.
func unmount(log *slog.Logger, at ...string) {
	for _, m := range slices.Backward(at) {
		err := unix.Unmount(m, 0)
		if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // it was not mounted
			continue
		}
		log.Warn("still in use at the end", "mount", m, "err", err)
		if err := unix.Mount("", m, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			log.Error("cannot be made read-only", "mount", m, "err", err)
		}
	}
}
