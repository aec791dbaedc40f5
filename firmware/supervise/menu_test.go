package supervise

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
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
