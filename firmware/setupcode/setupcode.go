// Package setupcode is the code with which somebody shows that they stand beside a box: it is in the data directory, for root, and on the
// serial console. With it one names the first operator, brings a box into a site, and chooses what becomes of a damaged one.
package setupcode

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/holdfast-edge/holdfast/firmware/wholefile"
)

const (
	// File is its name in the data directory.
	File = "setup.code"
	// lettersAll of base32 are 80 bits, in groups that a person can read out.
	lettersAll = 16
	group      = 4
)

// ErrDamaged says that the file has no code in it.
var ErrDamaged = errors.New("setup code: damaged")

// Of is the box's setup code, made when it is first asked for. Errors: ErrDamaged, and what the file system says.
func Of(dir string) (string, error) {
	path := filepath.Join(dir, File)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return create(path)
	}
	if err != nil {
		return "", fmt.Errorf("setup code: %w", err)
	}
	defer f.Close()
	const most = lettersAll + lettersAll/group
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fmt.Errorf("setup code: %w", err)
	}
	code := strings.TrimSpace(string(b))
	if len(code) != most-1 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567-") != "" {
		return "", fmt.Errorf("%w: remove %s for a new one", ErrDamaged, path)
	}
	return code, nil
}

func create(path string) (string, error) {
	letters := rand.Text() // 26 letters of base32
	var groups []string
	for i := 0; i < lettersAll; i += group {
		groups = append(groups, letters[i:i+group])
	}
	code := strings.Join(groups, "-")
	if err := wholefile.Replace(path, []byte(code+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("setup code: %w", err)
	}
	return code, nil
}

// Same says whether what somebody gave is the code want, however they wrote it: small letters, spaces, no dashes. It takes the same time
// whatever is wrong.
func Same(want, given string) bool {
	return subtle.ConstantTimeCompare([]byte(letters(want)), []byte(letters(given))) == 1
}

// letters is a code as it is compared.
func letters(code string) string {
	return strings.ToUpper(strings.Map(func(r rune) rune {
		if r == '-' || unicode.IsSpace(r) {
			return -1
		}
		return r
	}, code[:min(len(code), givenBytesMax)]))
}

// givenBytesMax bounds what is compared.
const givenBytesMax = 128
