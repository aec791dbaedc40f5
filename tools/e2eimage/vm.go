package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// machineKind is what QEMU is told to be.
type machineKind struct {
	arch, profile string
	program       string
	args          []string
	devices       func(v *vm) []string
	card          string        // its network card, in the configuration
	watchdog      string        // as the configuration has it
	upload        time.Duration // how long a bundle may take to it
	eeprom        bool          // QEMU has not what starts this machine: this program is that
}

func kindOf(f flags) (machineKind, error) {
	if f.pi {
		return raspberry(), nil
	}
	uefi := machineKind{card: "eth0", watchdog: "2m", upload: 5 * time.Minute, devices: pci}
	switch f.arch {
	case "amd64":
		args := []string{"-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"}
		if f.kvm {
			args = append(args, "-accel", "kvm", "-cpu", "host")
		} else {
			args = append(args, "-accel", "tcg,thread=multi", "-cpu", "max")
		}
		uefi.arch, uefi.profile, uefi.program, uefi.args = "amd64", "generic-amd64", "qemu-system-x86_64", args
		return uefi, nil
	case "arm64":
		uefi.arch, uefi.profile, uefi.program = "arm64", "qemu-virt", "qemu-system-aarch64"
		uefi.args = []string{"-M", "virt,gic-version=3", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi", "-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"}
		return uefi, nil
	}
	return machineKind{}, fmt.Errorf("no machine of QEMU for %s: amd64 or arm64", f.arch)
}

// pci are the devices of a machine that has PCI.
func pci(v *vm) []string {
	return []string{
		"-smp", "2", "-m", "768", "-serial", "chardev:s0",
		"-drive", "if=none,id=d0,format=raw,cache=writeback,file=nbd:unix:" + v.socket(), "-device", "virtio-blk-pci,drive=d0,bootindex=0",
		"-netdev", "tap,id=n0,ifname=" + v.tap + ",script=no,downscript=no", "-device", "virtio-net-pci,netdev=n0,romfile=,mac=" + v.mac,
		"-device", "i6300esb", "-action", "watchdog=reset", "-device", "virtio-rng-pci",
	}
}

// vm is a machine with its disk.
type vm struct {
	kind     machineKind
	name     string
	tap      string
	mac      string
	address  string // its address on the bridge
	dir      string
	disk     *disk
	listener net.Listener
	starts   int

	mu    sync.Mutex
	cmd   *exec.Cmd     // nil: its power is off
	done  chan struct{} // closed when nothing of it runs any more
	boots atomic.Int64  // kernels that this program, as the EEPROM, has started
	said  int           // how long the console's log was when it started the last one
}

func newVM(kind machineKind, dir string, n int) (*vm, error) {
	v := &vm{kind: kind, name: fmt.Sprintf("image-%d", n), tap: fmt.Sprintf("tap%d", n), mac: fmt.Sprintf("52:54:00:77:00:%02x", n+1), address: fmt.Sprintf("%s%d", prefix, 21+n), dir: dir}
	var err error
	if v.disk, err = openDisk(v.diskFile()); err != nil {
		return nil, err
	}
	if err := os.Remove(v.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	v.listener, err = v.disk.serve(v.socket())
	return v, err
}

func (v *vm) diskFile() string { return filepath.Join(v.dir, v.name+".img") }
func (v *vm) socket() string   { return filepath.Join(v.dir, v.name+".nbd") }
func (v *vm) serial() string   { return filepath.Join(v.dir, v.name+".serial.log") }

// start turns the power on.
func (v *vm) start() error {
	v.disk.powerOn()
	v.starts++
	cmd, err := v.qemu(false)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	v.mu.Lock()
	v.cmd, v.done = cmd, done
	v.mu.Unlock()
	go v.running(cmd, done)
	return nil
}

// running waits for QEMU's end. A machine without an EEPROM of its own is started again then, unless its power is off.
func (v *vm) running(cmd *exec.Cmd, done chan struct{}) {
	defer close(done)
	for {
		_ = cmd.Wait() // killed, or a machine that starts again
		if !v.kind.eeprom {
			return
		}
		v.mu.Lock()
		if v.cmd == nil {
			v.mu.Unlock()
			return
		}
		next, err := v.qemu(v.triesOnce())
		if err != nil {
			fmt.Printf("%s does not start again: %v\n", v.name, err)
			v.mu.Unlock()
			return
		}
		cmd, v.cmd = next, next
		v.mu.Unlock()
	}
}

// qemu starts QEMU. once is for a machine whose EEPROM this program plays.
func (v *vm) qemu(once bool) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(v.dir, v.name+".qemu.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := append(v.kind.args[:len(v.kind.args):len(v.kind.args)],
		"-name", v.name, "-nodefaults", "-display", "none", "-monitor", "none", "-chardev", "file,id=s0,append=on,path="+v.serial())
	args = append(args, v.kind.devices(v)...)
	if v.kind.eeprom {
		more, err := v.boot(once)
		if err != nil {
			return nil, err
		}
		args = append(args, more...)
		v.boots.Add(1)
		v.said = len(v.console())
	}
	cmd := exec.Command(v.kind.program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

// cut ends the power: QEMU is killed, and the disk keeps what it likes of what was not flushed.
func (v *vm) cut(r *rand.Rand) error {
	v.mu.Lock()
	if v.cmd == nil {
		v.mu.Unlock()
		return nil
	}
	err := v.disk.powerOff(r)
	_ = v.cmd.Process.Kill() // it may have ended by itself
	v.cmd = nil
	v.mu.Unlock()
	<-v.done
	return err
}

func (v *vm) close() error {
	err := v.cut(rand.New(rand.NewPCG(1, 1)))
	err = errors.Join(err, v.listener.Close())
	v.disk.wait.Wait()
	return errors.Join(err, v.disk.file.Close())
}

// console is the last of what the machine wrote to its serial port.
func (v *vm) console() string {
	b, err := os.ReadFile(v.serial())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// kernels is how often a kernel has started.
func (v *vm) kernels() int {
	if v.kind.eeprom {
		return int(v.boots.Load())
	}
	return strings.Count(v.console(), "EFI stub: Loaded initrd")
}

// answers waits until the machine's console answers over the network.
func (v *vm) answers(ctx context.Context, most time.Duration) (time.Duration, error) {
	began := time.Now()
	return time.Since(began), until(ctx, most, func() error {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(v.address, "8080"), 2*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// addr is where a box with an id has its console on this machine, as --addr has it.
func (v *vm) addr(id string) string {
	return "https://" + id + "@" + net.JoinHostPort(v.address, "8080")
}

// box asks the machine's coordinator, which has an id.
func (v *vm) box(id string) (*remote.Box, error) {
	return remote.New(v.addr(id))
}

// until asks again and again; the error is the last one.
func until(ctx context.Context, most time.Duration, f func() error) error {
	ctx, stop := context.WithTimeout(ctx, most)
	defer stop()
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", most, err)
		case <-t.C:
		}
	}
}

func run(ctx context.Context, args ...string) (string, error) { return runWith(ctx, "", args...) }

// runWith runs a program with something to read, and says in the error what it printed.
func runWith(ctx context.Context, in string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(in)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", strings.Join(args[:min(3, len(args))], " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func itoa(n int) string { return strconv.Itoa(n) }
