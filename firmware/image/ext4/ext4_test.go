package ext4

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func options(size int64) Options {
	return Options{Bytes: size, Label: "HOLDFAST-DATA", ID: [16]byte{0xAB, 1, 2, 3, 4, 5, 0x86, 7, 0x88}, Seed: [16]byte{1}, Seconds: 1_795_000_000}
}

// on makes a file system on a medium that is full of something else.
func on(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ext4.img")
	if err := os.WriteFile(name, bytes.Repeat([]byte("what was there. "), int(size/16)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Make(f, options(size)); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestE2fsckFindsNothingWrong(t *testing.T) {
	fsck, err := exec.LookPath("/sbin/e2fsck")
	if err != nil {
		t.Skip("e2fsck is not installed (package e2fsprogs)")
	}
	for _, size := range []int64{BytesMin, 64 << 20, BytesMax} {
		out, err := exec.Command(fsck, "-f", "-n", on(t, size)).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "HOLDFAST-DATA: 11/2048 files") {
			t.Errorf("%d bytes: %v\n%s", size, err, out)
		}
	}
}

// debugfs writes as the kernel does: what it finds free must be free.
func TestAnotherProgramCanUseIt(t *testing.T) {
	debugfs, err := exec.LookPath("/sbin/debugfs")
	if err != nil {
		t.Skip("debugfs is not installed (package e2fsprogs)")
	}
	name := on(t, 64<<20)
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, do := range []string{"mkdir /d", "write " + body + " /d/f"} {
		if out, err := exec.Command(debugfs, "-w", "-R", do, name).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", do, err, out)
		}
	}
	out, err := exec.Command("/sbin/e2fsck", "-f", "-n", name).CombinedOutput()
	if err != nil || !strings.Contains(string(out), ": 13/2048 files") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestASizeOutOfBoundsIsRefused(t *testing.T) {
	for _, size := range []int64{0, BytesMin - 1, BytesMax + 1} {
		if err := Make(nothing{}, options(size)); !errors.Is(err, ErrSize) {
			t.Errorf("%d: %v", size, err)
		}
	}
	if err := Make(nothing{}, options(BytesMin)); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a disk that fails: %v", err)
	}
}

type nothing struct{}

func (nothing) WriteAt([]byte, int64) (int, error) { return 0, io.ErrShortWrite }
