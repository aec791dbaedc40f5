package tpm_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/holdfast-edge/holdfast/hal/tpm"
	"github.com/holdfast-edge/holdfast/hal/tpm/tpmtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func seal(t testing.TB, d *tpm.Device, secret []byte) []byte {
	t.Helper()
	b, err := d.Seal(secret)
	must(t, err)
	return b
}

var secret = []byte("thirty-two bytes of a private key")

func TestASealedSecretComesBackFromTheSameTPMOnly(t *testing.T) {
	path, _ := tpmtest.Start(t)
	d := tpm.New(path)
	must(t, d.Usable())
	sealed := seal(t, d, secret)
	if bytes.Contains(sealed, secret) {
		t.Fatal("the secret is in clear")
	}
	got, err := d.Unseal(sealed)
	must(t, err)
	if !bytes.Equal(got, secret) {
		t.Fatalf("%q comes back", got)
	}

	other, _ := tpmtest.Start(t)
	if _, err := tpm.New(other).Unseal(sealed); !errors.Is(err, tpm.ErrOther) {
		t.Fatalf("another TPM: %v", err)
	}
	// Not our comparison of names keeps the secret but the chip: with the other's name in the blob it refuses all the same.
	theirs := seal(t, tpm.New(other), secret)
	forged := bytes.Clone(sealed)
	const name = 12 // where the name of the storage root key begins
	copy(forged[name:name+34], theirs[name:name+34])
	if _, err := tpm.New(other).Unseal(forged); !errors.Is(err, tpm.ErrDamaged) {
		t.Fatalf("another TPM that takes it for its own: %v", err)
	}
}

// Each byte matters: whatever is flipped, nothing but the secret or an error comes out.
func TestADamagedSealIsRefused(t *testing.T) {
	path, _ := tpmtest.Start(t)
	d := tpm.New(path)
	sealed := seal(t, d, secret)
	for i := 0; i < len(sealed); i += 3 {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x10
		if got, err := d.Unseal(bad); err == nil {
			t.Errorf("byte %d flipped: %q", i, got)
		}
	}
	for _, n := range []int{0, 5, 11, 40, len(sealed) - 1} {
		if _, err := d.Unseal(sealed[:n]); !errors.Is(err, tpm.ErrDamaged) {
			t.Errorf("%d bytes of it: %v", n, err)
		}
	}
	if _, err := d.Unseal(append(bytes.Clone(sealed), 0)); !errors.Is(err, tpm.ErrDamaged) {
		t.Errorf("a byte behind it: %v", err)
	}
}

func TestATPMThatIsGoneIsSaidToBeGone(t *testing.T) {
	path, stop := tpmtest.Start(t)
	d := tpm.New(path)
	sealed := seal(t, d, secret)
	stop()
	if _, err := d.Unseal(sealed); !errors.Is(err, tpm.ErrAbsent) {
		t.Errorf("stopped: %v", err)
	}
	for _, p := range []string{filepath.Join(t.TempDir(), "nothing"), t.TempDir(), os.Args[0]} {
		if err := tpm.New(p).Usable(); !errors.Is(err, tpm.ErrAbsent) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestASecretBoundToPCRsOpensOnlyInTheMachineThatBootedTheSame(t *testing.T) {
	path, _ := tpmtest.Start(t)
	bound := seal(t, tpm.New(path, 16, 7), secret)
	free := seal(t, tpm.New(path), secret)
	d := tpm.New(path)
	got, err := d.Unseal(bound)
	must(t, err)
	if !bytes.Equal(got, secret) {
		t.Fatalf("%q comes back", got)
	}

	raw, err := linuxudstpm.Open(path)
	must(t, err)
	_, err = tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(16), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(raw)
	must(t, errors.Join(err, raw.Close()))

	if _, err := d.Unseal(bound); !errors.Is(err, tpm.ErrMachine) {
		t.Errorf("another kernel: %v", err)
	}
	if _, err := d.Unseal(free); err != nil {
		t.Errorf("what is bound to the chip only: %v", err)
	}
}

// A chip has room for three objects or so: what a call leaves there would soon end all calls.
func TestTheChipIsLeftAsItWas(t *testing.T) {
	path, _ := tpmtest.Start(t)
	d := tpm.New(path, 7)
	sealed := seal(t, d, secret)
	for range 8 {
		_, err := d.Unseal(sealed)
		must(t, err)
		seal(t, d, secret)
	}
}

func TestOnlyWhatFitsIsSealed(t *testing.T) {
	path, _ := tpmtest.Start(t)
	d := tpm.New(path)
	for _, n := range []int{0, tpm.SecretBytesMax + 1} {
		if _, err := d.Seal(make([]byte, n)); !errors.Is(err, tpm.ErrTooLong) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	long := bytes.Repeat([]byte{7}, tpm.SecretBytesMax)
	got, err := d.Unseal(seal(t, d, long))
	must(t, err)
	if !bytes.Equal(got, long) {
		t.Error("the longest secret comes back changed")
	}
}

func BenchmarkUnseal(b *testing.B) {
	path, _ := tpmtest.Start(b)
	d := tpm.New(path)
	sealed := seal(b, d, secret)
	for b.Loop() {
		_, err := d.Unseal(sealed)
		must(b, err)
	}
}
