package supervise

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/firmware/slots"
)

// The bytes are what `bootctl set-oneshot a.conf` writes: attributes non-volatile, boot and run time, then UTF-16 with a NUL.
func TestTheOtherSlotIsNamedToTheLoaderAsItReadsIt(t *testing.T) {
	dir := t.TempDir()
	want := []byte("\x07\x00\x00\x00a\x00.\x00c\x00o\x00n\x00f\x00\x00\x00")
	for range 2 { // also where there is one already, of the same length as efivarfs has it
		if err := setEFI(dir, oneShot, "a.conf"); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, oneShot)); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%q, %v", b, err)
		}
	}
	m := new(machine)
	if err := m.otherOnce("a"); err == nil {
		t.Error("a machine without a system partition starts another slot")
	}
	m.esp = t.TempDir()
	if err := m.otherOnce("a"); err == nil {
		t.Error("an empty slot is started")
	}
}

func TestTheMenuStartsNoSlotThatWasGivenUp(t *testing.T) {
	m := &machine{esp: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(m.esp, "loader/entries"), 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := slots.Open(m.esp)
	if err != nil {
		t.Fatal(err)
	}
	files := func() map[string]io.Reader {
		return map[string]io.Reader{slots.Kernel: strings.NewReader("k"), slots.Initrd: strings.NewReader("i"), slots.Manifest: strings.NewReader("m")}
	}
	err = errors.Join(e.Install(t.Context(), slots.A, slots.Release{Version: "1", Blessed: true}, files()), e.Install(t.Context(), slots.B, slots.Release{Version: "2"}, files()), e.Spoil(slots.B, "it was slow"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.otherOnce("a"); err == nil || !strings.Contains(err.Error(), "given up: it was slow") {
		t.Errorf("%v", err)
	}
}

func TestTheMenuAsksBeforeTheMachineStopsServing(t *testing.T) {
	for choice, want := range map[string]act{"5": actReboot, "6": actPowerOff} {
		m := &machine{acts: make(chan act, 1), console: &console{}}
		_, open, confirm := m.choose(choice)
		if !open || confirm == nil || len(m.acts) != 0 {
			t.Fatalf("%s is done at once", choice)
		}
		if confirm("y"); len(m.acts) != 0 {
			t.Errorf("%s is done without a yes", choice)
		}
		if confirm("yes"); len(m.acts) != 1 || <-m.acts != want {
			t.Errorf("%s: not done", choice)
		}
	}
}
