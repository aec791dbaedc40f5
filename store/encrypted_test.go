package store_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// encryptedEnv tells a test binary that its directories are encrypted; its value is the cipher.
const encryptedEnv = "STORE_TEST_CIPHER"

// testChip stands for a TPM: what it gives is not secret.
type testChip struct{}

func (testChip) Seal(b []byte) ([]byte, error)   { return bytes.Clone(b), nil }
func (testChip) Unseal(b []byte) ([]byte, error) { return bytes.Clone(b), nil }

// testKeys are the keys of encrypted directories in tests: those of the process for new ones.
type testKeys struct{ key *crypt.Key }

func (testKeys) Unlock(r *crypt.Ring) (*crypt.Key, error) { return r.OpenTPM(testChip{}) }

func (k testKeys) Make() (*crypt.Ring, *crypt.Key, error) {
	r, err := k.key.WithTPM(testChip{})
	return r, k.key, err
}

// testKey is the process's key when the tests are run with encryption, nil otherwise.
var testKey = sync.OnceValue(func() *crypt.Key {
	if c := os.Getenv(encryptedEnv); c != "" {
		return crypt.NewKey(crypt.Cipher(c))
	}
	return nil
})

// encrypted are the options of an encrypted directory, when the tests are run with encryption.
func encrypted(o store.Options) store.Options {
	if k := testKey(); k != nil {
		o.Keys = testKeys{k}
		o = store.WithKey(o, k)
	}
	return o
}

// Every promise of the other tests holds with encryption too: power cuts, torn tails, damage, installs, the audit log.
// Left out are those that put bytes of their own into the files.
func TestEveryPromiseHoldsForAnEncryptedDirectory(t *testing.T) {
	if os.Getenv(encryptedEnv) != "" {
		t.Skip("this is the child")
	}
	args := []string{"-test.v", "-test.short", "-test.skip", "TestEveryPromiseHolds|TestAnEditOfTheFileIsNamed|TestABaseOfAnEarlierRelease|TestADirectoryThat|TestConver|TestExport"}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), encryptedEnv+"="+string(crypt.ChaCha))
	out, err := cmd.CombinedOutput()
	if n := strings.Count(string(out), "--- PASS"); err != nil || n < 50 {
		t.Fatalf("%d tests pass: %v\n%s", n, err, out)
	}
}
