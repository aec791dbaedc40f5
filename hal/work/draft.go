package work

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
)

const (
	// draftMemoryShare is the part of a machine's memory that a first profile allows: the rest is
	// the programs' that the box is there for.
	draftMemoryShare = 8
	draftMemoryMin   = 32 // MiB, the least that a profile takes
	draftMemoryMax   = 1024
	draftCPUShare    = 50 // percent
	// throttleBelow is how far below the critical temperature a machine that names no other
	// should begin to do less, in degrees.
	throttleBelow = 15
	criticalC     = 100 // where no trip point says, in degrees
	// timeoutMax is what a profile takes, in seconds.
	timeoutMax = 1 << 16
	unnamed    = "unnamed-board"
)

// Draft is a first profile from a machine's facts: what was read is captured, what had to be
// guessed is unverified. Its Check may still refuse what a machine says of itself.
func Draft(f *hal.Facts) boards.Board {
	d := draft{f: f, b: boards.Board{
		Arch: f.Machine.Arch, Name: cmp.Or(strings.TrimSpace(f.Model), "a machine without a name"),
		NIC: map[string]boards.NIC{}, LED: map[string]boards.LED{}, CPU: map[string]boards.CPUClass{}, Provenance: map[string]string{},
	}}
	d.match()
	d.cpus()
	d.nics()
	d.devices()
	mib := int(f.Memory.Value.TotalBytes >> 20)
	d.b.Budget = boards.Budget{MemoryMiB: min(max(mib/draftMemoryShare, draftMemoryMin), draftMemoryMax), CPUShare: draftCPUShare}
	d.guess("budget", "chosen, not measured")
	// Empty tables are not written.
	if len(d.b.NIC) == 0 {
		d.b.NIC = nil
	}
	if len(d.b.LED) == 0 {
		d.b.LED = nil
	}
	if len(d.b.CPU) == 0 {
		d.b.CPU = nil
	}
	return d.b
}

type draft struct {
	f *hal.Facts
	b boards.Board
}

func (d *draft) captured(fact string) { d.b.Provenance[fact] = string(boards.Captured) }

func (d *draft) guess(fact, why string) {
	d.b.Provenance[fact] = string(boards.Unverified) + ": " + why
}

func (d *draft) match() {
	m := d.f.Machine
	name := ""
	switch {
	case len(m.Compatible) > 0 && strings.Contains(m.Compatible[0], ","):
		d.b.Match.Compatible = m.Compatible[:1]
		_, name, _ = strings.Cut(m.Compatible[0], ",")
		d.captured("match")
	case m.DMI != (boards.DMI{}):
		d.b.Match.DMI = []boards.DMI{m.DMI}
		name = cmp.Or(m.DMI.Product, m.DMI.Board, m.DMI.Vendor)
		d.captured("match")
	default:
		d.b.Match.Generic = true
	}
	d.b.ID = cmp.Or(slug(name), unnamed)
}

// slug makes an ID of what a machine calls itself.
func slug(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	return strings.Join(words, "-")
}

func (d *draft) cpus() {
	t := &d.f.Topology.Value
	d.b.CacheLineBytes = 64
	if t.LineBytes > 0 {
		d.b.CacheLineBytes = t.LineBytes
		d.captured("cache_line_bytes")
	} else {
		d.guess("cache_line_bytes", "the kernel does not say; 64 is usual")
	}
	var names []string
	for _, c := range t.Classes(&boards.Board{}) {
		m := t.CPU(c.CPUs[0]).MIDR
		if m.Implementer() == 0 || m.Part() == 0 {
			continue // without MIDR a class cannot be recognised
		}
		name := c.Name
		for i := 2; d.b.CPU[name].Count > 0; i++ {
			name = fmt.Sprintf("%s%d", c.Name, i)
		}
		d.b.CPU[name] = boards.CPUClass{Core: m.String(), Implementer: m.Implementer(), Part: m.Part(), Count: len(c.CPUs), Capacity: c.Capacity}
		names = append(names, name)
	}
	if len(names) == 0 {
		return
	}
	d.b.Roles = boards.Roles{Loop: names[:1], Receive: names[:1], Housekeeping: names[len(names)-1:]}
	d.captured("cpu")
	d.guess("roles", "the strongest cores for loops and packets, the weakest for the rest")
}

func (d *draft) nics() {
	for i := range d.f.NICs.Value {
		n := &d.f.NICs.Value[i]
		if n.Kind != "physical" || n.Bus == "" || n.Driver == "" {
			continue
		}
		role, name := "lan", fmt.Sprintf("lan%d", len(d.b.NIC))
		if len(d.b.NIC) == 0 {
			role, name = "wan", "wan"
		}
		port := boards.NIC{Role: role, Bus: n.Bus, Port: n.Port, Driver: n.Driver, IRQsMove: "unknown", Fallback: "rps", QueuesMax: len(n.RX)}
		at := "nic." + name
		d.captured(at)
		d.guess(at+".role", "the first port is taken for the WAN")
		d.guess(at+".irqs_move", "`holdfast hal apply` finds out")
		d.guess(at+".fallback", "not measured")
		if c := n.Channels; c.State == hal.Loaded && max(c.Value.CombinedMax, c.Value.RXMax) > 0 {
			port.QueuesMax = max(c.Value.CombinedMax, c.Value.RXMax)
		} else if port.QueuesMax > 0 {
			d.guess(at+".queues_max", "those in use; the device does not say its most")
		}
		if pinned := len(n.IRQs) > 0 && !slices.ContainsFunc(n.IRQs, func(q hal.IRQ) bool { return !q.Pinned }); pinned {
			port.IRQsMove = "no"
			d.captured(at + ".irqs_move")
		}
		d.b.NIC[name] = port
	}
}

func (d *draft) devices() {
	if name := statusLight(d.f.LEDs.Value); name != "" {
		d.b.LED[StatusLED] = boards.LED{Names: []string{name}}
		d.guess("led", "a light of the machine whose name looks like it")
	}
	if w := d.f.Watchdog; w.State == hal.Loaded && w.Value.Identity != "" {
		sec := cmp.Or(w.Value.MaxSec, w.Value.TimeoutSec)
		if sec > 0 {
			d.b.Watchdog = &boards.Watchdog{Driver: w.Value.Identity, TimeoutMaxSec: min(sec, timeoutMax)}
			d.captured("watchdog")
			if w.Value.MaxSec == 0 {
				d.guess("watchdog.timeout_max_s", "the driver names only the timeout that is set")
			}
		}
	}
	d.thermal()
	if c := d.f.RTC; c.State == hal.Loaded && c.Value.Driver != "" {
		// The driver's name has the device behind it: "rtc-hym8563 6-0051".
		driver, _, _ := strings.Cut(c.Value.Driver, " ")
		d.b.RTC = &boards.RTC{Driver: driver}
		d.captured("rtc")
	}
}

// thermal takes the first zone that names a critical temperature, or else the first.
func (d *draft) thermal() {
	var zone *hal.Thermal
	critical := criticalC
	for i := range d.f.Thermal.Value {
		z := &d.f.Thermal.Value[i]
		if z.Name == "" || strings.HasPrefix(z.Name, "hwmon ") {
			continue
		}
		at := slices.IndexFunc(z.Trips, func(t hal.Trip) bool { return t.Type == "critical" })
		if at >= 0 {
			zone, critical = z, z.Trips[at].Milli/1000
			break
		}
		if zone == nil {
			zone = z
		}
	}
	if zone == nil {
		return
	}
	b := boards.Thermal{Zone: zone.Name, CriticalC: critical, ThrottleC: critical - throttleBelow}
	d.captured("thermal")
	d.guess("thermal.throttle_c", fmt.Sprintf("%d degrees below the critical temperature", throttleBelow))
	if !slices.ContainsFunc(zone.Trips, func(t hal.Trip) bool { return t.Type == "critical" }) {
		d.guess("thermal.critical_c", "the machine names none")
	}
	for _, t := range zone.Trips {
		if c := t.Milli / 1000; t.Type == "passive" && c < critical {
			b.ThrottleC = c
			d.captured("thermal.throttle_c")
			break
		}
	}
	d.b.Thermal = &b
}

// statusLight is the light that by its name shows the state of the machine, "" if none looks so.
func statusLight(all []hal.LED) string {
	for _, word := range []string{"status", "sys", "act", "heartbeat", "user"} {
		for _, l := range all {
			if strings.Contains(strings.ToLower(l.Name), word) {
				return l.Name
			}
		}
	}
	return ""
}
