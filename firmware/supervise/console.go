package supervise

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const consoleDevice = "/dev/console"

// console is the serial console or screen: what is logged goes there, and the menu is there. While somebody is in the menu
// the log waits, up to waitMax bytes; the oldest of it is dropped.
//
// A serial line is slow, and stands still when it is told to (XOFF, of a person or of noise on an open line): nobody waits for it. What is
// written is taken at once, up to outMax bytes, and of what is more the newest is dropped, with a word that it was.
type console struct {
	mu    sync.Mutex
	quiet bool
	waits []byte
	typed chan string // nil: nobody can type

	out     []byte        // on its way to the device
	dropped int           // bytes since the last that was taken
	more    chan struct{} // nil: there is no device yet; the word that there is something
	sent    chan struct{} // the word that all of it is there
	busy    bool          // the device has a part of it
}

const (
	// waitMax is a screen or two.
	waitMax = 16 << 10
	// outMax is what a line of 115,200 bits a second takes in 11 s.
	outMax = 128 << 10
	// pieceMax is what the device is given at a time.
	pieceMax = 4 << 10
)

// openConsole takes what the kernel gave, which is nothing where the initramfs has no /dev/console.
func openConsole() *console {
	c := new(console)
	var st unix.Stat_t
	if unix.Fstat(2, &st) == nil {
		c.attach(os.Stderr)
	}
	return c
}

// attach has what is written from now on go to w, which may stand still for ever. What the one before has not taken by then stays with it.
func (c *console) attach(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.more != nil {
		close(c.more)
	}
	c.more, c.sent, c.busy = make(chan struct{}, 1), make(chan struct{}, 1), false
	go c.send(w, c.more) // it ends with the machine: a write to a terminal cannot be taken back
	c.wake()
}

// send gives the device what is written. It is the only one who waits for it.
func (c *console) send(w io.Writer, more <-chan struct{}) {
	for range more {
		for {
			c.mu.Lock()
			if c.more != more {
				c.mu.Unlock()
				return
			}
			piece := append([]byte(nil), c.out[:min(len(c.out), pieceMax)]...)
			c.out = append(c.out[:0], c.out[len(piece):]...)
			c.busy = len(piece) > 0
			if !c.busy {
				select {
				case c.sent <- struct{}{}:
				default:
				}
			}
			c.mu.Unlock()
			if len(piece) == 0 {
				break
			}
			_, _ = w.Write(piece) // a console that cannot be written to must not stop the machine
		}
	}
}

// wake tells the sender that there is something; c.mu is held.
func (c *console) wake() {
	if c.more == nil {
		return
	}
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// put takes bytes for the device; c.mu is held. Without a device they wait for one, as the first lines of a start do.
func (c *console) put(b []byte) {
	switch {
	case len(b) == 0:
		return
	case len(c.out)+len(b) > outMax:
		c.dropped += len(b)
		return
	case c.dropped > 0:
		c.dropped = 0
		c.out = append(c.out, "\n[the console is slow: some of the log is not on it]\n"...)
	}
	c.out = append(c.out, b...)
	c.wake()
}

// reopen opens the console itself once /dev is there, and gives what Go's runtime writes at a panic a place.
func (c *console) reopen() {
	f, err := os.OpenFile(consoleDevice, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return // a machine without one
	}
	c.attach(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.typed == nil {
		c.typed = make(chan string)
		// It ends with the machine: a read of a terminal cannot be taken back.
		go readLines(f, c.typed)
	}
	for fd := range 3 {
		_ = unix.Dup3(int(f.Fd()), fd, 0) // without it the log still goes to f
	}
}

// Write never fails, and does not wait.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.quiet {
		c.put(b)
		return len(b), nil
	}
	if c.waits = append(c.waits, b...); len(c.waits) > waitMax {
		c.waits = append(c.waits[:0], c.waits[len(c.waits)-waitMax:]...)
	}
	return len(b), nil
}

// hush keeps the log back, or lets it go on.
func (c *console) hush(quiet bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet = quiet; !quiet {
		c.put(c.waits)
		c.waits = nil
	}
}

// print writes for people, also while the log waits.
func (c *console) print(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put([]byte(s))
}

// flush waits until the device has all of it, for a while.
func (c *console) flush(most time.Duration) {
	end := time.NewTimer(most)
	defer end.Stop()
	for {
		c.mu.Lock()
		done, sent := c.more == nil || len(c.out) == 0 && !c.busy, c.sent
		c.wake()
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-sent:
		case <-end.C:
			return
		}
	}
}

// lines gives what is typed; nil: there is no console.
func (c *console) lines() <-chan string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.typed
}
