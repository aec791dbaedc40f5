package box

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// consoleWait is how long a serial console whose other end holds it up is waited for.
const consoleWait = 2 * time.Second

// printTo writes to a terminal without becoming its session's.
func printTo(console, text string) error {
	f, err := os.OpenFile(console, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("box: serial console: %w", err)
	}
	if err := f.SetWriteDeadline(time.Now().Add(consoleWait)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return errors.Join(fmt.Errorf("box: serial console: %w", err), f.Close())
	}
	if _, err = io.WriteString(f, text); err != nil {
		err = fmt.Errorf("box: serial console: %w", err)
	}
	return errors.Join(err, f.Close())
}

const (
	setupFile = "setup.code"
	// setupLetters of base32 are 80 bits, in groups that a person can read out.
	setupLetters = 16
	setupGroup   = 4
)

// setupCode is the box's setup code, made when it is first asked for: who reads it stands beside
// the box. It is in the data directory, for root.
func setupCode(dir string) (string, error) {
	path := filepath.Join(dir, setupFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newSetupCode(path)
	}
	if err != nil {
		return "", fmt.Errorf("box: setup code: %w", err)
	}
	defer f.Close()
	const most = setupLetters + setupLetters/setupGroup
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fmt.Errorf("box: setup code: %w", err)
	}
	code := strings.TrimSpace(string(b))
	if len(code) != most-1 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567-") != "" {
		return "", fmt.Errorf("box: setup code: %w: %s is damaged; remove it for a new code", ErrDirectory, path)
	}
	return code, nil
}

func newSetupCode(path string) (string, error) {
	letters := rand.Text() // 26 letters of base32
	var groups []string
	for i := 0; i < setupLetters; i += setupGroup {
		groups = append(groups, letters[i:i+setupGroup])
	}
	code := strings.Join(groups, "-")
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("box: setup code: %w", err)
	}
	_, err = io.WriteString(f, code+"\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return "", fmt.Errorf("box: setup code: %w", err)
	}
	return code, nil
}
