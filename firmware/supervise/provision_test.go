package supervise

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
)

const staticFile = `name = "a"
[system]
hostname = "a"
[[network.interface]]
name = "eth0"
addresses = ["192.0.2.10/24"]
[provision]
found = true
`

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatTheBootMediumSaysHoldsFromThenOn(t *testing.T) {
	esp, dir := t.TempDir(), t.TempDir()
	put(t, filepath.Join(esp, provisionFile), staticFile)
	p, err := provision(esp, dir)
	if err != nil || p.file.Appliance.System.Hostname != "a" || !strings.Contains(p.said, "makes a site") {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := os.Stat(filepath.Join(esp, provisionFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the file is still there")
	}
	if again, err := provision(esp, dir); err != nil || again.said != "" || again.file.Appliance.Network.Interfaces[0].Addresses[0] != "192.0.2.10/24" {
		t.Errorf("the next start: %+v, %v", again, err)
	}
	// A damaged data partition: the boot medium still knows the network.
	if p, err := provision(esp, t.TempDir()); err != nil || len(p.file.Appliance.Network.Interfaces) != 1 {
		t.Errorf("without data: %+v, %v", p, err)
	}
	if w, err := readProvision(dir); err != nil || !w.Found {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestAnEmergencyHasTheNetworkThatSomebodyPutsOnTheBootMedium(t *testing.T) {
	esp, dir := t.TempDir(), t.TempDir()
	address := func() string {
		if n := readEmergency(dir, esp).Appliance.Network.Interfaces; len(n) == 1 && len(n[0].Addresses) == 1 {
			return n[0].Addresses[0]
		}
		return "DHCP"
	}
	if got := address(); got != "DHCP" {
		t.Errorf("nothing is known: %s", got)
	}
	put(t, filepath.Join(esp, appliedFile), staticFile)
	if got := address(); got != "192.0.2.10/24" {
		t.Errorf("what was applied before: %s", got)
	}
	put(t, filepath.Join(esp, provisionFile), strings.ReplaceAll(staticFile, "192.0.2.10", "192.0.2.11"))
	if got := address(); got != "192.0.2.11/24" {
		t.Errorf("what is there now: %s", got)
	}
	for _, text := range []string{"", "=", "\x00name = \"a\"\n"} {
		put(t, filepath.Join(esp, provisionFile), text)
		if got := address(); got != "192.0.2.10/24" {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func TestATokenIsNowhereOnTheBootMediumAfterUse(t *testing.T) {
	token := sampleToken(t)
	esp, dir := t.TempDir(), t.TempDir()
	put(t, filepath.Join(esp, provisionFile), "[provision]\ntoken = \""+token+"\"\nservers = [\"192.0.2.1:7500\"]\n")
	// The blocks of the file, by another name, as whoever reads the medium sees them.
	if err := os.Link(filepath.Join(esp, provisionFile), filepath.Join(esp, "blocks")); err != nil {
		t.Fatal(err)
	}
	if _, err := provision(esp, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"blocks", appliedFile} {
		b, err := os.ReadFile(filepath.Join(esp, name))
		if err != nil || bytes.Contains(b, []byte(token[:20])) {
			t.Errorf("%s has it: %v", name, err)
		}
	}
	w, err := readProvision(dir)
	if err != nil || strings.TrimSpace(w.Token) != token || len(w.Servers) != 1 {
		t.Errorf("the box does not have it: %+v, %v", w, err)
	}
}

func TestAFileWithAMistakeChangesNothingAndStays(t *testing.T) {
	esp, dir := t.TempDir(), t.TempDir()
	put(t, filepath.Join(esp, provisionFile), staticFile)
	if _, err := provision(esp, dir); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"[system]\nhostnam = \"b\"\n", "[system]\nhostname = \"-\"\n", "nme = \"b\"\n", "[provision]\ntoken = \"x\"\n", "[[network.interface]]\nname = \"eth0\"\naddresses = [\"192.0.2.1\"]\n", "="} {
		put(t, filepath.Join(esp, provisionFile), text)
		p, err := provision(esp, dir)
		if err == nil || p.file.Appliance.System.Hostname != "a" {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
		if b, err := os.ReadFile(filepath.Join(esp, provisionFile)); err != nil || string(b) != text {
			t.Errorf("%q is %q, %v", text, b, err)
		}
	}
}

func TestAnErasingThatWasCutIsFinished(t *testing.T) {
	esp, dir := t.TempDir(), t.TempDir()
	put(t, filepath.Join(esp, provisionFile), "\x00\x00\x00[provision]\ntoken = \"secret\"\n")
	if _, err := provision(esp, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(esp, provisionFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the rest of it is still there")
	}
}

func TestABoxInASiteIsNotTakenOutByAFile(t *testing.T) {
	esp, dir := t.TempDir(), t.TempDir()
	put(t, filepath.Join(dir, "site.json"), "{}")
	put(t, filepath.Join(esp, provisionFile), staticFile)
	p, err := provision(esp, dir)
	if err != nil || !strings.Contains(p.said, "in a site already") {
		t.Fatalf("%+v, %v", p, err)
	}
	if w, err := readProvision(dir); err != nil || w.Found {
		t.Errorf("%+v, %v", w, err)
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(staticFile))
	f.Add([]byte("[[network.interface]]\nname = \"*\"\nvlan = 3\non = \"eth0\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := settings.Parse(b)
		if err != nil {
			return
		}
		clean, err := s.Clean()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := settings.Parse(clean); err != nil {
			t.Fatalf("what is kept of %q is %q, which cannot be read: %v", b, clean, err)
		}
	})
}

func sampleToken(t *testing.T) string {
	t.Helper()
	k, err := join.NewToken(coord.Digest{1}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k.Text()
}
