package supervise

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// The kernel's input events (linux/input.h, linux/input-event-codes.h): a time of two longs, type, code and value.
	inputEventBytes = 24 // where a long has 64 bits, as on all that we run on
	evKey           = 1
	keyPower        = 116
	keyPressed      = 1
	// buttonsMax bounds the devices that are read: machines have one or two such buttons, and each keyboard may have one.
	buttonsMax = 16
	// buttonsEvery is how often new ones are looked for: a keyboard that is plugged in.
	buttonsEvery = 5 * time.Second
)

// watchPower has pressed called when somebody presses a power button, ACPI's, a board's own (gpio-keys) or a keyboard's, until ctx ends.
// sys and dev are where the kernel shows its devices.
func watchPower(ctx context.Context, log *slog.Logger, sys, dev string, pressed func()) {
	var readers sync.WaitGroup
	defer readers.Wait()
	look := time.NewTicker(buttonsEvery)
	defer look.Stop()
	open := map[string]*os.File{}
	ended := make(chan string, buttonsMax)
	defer func() {
		for _, f := range open {
			_ = f.Close() // its reader ends with it
		}
	}()
	for {
		for _, name := range powerButtons(sys) {
			if open[name] != nil || len(open) == buttonsMax {
				continue
			}
			// Non-blocking, so that closing it ends a read.
			f, err := os.OpenFile(filepath.Join(dev, "input", name), os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				continue // it has just gone, or comes in a moment
			}
			open[name] = f
			log.Info("a power button", "device", name)
			readers.Go(func() {
				if err := readPower(f, pressed); err != nil && !errors.Is(err, os.ErrClosed) {
					log.Info("a power button has gone", "device", name, "err", err)
				}
				select {
				case ended <- name:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case name := <-ended:
			_ = open[name].Close()
			delete(open, name)
		case <-look.C:
		}
	}
}

// readPower reads events until the device has gone, and calls pressed for each press of the power key: not when it is let go, and not again
// while it is held.
func readPower(r io.Reader, pressed func()) error {
	var b [inputEventBytes]byte
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return fmt.Errorf("power button: %w", err)
		}
		kind, code, value := binary.NativeEndian.Uint16(b[16:]), binary.NativeEndian.Uint16(b[18:]), binary.NativeEndian.Uint32(b[20:])
		if kind == evKey && code == keyPower && value == keyPressed {
			pressed()
		}
	}
}

// powerButtons gives the event devices that have a power key.
func powerButtons(sys string) (names []string) {
	list, err := filepath.Glob(filepath.Join(sys, "class/input/event*"))
	if err != nil {
		return nil
	}
	for _, at := range list {
		if b, err := os.ReadFile(filepath.Join(at, "device/capabilities/key")); err == nil && hasKey(string(b), keyPower) {
			names = append(names, filepath.Base(at))
		}
	}
	return names
}

// hasKey says whether a bitmap as the kernel's input core prints it has a key: words of 64 bits in hexadecimal digits, the highest first.
func hasKey(bitmap string, key int) bool {
	words := strings.Fields(bitmap)
	i := len(words) - 1 - key/64
	if i < 0 {
		return false
	}
	w, err := strconv.ParseUint(words[i], 16, 64)
	return err == nil && w&(1<<(key%64)) != 0
}
