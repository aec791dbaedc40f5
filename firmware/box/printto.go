package box

import (
	"errors"
	"fmt"
	"io"
	"os"
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
