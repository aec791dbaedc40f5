package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/linux"
	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/gpio"
)

// lineSays is what debugfs says of a GPIO line: "out hi", "in lo"; "" when nobody holds it.
func lineSays(name string) string {
	for line := range strings.Lines(sysfs("/sys/kernel/debug/gpio")) {
		// " gpio-517 (OUT                 |holdfast            ) out hi ACTIVE LOW"
		_, rest, ok := strings.Cut(line, "("+name)
		who, state, ok2 := strings.Cut(rest, ")")
		if w := strings.Fields(state); ok && ok2 && len(w) >= 2 && strings.Contains(who, "|") && strings.TrimSpace(strings.TrimLeft(who, " |")) != "" {
			return w[0] + " " + w[1]
		}
	}
	return ""
}

// pinOf is a line by a role that the board's profile does not have: these pins are QEMU's.
func (s *suite) pinOf(role string, at boards.Pin) (gpio.PinIO, error) {
	b := s.board
	b.Pin = map[string]boards.Pin{role: at}
	return linux.NewPins(s.root, &b).ByRole(role)
}

// pin writes a line by role, in both senses, and has debugfs and the pin itself say what it is.
func (s *suite) pin(line string) (string, error) {
	for low, says := range map[bool][2]string{false: {"out lo", "out hi"}, true: {"out hi", "out lo"}} {
		at := boards.Pin{Line: line, ActiveLow: low}
		p, err := s.pinOf("alarm", at)
		if err != nil {
			return "", err
		}
		for i, l := range []gpio.Level{gpio.Low, gpio.High, gpio.Low, gpio.High} {
			if err := p.Out(l); err != nil {
				return "", err
			}
			got := lineSays(line)
			if err := errors.Join(
				want(p.Read() == l, "written %v, read back %v", l, p.Read()),
				want(got == says[i%2], "active low %v, written %v, debugfs says %q", low, l, got)); err != nil {
				return "", errors.Join(err, p.Halt())
			}
		}
		again, err := s.pinOf("alarm", at)
		if err != nil {
			return "", err
		}
		busy := again.Out(gpio.Low)
		if err := errors.Join(p.Halt(),
			want(errors.Is(busy, unix.EBUSY) && strings.Contains(busy.Error(), "holdfast"), "a held line was given away: %v", busy),
			want(lineSays(line) == "", "still held after Halt: %q", lineSays(line))); err != nil {
			return "", err
		}
	}
	return "line " + line + " by role, active high and low, four levels each, read back and in debugfs; a held line is refused with its holder", nil
}

// button waits for the edge that the other side makes.
func (s *suite) button(context.Context) (string, error) {
	p, err := s.pinOf("setup", boards.Pin{Line: "SETUP"})
	if err != nil {
		return "", err
	}
	defer p.Halt()
	if err := p.In(gpio.PullNoChange, gpio.RisingEdge); err != nil {
		return "", err
	}
	if err := want(!p.WaitForEdge(200*time.Millisecond), "an edge that nobody made"); err != nil {
		return "", err
	}
	start := time.Now()
	fmt.Println("HOST press")
	if err := want(p.WaitForEdge(10*time.Second), "no edge in 10 s"); err != nil {
		return "", err
	}
	return fmt.Sprintf("QEMU's power button came as an edge of line SETUP after %v", time.Since(start).Round(time.Millisecond)), nil
}

// led switches the profile's status light.
func (s *suite) led(context.Context) (string, error) {
	role, ok := s.board.LED["status"]
	if err := want(ok, "the profile has no status light"); err != nil {
		return "", err
	}
	l, err := s.root.LED(role)
	if err != nil {
		return "", err
	}
	at := "/sys/class/leds/" + role.Names[0] + "/"
	before := sysfs(at + "trigger")
	for _, on := range []bool{true, false, true} {
		if err := l.Set(on); err != nil {
			return "", err
		}
		level, bright := "out lo", "0"
		if on {
			level, bright = "out hi", sysfs(at+"max_brightness")
		}
		if err := errors.Join(
			want(lineSays("STATUS") == level, "set to %v, its line is %q", on, lineSays("STATUS")),
			want(sysfs(at+"brightness") == bright, "set to %v, its brightness is %s", on, sysfs(at+"brightness"))); err != nil {
			return "", err
		}
	}
	if err := l.Blink(30*time.Millisecond, 70*time.Millisecond); err != nil {
		return "", err
	}
	seen := map[string]bool{}
	for end := time.Now().Add(5 * time.Second); len(seen) < 2 && time.Now().Before(end); {
		seen[lineSays("STATUS")] = true
	}
	if err := errors.Join(want(seen["out hi"] && seen["out lo"], "it does not blink: its line was only %v", seen), l.Release()); err != nil {
		return "", err
	}
	return role.Names[0] + " on its GPIO line, blinking by the kernel, and given back to its trigger", want(sysfs(at+"trigger") == before, "its trigger was %q and is %q", before, sysfs(at+"trigger"))
}

const dogAt = "/sys/class/watchdog/watchdog0/"

// unarmed looks at the watchdog after all the probing.
func (s *suite) unarmed(context.Context) (string, error) {
	f := s.root.Probe()
	w := f.Watchdog.Value
	return fmt.Sprintf("%s, %s, timeout %d s, at most %d s", w.Identity, w.State, w.TimeoutSec, w.MaxSec), errors.Join(
		want(f.Watchdog.State == hal.Loaded, "%s", f.Watchdog.Why),
		want(w.State == "inactive" && sysfs(dogAt+"state") == "inactive", "the watchdog is %s after probing", sysfs(dogAt+"state")))
}

func (s *suite) watchdog(context.Context) (string, error) {
	w := s.facts.Watchdog.Value
	active := w
	active.State = "active" // as a probe would say now, but a probe takes seconds here
	d, got, err := s.root.Arm(w, 15*time.Second)
	if err != nil {
		return "", err
	}
	armed := errors.Join(
		want(got == 15*time.Second, "asked for 15 s, got %v", got),
		want(sysfs(dogAt+"state") == "active", "armed, and the kernel says %s", sysfs(dogAt+"state")))
	_, _, second := s.root.Arm(w, time.Second)
	_, _, third := s.root.Arm(active, time.Second)
	armed = errors.Join(armed,
		want(errors.Is(second, unix.EBUSY), "armed twice: %v", second),
		want(errors.Is(third, unix.EBUSY) && strings.Contains(third.Error(), "somebody else"), "an active one was armed: %v", third))
	// The software watchdog does not say how much is left. If a kick had no effect, the machine
	// would not live through this; if disarming had none, not through the checks behind this one.
	start := time.Now()
	for range 6 {
		time.Sleep(got / 5)
		armed = errors.Join(armed, d.Kick())
	}
	if err := errors.Join(armed, d.Disarm(),
		want(sysfs(dogAt+"state") == "inactive", "disarmed, and the kernel says %s", sysfs(dogAt+"state"))); err != nil {
		return "", err
	}
	lived := time.Since(start).Round(100 * time.Millisecond)
	return fmt.Sprintf("%s: armed for %v, a second hand refused, alive after %v of kicks, disarmed", w.Identity, got, lived), nil
}

// bite arms the watchdog and lets it be. The other side sees what happens.
func (s *suite) bite() {
	if _, _, err := s.root.Arm(s.root.Probe().Watchdog.Value, 2*time.Second); err != nil {
		fmt.Println("INFO watchdog:", err)
		return
	}
	fmt.Println("HOST dog")
	forever()
}

// rtc compares the clock with the time at which the machine was started, which the other side said.
func (s *suite) rtc(context.Context) (string, error) {
	r := s.facts.RTC
	started, err := strconv.ParseInt(parameter("hf.now"), 10, 64)
	age := r.Value.Time.Sub(time.Unix(started, 0))
	return fmt.Sprintf("%s %s, %v after the machine was started", r.Value.Driver, r.Value.Time.Format(time.RFC3339), age), errors.Join(err,
		want(r.State == hal.Loaded, "%s", r.Why),
		want(age > -2*time.Second && age < 5*time.Minute, "the clock is %v off", age))
}

// raspi3 are the checks of a Raspberry Pi 3 with Debian's own device tree.
func (s *suite) raspi3() []check {
	return []check{
		{"board", func(context.Context) (string, error) {
			return s.board.ID + ": " + s.why + "; " + s.facts.Model, want(s.board.ID == "generic-arm64" && strings.HasPrefix(s.facts.Machine.Compatible[0], "raspberrypi,3"), "%s, %v", s.board.ID, s.facts.Machine.Compatible)
		}},
		{"cores", func(context.Context) (string, error) {
			c := s.facts.Topology.Value.Classes(&s.board)
			return fmt.Sprint(c), want(len(c) == 1 && len(c[0].CPUs) == 4 && s.facts.Topology.Value.CPUs[0].MIDR.String() == "Arm Cortex-A53", "%v", c)
		}},
		{"thermal", s.thermal},
		{"lines", func(context.Context) (string, error) {
			n, named := 0, 0
			for _, l := range s.facts.Pins.Value {
				if l.Label == "pinctrl-bcm2835" {
					n++
				}
				if l.Label == "pinctrl-bcm2835" && l.Name != "" {
					named++
				}
			}
			return fmt.Sprintf("%d lines of pinctrl-bcm2835, %d with names", n, named), want(n == 54 && named > 40, "%s", s.facts.Pins.Why)
		}},
		{"gpio", func(context.Context) (string, error) { return s.pin("GPIO17") }},
		{"led-absent", func(context.Context) (string, error) { // QEMU lacks the firmware that switches the LED
			return s.facts.LEDs.Why, want(s.facts.LEDs.State == hal.Skipped && s.facts.LEDs.Why != "", "%v", s.facts.LEDs)
		}},
		{"watchdog-unarmed", s.unarmed},
		{"no-network", func(context.Context) (string, error) {
			p := hal.MakePlan(s.facts, &s.board, s.why, hal.Options{})
			return fmt.Sprintf("%d changes, %d notes; rtc: %s", len(p.Changes), len(p.Notes), s.facts.RTC.Why), errors.Join(
				want(len(p.Changes) == 0, "%s", p.String()),
				want(s.facts.RTC.State == hal.Skipped, "a real-time clock: %v", s.facts.RTC))
		}},
	}
}

// thermal compares with sysfs.
func (s *suite) thermal(context.Context) (string, error) {
	zone, sensor := hal.Thermal{}, hal.Thermal{}
	for _, t := range s.facts.Thermal.Value {
		if strings.HasPrefix(t.Name, "hwmon ") {
			sensor = t
		} else {
			zone = t
		}
	}
	const at = "/sys/class/thermal/thermal_zone0/"
	return fmt.Sprintf("%s %d mC with %d trip points; %s %d mC", zone.Name, zone.Milli, len(zone.Trips), sensor.Name, sensor.Milli), errors.Join(
		want(s.facts.Thermal.State == hal.Loaded, "%s", s.facts.Thermal.Why),
		want(zone.Name == sysfs(at+"type") && strconv.Itoa(zone.Milli) == sysfs(at+"temp"), "zone %q %d, sysfs says %s %s", zone.Name, zone.Milli, sysfs(at+"type"), sysfs(at+"temp")),
		want(len(zone.Trips) > 0 && zone.Trips[0].Type == sysfs(at+"trip_point_0_type"), "trips %v", zone.Trips),
		want(sensor.Milli == zone.Milli && sysfs("/sys/class/hwmon/hwmon0/temp1_input") == strconv.Itoa(sensor.Milli), "sensor %v", sensor))
}

// irqbalance starts a process of that name and has it named.
func (s *suite) irqbalance(ctx context.Context) (string, error) {
	const name = "/tmp/irqbalance"
	if err := os.Symlink("/init", name); err != nil {
		return "", err
	}
	cmd := self(ctx, "irqbalance")
	cmd.Path = name
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	f := s.root.Probe()
	p := hal.MakePlan(f, &s.board, s.why, hal.Options{Only: []string{nic}})
	said := ""
	for _, n := range p.Notes {
		if strings.Contains(n.Why, "irqbalance") {
			said = n.About + ": " + n.Why
		}
	}
	for _, c := range p.Changes {
		if c.Target.Kind == hal.IRQAffinity {
			return "", fmt.Errorf("it would fight with irqbalance: %s", c.Target)
		}
	}
	return said, want(f.Irqbalance == cmd.Process.Pid && strings.Contains(said, strconv.Itoa(f.Irqbalance)), "process %d, said %d", cmd.Process.Pid, f.Irqbalance)
}
