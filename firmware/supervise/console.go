package supervise

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const consoleDevice = "/dev/console"

// console is the serial console or screen: what is logged goes there, and the menu is there. While somebody is in the menu
// the log waits, up to waitMax bytes; the oldest of it is dropped.
type console struct {
	mu    sync.Mutex
	f     *os.File
	quiet bool
	waits []byte
	typed chan string // nil: nobody can type
}

// waitMax is a screen or two.
const waitMax = 16 << 10

// openConsole takes what the kernel gave, which is nothing where the initramfs has no /dev/console.
func openConsole() *console {
	var st unix.Stat_t
	if unix.Fstat(2, &st) != nil {
		return &console{}
	}
	return &console{f: os.Stderr}
}

// reopen opens the console itself once /dev is there, and gives what Go's runtime writes at a panic a place.
func (c *console) reopen() {
	f, err := os.OpenFile(consoleDevice, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return // a machine without one
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.f = f
	if c.typed == nil {
		c.typed = make(chan string)
		// It ends with the machine: a read of a terminal cannot be taken back.
		go readLines(f, c.typed)
	}
	for fd := range 3 {
		_ = unix.Dup3(int(f.Fd()), fd, 0) // without it the log still goes to f
	}
}

// Write never fails: a console that cannot be written to must not stop the machine.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.quiet:
		if c.waits = append(c.waits, b...); len(c.waits) > waitMax {
			c.waits = append(c.waits[:0], c.waits[len(c.waits)-waitMax:]...)
		}
	case c.f != nil:
		_, _ = c.f.Write(b)
	}
	return len(b), nil
}

// hush keeps the log back, or lets it go on.
func (c *console) hush(quiet bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet = quiet; !quiet && c.f != nil {
		_, _ = c.f.Write(c.waits)
		c.waits = nil
	}
}

// print writes for people, also while the log waits.
func (c *console) print(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f != nil {
		_, _ = c.f.WriteString(s)
	}
}

// lines gives what is typed; nil: there is no console.
func (c *console) lines() <-chan string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.typed
}
