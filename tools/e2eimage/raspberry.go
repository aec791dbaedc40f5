package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/image"
	"github.com/holdfast-edge/holdfast/firmware/image/debian"
	"github.com/holdfast-edge/holdfast/firmware/image/gomod"
	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

// A Raspberry Pi's loader is in its EEPROM, which QEMU has not: it starts a kernel that it is given. So this program plays the EEPROM. It ends
// QEMU when the machine starts again (-no-reboot), reads autoboot.txt off the card, goes to the partition that it names, and starts QEMU with
// what the config.txt there names. QEMU's newest is a Pi 3: the device tree is that of one, the kernel and all else are the card's.
const (
	piTree    = "bcm2710-rpi-3-b.dtb"
	piTryboot = "reboot: Restarting system with command '" + slots.TryOnce + "'" // what the kernel tells the EEPROM
)

func raspberry() machineKind {
	return machineKind{
		arch: "arm64", profile: image.RaspberryPi, program: "qemu-system-aarch64",
		// QEMU resets this machine as soon as its watchdog is armed. The card's name depends on who makes it. Its USB brings 75 KB in a second.
		card: "*", watchdog: "0s", upload: 20 * time.Minute, eeprom: true,
		args: []string{"-M", "raspi3b", "-no-reboot"},
		devices: func(v *vm) []string {
			return []string{
				"-serial", "null", "-serial", "chardev:s0",
				// A card has no command to flush: what it has taken it keeps, but for the write in which its power goes.
				"-drive", "if=sd,format=raw,cache=writethrough,file=nbd:unix:" + v.socket(),
				"-netdev", "tap,id=n0,ifname=" + v.tap + ",script=no,downscript=no", "-device", "usb-net,netdev=n0,mac=" + v.mac,
			}
		},
	}
}

// raspberryParts gets the modules that the image is made from, and the device tree of QEMU's machine into dir. It returns the cache, and the proxy that
// they came from.
func raspberryParts(ctx context.Context, dir string) (debian.Store, string, error) {
	s, err := cache()
	if err != nil {
		return s, "", err
	}
	proxy, err := run(ctx, "go", "env", "GOPROXY")
	if err != nil {
		return s, "", err
	}
	linux, _ := gomod.Pinned()
	files, err := gomod.Files(ctx, &s.Store, proxy, linux, func(name string) bool { return name == piTree })
	if err == nil && files[piTree] == nil {
		err = fmt.Errorf("%v has no %s", linux, piTree)
	}
	if err != nil {
		return s, "", err
	}
	return s, proxy, os.WriteFile(filepath.Join(dir, piTree), files[piTree], 0o644)
}

// boot plays the EEPROM: what QEMU starts with, from the card. once says that the machine told it to try the other slot.
func (v *vm) boot(once bool) ([]string, error) {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	if err := v.disk.flush(); err != nil { // what the disk has in its cache it has: this was no power cut
		return nil, err
	}
	table, err := gpt.Read(v.disk.file, v.disk.size)
	if err != nil {
		return nil, err
	}
	text, err := v.file(table, 1, slots.AutobootFile)
	if err != nil {
		return nil, err
	}
	section := "[all]"
	if once {
		section = "[tryboot]"
	}
	partition := 0
	if _, err := fmt.Sscan(setting(text, section, "boot_partition="), &partition); err != nil {
		return nil, fmt.Errorf("autoboot.txt %q: %w", text, err)
	}
	config, err := v.file(table, partition, slots.ConfigFile)
	if err != nil {
		return nil, err
	}
	ram, how, ok := strings.Cut(setting(config, "", "initramfs "), " ")
	if !ok || how != "followkernel" {
		return nil, fmt.Errorf("config.txt %q: which RAM disk, and where", config)
	}
	line, err := v.file(table, partition, setting(config, "", "cmdline="))
	if err != nil {
		return nil, err
	}
	// The loader gives the smaller of the two UARTs that name where the other one has Bluetooth, which is all but a Pi 5.
	args := []string{"-dtb", filepath.Join(v.dir, piTree), "-append", strings.ReplaceAll(strings.TrimSpace(string(line)), "console=serial0", "8250.nr_uarts=1 console=ttyS0")}
	for option, name := range map[string]string{"-kernel": setting(config, "", "kernel="), "-initrd": ram} {
		b, err := v.file(table, partition, name)
		to := filepath.Join(v.dir, v.name+option)
		if err = errors.Join(err, os.WriteFile(to, b, 0o644)); err != nil {
			return nil, err
		}
		args = append(args, option, to)
	}
	return args, nil
}

// setting is the rest of the line, in a section of a file as the loader reads them, that begins so. What is before the first section is in "".
func setting(text []byte, section, begins string) string {
	in := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = line
		} else if rest, ok := strings.CutPrefix(line, begins); ok && in == section {
			return rest
		}
	}
	return ""
}

// file is a file of the card's partition with a number, as mtools read it.
func (v *vm) file(table *gpt.Table, partition int, name string) ([]byte, error) {
	if partition < 1 || partition > len(table.Partitions) || name == "" {
		return nil, fmt.Errorf("no file %q in partition %d", name, partition)
	}
	out, err := exec.Command("mtype", "-i", fmt.Sprintf("%s@@%d", v.diskFile(), table.Partitions[partition-1].Offset()), "::"+name).Output()
	if err != nil {
		err = fmt.Errorf("%s of partition %d: %w", name, partition, err)
	}
	return out, err
}

// triesOnce says whether the machine told the EEPROM, when it last started again, to try the other slot.
func (v *vm) triesOnce() bool {
	all := v.console()
	return strings.Contains(all[min(v.said, len(all)):], piTryboot)
}
