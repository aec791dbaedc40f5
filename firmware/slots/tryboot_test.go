package slots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/store/faultfs"
)

// parcelOf is a kernel with what a Raspberry Pi wants beside it.
func parcelOf(t *testing.T, version string) []byte {
	t.Helper()
	files := map[string][]byte{}
	for _, name := range []string{ConfigFile, "kernel8.img", "overlays/a.dtbo", "pi-" + version + ".dtb"} {
		files[name] = content(version, name)
	}
	var b bytes.Buffer
	if err := WriteParcel(&b, files); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func piFiles(t *testing.T, version string) map[string]io.Reader {
	m := filesOf(version)
	m[Kernel] = bytes.NewReader(parcelOf(t, version))
	return m
}

// piFlashed is a card as an image has it: release 1 in slot a, good.
func piFlashed(t *testing.T) *faultfs.FS {
	t.Helper()
	f := faultfs.NewFAT()
	f.SetData(root+"/"+AutobootFile, Autoboot(A))
	for _, s := range []Slot{A, B} {
		f.SetData(path.Join(root, string(s), MarkFile), []byte(s+"\n"))
	}
	piInstall(t, f, A, Release{Version: "1", Blessed: true})
	return f
}

func piInstall(t *testing.T, f *faultfs.FS, s Slot, r Release) {
	t.Helper()
	if err := open(t, f).Install(context.Background(), s, r, piFiles(t, r.Version)); err != nil {
		t.Fatal(err)
	}
}

// piBoots is what a Raspberry Pi's loader does with a card, flagged or not: the partition that autoboot.txt says, and in it the files
// that config.txt names, whole, or a machine that stands still.
func piBoots(t *testing.T, f *faultfs.FS, flagged bool) (version string, s Slot) {
	t.Helper()
	text := f.Data(root + "/" + AutobootFile)
	if len(text) > 512 {
		t.Fatalf("autoboot.txt has %d bytes", len(text))
	}
	section, partition, ab := "all", "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if section != "all" && (section != "tryboot" || !flagged) {
			continue
		}
		switch key {
		case "boot_partition":
			partition = value
		case "tryboot_a_b":
			ab = value == "1"
		}
	}
	s, ok := map[string]Slot{"2": A, "3": B}[partition]
	if !ok || !ab {
		t.Fatalf("the loader goes nowhere with %q", text)
	}
	in := func(name string) []byte { return f.Data(path.Join(root, string(s), name)) }
	version, _, _ = strings.Cut(string(in(ConfigFile)), " ")
	for _, name := range []string{ConfigFile, "kernel8.img", "overlays/a.dtbo", "pi-" + version + ".dtb", Initrd} {
		if got := in(name); !bytes.Equal(got, content(version, name)) {
			t.Fatalf("the loader starts slot %s, whose %s is %d bytes that begin %.20q", s, name, len(got), got)
		}
	}
	if got, ok := Running(string(in(CmdlineFile))); !ok || got != s {
		t.Fatalf("the kernel of slot %s is told %q", s, in(CmdlineFile))
	}
	return version, s
}

func TestAPiTriesAReleaseOnceAndKeepsItWhenItIsBlessed(t *testing.T) {
	f := piFlashed(t)
	e := open(t, f)
	if arg, err := e.Restart(""); arg != "" || err != nil {
		t.Fatalf("with one release: %q %v", arg, err)
	}
	piInstall(t, f, B, Release{Version: "2", Tries: 3})
	if v, _ := piBoots(t, f, false); v != "1" {
		t.Fatalf("a start without the flag takes %s", v)
	}
	x, _, err := e.Entry(B)
	if err != nil || !x.Counted || x.Left != 1 {
		t.Fatalf("%+v %v: such a loader has one try", x, err)
	}
	if arg, err := e.Restart(""); arg != TryOnce || err != nil {
		t.Fatalf("%q %v", arg, err)
	}
	if v, _ := piBoots(t, f, true); v != "2" {
		t.Fatalf("the try takes %s", v)
	}
	// It comes back without a blessing, or is started again while it shows itself.
	if arg, err := e.Restart(""); arg != "" || err != nil {
		t.Fatalf("the same release is tried twice: %q %v", arg, err)
	}
	if x, _, err = e.Entry(B); err != nil || x.Bootable() || x.Done != 1 {
		t.Fatalf("%+v %v", x, err)
	}
	if err := e.Bless(B); err != nil {
		t.Fatal(err)
	}
	if v, s := piBoots(t, f, false); v != "2" || s != B {
		t.Fatalf("after the blessing: %s", v)
	}
	if arg, err := e.Restart(A); arg != TryOnce || err != nil {
		t.Fatalf("the other slot once: %q %v", arg, err)
	}
	if arg, err := e.Restart(B); arg != "" || err != nil {
		t.Fatalf("the default slot: %q %v", arg, err)
	}
	if err := e.Spoil(B, "slow"); err != nil {
		t.Fatal(err)
	}
	if v, _ := piBoots(t, f, false); v != "1" || e.Reason(B) != "slow" {
		t.Fatalf("after it was given up: %s", v)
	}
	piInstall(t, f, B, Release{Version: "3"})
	if left := f.Data(root + "/b/pi-2.dtb"); left != nil {
		t.Error("a device tree of another kernel is still there")
	}
	if err := e.Bless(A); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Restart(""); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Bless(B), e.Clear(A)); err != nil {
		t.Fatal(err)
	}
	if v, _ := piBoots(t, f, false); v != "3" {
		t.Fatalf("a slot that is cleared is not the loader's: %s", v)
	}
	if err := e.Clear(B); !errors.Is(err, ErrLast) {
		t.Fatal(err)
	}
}

// What can be done to a card, with what a machine may run after a power cut in the middle of it, and what when it is done.
func piChanges(t *testing.T) []struct {
	name           string
	before, change func(f *faultfs.FS, e *ESP) error
	may            []string
	then           string
} {
	ctx := context.Background()
	two := func(f *faultfs.FS, e *ESP) error { return e.Install(ctx, B, Release{Version: "2"}, piFiles(t, "2")) }
	tried := func(f *faultfs.FS, e *ESP) error {
		err := two(f, e)
		_, err2 := e.Restart("")
		return errors.Join(err, err2)
	}
	kept := func(f *faultfs.FS, e *ESP) error { return errors.Join(tried(f, e), e.Bless(B)) }
	return []struct {
		name           string
		before, change func(f *faultfs.FS, e *ESP) error
		may            []string
		then           string
	}{
		{"install over an older release", func(f *faultfs.FS, e *ESP) error {
			return errors.Join(e.Install(ctx, B, Release{Version: "0"}, piFiles(t, "0")), e.Bless(B))
		}, two, []string{"0", "1"}, "1"},
		{"the try begins", two, func(_ *faultfs.FS, e *ESP) error { _, err := e.Restart(""); return err }, []string{"1"}, "1"},
		{"bless", tried, func(_ *faultfs.FS, e *ESP) error { return e.Bless(B) }, []string{"1", "2"}, "2"},
		{"give up on trial", tried, func(_ *faultfs.FS, e *ESP) error { return e.Spoil(B, "because") }, []string{"1"}, "1"},
		{"give up what was kept", kept, func(_ *faultfs.FS, e *ESP) error { return e.Spoil(B, "because") }, []string{"1", "2"}, "1"},
	}
}

func TestAPowerCutAtAnyStepLeavesAPiASlotThatBoots(t *testing.T) {
	for _, c := range piChanges(t) {
		t.Run(c.name, func(t *testing.T) {
			cuts := 0
			for after := 0; ; after++ {
				done := false
				for seed := range uint64(12) {
					mode := []faultfs.Mode{faultfs.Lost, faultfs.Kept, faultfs.Torn}[min(seed, 2)]
					f := piFlashed(t)
					if err := c.before(f, open(t, f)); err != nil {
						t.Fatal(err)
					}
					e := open(t, f)
					f.CutAfter(after)
					err := c.change(f, e)
					if err != nil && !errors.Is(err, faultfs.ErrCut) {
						t.Fatal(err)
					}
					done = err == nil
					at := fmt.Sprintf("cut after %d operations, %v of them kept (seed %d)", after, mode, seed)
					g := f.Crash(mode, seed)
					if v, _ := piBoots(t, g, false); !slices.Contains(c.may, v) || done && v != c.then {
						t.Fatalf("%s, done %v: version %s runs", at, done, v)
					}
					// What the machine would be told to try has to be whole.
					h := g.Crash(faultfs.Kept, 0)
					arg, err := open(t, h).Restart("")
					if err != nil {
						t.Fatalf("%s: %v", at, err)
					}
					if arg != "" {
						piBoots(t, h.Crash(faultfs.Lost, 0), true)
					}
					if err := c.change(g, open(t, g)); err != nil {
						t.Fatalf("%s, again: %v", at, err)
					}
					if v, _ := piBoots(t, g.Crash(faultfs.Lost, 0), false); v != c.then {
						t.Fatalf("%s, and done again: version %s runs", at, v)
					}
					cuts++
				}
				if done {
					t.Logf("%d operations, %d cuts", after, cuts)
					return
				}
			}
		})
	}
}

func TestAPiWhoseSlotIsNotMountedOrWhoseLoaderSomebodyChangedIsNotWritten(t *testing.T) {
	f := piFlashed(t)
	if err := f.Remove(root + "/b/" + MarkFile); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFS(f, root); !errors.Is(err, ErrNoESP) {
		t.Fatalf("slot b is not mounted: %v", err)
	}
	f = piFlashed(t)
	e := open(t, f)
	f.SetData(root+"/"+AutobootFile, []byte("[all]\nboot_partition=2\n"))
	if _, err := e.Restart(""); !errors.Is(err, ErrSlot) {
		t.Fatalf("another autoboot.txt: %v", err)
	}
	if err := e.Install(context.Background(), B, Release{Version: "2"}, piFiles(t, "2")); !errors.Is(err, ErrNoESP) {
		t.Fatalf("another autoboot.txt: %v", err)
	}
	// One that is as long or longer is written over and keeps its length.
	f.SetData(root+"/"+AutobootFile, append(Autoboot(B), "\n\n# ours\n"...))
	if err := e.Install(context.Background(), B, Release{Version: "2"}, piFiles(t, "2")); err != nil {
		t.Fatal(err)
	}
	if v, _ := piBoots(t, f, false); v != "1" {
		t.Fatalf("version %s", v)
	}
	if err := e.Install(context.Background(), B, Release{Version: "3"}, filesOf("3")); !errors.Is(err, ErrParcel) {
		t.Fatalf("a kernel without device trees: %v", err)
	}
	if x, found, err := e.Entry(B); found || err != nil {
		t.Fatalf("it has an entry: %+v %v", x, err)
	}
}

func TestAParcelTakesNoNameThatLeadsElsewhere(t *testing.T) {
	for _, name := range []string{"", "/etc/passwd", "../x", "a/../x", "a/b/c", ".x", "a/.x", Kernel, "INITRD.IMG", Manifest, "Slot.txt", "a\nb", strings.Repeat("x", 65)} {
		if err := WriteParcel(io.Discard, map[string][]byte{name: nil}); !errors.Is(err, ErrParcel) {
			t.Errorf("%q: %v", name, err)
		}
	}
	var b bytes.Buffer
	if err := WriteParcel(&b, map[string][]byte{"kernel8.img": []byte("k")}); err != nil {
		t.Fatal(err)
	}
	if err := ReadParcel(bytes.NewReader(b.Bytes()), int64(b.Len()), func(string, []byte) error { return nil }); !errors.Is(err, ErrParcel) {
		t.Errorf("without config.txt: %v", err)
	}
}

func FuzzReadParcel(f *testing.F) {
	var b bytes.Buffer
	if err := WriteParcel(&b, map[string][]byte{ConfigFile: []byte("kernel=k\n"), "overlays/a.dtbo": []byte("x")}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		files, total := map[string][]byte{}, 0
		err := ReadParcel(bytes.NewReader(in), int64(len(in)), func(name string, body []byte) error {
			files[name] = body
			total += len(body)
			return nil
		})
		if err != nil {
			return
		}
		if total > parcelFilesMax*len(in) {
			t.Fatalf("%d bytes out of %d", total, len(in))
		}
		if err := WriteParcel(io.Discard, files); err != nil {
			t.Fatalf("what was read is no parcel: %v", err)
		}
	})
}
