package update

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/holdfast-edge/holdfast/firmware/slots"
)

// Machine is what an update needs of the machine.
type Machine struct {
	// ESP is where the system partition is mounted, Slot which of its slots runs.
	ESP  string
	Slot slots.Slot
	// Board and Arch are what bundles must be for.
	Board, Arch string
	// Cannot, if not empty, is why this machine takes no updates.
	Cannot string
	// Reboot starts the machine again. It returns when that was asked for.
	Reboot func(ctx context.Context) error
}

const (
	// applianceESP is where the supervisor mounts the system partition.
	applianceESP = "/boot"
	releaseFile  = "/etc/holdfast/release"
	cmdlineFile  = "/proc/cmdline"
)

// Place says how a machine is, where it does not say so itself. All may be empty.
type Place struct {
	ESP, Slot, Board string
	// Reboot is a program and its arguments.
	Reboot []string
}

// Look finds out what the machine is.
func Look(p Place) Machine {
	m := Machine{ESP: p.ESP, Slot: slots.Slot(p.Slot), Board: p.Board, Arch: runtime.GOARCH, Reboot: askInit}
	if len(p.Reboot) > 0 {
		m.Reboot = func(ctx context.Context) error {
			if out, err := exec.CommandContext(ctx, p.Reboot[0], p.Reboot[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("update: %s: %w: %.200s", p.Reboot[0], err, out)
			}
			return nil
		}
	}
	if m.Slot == "" {
		b, err := os.ReadFile(cmdlineFile)
		if err == nil {
			m.Slot, _ = slots.Running(string(b))
		}
	}
	if m.Board == "" {
		m.Board = boardOf(releaseFile)
	}
	switch {
	case m.Slot != slots.A && m.Slot != slots.B:
		m.Cannot = "this machine was not started from a slot of Holdfast, so it cannot be updated like this; docs/update.md"
		return m
	case m.ESP == "":
		m.ESP = applianceESP
	}
	if _, err := slots.Open(m.ESP); err != nil {
		m.Cannot = err.Error()
	}
	return m
}

// boardOf reads what an image says of itself: lines like board = "qemu-virt".
func boardOf(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), "="); ok && strings.TrimSpace(key) == "board" {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// askInit asks PID 1 as the kernel does for Ctrl+Alt+Del (kernel/reboot.c, ctrl_alt_del): ours and systemd stop in order then, and start again.
func askInit(context.Context) error {
	if err := syscall.Kill(1, syscall.SIGINT); err != nil {
		return fmt.Errorf("update: ask PID 1 to start the machine again: %w", err)
	}
	return nil
}
