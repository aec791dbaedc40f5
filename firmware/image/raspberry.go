package image

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"

	"github.com/holdfast-edge/holdfast/firmware/image/fat"
	"github.com/holdfast-edge/holdfast/firmware/image/gomod"
	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

// The disk of a Raspberry Pi. Its loader knows partitions by their numbers, so a slot is one (firmware/slots, tryboot.go). Each has room for two
// releases of the largest size: a parcel, the same unpacked, and the initial RAM disk.
const (
	autobootBytes = 48 * mib
	slotBytes     = 272 * mib
	// raspberryBytes is the size of an image, and of the smallest medium.
	raspberryBytes = mib + autobootBytes + 2*slotBytes + dataBytes + mib
	// autobootClusterBytes makes a FAT32 of 48 MiB possible.
	autobootClusterBytes = 512
)

// raspberryConfig is config.txt (Raspberry Pi documentation, "config.txt"): the same for each slot, since the loader looks for what it names in
// the partition that it started from.
const raspberryConfig = `# Written by Holdfast, in both slots; a change is gone with the next update.
arm_64bit=1
kernel=` + raspberryKernel + `
initramfs ` + slots.Initrd + ` followkernel
cmdline=` + slots.CmdlineFile + `
enable_uart=1
disable_splash=1
dtparam=watchdog=on
`

const raspberryKernel = "kernel8.img"

// DiskBytes is the size of an image with the release, and of the smallest medium.
func (r *Release) DiskBytes() int64 {
	if r.LoaderPath == "" {
		return raspberryBytes
	}
	return Bytes
}

// getRaspberryKernel makes the parcel of a Raspberry Pi: kernel, device trees and overlays of one module, and of another what starts them on a Pi 4; a
// Pi 5 has that in its EEPROM.
func getRaspberryKernel(ctx context.Context, o *Options, _ Profile) (kernel, error) {
	linux, start := gomod.Pinned()
	linux, start = cmp.Or(o.Linux, linux), cmp.Or(o.Boot, start)
	files, err := gomod.Files(ctx, &o.Packages.Store, o.Proxy, linux, func(name string) bool {
		return name == "vmlinuz" || strings.HasPrefix(name, "lib/modules/") || path.Dir(name) == "overlays" || forPi45(name)
	})
	if err != nil {
		return kernel{}, err
	}
	k, parcel, packed := kernel{}, map[string][]byte{}, map[string][]byte{}
	if k.built, err = linux.Time(); err != nil {
		return kernel{}, err
	}
	var builtin []byte
	for name, body := range files {
		parts := strings.SplitN(name, "/", 4) // lib, modules, RELEASE, rest
		switch {
		case name == "vmlinuz":
			// The loader unpacks gzip ("arm_64bit"): a bundle is half as large.
			if parcel[raspberryKernel], err = gzipped(body); err != nil {
				return kernel{}, err
			}
		case parts[0] != "lib":
			parcel[name] = body
		case len(parts) < 4:
		case parts[3] == "modules.builtin":
			k.release, builtin = parts[2], body
		case strings.HasSuffix(name, ".ko"):
			packed[parts[3]] = body
		}
	}
	if parcel[raspberryKernel] == nil || k.release == "" || len(packed) == 0 {
		return kernel{}, fmt.Errorf("%w: %v has no kernel or no modules", gomod.ErrModule, linux)
	}
	boot, err := gomod.Files(ctx, &o.Packages.Store, o.Proxy, start, func(name string) bool {
		return name == "start4.elf" || name == "fixup4.dat" || name == "LICENSE.broadcom"
	})
	if err != nil {
		return kernel{}, err
	}
	if len(boot) != 3 {
		return kernel{}, fmt.Errorf("%w: %v has no start4.elf, fixup4.dat or its licence", gomod.ErrModule, start)
	}
	maps.Copy(parcel, boot)
	parcel[slots.ConfigFile] = []byte(raspberryConfig)
	var b bytes.Buffer
	if err := slots.WriteParcel(&b, parcel); err != nil {
		return kernel{}, err
	}
	k.image, k.modules = b.Bytes(), newModules(packed, builtin)
	return k, nil
}

// forPi45 says whether a file is a device tree of a board with a BCM2711 or BCM2712, or the licence of the kernel.
func forPi45(name string) bool {
	return strings.HasSuffix(name, ".dtb") && (strings.HasPrefix(name, "bcm2711-") || strings.HasPrefix(name, "bcm2712")) || name == "LICENSE.linux"
}

func gzipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(b)
		err = cmp.Or(err, w.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return out.Bytes(), nil
}

// writeRaspberry writes an image as Write does: entry is that of slot a.
func (r *Release) writeRaspberry(out io.WriterAt, manifest, provisioning []byte, entry fat.File) error {
	first := []fat.File{
		{Name: slots.AutobootFile, Body: slots.Autoboot(slots.A)},
		entry,
		{Name: string(slots.A), Folder: true},
		{Name: string(slots.B), Folder: true},
	}
	if provisioning != nil {
		first = append(first, fat.File{Name: Provisioning, Body: provisioning})
	}
	mark := func(s slots.Slot) fat.File { return fat.File{Name: slots.MarkFile, Body: []byte(s + "\n")} }
	a := []fat.File{
		mark(slots.A),
		{Name: slots.Kernel, Body: r.Kernel},
		{Name: slots.Initrd, Body: r.Initrd},
		{Name: slots.Manifest, Body: manifest},
		{Name: slots.CmdlineFile, Body: []byte(slots.Options(slots.A, r.Cmdline) + "\n")},
	}
	err := slots.ReadParcel(bytes.NewReader(r.Kernel), int64(len(r.Kernel)), func(name string, body []byte) error {
		a = append(a, fat.File{Name: name, Body: body})
		return nil
	})
	if err != nil {
		return err
	}
	slot := func(s slots.Slot, files []fat.File) fatPartition {
		letter := strings.ToUpper(string(s))
		return fatPartition{name: SlotName + letter, label: "HOLDFAST-" + letter, kind: gpt.Basic(), bytes: slotBytes, files: files}
	}
	return disk(out, raspberryBytes, r.Built, []fatPartition{
		{name: ESPName, label: espLabel, kind: gpt.Basic(), bytes: autobootBytes, clusterBytes: autobootClusterBytes, files: first},
		slot(slots.A, a), slot(slots.B, []fat.File{mark(slots.B)}),
	})
}
