package box

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"github.com/holdfast-edge/holdfast/hal/work"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
)

// button is a push button.
type button interface {
	// Pressed says whether it is held down now.
	Pressed() (bool, error)
	io.Closer
}

// openButton opens the setup button of the profile: its line, or, where a kernel driver holds
// that, the key that the driver reports.
func openButton(m *work.Machine) (button, error) {
	if m.Board.Pin[work.SetupPin].Input {
		return openKeys("/")
	}
	pin, err := linux.NewPins(m.Root, &m.Board).ByRole(work.SetupPin)
	if err != nil {
		return nil, err
	}
	return newLineButton(pin)
}

// lineButton is a button on a GPIO line.
type lineButton struct{ pin gpio.PinIO }

func newLineButton(pin gpio.PinIO) (*lineButton, error) {
	// Polling needs no edges, which lines behind an expander do not have.
	if err := pin.In(gpio.PullNoChange, gpio.NoEdge); err != nil {
		return nil, fmt.Errorf("box: setup button: %w", err)
	}
	return &lineButton{pin}, nil
}

func (l *lineButton) Pressed() (bool, error) { return l.pin.Read() == gpio.High, nil }
func (l *lineButton) Close() error           { return l.pin.Halt() }

// keysDriver is the driver that makes keys of lines (Documentation/devicetree/bindings/input/gpio-keys.yaml).
const keysDriver = "gpio-keys"

// keyButton is the buttons of a gpio-keys device, which boards have one of: any of them counts.
type keyButton struct{ f *os.File }

// openKeys finds the device by its driver below root.
func openKeys(root string) (*keyButton, error) {
	links, err := filepath.Glob(filepath.Join(root, "sys/class/input/event*/device/device/driver"))
	if err != nil {
		return nil, fmt.Errorf("box: setup button: %w", err)
	}
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil || filepath.Base(to) != keysDriver {
			continue
		}
		event := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(l))))
		f, err := os.Open(filepath.Join(root, "dev/input", event))
		if err != nil {
			return nil, fmt.Errorf("box: setup button: %w", err)
		}
		return &keyButton{f}, nil
	}
	return nil, fmt.Errorf("box: setup button: no input device of %s: %w", keysDriver, hal.ErrGone)
}

// keyBytes holds a bit for each key code (KEY_MAX 0x2ff, linux/input-event-codes.h).
const keyBytes = 0x300 / 8

// getKeys is EVIOCGKEY(keyBytes) (linux/input.h): which keys are down now.
const getKeys = 2<<30 | keyBytes<<16 | 'E'<<8 | 0x18

func (k *keyButton) Pressed() (bool, error) {
	var down [keyBytes]byte
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, k.f.Fd(), getKeys, uintptr(unsafe.Pointer(&down))); errno != 0 {
		return false, fmt.Errorf("box: setup button: %w", errno)
	}
	return down != [keyBytes]byte{}, nil
}

func (k *keyButton) Close() error { return k.f.Close() }
