package supervise

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// event is a struct input_event.
func event(kind, code uint16, value int32) []byte {
	b := make([]byte, 16, inputEventBytes)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, code)
	return binary.NativeEndian.AppendUint32(b, uint32(value))
}

// The kernel here has no uinput: the devices are pipes with the kernel's structures, found in a tree as sysfs shows it.
func TestAPressOfThePowerKeySwitchesOffAndNothingElseDoes(t *testing.T) {
	sys, dev := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dev, "input"), 0o755); err != nil {
		t.Fatal(err)
	}
	var pipes []*os.File
	for name, keys := range map[string]string{
		"event0": "10000000000000 0\n",                                            // an ACPI power button: KEY_POWER alone
		"event1": "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe\n", // a keyboard; its second word from below has bit 52
		"event2": "1f0000 0 0 0 0\n",                                              // a mouse
	} {
		at := filepath.Join(sys, "class/input", name, "device/capabilities")
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "key"), []byte(keys), 0o644); err != nil {
			t.Fatal(err)
		}
		fifo := filepath.Join(dev, "input", name)
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(fifo, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		pipes = append(pipes, f)
	}
	if got := powerButtons(sys); !slices.Equal(got, []string{"event0", "event1"}) {
		t.Fatalf("%v have a power key", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	pressed := make(chan struct{}, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watchPower(ctx, slog.New(slog.DiscardHandler), sys, dev, func() { pressed <- struct{}{} })
	}()
	for _, f := range pipes {
		// Another key, a release and a repeat, then two presses in one write, of which the second is cut in half.
		b := slices.Concat(event(evKey, 30, 1), event(evKey, keyPower, 0), event(evKey, keyPower, 2), event(2, keyPower, 1), event(0, 0, 0), event(evKey, keyPower, keyPressed))
		if _, err := f.Write(append(b, event(evKey, keyPower, keyPressed)[:7]...)); err != nil {
			t.Fatal(err)
		}
	}
	<-pressed
	<-pressed
	cancel()
	<-ended
	if len(pressed) != 0 {
		t.Errorf("%d presses more", len(pressed))
	}
}
