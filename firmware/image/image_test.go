package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/holdfast-edge/holdfast/firmware/image/debian"
	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
	"github.com/holdfast-edge/holdfast/firmware/image/pinned"
)

// elfWith is an ELF file for machine (62 amd64, 183 arm64) with one section, .modinfo.
func elfWith(machine uint16, modinfo string) []byte {
	le := binary.LittleEndian
	names := "\x00.modinfo\x00.shstrtab\x00"
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], machine)
	le.PutUint32(b[20:], 1)
	b = append(b, modinfo...)
	b = append(b, names...)
	table := len(b)
	le.PutUint64(b[40:], uint64(table))
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 2)
	section := func(name, kind uint32, at, size int) {
		s := make([]byte, 64)
		le.PutUint32(s[0:], name)
		le.PutUint32(s[4:], kind)
		le.PutUint64(s[24:], uint64(at))
		le.PutUint64(s[32:], uint64(size))
		b = append(b, s...)
	}
	section(0, 0, 0, 0)
	section(1, 1, 64, len(modinfo))
	section(10, 3, 64+len(modinfo), len(names))
	return b
}

func packXZ(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// deb is a package with files.
func deb(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for name, body := range files {
		if err := w.WriteHeader(&tar.Header{Name: "./" + name, Size: int64(len(body)), Mode: 0o644, Typeflag: tar.TypeReg, ModTime: time.Unix(1_790_000_000, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out := []byte("!<arch>\n")
	for _, m := range []struct {
		name string
		b    []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.xz", []byte("odd")}, {"data.tar.xz", packXZ(t, data.Bytes())}} {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.b))
		out = append(out, m.b...)
		if len(m.b)%2 != 0 {
			out = append(out, '\n')
		}
	}
	return out
}

// archive is a mirror with a kernel that has all modules that a profile names, and its pins.
func archive(t *testing.T, p Profile) (debian.Pins, *httptest.Server, map[string]int) {
	t.Helper()
	files := map[string][]byte{
		"boot/vmlinuz-9.9":               bytes.Repeat([]byte("kernel"), 1000),
		"lib/modules/9.9/modules.order":  []byte("x"),
		"usr/share/doc/linux/readme.txt": []byte("x"),
	}
	var builtin strings.Builder
	for _, m := range p.modules {
		name := m
		if strings.HasSuffix(m, "/") {
			name = m + "some" + hex.EncodeToString([]byte(m))
		} else {
			name = "drivers/" + m
		}
		info := "depends=\x00alias=of:N*T*C" + m + "\x00"
		switch m {
		case "ext4":
			info = "depends=jbd2,mbcache\x00softdep=pre: crypto-crc32c\x00alias=fs-ext4\x00"
		case "virtio_pci":
			fmt.Fprintf(&builtin, "kernel/%s.ko\n", name)
			continue
		}
		files["lib/modules/9.9/kernel/"+name+".ko.xz"] = packXZ(t, elfWith(62, info))
	}
	files["lib/modules/9.9/kernel/fs/jbd2.ko.xz"] = packXZ(t, elfWith(62, "depends=crc16\x00"))
	files["lib/modules/9.9/kernel/fs/mbcache.ko.xz"] = packXZ(t, elfWith(62, "depends=\x00"))
	files["lib/modules/9.9/kernel/lib/crc16.ko.xz"] = packXZ(t, elfWith(62, "depends=\x00"))
	files["lib/modules/9.9/kernel/sound/drum.ko.xz"] = packXZ(t, elfWith(62, "depends=\x00"))
	files["lib/modules/9.9/modules.builtin"] = []byte(builtin.String())
	served := map[string][]byte{
		"kernel": deb(t, files),
		"loader": deb(t, map[string][]byte{"usr/lib/systemd/boot/efi/systemd-bootx64.efi": []byte("MZ"), "usr/lib/systemd/boot/efi/linuxx64.efi.stub": []byte("no")}),
	}
	asked := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		for role, b := range served {
			if r.URL.Path == "/debian/pool/"+role+"+1.deb" {
				_, _ = w.Write(b)
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	var pins debian.Pins
	for role, b := range served {
		sum := sha256.Sum256(b)
		pins.Package = append(pins.Package, debian.Package{Role: role, Arch: p.Arch, Name: role, Version: "1", Archive: "debian", Path: "pool/" + role + "+1.deb", Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])})
	}
	return pins, s, asked
}

func options(t *testing.T) (Options, map[string]int) {
	t.Helper()
	p, err := Find("generic-amd64")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, elfWith(62, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	pins, s, asked := archive(t, p)
	return Options{Profile: p.Name, Program: program, Version: "1.2.3", Pins: pins, Packages: debian.Store{Store: pinned.Store{Dir: filepath.Join(t.TempDir(), "cache")}, Mirror: s.URL}}, asked
}

func TestTheSameInputsGiveTheSameBytes(t *testing.T) {
	o, asked := options(t)
	dir := t.TempDir()
	first, err := Create(context.Background(), filepath.Join(dir, "1.img"), true, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Packages.Offline = true // all is in the cache now
	second, err := Create(context.Background(), filepath.Join(dir, "2.img"), true, o)
	if err != nil {
		t.Fatal(err)
	}
	if first.SHA256 != second.SHA256 || first.ZstdBytes != second.ZstdBytes {
		t.Errorf("%s and %s", first.SHA256, second.SHA256)
	}
	a, err := os.ReadFile(filepath.Join(dir, "1.img.zst"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "2.img.zst"))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("packed images differ: %v", err)
	}
	for path, n := range asked {
		if n != 1 {
			t.Errorf("%s was downloaded %d times", path, n)
		}
	}
	o.Version = "1.2.4"
	if third, err := Create(context.Background(), filepath.Join(dir, "3.img"), false, o); err != nil || third.SHA256 == first.SHA256 {
		t.Errorf("another version makes the same image: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// created makes an image of so many bytes, and opens it until the test ends.
func created(t *testing.T, o Options, bytes int64) (*os.File, *gpt.Table) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.img")
	if _, err := Create(context.Background(), name, false, o); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	table, err := gpt.Read(f, bytes)
	if err != nil {
		t.Fatal(err)
	}
	return f, table
}

func TestAnImageHasItsPartitionsAndSlotA(t *testing.T) {
	o, _ := options(t)
	o.Provisioning = []byte("[system]\nhostname = \"box\"\n")
	f, table := created(t, o, Bytes)
	for _, n := range []string{ESPName, DataName} {
		if _, ok := table.Find(n); !ok {
			t.Errorf("no partition %s", n)
		}
	}
	all := make([]byte, 8*mib)
	if _, err := f.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"/a/vmlinuz", "/a/initrd.img", "holdfast.slot=a", "panic=5", string(o.Provisioning)} {
		if !bytes.Contains(all, []byte(text)) {
			t.Errorf("no %q on the disk", text)
		}
	}
}

func TestAnImageWithAMachinesTokenIsForItsOwnerAlone(t *testing.T) {
	o, _ := options(t)
	for _, c := range []struct {
		provisioning []byte
		want         os.FileMode
	}{{nil, 0o644}, {[]byte("[provision]\n"), 0o600}} {
		o.Provisioning = c.provisioning
		name := filepath.Join(t.TempDir(), "x.img")
		if _, err := Create(context.Background(), name, true, o); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{name, name + ".zst"} {
			st, err := os.Stat(n)
			if err != nil {
				t.Fatal(err)
			}
			if st.Mode().Perm() != c.want {
				t.Errorf("%s with %q is %v", filepath.Base(n), c.provisioning, st.Mode())
			}
		}
	}
}

func TestTheRAMDiskHasTheModulesInTheOrderTheyNeed(t *testing.T) {
	o, _ := options(t)
	r, err := Make(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	cpio, err := d.DecodeAll(r.Initrd, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"\nkernel/drivers/ext4.ko: ", "kernel/lib/crc16.ko", "alias fs-ext4 ext4\n", "version = \"1.2.3\"\nboard = \"generic-amd64\"\nbuilt = 2026-",
		"lib/modules/9.9/kernel/drivers/crc32c_generic.ko\x00", "init\x00",
		"000000010000000300000009" + "00000000dev/null\x00", // device 1:3, a name of 9 bytes
	} {
		if !bytes.Contains(cpio, []byte(text)) {
			t.Errorf("no %q in the archive", text)
		}
	}
	for _, text := range []string{"drum.ko", ".xz\x00", "readme"} {
		if bytes.Contains(cpio, []byte(text)) {
			t.Errorf("%q in the archive", text)
		}
	}
	// modules.dep names what is needed with the farthest need last.
	_, line, _ := strings.Cut(string(cpio), "\nkernel/drivers/ext4.ko: ")
	line, _, _ = strings.Cut(line, "\n")
	if jbd2, crc16 := strings.Index(line, "jbd2"), strings.Index(line, "crc16"); jbd2 < 0 || crc16 < jbd2 {
		t.Errorf("ext4 needs %s", line)
	}
}

func TestWhatCannotBootIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		want   error
	}{
		"a program for another processor": {func(o *Options) { put(t, o.Program, elfWith(183, "x")) }, ErrInput},
		"a script":                        {func(o *Options) { put(t, o.Program, []byte("#!/bin/sh\n")) }, ErrInput},
		"a version of two words":          {func(o *Options) { o.Version = "1 2" }, ErrInput},
		"a command line of two lines":     {func(o *Options) { o.Cmdline = "a\nb" }, ErrInput},
		"another package": {func(o *Options) {
			o.Pins.Package[0].SHA256 = strings.Repeat("00", 32)
			o.Pins.Package[1].SHA256 = strings.Repeat("11", 32)
		}, pinned.ErrHash},
		"a package that is gone":         {func(o *Options) { o.Pins.Package[0].Path, o.Pins.Package[1].Path = "pool/x.deb", "pool/y.deb" }, pinned.ErrGone},
		"an empty cache without network": {func(o *Options) { o.Packages.Offline = true }, pinned.ErrOffline},
		"no pins":                        {func(o *Options) { o.Pins.Package = nil }, debian.ErrPins},
	} {
		o, _ := options(t)
		c.change(&o)
		if _, err := Make(context.Background(), o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func put(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestTheBuiltInPinsHaveWhatEveryProfileNeeds(t *testing.T) {
	pins, err := debian.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Profiles() {
		if p.Loader == "" {
			continue // of Go modules
		}
		for _, role := range []string{"kernel", "loader"} {
			if _, err := pins.Find(role, p.Arch); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
	}
	text, err := pins.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := debian.DecodePins(text); err != nil || len(again.Package) != len(pins.Package) || again.Package[0] != pins.Package[0] {
		t.Errorf("pins do not come back as they were written: %v", err)
	}
}
