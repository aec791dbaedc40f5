package fat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const size = 384 << 20

func example() []File {
	big := bytes.Repeat([]byte("kernel.."), 300_000)
	files := []File{
		{Name: "EFI/BOOT/BOOTX64.EFI", Body: []byte("loader")},
		{Name: "loader/entries/holdfast-000001-a.conf", Body: []byte("title x\n")},
		{Name: "a/vmlinuz", Body: big},
		{Name: "b", Folder: true},
		{Name: "holdfast.toml", Body: nil},
	}
	for i := range 200 { // more than a cluster of entries
		files = append(files, File{Name: fmt.Sprintf("many/a file with a long name, number %d.text", i), Body: fmt.Append(nil, i)})
	}
	return files
}

func image(t *testing.T, files []File) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fat.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := Make(f, Options{Bytes: size, Offset: 1 << 20, Label: "HOLDFASTESP", ID: 0x1234ABCD, Time: time.Date(2026, 11, 20, 12, 0, 2, 0, time.UTC)}, files); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFsckFindsNothingWrong(t *testing.T) {
	fsck, err := exec.LookPath("/sbin/fsck.fat")
	if err != nil {
		t.Skip("fsck.fat is not installed (package dosfstools)")
	}
	out, err := exec.Command(fsck, "-n", "-v", image(t, example())).CombinedOutput()
	if err != nil || !strings.Contains(string(out), ": 212 files") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMtoolsReadsEveryFile(t *testing.T) {
	mtype, err := exec.LookPath("mtype")
	if err != nil {
		t.Skip("mtools are not installed")
	}
	name := image(t, example())
	for _, f := range example() {
		if f.Folder {
			continue
		}
		out, err := exec.Command(mtype, "-i", name, "::"+f.Name).Output()
		if err != nil || !bytes.Equal(out, f.Body) {
			t.Errorf("%s: %v, %d bytes instead of %d", f.Name, err, len(out), len(f.Body))
		}
	}
}

func TestWhatCannotStandInItIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files []File
		want  error
	}{
		"a file twice":       {[]File{{Name: "a/x"}, {Name: "A/X"}}, ErrName},
		"a file in a file":   {[]File{{Name: "a"}, {Name: "a/x"}}, ErrName},
		"out of the tree":    {[]File{{Name: "../x"}}, ErrName},
		"a forbidden sign":   {[]File{{Name: "a:b"}}, ErrName},
		"a dot at its end":   {[]File{{Name: "a."}}, ErrName},
		"a very long name":   {[]File{{Name: strings.Repeat("x", 256)}}, ErrName},
		"more than it has":   {[]File{{Name: "x", Body: make([]byte, size)}}, ErrFull},
		"a folder as a file": {[]File{{Name: "a", Folder: true}, {Name: "a"}}, ErrName},
	} {
		if err := Make(discard{}, Options{Bytes: size}, c.files); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Make(discard{}, Options{Bytes: 64 << 20}, nil); !errors.Is(err, ErrFull) {
		t.Errorf("too small for FAT32: %v", err)
	}
	if err := Make(discard{}, Options{Bytes: BytesMin}, nil); err != nil {
		t.Errorf("the smallest: %v", err)
	}
}

type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
