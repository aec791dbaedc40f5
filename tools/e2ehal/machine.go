package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Addresses of the network between the machine and this side of it (RFC 5737).
const (
	hostAddr  = "192.0.2.1"
	echoAddr  = hostAddr + ":22000" // answers a datagram with echoCount of them, and greets connections
	floodAddr = "192.0.2.2:22001"   // of the machine: where the traffic goes
	tap       = "hf0"
	// tapRSS is the other end of a card that spreads flows by hash, which is only looked at: QEMU
	// 7.2 loses all packets of a flow at times when it does that in software.
	tapRSS    = "hf1"
	echoCount = 64
	// floods is the number of flows at a time: enough for every one of 4 queues to get some.
	floods = 32
	// floodEvery is long: a starved machine that is busy with packets polls, without an interrupt.
	floodEvery = 200 * time.Millisecond
)

// coresAt is where cores.S is loaded: reserved in rock-5b.dtso.
const coresAt = "0x7ff00000"

//go:embed machine/rock-5b.dtso
var rock5b string

//go:embed machine/cores.S
var cores string

// outcome is what became of one check.
type outcome struct {
	machine, name, detail string
	pass                  bool
}

// machine is one to boot.
type machine struct {
	name    string
	short   bool
	modules []string
	prepare func(ctx context.Context, dir string) error
	args    func(k kernel, dir string) []string // QEMU's; dir has what was built
	append  string
	most    time.Duration // until it has to be done: it takes a minute on two idle cores
}

var virt = []string{"-M", "virt,gic-version=3,virtualization=on", "-cpu", "cortex-a76", "-smp", "8,sockets=1,clusters=2,cores=4", "-m", "1024"}

var machines = []machine{
	{
		name:    "rock-5b",
		short:   true,
		modules: []string{"virtio_net", "virtio_blk", "leds-gpio", "ledtrig-timer", "softdog"},
		prepare: makeRock5B,
		args: func(_ kernel, dir string) []string {
			return append(virt[:len(virt):len(virt)],
				"-dtb", filepath.Join(dir, "rock-5b.dtb"),
				"-device", "loader,addr="+coresAt+",force-raw=on,file="+filepath.Join(dir, "cores.bin"),
				"-device", "loader,addr="+coresAt+",cpu-num=0",
				"-netdev", "tap,id=n0,ifname="+tap+",script=no,downscript=no,queues=4,vhost=off",
				"-device", "virtio-net-pci,netdev=n0,mq=on,vectors=10,romfile=,addr=1",
				"-netdev", "tap,id=n1,ifname="+tapRSS+",script=no,downscript=no,queues=4,vhost=off",
				"-device", "virtio-net-pci,netdev=n1,mq=on,rss=on,vectors=10,romfile=,addr=3",
				"-blockdev", "driver=null-co,node-name=d0,size=1048576,read-zeroes=on",
				"-device", "virtio-blk-pci,drive=d0,num-queues=4,addr=2")
		},
		append: "console=ttyAMA0",
		most:   8 * time.Minute,
	},
	{
		name:    "raspi3b",
		modules: []string{"bcm2835_thermal", "bcm2835_wdt", "leds-gpio"},
		args: func(k kernel, _ string) []string {
			return []string{"-M", "raspi3b", "-dtb", k.dtb("broadcom/bcm2837-rpi-3-b")}
		},
		append: "console=ttyAMA0",
		most:   8 * time.Minute,
	},
}

// makeRock5B writes the device tree and the code that gives the cores their identities.
func makeRock5B(ctx context.Context, dir string) error {
	bare := filepath.Join(dir, "virt.dtb")
	// The tree is the machine's without its devices on PCI, which are found by asking the bus.
	if err := run(ctx, dir, append([]string{"qemu-system-aarch64", "-nodefaults", "-display", "none", "-machine", "dumpdtb=" + bare}, virt...)...); err != nil {
		return err
	}
	chip, err := output(ctx, dir, "fdtget", "-tx", bare, "/pl061@9030000", "phandle")
	if err != nil {
		return err
	}
	overlay := filepath.Join(dir, "rock-5b.dtso")
	code := filepath.Join(dir, "cores.S")
	if err := errors.Join(
		os.WriteFile(overlay, []byte(strings.ReplaceAll(rock5b, "<PL061 ", "<0x"+chip+" ")), 0o644),
		os.WriteFile(code, []byte(cores), 0o644)); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"dtc", "-q", "-I", "dts", "-O", "dtb", "-o", "rock-5b.dtbo", overlay},
		{"fdtoverlay", "-i", bare, "-o", "rock-5b.dtb", "rock-5b.dtbo"},
		{"aarch64-linux-gnu-as", "-o", "cores.o", code},
		{"aarch64-linux-gnu-objcopy", "-O", "binary", "cores.o", "cores.bin"},
	} {
		if err := run(ctx, dir, args...); err != nil {
			return err
		}
	}
	return nil
}

// network makes this side of the network, in the namespace that this process is in.
func network(ctx context.Context) error {
	for _, args := range []string{
		"ip tuntap add dev " + tap + " mode tap multi_queue",
		"ip tuntap add dev " + tapRSS + " mode tap multi_queue",
		"ip addr add " + hostAddr + "/24 dev " + tap,
		"ip link set " + tap + " up",
	} {
		if err := run(ctx, "/", strings.Fields(args)...); err != nil {
			return err
		}
	}
	return nil
}

// boot boots a machine and returns what it has checked. What the guest prints is:
//
//	CHECKS name...            once: what it is going to check
//	CHECK name PASS|FAIL why  for each
//	HOST what                 something that this side has to do (see host.do)
//	INFO text                 for people
//	DONE                      at the end
func (m *machine) boot(ctx context.Context, k kernel, dir string) []outcome {
	fmt.Printf("== %s: Debian's Linux %s\n", m.name, k.release)
	ctx, cancel := context.WithTimeout(ctx, m.most)
	defer cancel()
	start := time.Now()
	since := func() time.Duration { return time.Since(start).Round(100 * time.Millisecond) }
	b := boot{machine: m.name, monitor: filepath.Join(dir, m.name+".monitor")}
	log, err := os.Create(filepath.Join(dir, m.name+".log"))
	if err != nil {
		return []outcome{{m.name, "boot", err.Error(), false}}
	}
	defer log.Close()
	args := append(m.args(k, dir),
		"-kernel", k.image(), "-initrd", filepath.Join(dir, m.name+".initrd"),
		"-append", fmt.Sprintf("%s loglevel=4 hf.machine=%s hf.now=%d", m.append, m.name, start.Unix()),
		"-nodefaults", "-display", "none", "-accel", "tcg,thread=multi", "-action", "reboot=shutdown",
		"-serial", "stdio", "-monitor", "unix:"+b.monitor+",server=on,wait=off")
	cmd := exec.CommandContext(ctx, "qemu-system-aarch64", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	cmd.Stderr = log
	console, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return []outcome{{m.name, "boot", err.Error(), false}}
	}
	h := host{}
	defer h.stop()
	for s := bufio.NewScanner(io.TeeReader(console, log)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "CHECKS", "CHECK", "INFO", "HOST", "DONE":
			fmt.Printf("%8v %s\n", since(), line)
		}
		if word == "HOST" {
			if err := h.do(ctx, rest, &b); err != nil {
				fmt.Printf("%8v this side: %v\n", since(), err)
			}
		}
		b.line(word, rest)
		if word == "DONE" && !b.dog || strings.Contains(line, "Kernel panic") {
			time.AfterFunc(2*time.Second, cancel)
		}
	}
	err = cmd.Wait()
	if b.dog {
		// Nothing but the watchdog ends this machine: a panic would halt it.
		detail := fmt.Sprintf("reset %v after it was armed for the last time", time.Since(b.dogAt).Round(100*time.Millisecond))
		if err != nil {
			detail = "no reset: " + err.Error()
		}
		fmt.Printf("%8v watchdog-bites: %s\n", since(), detail)
		b.all = append(b.all, outcome{m.name, "watchdog-bites", detail, err == nil})
	}
	return append(b.all, b.missing()...)
}

// boot is what a machine has said so far.
type boot struct {
	machine string
	monitor string // QEMU's socket
	wanted  []string
	all     []outcome
	dog     bool // it stops feeding its watchdog
	dogAt   time.Time
}

func (b *boot) line(word, rest string) {
	switch word {
	case "CHECKS":
		b.wanted = strings.Fields(rest)
	case "CHECK":
		name, rest, _ := strings.Cut(rest, " ")
		result, detail, _ := strings.Cut(rest, " ")
		b.all = append(b.all, outcome{b.machine, name, detail, result == "PASS"})
	}
}

// missing are the checks that were not reached.
func (b *boot) missing() []outcome {
	if len(b.wanted) == 0 {
		return []outcome{{b.machine, "boot", "the guest said nothing: see its log", false}}
	}
	var all []outcome
	for _, name := range b.wanted {
		if !contains(b.all, name) {
			all = append(all, outcome{b.machine, name, "not reached", false})
		}
	}
	return all
}

func contains(all []outcome, name string) bool {
	for _, o := range all {
		if o.name == name {
			return true
		}
	}
	return false
}

// host is what this side does for the machine.
type host struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// do does what the guest asks for.
func (h *host) do(ctx context.Context, what string, b *boot) error {
	switch what {
	case "traffic on":
		h.stop()
		ctx, h.cancel = context.WithCancel(ctx)
		return errors.Join(h.flood(ctx), h.echo(ctx))
	case "traffic off":
		h.stop()
		return nil
	case "press": // QEMU's power button is the device tree's setup button
		c, err := net.Dial("unix", b.monitor)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "system_powerdown\n"); err != nil {
			return err
		}
		// The monitor answers with its prompt before and behind the command; it drops what it has
		// not read yet when the other end is gone.
		if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		for r, seen := bufio.NewReader(c), 0; seen < 2; seen++ {
			if _, err := r.ReadString(')'); err != nil {
				return err
			}
		}
		return nil
	case "dog":
		b.dog, b.dogAt = true, time.Now()
		return nil
	}
	return fmt.Errorf("asked for %q", what)
}

func (h *host) stop() {
	if h.cancel != nil {
		h.cancel()
		h.wait.Wait()
		h.cancel = nil
	}
}

// flood sends small packets of many flows.
func (h *host) flood(ctx context.Context) error {
	for range floods {
		c, err := net.Dial("udp", floodAddr)
		if err != nil {
			return err
		}
		h.wait.Go(func() {
			defer c.Close()
			t := time.NewTicker(floodEvery)
			defer t.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
					_, _ = c.Write([]byte("flood")) // refused until the guest listens
				}
			}
		})
	}
	return nil
}

// echo answers every datagram with many, and greets every connection.
func (h *host) echo(ctx context.Context) error {
	c, err := net.ListenPacket("udp", echoAddr)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", echoAddr)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	h.wait.Go(func() {
		<-ctx.Done()
		c.Close()
		l.Close()
	})
	h.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello")) // the guest says what it got
			conn.Close()
		}
	})
	h.wait.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			for range echoCount {
				if _, err := c.WriteTo(buf[:n], from); err != nil {
					return
				}
				time.Sleep(2 * time.Millisecond) // a burst would be one interrupt
			}
		}
	})
	return nil
}
