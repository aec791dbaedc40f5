package linux

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
)

// Dog is a watchdog that is armed.
type Dog struct{ f *os.File }

var _ hal.Dog = (*Dog)(nil)

// Arm opens the watchdog w, which starts it, and asks for a timeout; the driver's own is
// returned, which may be another. From here on the machine resets unless Kick comes within it.
// It refuses a watchdog that is active already: somebody else kicks it.
func (r *Root) Arm(w hal.Watchdog, timeout time.Duration) (*Dog, time.Duration, error) {
	if w.State == "active" {
		return nil, 0, fmt.Errorf("linux: watchdog %s: is active: somebody else holds it: %w", w.Name, unix.EBUSY)
	}
	f, err := r.root.OpenFile("dev/"+w.Name, os.O_WRONLY, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("linux: watchdog: %w", err)
	}
	d := &Dog{f}
	fd := int(f.Fd())
	sec := int(timeout / time.Second)
	if err := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, sec); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("linux: watchdog %s: timeout of %d s: %w", w.Name, sec, err), d.Disarm())
	}
	got, err := unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("linux: watchdog %s: %w", w.Name, err), d.Disarm())
	}
	return d, time.Duration(got) * time.Second, nil
}

// Kick is hal.Dog's.
func (d *Dog) Kick() error {
	// Any character but V kicks (Documentation/watchdog/watchdog-api.rst).
	if _, err := d.f.Write([]byte{0}); err != nil {
		return fmt.Errorf("linux: watchdog: kick: %w", err)
	}
	return nil
}

// Disarm is hal.Dog's: it writes the magic character and closes. With nowayout the driver goes on.
func (d *Dog) Disarm() error {
	_, err := d.f.Write([]byte("V"))
	if err = errors.Join(err, d.f.Close()); err != nil {
		return fmt.Errorf("linux: watchdog: disarm: %w", err)
	}
	return nil
}

// LED is the light of a role.
type LED struct {
	root *Root
	at   string
	max  int
	// What the light did when it was found, for Release.
	trigger    string
	brightness string
	settings   [][2]string // of the trigger: file and value
}

// triggerFiles are the settings of triggers that have some (Documentation/ABI/testing/sysfs-class-led-trigger-*), in
// an order in which they can be written: a trigger that is set anew begins with its own defaults.
var triggerFiles = []string{"delay_on", "delay_off", "interval", "device_name", "link", "tx", "rx", "invert"}

// LED finds the light of a role: the first of the profile's names that exists. The kernel's
// trigger (heartbeat and the like) keeps it until Set.
func (r *Root) LED(l boards.LED) (*LED, error) {
	for _, name := range l.Names {
		if err := checkName(hal.Target{Name: name}); err != nil {
			return nil, err
		}
		at := "sys/class/leds/" + name + "/"
		if r.exists(at + "brightness") {
			found := &LED{root: r, at: at, max: max(1, r.number(at+"max_brightness", 1)), trigger: selected(r.word(at + "trigger")), brightness: r.word(at + "brightness")}
			for _, name := range triggerFiles {
				if v := r.word(at + name); v != "" {
					found.settings = append(found.settings, [2]string{name, v})
				}
			}
			return found, nil
		}
	}
	return nil, fmt.Errorf("linux: LED %v: %w", l.Names, hal.ErrGone)
}

// Set switches the light on or off, and its trigger off.
func (l *LED) Set(on bool) error {
	if l.root.exists(l.at + "trigger") {
		if err := l.root.write(l.at+"trigger", "none"); err != nil {
			return fmt.Errorf("linux: LED: %w", err)
		}
	}
	v := 0
	if on {
		v = l.max
	}
	if err := l.root.write(l.at+"brightness", strconv.Itoa(v)); err != nil {
		return fmt.Errorf("linux: LED: %w", err)
	}
	return nil
}

// Blink lets the kernel blink the light: no program has to be awake for it.
func (l *LED) Blink(on, off time.Duration) error {
	if err := l.root.write(l.at+"trigger", "timer"); err != nil {
		return fmt.Errorf("linux: LED: %w", err)
	}
	return errors.Join(
		l.root.write(l.at+"delay_on", strconv.FormatInt(on.Milliseconds(), 10)),
		l.root.write(l.at+"delay_off", strconv.FormatInt(off.Milliseconds(), 10)))
}

// Release gives the light back to what it did before.
func (l *LED) Release() error {
	if l.trigger != "" && l.trigger != "none" {
		err := l.root.write(l.at+"trigger", l.trigger)
		for _, s := range l.settings {
			err = errors.Join(err, l.root.write(l.at+s[0], s[1]))
		}
		return err
	}
	if l.root.exists(l.at + "trigger") {
		if err := l.root.write(l.at+"trigger", "none"); err != nil {
			return err
		}
	}
	return l.root.write(l.at+"brightness", l.brightness)
}
