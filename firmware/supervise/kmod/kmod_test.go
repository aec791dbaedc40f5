package kmod

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// moduleFile is an ELF file with a section .modinfo and nothing else.
func moduleFile(info ...string) []byte {
	le := binary.LittleEndian
	modinfo, names := strings.Join(info, "\x00")+"\x00", "\x00.modinfo\x00.shstrtab\x00"
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 1)  // relocatable
	le.PutUint16(b[18:], 62) // amd64
	le.PutUint32(b[20:], 1)
	b = append(append(b, modinfo...), names...)
	le.PutUint64(b[40:], uint64(len(b)))
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 2)
	for _, x := range [][4]int{{}, {1, 1, 64, len(modinfo)}, {10, 3, 64 + len(modinfo), len(names)}} {
		s := make([]byte, 64)
		le.PutUint32(s[0:], uint32(x[0]))
		le.PutUint32(s[4:], uint32(x[1]))
		le.PutUint64(s[24:], uint64(x[2]))
		le.PutUint64(s[32:], uint64(x[3]))
		b = append(b, s...)
	}
	return b
}

func packed(t *testing.T, b []byte) []byte {
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

func put(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// tree is a folder of modules: virtio_net needs net_failover, which needs failover. One is compressed.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "kernel/drivers/net/virtio_net.ko"), moduleFile("alias=virtio:d00000001v*", "depends=net_failover,virtio_ring"))
	put(t, filepath.Join(dir, "kernel/drivers/net/net-failover.ko.xz"), packed(t, moduleFile("depends=failover")))
	put(t, filepath.Join(dir, "kernel/net/core/failover.ko"), moduleFile("depends="))
	put(t, filepath.Join(dir, "kernel/fs/fat/vfat.ko"), moduleFile("alias=fs-vfat", "alias=pci:v0000[0-9]AF4d*sv*", "depends="))
	put(t, filepath.Join(dir, "modules.builtin"), []byte("kernel/drivers/virtio/virtio-ring.ko\n# a comment\n\n"))
	return dir
}

// written is the same tree, as depmod leaves it.
func written(t *testing.T) string {
	t.Helper()
	dir := tree(t)
	put(t, filepath.Join(dir, "modules.dep"), []byte("# depmod\nkernel/drivers/net/virtio_net.ko: kernel/drivers/net/net-failover.ko.xz kernel/net/core/failover.ko\n"+
		"kernel/drivers/net/net-failover.ko.xz: kernel/net/core/failover.ko\nkernel/net/core/failover.ko:\nkernel/fs/fat/vfat.ko:\nno line of it\n"))
	put(t, filepath.Join(dir, "modules.alias"), []byte("# depmod\nalias virtio:d00000001v* virtio_net\nalias fs-vfat vfat\nalias pci:v0000[0-9]AF4d*sv* vfat\nnonsense\n"))
	return dir
}

func TestAModuleIsLoadedBehindWhatItNeeds(t *testing.T) {
	for name, dir := range map[string]string{"with depmod's files": written(t), "without": tree(t)} {
		x, err := Open(dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := x.Order("virtio-net")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got = slices.DeleteFunc(got, func(n string) bool { return x.file[n] == "" }) // built in
		if !slices.Equal(got, []string{"failover", "net_failover", "virtio_net"}) {
			t.Errorf("%s: %v", name, got)
		}
		if _, err := x.Order("nothing"); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if err := x.Load("nothing"); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := x.Order("virtio-ring"); err != nil || len(got) != 0 {
			t.Errorf("%s: one that is built in: %v, %v", name, got, err)
		}
		if err := x.Load("virtio_ring"); err != nil {
			t.Errorf("%s: one that is built in: %v", name, err)
		}
		for alias, want := range map[string][]string{
			"virtio:d00000001v00001AF4": {"virtio_net"}, "fs-vfat": {"vfat"}, "vfat": {"vfat"}, "pci:v00001AF4d00001000sv00001AF4": {"vfat"},
			"pci:v0000AAF4d1sv1": nil, "usb:v1": nil, "": nil, strings.Repeat("a", aliasBytesMax+1): nil,
		} {
			if got := x.Match(alias); !slices.Equal(got, want) {
				t.Errorf("%s: %.40q is served by %v, not %v", name, alias, got, want)
			}
		}
	}
}

func TestAModuleIsReadWhole(t *testing.T) {
	x, err := Open(written(t))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := x.read(x.file["net_failover"]); err != nil || !bytes.Equal(b, moduleFile("depends=failover")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	put(t, filepath.Join(x.dir, "kernel/cut.ko.xz"), packed(t, moduleFile("depends="))[:60])
	if _, err := x.read("kernel/cut.ko.xz"); err == nil {
		t.Error("half a module is one")
	}
	put(t, filepath.Join(x.dir, "kernel/new.ko.zst"), nil)
	if _, err := x.read("kernel/new.ko.zst"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if _, err := x.read("kernel/gone.ko"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestModulesThatNeedEachOtherOrAreBrokenDoNotHangIt(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.ko"), moduleFile("depends=b"))
	put(t, filepath.Join(dir, "b.ko"), moduleFile("depends=c"))
	put(t, filepath.Join(dir, "c.ko"), moduleFile("depends=a"))
	x, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x.Order("a"); err != nil || got[len(got)-1] != "a" || len(got) > 6 {
		t.Errorf("%v, %v", got, err)
	}
	put(t, filepath.Join(dir, "d.ko"), []byte("no module"))
	if _, err := Open(dir); !errors.Is(err, errModule) {
		t.Errorf("%v", err)
	}
	if x, err := Open(filepath.Join(t.TempDir(), "none")); err != nil || len(x.Match("virtio:d1v1")) != 0 {
		t.Errorf("a kernel without modules: %v", err)
	}
}

func TestEveryDeviceIsAskedOnce(t *testing.T) {
	sys := t.TempDir()
	for at, alias := range map[string]string{
		"pci0/0000:00:01.0": "pci:v00001AF4d00001000\n", "pci0/0000:00:02.0": "pci:v00001AF4d00001000\n", "pci0/0000:00:02.0/virtio0": "virtio:d00000001v00001AF4\n",
		"platform/nothing": "\n", "platform/long": strings.Repeat("x", aliasBytesMax+1),
	} {
		put(t, filepath.Join(sys, "devices", at, "modalias"), []byte(alias))
	}
	got, err := Devices(sys)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"pci:v00001AF4d00001000", "virtio:d00000001v00001AF4"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzModinfo(f *testing.F) {
	f.Add(moduleFile("alias=a", "depends=b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := modinfo(bytes.NewReader(b))
		if err != nil && !errors.Is(err, errModule) {
			t.Error(err)
		}
		for k := range info {
			if strings.ContainsAny(k, "=\x00") {
				t.Errorf("%q", k)
			}
		}
	})
}
