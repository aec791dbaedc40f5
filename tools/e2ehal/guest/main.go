// Command guest is the only program of a machine that tools/e2ehal boots: it sets up what an init
// has to, runs its checks of hal and hal/linux on that kernel, prints a line for each, and ends the
// machine. Where it can, it judges by another way than the one that hal reads: debugfs, its own
// reading of /proc/interrupts, or what the machine outside of it does.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
)

// The other end of the network (tools/e2ehal/machine.go).
const (
	nic       = "eth0"
	nicRSS    = "eth1" // nothing goes over it: QEMU loses packets of a card that spreads by hash
	addr      = "192.0.2.2"
	echoAddr  = "192.0.2.1:22000"
	floodAddr = ":22001"
	// echoCount is a quarter of what the other end sends: some may be lost.
	echoCount = 16
)

// settle is long: the processors of this machine are programs that share two of another.
const settle = 15 * time.Second

const checkMost = 120 * time.Second

func main() {
	switch {
	case os.Getenv(victimEnv) != "":
		victim()
	case filepath.Base(os.Args[0]) == "irqbalance":
		forever() // a process of that name
	case os.Getpid() != 1:
		fmt.Fprintln(os.Stderr, "guest is the init of a machine of its own")
		os.Exit(1)
	}
	err := setUp()
	s := &suite{dir: "/run/hal"}
	if err == nil {
		err = s.open()
	}
	if err != nil {
		fmt.Println("INFO set up:", err)
	} else if parameter("hf.machine") == "raspi3b" {
		s.run(s.raspi3())
	} else {
		s.run(s.rock5B(), "watchdog-bites")
		s.bite()
	}
	fmt.Println("DONE")
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	forever() // where nothing can switch it off, the other side does
}

// forever does not end, nor is it a deadlock to the runtime, as a bare select is.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

// setUp does what an init has to: file systems, modules, the network.
func setUp() error {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}, {"debugfs", "/sys/kernel/debug"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(order)) {
		f, err := os.Open("/modules/" + name)
		if err != nil {
			return err
		}
		flags := 0
		if strings.HasSuffix(name, ".xz") {
			flags = unix.MODULE_INIT_COMPRESSED_FILE
		}
		err = unix.FinitModule(int(f.Fd()), "", flags)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	if _, err := os.Stat("/sys/class/net/" + nic); err != nil {
		return nil // a machine without
	}
	return address()
}

// address gives the interface its address (man 7 netdevice).
func address() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, name := range []string{"lo", nic} {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if name == nic {
			if err := r.SetInet4Addr(net.ParseIP(addr).To4()); err != nil {
				return err
			}
			if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r); err != nil {
				return fmt.Errorf("%s: address: %w", name, err)
			}
		}
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
			return fmt.Errorf("%s: up: %w", name, err)
		}
	}
	return nil
}

// parameter is one of the kernel's, "" without.
func parameter(name string) string {
	b, _ := os.ReadFile("/proc/cmdline")
	for word := range strings.FieldsSeq(string(b)) {
		if v, ok := strings.CutPrefix(word, name+"="); ok {
			return v
		}
	}
	return ""
}

// suite is what the checks share.
type suite struct {
	dir   string
	root  *linux.Root
	port  *linux.Port
	facts *hal.Facts
	board boards.Board
	why   string
	plan  hal.Plan
}

// check is one: what it returns is said beside its name, an error is its failure.
type check struct {
	name string
	do   func(context.Context) (string, error)
}

func (s *suite) open() (err error) {
	if s.root, err = linux.Open("/", nil); err != nil {
		return err
	}
	s.port = linux.NewPort(s.root)
	s.port.Witness = s.witness
	s.port.Settle = settle
	s.facts = s.root.Probe()
	all, err := boards.All()
	if err != nil {
		return err
	}
	s.board, s.why, err = boards.Find(all, s.facts.Machine)
	return err
}

// run runs the checks; others are those that the other side makes.
func (s *suite) run(list []check, others ...string) {
	names := others
	for _, c := range list {
		names = append(names, c.name)
	}
	fmt.Println("CHECKS", strings.Join(names, " "))
	for _, c := range list {
		ctx, cancel := context.WithTimeout(context.Background(), checkMost)
		detail, err := protect(ctx, c.do)
		cancel()
		result := "PASS"
		if err != nil {
			result, detail = "FAIL", strings.TrimSpace(err.Error()+" "+detail)
		}
		fmt.Printf("CHECK %s %s %s\n", c.name, result, strings.Join(strings.Fields(detail), " "))
	}
}

// protect makes a panic an error: the checks behind it still run.
func protect(ctx context.Context, do func(context.Context) (string, error)) (detail string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return do(ctx)
}

// witness asks the other end for packets on a socket of its own, and says where they came in.
func (s *suite) witness(ctx context.Context, _ string) (map[int]int, error) {
	c, err := net.Dial("udp", echoAddr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write([]byte("echo")); err != nil {
		return nil, err
	}
	return linux.Incoming(ctx, c.(*net.UDPConn), echoCount, time.Now().Add(settle))
}

// values reads the places that a plan is about, as a snapshot.
func (s *suite) values(ctx context.Context, changes []hal.Change) (map[hal.Target]string, error) {
	m := map[hal.Target]string{}
	for _, c := range changes {
		v, err := s.port.Read(ctx, c.Target)
		if err != nil {
			return nil, err
		}
		m[c.Target] = v
	}
	return m, nil
}

// journal is a new one.
func (s *suite) journal(name string) (linux.Journal, error) {
	return linux.NewJournal(filepath.Join(s.dir, name))
}

// same says whether all places have the values of a snapshot again.
func (s *suite) same(ctx context.Context, before map[hal.Target]string) error {
	var all error
	for t, was := range before {
		now, err := s.port.Read(ctx, t)
		if err == nil && now != was {
			err = fmt.Errorf("%s is %q and was %q", t, now, was)
		}
		all = errors.Join(all, err)
	}
	return all
}

// want is an error when a condition does not hold.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// interrupts reads /proc/interrupts: per number its action's name and its counts by CPU.
func interrupts() (names map[int]string, counts map[int]map[int]uint64, err error) {
	b, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		return nil, nil, err
	}
	names, counts = map[int]string{}, map[int]map[int]uint64{}
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	var cpus []int
	for w := range strings.FieldsSeq(string(head)) {
		n, err := strconv.Atoi(strings.TrimPrefix(w, "CPU"))
		if err != nil {
			return nil, nil, err
		}
		cpus = append(cpus, n)
	}
	for line := range strings.Lines(string(rest)) {
		w := strings.Fields(line)
		n, err := strconv.Atoi(strings.TrimSuffix(w[0], ":"))
		if err != nil || len(w) < len(cpus)+2 {
			continue
		}
		names[n], counts[n] = w[len(w)-1], map[int]uint64{}
		for i, cpu := range cpus {
			if counts[n][cpu], err = strconv.ParseUint(w[1+i], 10, 64); err != nil {
				return nil, nil, err
			}
		}
	}
	return names, counts, nil
}

// sysfs reads a file of sysfs without hal.
func sysfs(p string) string {
	b, err := os.ReadFile(p)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// self is this program again, as another process.
func self(ctx context.Context, as string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/init")
	cmd.Args[0] = as
	cmd.Env = env
	return cmd
}
