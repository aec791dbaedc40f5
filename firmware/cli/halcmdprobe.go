package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/holdfast-edge/holdfast/hal/work"
)

func halProbe(w io.Writer, o *halFlags, m *work.Machine) error {
	if o.json {
		return printJSON(w, struct {
			*hal.Facts
			Board    string      `json:"board"`
			BoardWhy string      `json:"board_why"`
			Roles    []work.Role `json:"roles"`
		}{m.Facts, m.Board.ID, m.Why, m.Roles()})
	}
	t := table(w)
	p := probed{t, m.Facts}
	p.line("machine", hal.Status{State: hal.Loaded}, orElse(m.Facts.Model, "it does not say what it is")+", Linux "+orElse(m.Facts.Kernel, "of unknown version"))
	p.line("board", hal.Status{State: hal.Loaded}, m.Board.ID+": "+m.Why)
	p.topology(m)
	p.nics()
	p.memory()
	p.devices()
	for _, r := range m.Roles() {
		p.line(r.Role, r.Status, r.At)
	}
	if pid := m.Facts.Irqbalance; pid != 0 {
		p.line("irqbalance", hal.Status{State: hal.Loaded}, fmt.Sprintf("process %d moves interrupts: a plan leaves them to it", pid))
	}
	return t.Flush()
}

// probed prints facts: a line a part, with its state, and what it has or why it has nothing.
type probed struct {
	w io.Writer
	f *hal.Facts
}

func (p *probed) line(part string, s hal.Status, has string) {
	if s.State != hal.Loaded {
		has = s.Why
	}
	fmt.Fprintf(p.w, "%s\t%s\t%s\n", part, s.State, has)
}

func (p *probed) topology(m *work.Machine) {
	t := p.f.Topology.Value
	p.line("CPUs", p.f.Topology.Status, fmt.Sprintf("%d, online %s; %s, %s, cache line %s", len(t.CPUs), t.Online(),
		count(t.Packages, "package"), count(t.Clusters, "cluster"), amount(t.LineBytes, "bytes")))
	if p.f.Topology.State != hal.Loaded {
		return
	}
	for _, c := range t.Classes(&m.Board) {
		cpu := t.CPU(c.CPUs[0])
		what := cpu.Model
		if cpu.MIDR != 0 {
			what = cpu.MIDR.String()
		}
		p.line("  "+c.Name, p.f.Topology.Status, fmt.Sprintf("CPU %s: %s, capacity %s", c.CPUs, orElse(what, "unknown core"), amount(c.Capacity, "of 1024")))
	}
	if online := t.Online(); len(online) > 0 {
		p.line("prefetcher", hal.Skip("it cannot be switched from here: %s", hal.PrefetcherWhy(t.CPU(online[0]))), "")
	}
}

// amount is a number that is 0 where nobody says.
func amount(n int, unit string) string {
	if n == 0 {
		return "not said"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

func (p *probed) nics() {
	p.line("network", p.f.NICs.Status, count(len(p.f.NICs.Value), "interface"))
	for i := range p.f.NICs.Value {
		n := &p.f.NICs.Value[i]
		state := "down"
		if n.Up {
			state = "up"
		}
		p.line("  "+n.Name, hal.Status{State: hal.Loaded}, strings.Join([]string{
			n.Kind, "driver " + orElse(n.Driver, "not said"), "at " + orElse(n.Bus, "no bus"), state, fmt.Sprintf("%d rx and %d tx queues", len(n.RX), len(n.TX)),
		}, ", "))
		irqs := hal.Status{State: hal.Loaded}
		if len(n.IRQs) == 0 {
			irqs = hal.Skip("%s", orElse(n.IRQsWhy, "it has none of its own"))
		}
		p.line("    interrupts", irqs, interrupts(n.IRQs))
		p.line("    channels", n.Channels.Status, n.Channels.Value.String())
		r := n.Rings.Value
		p.line("    rings", n.Rings.Status, fmt.Sprintf("rx %d of %d, tx %d of %d", r.RX, r.RXMax, r.TX, r.TXMax))
		c := n.Coalesce.Value
		p.line("    coalesce", n.Coalesce.Status, fmt.Sprintf("rx %d us %d frames, tx %d us %d frames", c.RXMicros, c.RXFrames, c.TXMicros, c.TXFrames))
		p.line("    rss", n.RSS.Status, fmt.Sprintf("table of %d, key of %d bytes", len(n.RSS.Value.Table), n.RSS.Value.KeyBytes))
		p.line("    offloads", n.Features.Status, count(len(n.Features.Value), "active offload"))
		ts := n.Timestamping.Value
		clock := "no hardware clock"
		if ts.PHC >= 0 {
			clock = fmt.Sprintf("hardware clock %d", ts.PHC)
		}
		p.line("    timestamps", n.Timestamping.Status, strings.Join(append(ts.Modes, clock), ", "))
	}
}

func interrupts(all []hal.IRQ) string {
	var says []string
	for _, i := range all {
		s := fmt.Sprintf("%d %s on CPU %s", i.Number, i.Name, i.Effective)
		if len(i.Effective) == 0 {
			s = fmt.Sprintf("%d %s allowed on CPU %s", i.Number, i.Name, i.Affinity)
		}
		if i.Pinned {
			s += " (does not move)"
		}
		says = append(says, s)
	}
	return strings.Join(says, "; ")
}

func (p *probed) memory() {
	m := p.f.Memory.Value
	var ahead []string
	for _, b := range m.Blocks {
		ahead = append(ahead, fmt.Sprintf("%s %d KiB", b.Name, b.ReadAheadKiB))
	}
	p.line("memory", p.f.Memory.Status, fmt.Sprintf("%d MiB in pages of %s, transparent huge pages %s, read-ahead %s",
		m.TotalBytes>>20, amount(m.PageBytes, "bytes"), orElse(m.THP, "not built in"), orElse(strings.Join(ahead, ", "), "of no device")))
}

func (p *probed) devices() {
	f := p.f
	p.line("pins", f.Pins.Status, count(len(f.Pins.Value), "line"))
	var lights []string
	for _, l := range f.LEDs.Value {
		lights = append(lights, fmt.Sprintf("%s (%s)", l.Name, orElse(l.Trigger, "no trigger")))
	}
	p.line("lights", f.LEDs.Status, strings.Join(lights, ", "))
	var heat []string
	for _, t := range f.Thermal.Value {
		heat = append(heat, fmt.Sprintf("%s %.1f C", t.Name, float64(t.Milli)/1000))
	}
	p.line("thermal", f.Thermal.Status, strings.Join(heat, ", "))
	w := f.Watchdog.Value
	p.line("watchdog", f.Watchdog.Status, fmt.Sprintf("%s, %s, %s, timeout %d s", w.Name, w.Identity, w.State, w.TimeoutSec))
	c := f.RTC.Value
	says := "it does not run"
	if !c.Time.IsZero() {
		says = c.Time.Format(time.RFC3339)
	}
	p.line("clock", f.RTC.Status, fmt.Sprintf("%s, %s: %s", c.Name, c.Driver, says))
}
