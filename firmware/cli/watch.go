package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keyPoll is how long a look for a key takes at most, in tenths of a second: how late the program ends when it is told to.
	keyPoll = 1
	// The alternate screen leaves what was there before as it was; synchronized output (DEC private mode 2026) is shown at once where the
	// terminal knows it, and each line is written over the old one, so that nothing flickers where it does not.
	screenOpen  = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	screenClose = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	frameBegin  = "\x1b[?2026h\x1b[H"
	frameEnd    = "\x1b[J\x1b[?2026l"
)

// sizeOf is the terminal's columns and rows; 0 where it does not say.
func sizeOf(w io.Writer) (cols, rows int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

// live shows what draw gives, each interval, until ctx ends or q is pressed; anew at once when the terminal changes its size. What is not a
// terminal gets the lines one after the other.
func live(ctx context.Context, s *streams, every time.Duration, draw func(ctx context.Context, s style) []string) error {
	if every < 100*time.Millisecond {
		return fmt.Errorf("%w: --every %v; it is 100ms at least", errUsage, every)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	if !isTerminal(s.out) {
		for {
			lines := draw(ctx, styleOf(s.out))
			if ctx.Err() != nil {
				return nil
			}
			if _, err := fmt.Fprintf(s.out, "%s\n\n", strings.Join(lines, "\n")); err != nil {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
		}
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	keys, restore, err := rawKeys(ctx, s.in, quit)
	if err != nil {
		return err
	}
	defer func() { quit(); keys.Wait(); restore() }()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	if _, err := io.WriteString(s.out, screenOpen); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(s.out, screenClose) }() // the terminal may be gone
	for {
		if err := show(s.out, draw(ctx, styleOf(s.out))); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-resized:
		case <-ctx.Done():
			return nil
		}
	}
}

// show writes one screen over the one before.
func show(w io.Writer, lines []string) error {
	_, rows := sizeOf(w)
	if rows > 0 {
		lines = lines[:min(len(lines), rows)]
	}
	var b strings.Builder
	b.WriteString(frameBegin)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + "\x1b[K")
	}
	b.WriteString(frameEnd)
	_, err := io.WriteString(w, b.String())
	return err
}

// rawKeys reads keys as they are pressed, if in is a terminal, and calls quit for q, Q, escape or ctrl-D. Signals by keys (ctrl-C) stay what they
// are. restore puts the terminal back.
func rawKeys(ctx context.Context, in io.Reader, quit func()) (keys *sync.WaitGroup, restore func(), err error) {
	keys, restore = new(sync.WaitGroup), func() {}
	f, ok := in.(*os.File)
	if !ok {
		return keys, restore, nil
	}
	fd := int(f.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return keys, restore, nil // no terminal: it is read by nobody
	}
	raw := *was
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, keyPoll
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return keys, restore, fmt.Errorf("set the terminal: %w", err)
	}
	keys.Go(func() {
		var b [16]byte
		for ctx.Err() == nil {
			n, err := unix.Read(fd, b[:])
			if err != nil && !errors.Is(err, unix.EINTR) {
				return // the terminal is gone: signals tell the program
			}
			for _, k := range b[:max(n, 0)] {
				if k == 'q' || k == 'Q' || k == 4 || k == 27 && n == 1 {
					quit()
				}
			}
		}
	})
	return keys, func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) }, nil
}
