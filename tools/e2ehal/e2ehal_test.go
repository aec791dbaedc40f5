package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cpio, the program, unpacks what the kernel is to unpack.
func TestAnInitramfsIsWhatCpioReads(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("needs cpio")
	}
	files := []file{
		{"init", 0o755, []byte("program")},
		{"modules/order", 0o644, []byte("a.ko\n")},
		{"a/b/c/empty", 0o600, nil},
		{"a/b/odd", 0o644, bytes.Repeat([]byte{7}, 1025)},
	}
	var b bytes.Buffer
	if err := writeInitramfs(&b, files); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "cpio", "-i", "--no-absolute-filenames", "--quiet")
	cmd.Dir, cmd.Stdin = dir, &b
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil || !bytes.Equal(got, f.body) {
			t.Errorf("%s: %q, %v", f.name, got, err)
		}
		if info, err := os.Stat(filepath.Join(dir, f.name)); err == nil && uint32(info.Mode().Perm()) != f.mode {
			t.Errorf("%s: mode %v", f.name, info.Mode())
		}
	}
}

func TestModulesComeBehindWhatTheyNeed(t *testing.T) {
	const dep = `kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/drivers/leds/leds-gpio.ko.xz:
`
	for _, c := range []struct{ names, want, err string }{
		{"virtio_net leds-gpio", "failover net_failover virtio_net leds_gpio", ""},
		{"leds_gpio net-failover virtio_net", "leds_gpio failover net_failover virtio_net", ""},
		{"gpio-pl061", "", ""},
		{"softdog", "", "no module softdog"},
	} {
		order, err := loadOrder(strings.NewReader(dep), "kernel/drivers/gpio/gpio-pl061.ko\n", strings.Fields(c.names))
		var names []string
		for _, f := range order {
			names = append(names, moduleName(f))
		}
		if got := strings.Join(names, " "); got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.names, got, err)
		}
	}
}

// What a guest did not get to is a failure, and so is one that said nothing.
func TestWhatWasNotReachedHasFailed(t *testing.T) {
	b := boot{machine: "m"}
	if got := b.missing(); len(got) != 1 || got[0].pass {
		t.Errorf("silence: %v", got)
	}
	b.line("CHECKS", "one two three")
	b.line("CHECK", "one PASS as it should be")
	b.line("CHECK", "two FAIL not so")
	if want := []outcome{{"m", "one", "as it should be", true}, {"m", "two", "not so", false}}; !slices.Equal(b.all, want) {
		t.Errorf("%v", b.all)
	}
	if got := b.missing(); len(got) != 1 || got[0].name != "three" || got[0].pass {
		t.Errorf("missing: %v", got)
	}
	if summary(append(b.all, b.missing()...)) == nil || summary(nil) == nil {
		t.Error("a failure is no error")
	}
}

func TestTheHostRefusesWhatItDoesNotKnow(t *testing.T) {
	var h host
	if h.do(context.Background(), "nonsense", &boot{}) == nil {
		t.Error("done")
	}
}

func TestTheKernelIsThePinnedOneOrTheNewestOfItsSeries(t *testing.T) {
	for _, c := range []struct {
		packages string
		want     string
	}{
		{"linux-image-6.12.200+deb12-arm64 linux-image-" + kernelRelease + " linux-image-6.12.99+deb12-arm64", kernelRelease},
		{"linux-image-6.12.99+deb12-arm64 linux-image-6.12.200+deb12-arm64 linux-image-6.12.199+deb12-arm64", "6.12.200+deb12-arm64"},
		{"linux-image-6.12.300+deb12-arm64-unsigned linux-image-6.12.301+deb12-rt-arm64 linux-image-6.13.1+deb12-arm64 linux-image-6.12.5+deb12-arm64", "6.12.5+deb12-arm64"},
		{"linux-image-6.1.0-20-arm64", ""},
	} {
		if got, err := choose(strings.Fields(c.packages)); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q %v, want %q", c.packages, got, err, c.want)
		}
	}
}
