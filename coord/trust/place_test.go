package trust_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// chip is a TPM for tests: it gives back only what it sealed itself.
type chip struct {
	mask [32]byte
	lies bool
}

var errChip = errors.New("not of this chip")

func newChip() *chip {
	c := new(chip)
	_, _ = rand.Read(c.mask[:])
	return c
}

func (c *chip) Seal(secret []byte) ([]byte, error) {
	out := bytes.Clone(c.mask[:])
	for i := range out {
		out[i] ^= secret[i]
	}
	sum := sha256.Sum256(append(bytes.Clone(c.mask[:]), out...))
	return append(out, sum[:]...), nil
}

func (c *chip) Unseal(sealed []byte) ([]byte, error) {
	if len(sealed) != 64 || sha256.Sum256(append(bytes.Clone(c.mask[:]), sealed[:32]...)) != [32]byte(sealed[32:]) {
		return nil, errChip
	}
	out := bytes.Clone(sealed[:32])
	for i := range out {
		out[i] ^= c.mask[i]
	}
	if c.lies {
		out[0] ^= 1
	}
	return out, nil
}

func with(place trust.KeyPlace, c *chip) trust.KeyOptions {
	return trust.KeyOptions{Place: place, TPM: func() (trust.Sealer, error) {
		if c == nil {
			return nil, errors.New("no chip")
		}
		return c, nil
	}}
}

func opened(t *testing.T, dir string, o trust.KeyOptions) *trust.Identity {
	t.Helper()
	id, err := trust.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func refused(t *testing.T, dir string, o trust.KeyOptions, is error, says string) {
	t.Helper()
	before := listing(t, dir)
	_, err := trust.Open(dir, o)
	if !errors.Is(err, is) || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v, want %v that says %q", err, is, says)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("a refused start changed the directory from %s to %s", before, after)
	}
}

// listing is the names and contents of a directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	var names []string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		h.Write(data)
		names = append(names, e.Name())
	}
	return strings.Join(names, " ") + string(h.Sum(nil))
}

func TestANewBoxUsesTheTPMWhenThereIsOne(t *testing.T) {
	for _, tc := range []struct {
		place trust.KeyPlace
		chip  *chip
		want  trust.KeyPlace
	}{
		{trust.KeyAuto, newChip(), trust.KeyInTPM},
		{trust.KeyAuto, nil, trust.KeyInFile},
		{trust.KeyInTPM, newChip(), trust.KeyInTPM},
		{trust.KeyInFile, newChip(), trust.KeyInFile},
		{"", newChip(), trust.KeyInFile},
	} {
		dir := t.TempDir()
		first := opened(t, dir, with(tc.place, tc.chip))
		again := opened(t, dir, with(tc.place, tc.chip))
		if first.Place() != tc.want || again.Place() != tc.want || first.ID() != again.ID() {
			t.Errorf("%q: %v in %q, then %v in %q", tc.place, first.ID(), first.Place(), again.ID(), again.Place())
		}
		if tc.want == trust.KeyInTPM && strings.Contains(listing(t, dir), trust.KeyFile) {
			t.Errorf("%q: the key is in a file too", tc.place)
		}
	}
	refused(t, t.TempDir(), with(trust.KeyInTPM, nil), trust.ErrKeySealed, `identity.key to "auto" or "file"`)
}

func TestAKeyNeverMovesByItself(t *testing.T) {
	inFile, inChip, c := t.TempDir(), t.TempDir(), newChip()
	opened(t, inFile, with(trust.KeyInFile, nil))
	opened(t, inChip, with(trust.KeyInTPM, c))
	if opened(t, inFile, with(trust.KeyAuto, c)).Place() != trust.KeyInFile {
		t.Error("auto moved a key that was in a file")
	}
	refused(t, inFile, with(trust.KeyInTPM, c), trust.ErrKeyPlace, "identity seal")
	refused(t, inChip, with(trust.KeyInFile, c), trust.ErrKeyPlace, "identity unseal")
	refused(t, inChip, with("", nil), trust.ErrKeyPlace, "identity unseal")
}

// A box whose TPM does not answer must not take a new name: it would be a stranger to its site.
func TestABoxWhoseTPMIsGoneOrAnotherSaysSoAndMakesNoNewKey(t *testing.T) {
	dir := t.TempDir()
	id := opened(t, dir, with(trust.KeyAuto, newChip()))
	refused(t, dir, with(trust.KeyAuto, nil), trust.ErrKeySealed, id.ID().String())
	refused(t, dir, with(trust.KeyAuto, newChip()), errChip, "replace the box")
	refused(t, dir, with(trust.KeyInTPM, newChip()), trust.ErrKeySealed, "replace the box")
}

func TestASealedKeyFileIsReadWholeOrNotAtAll(t *testing.T) {
	c := newChip()
	for name, spoil := range map[string]func([]byte) []byte{
		"cut":           func(b []byte) []byte { return b[:len(b)/2] },
		"empty":         func([]byte) []byte { return nil },
		"more behind":   func(b []byte) []byte { return append(b, b...) },
		"unknown field": func(b []byte) []byte { return bytes.Replace(b, []byte(`"format"`), []byte(`"x": 1, "format"`), 1) },
		"format":        func(b []byte) []byte { return bytes.Replace(b, []byte(`"format": 1`), []byte(`"format": 2`), 1) },
		"box":           func(b []byte) []byte { return bytes.Replace(b, []byte(`"box": "`), []byte(`"box": "0`), 1) },
		"too long":      func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), 9<<10)...) },
	} {
		dir := t.TempDir()
		opened(t, dir, with(trust.KeyInTPM, c))
		path := filepath.Join(dir, trust.SealedKeyFile)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, spoil(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := trust.Open(dir, with(trust.KeyInTPM, c)); !errors.Is(err, trust.ErrKeyDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	opened(t, dir, with(trust.KeyInTPM, c))
	if err := os.Chmod(filepath.Join(dir, trust.SealedKeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, with(trust.KeyInTPM, c), trust.ErrKeyMode, "chmod 600")
	// A chip that gives another key than the file names.
	dir = t.TempDir()
	opened(t, dir, with(trust.KeyInTPM, c))
	c.lies = true
	refused(t, dir, with(trust.KeyInTPM, c), trust.ErrKeyDamaged, "not the one that it names")
}

func TestAKeyThatTheTPMDoesNotGiveBackIsNotEntrustedToIt(t *testing.T) {
	c := newChip()
	c.lies = true
	refused(t, t.TempDir(), with(trust.KeyInTPM, c), trust.ErrKeySealed, "another secret than it took")
	dir := t.TempDir()
	opened(t, dir, with(trust.KeyInFile, nil))
	if _, err := trust.SealKey(dir, c); !errors.Is(err, trust.ErrKeySealed) {
		t.Fatal(err)
	}
	opened(t, dir, with(trust.KeyAuto, nil))
}

func TestSealAndUnsealKeepTheBoxWhoItIs(t *testing.T) {
	dir, c := t.TempDir(), newChip()
	id := opened(t, dir, with(trust.KeyAuto, nil))
	for range 2 { // the second time there is nothing to do
		sealed, err := trust.SealKey(dir, c)
		if err != nil || sealed.ID() != id.ID() || sealed.Place() != trust.KeyInTPM {
			t.Fatal(sealed, err)
		}
	}
	if got := opened(t, dir, with(trust.KeyAuto, c)); got.ID() != id.ID() || got.Place() != trust.KeyInTPM {
		t.Fatal("sealed, it is another box")
	}
	for range 2 {
		back, err := trust.UnsealKey(dir, c)
		if err != nil || back.ID() != id.ID() || back.Place() != trust.KeyInFile {
			t.Fatal(back, err)
		}
	}
	if got := opened(t, dir, with(trust.KeyInFile, nil)); got.ID() != id.ID() {
		t.Fatal("unsealed, it is another box")
	}
	for _, move := range []func(string, trust.Sealer) (*trust.Identity, error){trust.SealKey, trust.UnsealKey} {
		if _, err := move(t.TempDir(), c); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("nothing to move: %v", err)
		}
	}
}

// A power cut between the two halves of a move leaves both files; the same command again ends it.
func TestAMoveThatWasCutIsFinishedByTheSameCommand(t *testing.T) {
	for name, move := range map[string]func(string, trust.Sealer) (*trust.Identity, error){"seal": trust.SealKey, "unseal": trust.UnsealKey} {
		dir, c := t.TempDir(), newChip()
		id := opened(t, dir, with(trust.KeyInFile, nil))
		key, err := os.ReadFile(filepath.Join(dir, trust.KeyFile))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trust.SealKey(dir, c); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, trust.KeyFile), key, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, with(trust.KeyAuto, c), trust.ErrKeyPlace, "being moved")
		got, err := move(dir, c)
		if err != nil || got.ID() != id.ID() {
			t.Fatalf("%s: %v %v", name, got, err)
		}
		opened(t, dir, with(trust.KeyAuto, c))
	}
	// Two keys that are not the same are not one that was being moved.
	dir, other, c := t.TempDir(), t.TempDir(), newChip()
	opened(t, dir, with(trust.KeyInTPM, c))
	opened(t, other, with(trust.KeyInFile, nil))
	if err := os.Rename(filepath.Join(other, trust.KeyFile), filepath.Join(dir, trust.KeyFile)); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, with(trust.KeyAuto, c), trust.ErrKeyPlace, "has two")
	for _, move := range []func(string, trust.Sealer) (*trust.Identity, error){trust.SealKey, trust.UnsealKey} {
		if _, err := move(dir, c); !errors.Is(err, trust.ErrKeyPlace) {
			t.Error(err)
		}
	}
}

// Whatever identity.tpm holds, reading it ends with an error or with the box that it names.
func FuzzSealedKey(f *testing.F) {
	dir := f.TempDir()
	if _, err := trust.Open(dir, with(trust.KeyInTPM, newChip())); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, trust.SealedKeyFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if box, public, err := trust.ParseSealed(data); err == nil && box != coord.BoxIDOf(public) {
			t.Fatalf("box %v from %q", box, data)
		}
	})
}
