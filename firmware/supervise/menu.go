package supervise

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/holdfast-edge/holdfast/firmware/slots"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"golang.org/x/sys/unix"
)

const (
	// menuIdle is after how long a menu that nobody uses lets the log go on.
	menuIdle = 2 * time.Minute
	// lineBytesMax bounds a line that somebody types.
	lineBytesMax = 256
	menuText     = `
  1 status     2 network     3 setup code     4 restart the coordinator
  5 start the machine again  6 power off      7 start the other slot once
  8 factory reset            9 crash reports  0 back to the log
> `
)

// readLines gives what is typed at a terminal, line by line, until it can no longer be read. Of a line that is too long the rest is dropped.
func readLines(r io.Reader, lines chan<- string) {
	b := bufio.NewReaderSize(r, lineBytesMax)
	for {
		line, more, err := b.ReadLine()
		if err != nil {
			return
		}
		text := string(line)
		for more && err == nil {
			_, more, err = b.ReadLine()
		}
		lines <- text
	}
}

// menu serves the rescue menu on the console until ctx ends. Who is at the console stands beside the box: no code is asked for.
func (m *machine) menu(ctx context.Context) {
	lines := m.console.lines()
	if lines == nil {
		return
	}
	idle := time.NewTimer(menuIdle)
	defer idle.Stop()
	defer m.console.hush(false)
	open := false
	var confirm func(line string) // what the next line is an answer to
	for {
		select {
		case <-ctx.Done():
			return
		case <-idle.C:
			if open {
				m.console.print("\nThe menu is closed; Enter opens it.\n")
				open, confirm = false, nil
				m.console.hush(false)
			}
		case line := <-lines:
			idle.Reset(menuIdle)
			line = strings.TrimSpace(line)
			if !open {
				open = true
				m.console.hush(true)
				m.console.print(banner(m.status()) + menuText)
				continue
			}
			if confirm != nil {
				f := confirm
				confirm = nil
				f(line)
				m.console.print(menuText)
				continue
			}
			text := ""
			if text, open, confirm = m.choose(line); !open {
				m.console.print(text + "\n")
				m.console.hush(false)
				continue
			} else if confirm != nil {
				m.console.print(text)
				continue
			}
			m.console.print(text + menuText)
		}
	}
}

// choose does what a line of the menu says. open: the menu stays; confirm: the next line is for it.
func (m *machine) choose(line string) (text string, open bool, confirm func(string)) {
	wish := func(a act) string {
		if !m.wish(a) {
			return "The machine is busy.\n"
		}
		return "Being done.\n"
	}
	sure := func(a act) func(string) {
		return func(line string) {
			if line != "yes" {
				m.console.print("Nothing was done.\n")
				return
			}
			m.console.print(wish(a))
		}
	}
	s := m.status()
	switch line {
	case "", "?":
		return "", true, nil
	case "0", "q":
		return "", false, nil
	case "1":
		return statusText(s), true, nil
	case "2":
		return networkText(s), true, nil
	case "3":
		return "The setup code is " + m.code() + "\n", true, nil
	case "4":
		return wish(actRestart), true, nil
	case "5":
		return "The machine starts again. Type yes to do so: ", true, sure(actReboot)
	case "6":
		return "The machine is switched off, and somebody has to come to switch it on. Type yes to do so: ", true, sure(actPowerOff)
	case "7":
		if err := m.otherOnce(s.Slot); err != nil {
			return "Not done: " + err.Error() + "\n", true, nil
		}
		return "The other slot starts once, at the next start. " + wish(actReboot), false, nil
	case "8":
		return "Everything on this box is removed: its key, its place in the site, its data.\nType its name, " + s.Hostname + ", to do so: ", true, func(line string) {
			if line != s.Hostname {
				m.console.print("That is not its name; nothing was done.\n")
				return
			}
			m.console.print(wish(actReset))
		}
	case "9":
		if len(s.Crashes) == 0 {
			return "There are none.\n", true, nil
		}
		return crashText(dataDir, s.Crashes[0]), true, nil
	}
	return "There is no " + line + ".\n", true, nil
}

// banner says where the machine is.
func banner(s status.Status) string {
	url := consoleURL(&s)
	if url == "" {
		url = "no address yet"
	}
	return fmt.Sprintf("\n%s, release %s, %s: %s\n", s.Hostname, s.Version, s.Mode, url)
}

func statusText(s status.Status) string {
	var b strings.Builder
	line := func(k, format string, args ...any) { fmt.Fprintf(&b, "%-12s %s\n", k, fmt.Sprintf(format, args...)) }
	line("mode", "%s %s", s.Mode, s.Reason)
	line("release", "%s, board %s, slot %s", s.Version, s.Board, s.Slot)
	line("up", "%s", time.Since(s.Booted).Round(time.Second))
	line("coordinator", "process %d, answers: %v, started again %d times", s.Coordinator.PID, s.Coordinator.Answers, s.Coordinator.Restarts)
	line("data", "%s, %d MiB, recovered: %v, errors: %d", s.Data.Device, s.Data.Bytes>>20, s.Data.Recovered, s.Data.Errors)
	line("watchdog", "%s %s %s", s.Watchdog.Name, s.Watchdog.Timeout, s.Watchdog.Error)
	line("clock", "%s, from %s", time.Now().UTC().Format(time.DateTime), s.Clock.From)
	if s.Provisioned != "" {
		line("boot medium", "%s", s.Provisioned)
	}
	line("crashes", "%d", len(s.Crashes))
	return b.String()
}

func networkText(s status.Status) string {
	var b strings.Builder
	for _, l := range s.Network.Links {
		fmt.Fprintf(&b, "%-10s %s up: %v %s %s %s\n", l.Name, l.MAC, l.Up, strings.Join(l.Addresses, " "), l.From, l.Error)
	}
	fmt.Fprintf(&b, "name servers %s\n", strings.Join(s.Network.Nameservers, " "))
	return b.String()
}

// crashShown is how much of a report fits on a screen or two.
const crashShown = 4 << 10

func crashText(dir string, c status.Crash) string {
	r, err := crash.Read(dir, c.File)
	if err != nil {
		return err.Error() + "\n"
	}
	// The reason is where the dump begins, behind the last lines.
	at := max(0, dumpAt(r.Text)-crashShown/4)
	text := r.Text[at:]
	return fmt.Sprintf("%s, %s, after %s\n%s\n", r.At.UTC().Format(time.DateTime), r.How, r.After.Round(time.Second), text[:min(len(text), crashShown)])
}

// otherOnce tells the loader to start the other slot at the next start, once.
func (m *machine) otherOnce(slot string) error {
	if m.esp == "" {
		return errors.New("there is no system partition")
	}
	e, err := slots.Open(m.esp)
	if err != nil {
		return err
	}
	x, found, err := e.Entry(slots.Slot(slot).Other())
	if err != nil {
		return err
	}
	switch {
	case !found:
		return errors.New("the other slot is empty")
	case !x.Bootable():
		return fmt.Errorf("the release in the other slot was given up: %s", cmp.Or(e.Reason(x.Slot), "it did not come up"))
	}
	if e.Tryboot() {
		m.mu.Lock()
		m.other = x.Slot
		m.mu.Unlock()
		return nil
	}
	return setEFI(efivarsDir, oneShot, x.FileName())
}

const (
	efivarsDir = "/sys/firmware/efi/efivars"
	// oneShot is systemd-boot's variable (the Boot Loader Interface): an entry to start once.
	oneShot = "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	// bootCounted is there when the loader counts this start (Boot Loader Interface, LoaderBootCountPath).
	bootCounted = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	// bootPartition names the partition that the loader was on (Boot Loader Interface, LoaderDevicePartUUID).
	bootPartition = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	// efiKept is non-volatile, and there for the loader and for us (UEFI 2.10, 8.2).
	efiKept = 0x7
)

// setEFI sets a variable to a text, in one write as efivarfs wants it: attributes, then UTF-16 with a NUL.
func setEFI(dir, name, text string) error {
	b := []byte{efiKept, 0, 0, 0}
	for _, u := range append(utf16.Encode([]rune(text)), 0) {
		b = append(b, byte(u), byte(u>>8))
	}
	at := filepath.Join(dir, name)
	if f, err := os.Open(at); err == nil { // one that is there is protected against being removed by mistake
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0) // the write says if it is not allowed
		_ = f.Close()
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("EFI variable: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("EFI variable: %w", err)
	}
	return nil
}

// bootedFrom is the GUID of the partition that the loader was on; "" where it does not say so.
func bootedFrom(efi string) string {
	b, err := readBounded(filepath.Join(efi, bootPartition))
	if err != nil || len(b) < 4 || len(b)%2 != 0 {
		return ""
	}
	var units []uint16
	for i := 4; i < len(b); i += 2 { // behind the attributes
		units = append(units, uint16(b[i])|uint16(b[i+1])<<8)
	}
	return strings.TrimRight(string(utf16.Decode(units)), "\x00")
}
