package boards

import (
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func all(t testing.TB) []Board {
	t.Helper()
	bs, err := All()
	if err != nil {
		t.Fatal(err)
	}
	return bs
}

func TestEveryBoardOfTheListHasAProfile(t *testing.T) {
	var got []string
	for _, b := range all(t) {
		got = append(got, b.ID)
	}
	want := []string{
		"generic-amd64", "generic-arm64", "jetson-orin-nano", "macchiatobin", "nanopi-r4s",
		"nanopi-r6s", "qemu-virt", "raspberry-pi-4", "raspberry-pi-5", "rock-5b",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEveryFactSaysWhereItWasLearned(t *testing.T) {
	for _, b := range all(t) {
		facts := b.Facts()
		if len(facts) < 3 {
			t.Errorf("%s: only the facts %v", b.ID, facts)
		}
		for _, f := range facts {
			if s, _ := b.Source(f); s == "" {
				t.Errorf("%s: %s has no source", b.ID, f)
			}
		}
		for key := range b.Provenance {
			c := b
			c.Provenance = map[string]string{}
			for k, v := range b.Provenance {
				if k != key && !strings.HasPrefix(key, k+".") {
					c.Provenance[k] = v
				}
			}
			if err := c.Check(); !errors.Is(err, ErrValue) {
				t.Errorf("%s: without the provenance of %s: %v, want ErrValue", b.ID, key, err)
			}
		}
	}
}

func TestTheMostSpecificNameDecides(t *testing.T) {
	bs := all(t)
	for _, c := range []struct {
		m         Machine
		want, why string
	}{
		{Machine{Compatible: []string{"raspberrypi,4-model-b", "brcm,bcm2711"}, Arch: "arm64"}, "raspberry-pi-4", "raspberrypi,4-model-b is the device tree's most specific"},
		{Machine{Compatible: []string{"marvell,armada8040-mcbin-doubleshot", "marvell,armada8040-mcbin", "marvell,armada8040"}, Arch: "arm64"}, "macchiatobin", "marvell,armada8040-mcbin is in"},
		{Machine{Compatible: []string{"nvidia,p3768-0000+p3767-0005", "nvidia,tegra234"}, Arch: "arm64"}, "jetson-orin-nano", "which nvidia,p3768-0000+p3767-* fits"},
		{Machine{Compatible: []string{"acme,router", "rockchip,rk3588"}, Arch: "arm64"}, "generic-arm64", "no profile knows acme,router"},
		{Machine{DMI: DMI{Vendor: "QEMU", Product: "KVM Virtual Machine"}, Arch: "arm64"}, "qemu-virt", "the firmware says QEMU / KVM Virtual Machine"},
		{Machine{DMI: DMI{Vendor: "Ampere", Product: "Mt. Jade"}, Arch: "arm64"}, "generic-arm64", "no profile knows Ampere / Mt. Jade"},
		{Machine{DMI: DMI{Vendor: "QEMU", Product: "KVM Virtual Machine"}, Arch: "amd64"}, "generic-amd64", "no profile knows QEMU"},
		{Machine{Arch: "amd64"}, "generic-amd64", "neither a device tree nor DMI"},
	} {
		b, why, err := Find(bs, c.m)
		if err != nil || b.ID != c.want || !strings.Contains(why, c.why) {
			t.Errorf("%v: %s because %q, %v; want %s because %q", c.m, b.ID, why, err, c.want, c.why)
		}
	}
	if _, _, err := Find(bs, Machine{Arch: "riscv64"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("an architecture without a profile: %v, want ErrUnknown", err)
	}
}

// A source that nobody can look up is none; which port is the WAN stands in no device tree of these boards.
func TestASourceCanBeLookedUp(t *testing.T) {
	number := regexp.MustCompile(`#\d+|https?://`)
	for _, b := range all(t) {
		for _, f := range b.Facts() {
			source, note := b.Source(f)
			if source == Issue && !number.MatchString(note) {
				t.Errorf("%s: %s: %q names no issue", b.ID, f, note)
			}
			if strings.HasPrefix(f, "nic.") && strings.HasSuffix(f, ".role") && source == DTB {
				t.Errorf("%s: %s is from a device tree", b.ID, f)
			}
		}
	}
}

func TestNoNameFitsTwoBoards(t *testing.T) {
	seen := map[string]string{}
	for _, b := range all(t) {
		for _, c := range b.Match.Compatible {
			if seen[c] != "" {
				t.Errorf("%s is %s and %s", c, seen[c], b.ID)
			}
			seen[c] = b.ID
		}
	}
}

func TestAProfileSurvivesEncoding(t *testing.T) {
	for _, b := range all(t) {
		text, err := Encode(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", b.ID, err, text)
		}
		if !reflect.DeepEqual(got, b) {
			t.Errorf("%s: got %+v, want %+v", b.ID, got, b)
		}
	}
}

func TestCoresAndPortsAreFoundByWhatTheyAre(t *testing.T) {
	for _, b := range all(t) {
		for name, c := range b.CPU {
			if got := b.Class(c.Implementer, c.Part); got != name {
				t.Errorf("%s: class of %s is %q, want %q", b.ID, c.Core, got, name)
			}
		}
		for name, n := range b.NIC {
			if got := b.NICAt(n.Bus, n.Port); got != name {
				t.Errorf("%s: %s is %q, want %q", b.ID, n.Bus, got, name)
			}
		}
		if b.Class(0x99, 0x999) != "" || b.NICAt("nowhere", 0) != "" {
			t.Errorf("%s knows a core or a port that is not there", b.ID)
		}
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	good, err := data.ReadFile("data/nanopi-r6s.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		old, new string
		want     error
	}{
		{"\n[budget]", "\ncolour = \"red\"\n[budget]", ErrSyntax},
		{"cache_line_bytes = 64", "cache_line_bytes = 65", ErrValue},
		{"cache_line_bytes = 64", "cache_line_bytes = \"64\"", ErrSyntax},
		{"part = 0xd05", "part = 0x1000", ErrValue},
		{`loop = ["big"]`, `loop = ["huge"]`, ErrValue},
		{`loop = ["big"]`, "", ErrValue},
		{`irqs_move = "yes"`, `irqs_move = "perhaps"`, ErrValue},
		{`bus = "0003:31:00.0"`, `bus = "0004:41:00.0"`, ErrValue},
		{`critical_c = 115`, `critical_c = 80`, ErrValue},
		{`names = ["sys_led"]`, `names = []`, ErrValue},
		{`led = "dtb"`, `led = "hearsay"`, ErrValue},
		{`led = "dtb"`, "led = \"dtb\"\nlid = \"dtb\"", ErrValue},
		{`"friendlyelec,nanopi-r6s"`, `"friendly*,nanopi-r6s"`, ErrValue},
	} {
		text := strings.Replace(string(good), c.old, c.new, 1)
		if text == string(good) {
			t.Fatalf("%q does not stand in the profile", c.old)
		}
		if _, err := Decode([]byte(text)); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.new, err, c.want)
		}
	}
	if _, err := Decode(make([]byte, fileBytesMax+1)); !errors.Is(err, ErrSyntax) {
		t.Errorf("an endless file: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	files, err := data.ReadDir("data")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range files {
		text, err := data.ReadFile("data/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := Decode(text)
		if err != nil {
			return
		}
		again, err := Encode(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("what was accepted is refused after Encode: %v\n%s", err, again)
		}
	})
}
