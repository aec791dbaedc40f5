package box

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/remote"
	"github.com/holdfast-edge/holdfast/hal/tpm"
	"github.com/holdfast-edge/holdfast/hal/tpm/tpmtest"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

const diskCanary = "the value that nobody finds on the disk"

// writesEncrypted runs a box twice and looks into its files.
func writesEncrypted(t *testing.T, c *config.Config) {
	t.Helper()
	stop := runBox(t, c)
	cl := dial(t, c, "unix://"+c.Native.Socket, coord.BoxID{})
	if _, err := cl.Put(t.Context(), []byte("key"), []byte(diskCanary)); err != nil {
		t.Fatal(err)
	}
	closeClient(t, cl)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(c.DataDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(diskCanary)) || bytes.Contains(data, []byte("box.start")) {
			t.Errorf("%s has what should not be seen", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	remembers(t, c)
}

func remembers(t *testing.T, c *config.Config) {
	t.Helper()
	stop := runBox(t, c)
	b, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if kv, err := b.Get(t.Context(), "key"); err != nil || string(kv.Value) != diskCanary {
		t.Errorf("after a restart: %q %v", kv.Value, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// refusedStart wants that a box does not start, says why, and leaves its directory alone.
func refusedStart(t *testing.T, c *config.Config, ask func(string) ([]byte, error), is error, says string) {
	t.Helper()
	before := listingOf(t, c.DataDir)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o := silent(c)
	o.Ask = ask
	err := Run(ctx, o)
	if err == nil || !errors.Is(err, is) || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v, want %v that says %q", err, is, says)
	}
	if listingOf(t, c.DataDir) != before {
		t.Error("the directory changed")
	}
}

func listingOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		b.WriteString(path)
		b.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func passphraseIn(t *testing.T, c *config.Config, text string) {
	t.Helper()
	c.Encryption.Key = "passphrase"
	c.Encryption.PassphraseFile = filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(c.Encryption.PassphraseFile, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestABoxWithAPassphraseWritesNothingInClear(t *testing.T) {
	c := newBox(t)
	passphraseIn(t, c, "seven words that nobody guesses")
	writesEncrypted(t, c)

	wrong := *c
	passphraseIn(t, &wrong, "another passphrase")
	refusedStart(t, &wrong, nil, crypt.ErrPassphrase, "wrong passphrase")
	off := *c
	off.Encryption.Key = "off"
	refusedStart(t, &off, nil, store.ErrSealed, "encryption.key")
	chip := *c
	chip.Encryption.Key = "tpm"
	refusedStart(t, &chip, nil, crypt.ErrKind, "rekey")
	gone := *c
	gone.Encryption.PassphraseFile += ".gone"
	refusedStart(t, &gone, nil, ErrPassphrase, "is its medium there?")
	if err := os.Chmod(c.Encryption.PassphraseFile, 0o644); err != nil {
		t.Fatal(err)
	}
	refusedStart(t, c, nil, ErrPassphrase, "chmod 600")

	// A person is asked, and may be wrong twice.
	asked := *c
	asked.Encryption.PassphraseFile = ""
	answers := 0
	refusedStart(t, &asked, func(string) ([]byte, error) { answers++; return []byte("no idea"), nil }, crypt.ErrPassphrase, "wrong passphrase")
	if answers != asksMax {
		t.Errorf("asked %d times", answers)
	}
	refusedStart(t, &asked, nil, ErrPassphrase, "nobody can be asked")
}

func TestABoxWithATPMStartsByItselfAndItsDiskOpensNowhereElse(t *testing.T) {
	c := newBox(t)
	device, _ := tpmtest.Start(t)
	c.TPM.Device, c.Encryption.Key = device, "tpm"
	writesEncrypted(t, c)
	thief := *c
	thief.TPM.Device, _ = tpmtest.Start(t)
	refusedStart(t, &thief, nil, tpm.ErrOther, "sealed by another TPM")
}

func TestAPassphraseIsReadAsALine(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"a passphrase\nmore", "a passphrase"}, {"a passphrase\r\n", "a passphrase"}, {"the end", "the end"}, {" spaces stay \n", " spaces stay "},
	} {
		var out bytes.Buffer
		got, err := AskPassphrase(strings.NewReader(tc.in), &out, "passphrase: ")
		if err != nil || string(got) != tc.want || out.String() != "passphrase: \n" {
			t.Errorf("%q: %q %v, %q was shown", tc.in, got, err, out.String())
		}
	}
	for _, in := range []string{"", strings.Repeat("x", 2000)} {
		if _, err := AskPassphrase(strings.NewReader(in), io.Discard, ""); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%d bytes: %v", len(in), err)
		}
	}
}
