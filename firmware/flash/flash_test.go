package flash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-edge/holdfast/firmware/image/gpt"
)

const size = 9 << 20

// disk is an image of a disk with a table, in two forms.
func disk(t *testing.T) (raw, packed string, b []byte) {
	t.Helper()
	raw = filepath.Join(t.TempDir(), "x.img")
	f, err := os.Create(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(gpt.Write(f, size, &gpt.Table{Partitions: []gpt.Partition{{Type: gpt.Linux(), First: 2048, Last: 4095, Name: "X"}}}), f.Close()); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(raw); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed = raw + ".zst"
	if err := os.WriteFile(packed, z.EncodeAll(b, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return raw, packed, b
}

func TestAnImageIsOnTheMediumAfterwards(t *testing.T) {
	raw, packed, want := disk(t)
	for _, image := range []string{raw, packed} {
		to := filepath.Join(t.TempDir(), "medium")
		if err := os.WriteFile(to, bytes.Repeat([]byte("old"), size), 0o600); err != nil {
			t.Fatal(err)
		}
		parts := map[string]int64{}
		r, err := Write(context.Background(), Options{Image: image, Device: to, Progress: func(part string, done, _ int64) { parts[part] = done }})
		if err != nil || r.Bytes != size {
			t.Fatalf("%+v, %v", r, err)
		}
		got, err := os.ReadFile(to)
		if err != nil || len(got) != 3*size || !bytes.Equal(got[:size], want) || !bytes.HasPrefix(got[size:], []byte("old")) {
			t.Errorf("%s: the medium has something else: %v", image, err)
		}
		if parts["write"] != size || parts["verify"] != size {
			t.Errorf("progress ended at %v", parts)
		}
	}
}

func TestWhatIsNoImageIsNotWritten(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"a text":          bytes.Repeat([]byte("text"), tableBytes),
		"a packed text":   append([]byte(zstdMagic), "text"...),
		"no bytes enough": bytes.Repeat([]byte{0}, 100),
	} {
		from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
		if err := errors.Join(os.WriteFile(from, b, 0o600), os.WriteFile(to, []byte("keep"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := Write(context.Background(), Options{Image: from, Device: to}); !errors.Is(err, ErrImage) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(to); err != nil || string(got) != "keep" {
			t.Errorf("%s: it wrote: %v", name, err)
		}
	}
}

// A download that was broken off has a good beginning.
func TestAnImageThatWasCutOffIsNotTakenForAWholeOne(t *testing.T) {
	raw, packed, whole := disk(t)
	noise := make([]byte, len(whole)) // so that its compressed form has more than a block
	copy(noise, whole)
	for i, x := 2<<20, uint32(1); i < len(noise)-(1<<20); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packed, z.EncodeAll(noise, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{raw, packed} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{len(b) / 2, len(b) - 600, len(b) - 1} {
			cut := name + ".part"
			if err := os.WriteFile(cut, b[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(t.TempDir(), "to")
			if err := os.WriteFile(to, []byte("keep"), 0o600); err != nil {
				t.Fatal(err)
			}
			if r, err := Write(context.Background(), Options{Image: cut, Device: to}); !errors.Is(err, ErrImage) {
				t.Errorf("the first %d of %d bytes of %s: %+v, %v", n, len(b), filepath.Base(name), r, err)
			}
			if got, err := os.ReadFile(to); err != nil || string(got) != "keep" {
				t.Errorf("the first %d of %d bytes of %s: the medium lost what was on it: %v", n, len(b), filepath.Base(name), err)
			}
		}
	}
}

func TestADiskThatHasGotTheNameOfAnotherIsNotWritten(t *testing.T) {
	tree := machine(t, "", "")
	asked, err := lookAt(tree, "8:0")
	if err != nil || !asked.same(asked) {
		t.Fatalf("%+v, %v", asked, err)
	}
	for _, other := range []Medium{{Device: true, Bytes: asked.Bytes, Name: asked.Name, number: "8:16"}, {Device: true, Bytes: asked.Bytes, Name: "Other", number: "8:0"}, {Device: true, Bytes: 512, Name: asked.Name, number: "8:0"}, {}} {
		if other.same(asked) {
			t.Errorf("%+v passes for %+v", other, asked)
		}
	}
	raw, _, _ := disk(t)
	if _, err := Write(context.Background(), Options{Image: raw, Device: filepath.Join(t.TempDir(), "to"), Shown: &asked}); !errors.Is(err, ErrMedium) {
		t.Errorf("a file in place of the disk that was shown: %v", err)
	}
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := asked.is(f); !errors.Is(err, ErrMedium) {
		t.Errorf("an open file that is not the disk: %v", err)
	}
}

func TestAMediumThatIsTooSmallForAPackedImageIsKnownBefore(t *testing.T) {
	_, packed, _ := disk(t)
	in, n, err := openImage(packed)
	if err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}

func TestADeviceInTheImagesPlaceIsNotReadAsOne(t *testing.T) {
	for _, name := range []string{"/dev/zero", t.TempDir()} {
		if _, err := Check(Options{Image: name, Device: filepath.Join(t.TempDir(), "to")}); !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "the image comes first") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnImageIsNotWrittenOntoItself(t *testing.T) {
	raw, packed, _ := disk(t)
	for _, name := range []string{raw, packed} {
		link := name + ".link"
		if err := os.Link(name, link); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Check(Options{Image: name, Device: link}); !errors.Is(err, ErrMedium) {
			t.Errorf("%v", err)
		}
		if _, err := Write(context.Background(), Options{Image: name, Device: link}); !errors.Is(err, ErrMedium) {
			t.Errorf("%v", err)
		}
		if after, err := os.ReadFile(name); err != nil || !bytes.Equal(before, after) {
			t.Errorf("it is another one now: %v", err)
		}
	}
}

func TestACharacterDeviceOrAFolderIsNoMedium(t *testing.T) {
	raw, _, _ := disk(t)
	for _, device := range []string{"/dev/null", t.TempDir()} {
		if _, err := Write(context.Background(), Options{Image: raw, Device: device}); !errors.Is(err, ErrMedium) {
			t.Errorf("%s: %v", device, err)
		}
	}
	if _, err := Write(context.Background(), Options{Image: raw, Device: "/dev/no-such-disk"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a device that is not there: %v", err)
	}
}

// machine is a tree with a disk sda of two partitions, and a volume dm-0 on the second.
func machine(t *testing.T, mounts, swaps string) string {
	t.Helper()
	tree := t.TempDir()
	put := func(name, body string) {
		name = filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(body), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	sda := "sys/devices/pci0/block/sda/"
	put(sda+"dev", "8:0\n")
	put(sda+"size", "62333952\n")
	put(sda+"removable", "1\n")
	put(sda+"ro", "0\n")
	put(sda+"device/vendor", "Generic \n")
	put(sda+"device/model", "Card Reader\n")
	put(sda+"sda1/dev", "8:1\n")
	put(sda+"sda1/partition", "1\n")
	put(sda+"sda2/dev", "8:2\n")
	put(sda+"sda2/partition", "2\n")
	put("sys/devices/virtual/block/dm-0/dev", "253:0\n")
	put("sys/devices/virtual/block/dm-0/size", "100\n")
	put("proc/self/mountinfo", mounts)
	put("proc/swaps", "Filename Type Size\n"+swaps)
	for from, to := range map[string]string{
		"sys/dev/block/8:0": sda, "sys/dev/block/8:1": sda + "sda1", sda + "sda2/holders/dm-0": "sys/devices/virtual/block/dm-0",
	} {
		from = filepath.Join(tree, from)
		if err := errors.Join(os.MkdirAll(filepath.Dir(from), 0o755), os.Symlink(filepath.Join(tree, to), from)); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func TestADiskThatTheMachineUsesIsKnown(t *testing.T) {
	mount := func(number, place string) string {
		return fmt.Sprintf("22 1 254:0 / / rw - ext4 /dev/vda1 rw\n31 22 %s / %s rw,noatime - ext4 /dev/x rw\n", number, place)
	}
	for name, c := range map[string]struct{ mounts, swaps, want string }{
		"nothing of it":             {mount("8:16", "/mnt"), "/dev/sdb1 partition 100\n", ""},
		"a file system on the disk": {mount("8:0", "/mnt"), "", "sda, which is mounted on /mnt"},
		"one on a partition":        {mount("8:1", "/boot"), "", "sda1, which is mounted on /boot"},
		"one on a volume on it":     {mount("253:0", "/"), "", "dm-0, which is mounted on /"},
		"swap":                      {"", "/dev/sda2 partition 100 0 -2\n", "sda2, which is swap"},
	} {
		m, err := lookAt(machine(t, c.mounts, c.swaps), "8:0")
		if err != nil || !strings.Contains(strings.Join(m.Uses, "\n"), c.want) || (c.want == "") != (len(m.Uses) == 0) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if m.Bytes != 62333952*512 || m.Name != "Generic Card Reader" || !m.Removable {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if _, err := lookAt(machine(t, "", ""), "8:1"); !errors.Is(err, ErrMedium) || !strings.Contains(err.Error(), "/dev/sda") {
		t.Errorf("a partition: %v", err)
	}
}

func TestAStoppedWriteSaysSo(t *testing.T) {
	raw, _, _ := disk(t)
	ctx, stop := context.WithCancel(context.Background())
	_, err := Write(ctx, Options{Image: raw, Device: filepath.Join(t.TempDir(), "to"), Progress: func(part string, _, _ int64) {
		if part == "verify" {
			stop()
		}
	}})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "has no whole image") {
		t.Errorf("%v", err)
	}
}
