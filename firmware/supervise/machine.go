package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/BurntSushi/toml"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/slots"
	"github.com/holdfast-edge/holdfast/firmware/supervise/crash"
	"github.com/holdfast-edge/holdfast/firmware/supervise/kmod"
	"github.com/holdfast-edge/holdfast/firmware/supervise/netconf"
	"github.com/holdfast-edge/holdfast/firmware/supervise/settings"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"github.com/holdfast-edge/holdfast/firmware/wholefile"
	"golang.org/x/sys/unix"
)

const (
	// addressMax is how long a box that has no site waits for an address before it starts without one.
	addressMax = 20 * time.Second
	// endMax is how long what runs beside the coordinator may take to end: leases are given back, which is one message each.
	endMax = 5 * time.Second
	// flushMax is how long the last words may take to the console.
	flushMax = 2 * time.Second
	// actsMax is how many wishes of people may wait; more are refused.
	actsMax = 8
)

// release is what the image says of itself, in /etc/holdfast/release.
type release struct {
	Version string    `toml:"version"`
	Board   string    `toml:"board"`
	Built   time.Time `toml:"built"`
}

// act is what somebody wants of the machine.
type act string

const (
	actReboot   act = "reboot"
	actPowerOff act = "poweroff"
	actRestart  act = "restart" // the coordinator
	actRetry    act = "retry"
	actReadOnly act = "read-only"
	actReset    act = "factory-reset"
)

// machine is the appliance while it runs.
type machine struct {
	log     *slog.Logger
	console *console
	program string
	release release
	acts    chan act
	booted  time.Time

	// esp is where the system partition is mounted; "": it is not. espDisk is the disk that has it.
	esp     string
	espDisk string
	modules *kmod.Index    // nil: there are none
	data    *dataPartition // nil: not mounted
	file    *settings.File
	dog     *dog // nil: not armed yet

	mu sync.Mutex
	st status.Status

	other slots.Slot // with mu; where somebody wants to go once, on boards whose loader is told as the machine ends

	// network is told when the machine has another address.
	address chan struct{}
	child   *child // only the coordinator's loop writes it, with mu
	once    string // the setup code of this start, when there is no other
}

// Main is the program as PID 1. It does not return: the machine ends with it.
func Main(version string) {
	console := openConsole()
	m := &machine{
		log: slog.New(slog.NewTextHandler(console, nil)), console: console, program: "/proc/self/exe", acts: make(chan act, actsMax),
		address: make(chan struct{}, 1), booted: time.Now(), release: release{Version: version}, file: settings.Default(),
	}
	how := m.run()
	m.end(how)
}

// waitMost waits for goroutines, for a while; false: some still run. A server of names that does not answer must not keep a machine up.
func waitMost(all *sync.WaitGroup, most time.Duration) bool {
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(most):
		return false
	}
}

// change changes what the machine says of itself, and writes it down.
func (m *machine) change(f func(s *status.Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.st)
	if err := status.Write(status.File, &m.st); err != nil {
		m.log.Debug("no status file", "err", err) // before /run is there
	}
}

// status is what the machine says of itself now.
func (m *machine) status() status.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.st
}

// wish asks for an act; false: too many wait.
func (m *machine) wish(a act) bool {
	select {
	case m.acts <- a:
		return true
	default:
		return false
	}
}

// run brings the machine up and keeps it until it is to end.
func (m *machine) run() act {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	mountEarly(m.log, early())
	m.console.reopen()
	signals := make(chan os.Signal, actsMax)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP)
	var all sync.WaitGroup
	defer func() {
		cancel()
		if !waitMost(&all, endMax) {
			m.log.Error("the machine ends although not all has ended")
		}
	}()
	all.Go(func() { reap(ctx, m.isChild) })
	all.Go(func() { m.listen(ctx, signals) })
	// Ctrl-Alt-Del comes as SIGINT in place of an end without warning.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		m.log.Warn("Ctrl-Alt-Del ends the machine at once", "err", err)
	}
	m.readRelease()
	m.loadModules()
	if e := efivars(); e.do() != nil {
		m.log.Info("no EFI variables")
	}
	all.Go(func() {
		watchPower(ctx, m.log, sysDir, "/dev", func() {
			m.log.Info("the power button")
			m.wish(actPowerOff)
		})
	})
	if err := linkRoot("/"); err != nil {
		m.log.Error("name resolution has no files", "err", err)
	}
	m.mountESP(ctx)
	clock := m.startClock()

	found, how := m.openData(ctx)
	if how != "" {
		return how
	}
	m.applySettings(found)
	host := m.setHostname()
	clock.read(dataDir)
	all.Go(func() { m.runNetwork(ctx, host) })
	all.Go(func() { clock.run(ctx, m, dataDir) })
	all.Go(func() { m.runMDNS(ctx, host) })
	all.Go(func() { m.menu(ctx) })
	if err := sealRoot(); err != nil {
		m.log.Error("the root is writable", "err", err)
	}
	return m.coordinate(ctx)
}

// listen turns signals into acts. Those of a restart, a halt and the power are what other inits take (busybox).
func (m *machine) listen(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			a := actReboot
			switch s {
			case syscall.SIGUSR1, syscall.SIGUSR2:
				a = actPowerOff
			case syscall.SIGHUP:
				a = actRestart
			}
			m.log.Info("a signal", "signal", s, "act", a)
			m.wish(a)
		}
	}
}

func (m *machine) readRelease() {
	var r release
	if _, err := toml.DecodeFile("/etc/holdfast/release", &r); err != nil {
		m.log.Warn("the image does not say what it is", "err", err)
		r.Version = m.release.Version
	}
	m.release = r
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		m.log.Error("no command line", "err", err)
	}
	slot, _ := slots.Running(string(cmdline))
	m.change(func(s *status.Status) {
		s.Mode, s.Version, s.Board, s.Slot, s.Booted = status.Starting, r.Version, r.Board, string(slot), m.booted
	})
}

// alwaysModules are what the rest needs and no device asks for.
func alwaysModules() []string {
	return []string{"ext4", "vfat", "nls_cp437", "nls_ascii", "efivarfs", "8021q", "af_packet", "evdev"}
}

// loadModules loads what the machine's devices ask for until nothing new shows up: a bus that is driven now has devices behind it.
func (m *machine) loadModules() {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		m.log.Error("no kernel release", "err", err)
		return
	}
	x, err := kmod.Open(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:])))
	if err != nil {
		m.log.Error("no kernel modules", "err", err)
		return
	}
	m.modules = x
	for _, n := range alwaysModules() {
		if err := x.Load(n); err != nil && !errors.Is(err, kmod.ErrUnknown) {
			m.log.Warn("a module is not loaded", "err", err)
		}
	}
	seen := map[string]bool{}
	loaded := 0
	for more := true; more; {
		more = false
		aliases, err := kmod.Devices("/sys")
		if err != nil {
			m.log.Error("no devices", "err", err)
			return
		}
		for _, a := range aliases {
			if seen[a] {
				continue
			}
			seen[a], more = true, true
			for _, n := range x.Match(a) {
				if err := x.Load(n); err != nil {
					if !errors.Is(err, unix.ENODEV) { // of a driver that looked and found nothing
						m.log.Warn("a module is not loaded", "err", err)
					}
					continue
				}
				loaded++
			}
		}
	}
	m.log.Info("modules are loaded", "devices", len(seen), "modules", loaded)
}

// coordinate runs the coordinator again and again until the machine is to end.
func (m *machine) coordinate(ctx context.Context) act {
	var back backoff
	restarts := 0
	m.awaitAddress(ctx)
	dog := m.armDog()
	var door *door // the emergency console, while the coordinator is not there
	defer func() { door.close() }()
	for {
		address := m.currentAddress()
		file, err := m.writeEffective(address)
		if err != nil {
			err = fmt.Errorf("the configuration cannot be used: %w", err)
			if m.giveUpTrial(err.Error()) { // a release that no longer knows a setting
				return actReboot
			}
			switch how := m.emergency(ctx, err, dog); how {
			case actReboot, actPowerOff:
				return how
			case actReset:
				m.reset(dog)
				return actReboot
			}
			continue
		}
		door.close()
		door = nil
		m.found(ctx, file, dog)
		m.sayWaits()
		c, err := m.startChild([]string{"run", "--config", file, "--log-level", "info"}, []string{"GOTRACEBACK=all", "HOME=/run", "TMPDIR=/tmp"})
		if err != nil {
			m.log.Error("the coordinator does not start", "err", err)
			if how := m.waitOut(ctx, back.ended(0), dog); how != "" {
				return how
			}
			continue
		}
		m.change(func(s *status.Status) {
			s.Coordinator = status.Coordinator{PID: c.pid(), Since: c.began, Restarts: restarts}
			if s.Mode != status.Trouble {
				s.Mode = status.Running
			}
		})
		how := m.attend(ctx, c, dog, address)
		m.setChild(nil)
		if how == actReboot || how == actPowerOff {
			return how
		}
		restarts++
		text := c.how()
		if text == "" { // asked to: at once
			continue
		}
		ran := time.Since(c.began)
		m.keepCrash(c, text, ran)
		pause := back.ended(ran)
		m.log.Error("the coordinator has ended", "how", text, "after", ran.Round(time.Millisecond), "again", pause)
		if back.trouble() {
			reason := fmt.Sprintf("the coordinator ended %d times in a row; the last time: %s", back.failures, text)
			m.change(func(s *status.Status) { s.Mode, s.Reason = status.Trouble, reason })
			if m.giveUpTrial(reason) {
				return actReboot
			}
			door = m.openDoor(reason, false)
		}
		if how := m.waitOut(ctx, pause, dog); how != "" {
			return how
		}
	}
}

// giveUpTrial says whether the release that runs is on trial, and then writes down why it does not pass: the loader takes the
// other one at the next start. One that was blessed stays: the other may be much older.
func (m *machine) giveUpTrial(reason string) bool {
	spoiled, err := giveUpTrial(m.esp, efivarsDir, slots.Slot(m.status().Slot), reason)
	if err != nil {
		m.log.Error("why this release is given up is not written down", "err", err)
	}
	if spoiled {
		m.log.Error("this release is on trial and is given up: the other one is started", "why", reason)
	}
	return spoiled
}

// giveUpTrial does so for a system partition mounted at esp, "" for none. A kernel that cannot even find it may lack the disk's driver: then
// the loader's variable in efi says that it counts this start, and it takes the other slot when the tries are used up.
func giveUpTrial(esp, efi string, slot slots.Slot, reason string) (bool, error) {
	_, err := os.Stat(filepath.Join(efi, bootCounted))
	counted := err == nil
	if esp == "" {
		return counted, nil
	}
	e, err := slots.Open(esp)
	if err != nil {
		return counted, err
	}
	all, err := e.Entries()
	if err != nil {
		return counted, err
	}
	trial, other := false, false
	for _, x := range all {
		trial = trial || x.Slot == slot && x.Counted
		other = other || x.Slot != slot && x.Bootable()
	}
	if !trial || !other {
		return false, nil
	}
	if err := e.Spoil(slot, reason); err != nil {
		return counted, err
	}
	return true, nil
}

// waitOut waits for the next start of the coordinator, during which the machine is as it should be, and gives what is to end it.
func (m *machine) waitOut(ctx context.Context, pause time.Duration, dog *dog) act {
	end := time.NewTimer(pause)
	defer end.Stop()
	feed := time.NewTicker(dog.every())
	defer feed.Stop()
	for {
		select {
		case <-ctx.Done():
			return actReboot
		case <-end.C:
			return ""
		case <-feed.C:
			dog.kick(m.log)
		case a := <-m.acts:
			switch a {
			case actReboot, actPowerOff:
				return a
			case actReset:
				m.reset(dog)
				return actReboot
			case actRestart, actRetry:
				return ""
			case actReadOnly: // only where the data is not mounted
			}
		}
	}
}

// startChild starts the program. The reaper knows of it before it can end: what it ended with would be lost otherwise.
func (m *machine) startChild(args, env []string) (*child, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := startChild(m.program, args, env, m.console)
	if err == nil {
		m.child = c
	}
	return c, err
}

func (m *machine) setChild(c *child) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.child = c
}

// isChild says whether a process is waited for by somebody else than the reaper.
func (m *machine) isChild(pid int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.child != nil && m.child.pid() == pid
}

func (m *machine) keepCrash(c *child, how string, ran time.Duration) {
	r := &crash.Report{At: time.Now(), How: how, After: ran, Version: m.release.Version, Text: c.tail.text()}
	if err := crash.Save(dataDir, r); err != nil {
		m.log.Error("no crash report", "err", err)
	}
	m.showCrashes()
}

func (m *machine) showCrashes() {
	list, err := crash.List(dataDir)
	if err != nil {
		m.log.Error("crash reports cannot be read", "err", err)
	}
	m.change(func(s *status.Status) {
		s.Crashes = nil
		for i := range list {
			s.Crashes = append(s.Crashes, status.Crash{File: list[i].File, At: list[i].At, How: list[i].How, After: list[i].After})
		}
	})
}

// writeEffective writes the configuration that the coordinator starts with.
func (m *machine) writeEffective(address string) (string, error) {
	facts := settings.Facts{DataDir: dataDir, Hostname: m.status().Hostname, Address: address}
	if !inSite(dataDir) {
		p, err := readProvision(dataDir)
		if err != nil {
			return "", err
		}
		if p.Token != "" {
			facts.TokenFile, facts.Servers = tokenFile(dataDir), p.Servers
		}
	}
	text, err := settings.Effective(m.file.Box, facts)
	if err != nil {
		return "", err
	}
	file := filepath.Join(runDir, "holdfast.toml")
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return "", err
	}
	scheme, port, err := consoleOf(text)
	if err != nil {
		return "", err
	}
	m.change(func(s *status.Status) { s.Scheme, s.Port = scheme, port })
	return file, wholefile.Replace(file, text, 0o600)
}

// awaitAddress waits for an address when the box is to be let into a site, which has to be told where it is.
func (m *machine) awaitAddress(ctx context.Context) {
	if inSite(dataDir) {
		return
	}
	end := time.NewTimer(addressMax)
	defer end.Stop()
	for !m.settled() {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			if m.currentAddress() == "" {
				m.log.Warn("no address yet; the box starts without one")
			}
			return
		case <-m.address:
		}
	}
}

func (m *machine) settled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.st.Network.Settled()
}

func (m *machine) currentAddress() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.st.Network.Address()
}

func (m *machine) runNetwork(ctx context.Context, host string) {
	n := &netconf.Manager{Network: m.file.Appliance.Network, Hostname: host, Log: m.log, Changed: func(s netconf.State) {
		if err := writeNames("/run", host, &s); err != nil {
			m.log.Error("name servers are not set", "err", err)
		}
		m.mu.Lock()
		was := m.st.Network.Address()
		m.mu.Unlock()
		m.change(func(st *status.Status) { st.Network = s })
		if now := s.Address(); now != was {
			st := m.status()
			m.log.Info("the machine's address", "address", now, "console", consoleURL(&st))
		}
		select {
		case m.address <- struct{}{}:
		default:
		}
	}}
	for {
		err := n.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		m.log.Error("the network has to be set up again", "err", err)
		if pauseOr(ctx, restartMin, nil) && ctx.Err() != nil {
			return
		}
	}
}

// consoleURL is where people look at the machine now: at its coordinator's console, or while that is not there at the emergency console.
// It is empty while the machine has no address.
func consoleURL(s *status.Status) string {
	address := s.Network.Address()
	if address == "" {
		return ""
	}
	scheme, port := s.Scheme, s.Port
	if s.Mode == status.Emergency || scheme == "" {
		scheme, port = "https", settings.ConsolePort
	}
	return scheme + "://" + joinHost(address, port) + "/"
}

// consoleOf is how the console of a configuration is reached.
func consoleOf(text []byte) (scheme, port string, err error) {
	c, err := config.Parse(text)
	if err != nil {
		return "", "", err
	}
	scheme = "http"
	if c.Console.Secure() {
		scheme = "https"
	}
	_, port, err = net.SplitHostPort(c.Console.Listen)
	return scheme, port, err
}

// sayWaits tells whoever is at the console how the box comes into a site, if it waits for somebody to bring it into one.
func (m *machine) sayWaits() {
	if inSite(dataDir) {
		return
	}
	s := m.status()
	url := consoleURL(&s)
	if url == "" {
		url = "its console, once it has an address"
	}
	m.console.print(fmt.Sprintf("\n*** %s is in no site yet. Join or found one at %s (setup code %s)\n\n", s.Hostname, url, m.code()))
}

// end stops what still runs, lets go of the disks and ends the machine.
func (m *machine) end(how act) {
	m.change(func(s *status.Status) { s.Mode = status.Stopping })
	m.log.Info("the machine ends", "how", how)
	tell := ""
	if how != actPowerOff && m.esp != "" {
		var err error
		if tell, err = m.tellLoader(); err != nil {
			m.log.Error("the loader is told nothing", "err", err)
		}
	}
	unix.Sync()
	unmount(m.log, espDir, filepath.Join(espDir, string(slots.A)), filepath.Join(espDir, string(slots.B)), dataDir)
	unix.Sync()
	cmd := unix.LINUX_REBOOT_CMD_RESTART
	if how == actPowerOff {
		cmd = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	if tell != "" {
		m.log.Info("the loader is told", "argument", tell)
		m.console.flush(flushMax)
		if err := restartWith(tell); err != nil {
			m.log.Error("the machine does not end with that", "err", err)
		}
	}
	m.console.flush(flushMax)
	if err := unix.Reboot(cmd); err != nil {
		m.log.Error("the machine does not end", "err", err)
		m.console.flush(flushMax)
	}
	os.Exit(1) // which makes the kernel panic, and start again after panic=5
}

// tellLoader is what the loader of a board that counts no tries has to be told as the machine starts again; empty: nothing.
func (m *machine) tellLoader() (string, error) {
	e, err := slots.Open(m.esp)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	once := m.other
	m.mu.Unlock()
	return e.Restart(once)
}

// restartWith starts the machine again and has the kernel pass an argument on to the loader (reboot(2)). It returns when that failed.
func restartWith(argument string) error {
	b, err := unix.BytePtrFromString(argument)
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	_, _, errno := unix.Syscall6(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_RESTART2, uintptr(unsafe.Pointer(b)), 0, 0)
	return fmt.Errorf("restart: %w", errno)
}

var _ io.Writer = (*console)(nil)
