package trust_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

func TestABoxKeepsItsNameAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	first, err := trust.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := trust.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID() != again.ID() || first.ID() != coord.BoxIDOf(first.PublicKey()) {
		t.Fatalf("names %s, then %s", first.ID(), again.ID())
	}
	info, err := os.Stat(filepath.Join(dir, trust.KeyFile))
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("key file: mode %v, error %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("directory holds %v, want the key alone (error %v)", entries, err)
	}
}

func TestFirstStartsAtOnceAgreeOnOneName(t *testing.T) {
	dir := t.TempDir()
	var names [8]coord.BoxID
	var wg sync.WaitGroup
	for i := range names {
		wg.Go(func() {
			id, err := trust.LoadOrCreate(dir)
			if err != nil {
				t.Error(err)
				return
			}
			names[i] = id.ID()
		})
	}
	wg.Wait()
	for _, n := range names {
		if n != names[0] {
			t.Fatalf("names differ: %v", names)
		}
	}
}

func TestNoNewNameWhenTheDirectoryIsMissing(t *testing.T) {
	_, err := trust.LoadOrCreate(filepath.Join(t.TempDir(), "not-mounted"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error %v, want fs.ErrNotExist", err)
	}
}

func TestAKeyThatOthersCanReachIsRefused(t *testing.T) {
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o700, 0o644} {
		dir := t.TempDir()
		if _, err := trust.LoadOrCreate(dir); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, trust.KeyFile)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := trust.LoadOrCreate(dir)
		if !errors.Is(err, trust.ErrKeyMode) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: error %v, want ErrKeyMode and the command that mends it", mode, err)
		}
	}
}

func TestADamagedKeyIsRefusedAndLeftAlone(t *testing.T) {
	p256 := pkcs8(t, elliptic.P256())
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaDER, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(p256)
	flipped[60] ^= 1
	for name, content := range map[string]string{
		"empty":           "",
		"not PEM":         "hello",
		"truncated":       p256[:len(p256)/2],
		"a bit flipped":   string(flipped),
		"another curve":   pkcs8(t, elliptic.P384()),
		"another kind":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rsaDER})),
		"another form":    strings.ReplaceAll(p256, "PRIVATE KEY", "EC PRIVATE KEY"),
		"two keys":        p256 + p256,
		"longer than any": p256 + strings.Repeat("\n", 8<<10),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, trust.KeyFile)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := trust.LoadOrCreate(dir)
			if !errors.Is(err, trust.ErrKeyDamaged) || !strings.Contains(err.Error(), "restore it from a backup") {
				t.Fatalf("error %v, want ErrKeyDamaged and what to do", err)
			}
			if left, err := os.ReadFile(path); err != nil || string(left) != content {
				t.Fatalf("the file was changed (error %v)", err)
			}
		})
	}
	t.Run("a directory", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, trust.KeyFile), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := trust.LoadOrCreate(dir); !errors.Is(err, trust.ErrKeyDamaged) {
			t.Fatalf("error %v, want ErrKeyDamaged", err)
		}
	})
}

func TestTheCertificateHoldsWhateverTheClockSays(t *testing.T) {
	ids, _ := newSite(t, 1)
	c := ids[0].Certificate()
	leaf := c.Leaf
	if !leaf.NotBefore.Equal(time.Unix(0, 0)) || leaf.NotAfter.Format(time.RFC3339) != "9999-12-31T23:59:59Z" {
		t.Errorf("valid from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
	if string(leaf.RawSubjectPublicKeyInfo) != string(ids[0].PublicKey()) {
		t.Error("the certificate's key is not the box's")
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		roots := x509.NewCertPool()
		roots.AddCert(leaf)
		for _, at := range []time.Time{time.Unix(60, 0), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("usage %v at %v: %v", usage, at, err)
			}
		}
	}
	if again := ids[0].Certificate(); &again.Certificate[0][0] != &c.Certificate[0][0] {
		t.Error("made a second certificate")
	}
}

// FuzzKeyFile: whatever identity.key holds, it is refused or is one P-256 key that can sign.
func FuzzKeyFile(f *testing.F) {
	p256 := pkcs8(f, elliptic.P256())
	f.Add([]byte(p256))
	f.Add([]byte(p256 + p256))
	f.Add([]byte(pkcs8(f, elliptic.P224())))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	digest := make([]byte, 32)
	f.Fuzz(func(t *testing.T, content []byte) {
		key, err := trust.ParseKey(content)
		if err != nil {
			return
		}
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest)
		if err != nil || key.Curve != elliptic.P256() || !ecdsa.VerifyASN1(&key.PublicKey, digest, sig) {
			t.Fatalf("a loaded key does not verify its own signature (error %v)", err)
		}
	})
}

func pkcs8(t testing.TB, curve elliptic.Curve) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
