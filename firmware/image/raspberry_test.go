package image

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/image/debian"
	"github.com/holdfast-edge/holdfast/firmware/image/gomod"
	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
	"github.com/holdfast-edge/holdfast/firmware/image/pinned"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

// moduleZip is a Go module as a proxy has it.
func moduleZip(t *testing.T, m *gomod.Module, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, body := range files {
		w, err := z.Create(m.Path + "@" + m.Version + "/" + name)
		if err == nil {
			_, err = w.Write(body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	m.Size, m.SHA256 = int64(b.Len()), hex.EncodeToString(sum[:])
	return b.Bytes()
}

// piKernel is a kernel that gzip cannot make small.
func piKernel() []byte {
	var b []byte
	for sum := sha256.Sum256(nil); len(b) < 100_000; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b
}

// piOptions are those of an image from modules of a proxy of the test's.
func piOptions(t *testing.T) (Options, map[string]int) {
	t.Helper()
	o := Options{
		Profile: RaspberryPi, Program: filepath.Join(t.TempDir(), "program"), Version: "1.2.3",
		Linux: gomod.Module{Path: "example.com/kernel", Version: "v0.0.0-20251127164438-9778ec0261de"},
		Boot:  gomod.Module{Path: "example.com/boot", Version: "v0.0.0-20260522070551-527ce0ed43cf"},
	}
	put(t, o.Program, elfWith(183, "x"))
	dir := "lib/modules/9.9-v8/"
	served := map[string][]byte{
		"/example.com/kernel/@v/" + o.Linux.Version + ".zip": moduleZip(t, &o.Linux, map[string][]byte{
			"vmlinuz": piKernel(), "go.mod": []byte("module x\n"), "LICENSE.linux": []byte("GPL"), "cmdline.txt": []byte("gokrazy's"), "config.txt": []byte("gokrazy's"),
			"bcm2711-rpi-4-b.dtb": []byte("four"), "bcm2712-rpi-5-b.dtb": []byte("five"), "bcm2710-rpi-3-b.dtb": []byte("three"), "overlays/disable-bt.dtbo": []byte("bt"),
			dir + "modules.builtin": []byte("kernel/fs/ext4/ext4.ko\n"), dir + "modules.dep.bin": []byte("x"),
			dir + "kernel/crypto/cmac.ko": elfWith(183, "depends=\x00"), dir + "kernel/drivers/net/mdio/m.ko": elfWith(183, "depends=\x00"),
			dir + "kernel/drivers/rtc/r.ko": elfWith(183, "depends=\x00"), dir + "kernel/drivers/media/tv.ko": elfWith(183, "depends=\x00"),
		}),
		"/example.com/boot/@v/" + o.Boot.Version + ".zip": moduleZip(t, &o.Boot, map[string][]byte{
			"start4.elf": []byte("start"), "fixup4.dat": []byte("fixup"), "start.elf": []byte("for a Pi 3"), "LICENSE.broadcom": []byte("Broadcom"),
		}),
	}
	asked := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		b, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(s.Close)
	o.Packages, o.Proxy = debian.Store{Store: pinned.Store{Dir: filepath.Join(t.TempDir(), "cache")}}, s.URL+",direct"
	return o, asked
}

func TestAnImageForRaspberryPiIsReproducibleAndNeedsNoNetworkTwice(t *testing.T) {
	o, asked := piOptions(t)
	dir := t.TempDir()
	first, err := Create(context.Background(), filepath.Join(dir, "1.img"), false, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Packages.Offline, o.Proxy = true, "off"
	second, err := Create(context.Background(), filepath.Join(dir, "2.img"), false, o)
	if err != nil || first.SHA256 != second.SHA256 || first.Bytes != raspberryBytes {
		t.Fatalf("%v: %+v and %+v", err, first, second)
	}
	if len(asked) != 2 {
		t.Errorf("the proxy was asked for %v", asked)
	}
	if want := time.Date(2025, 11, 27, 16, 44, 38, 0, time.UTC); !first.Built.Equal(want) || first.KernelRelease != "9.9-v8" || first.Modules != 3 {
		t.Errorf("%+v", first)
	}
	o.Linux.SHA256 = strings.Repeat("00", 32)
	if _, err := Make(context.Background(), o); !errors.Is(err, pinned.ErrOffline) {
		t.Errorf("another module: %v", err)
	}
}

func TestAnImageForRaspberryPiHasWhatItsLoaderReads(t *testing.T) {
	o, _ := piOptions(t)
	o.Provisioning = []byte("[system]\nhostname = \"box\"\n")
	f, table := created(t, o, raspberryBytes)
	var names []string
	for _, p := range table.Partitions {
		names = append(names, p.Name)
		if p.Name != DataName && p.Type != gpt.Basic() {
			t.Errorf("%s has the type %v", p.Name, p.Type)
		}
	}
	if want := []string{ESPName, "HOLDFAST-A", "HOLDFAST-B", DataName}; !slices.Equal(names, want) {
		t.Fatalf("partitions %q; autoboot.txt says numbers 2 and 3", names)
	}
	// What each partition has, and under which short name, since the loader looks for that.
	for i, want := range [][]string{
		{"AUTOBOOTTXT", string(slots.Autoboot(slots.A)), "holdfast.slot=a", string(o.Provisioning), "HOLDFASTESP"},
		{
			"CONFIG  TXT", "CMDLINE TXT", "START4  ELF", "FIXUP4  DAT", "KERNEL8 IMG", "INITRD  IMG", "VMLINUZ    ", "MANIFEST   ", "SLOT    TXT", "OVERLAYS   ", "console=serial0,115200 gpt", " holdfast.slot=a\n",
			"four", "five", "initramfs initrd.img followkernel\n",
		},
		{"SLOT    TXT", "b\n"},
	} {
		all := make([]byte, 8*mib)
		if _, err := f.ReadAt(all, table.Partitions[i].Offset()); err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !bytes.Contains(all, []byte(text)) {
				t.Errorf("%s has no %q", names[i], text)
			}
		}
		for _, text := range []string{"gokrazy's", "three", "for a Pi 3"} {
			if bytes.Contains(all, []byte(text)) {
				t.Errorf("%s has %q", names[i], text)
			}
		}
	}
}

func TestTheParcelOfARaspberryPiHasTheKernelAndIsCoveredByTheManifest(t *testing.T) {
	o, _ := piOptions(t)
	r, err := Make(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	if err := slots.ReadParcel(bytes.NewReader(r.Kernel), int64(len(r.Kernel)), func(name string, b []byte) error { files[name] = b; return nil }); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(files[raspberryKernel]))
	if err != nil {
		t.Fatal(err)
	}
	if k, err := io.ReadAll(z); err != nil || !bytes.Equal(k, piKernel()) {
		t.Errorf("the kernel is %d bytes: %v", len(k), err)
	}
	for _, name := range []string{slots.ConfigFile, "start4.elf", "fixup4.dat", "LICENSE.broadcom", "LICENSE.linux", "bcm2711-rpi-4-b.dtb", "overlays/disable-bt.dtbo"} {
		if files[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	m, err := r.Manifest(nil)
	if err != nil || m.Kernel.SHA256 != sha256.Sum256(r.Kernel) || m.Board != RaspberryPi {
		t.Errorf("%+v %v", m, err)
	}
}
