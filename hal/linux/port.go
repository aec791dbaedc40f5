package linux

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/hal"
)

// Port is hal.Port on a machine.
type Port struct {
	root *Root
	// Settle is how long to watch for an effect. Interrupts move with the next one that comes,
	// so a quiet device needs long.
	Settle time.Duration
	// Witness, if set, receives packets on an interface and says on which CPUs they came in
	// (see Incoming): the proof for RPS. It returns none when nothing came.
	Witness func(ctx context.Context, nic string) (map[int]int, error)
}

// settleDefault is what an idle link's heartbeats need to show up at least once.
const settleDefault = time.Second

// watchEvery is the distance of two looks at the counters.
const watchEvery = 20 * time.Millisecond

// NewPort returns the port of a machine.
func NewPort(r *Root) *Port { return &Port{root: r, Settle: settleDefault} }

// file is where a value stands, "" for kinds that are no file.
func file(t hal.Target) string {
	switch t.Kind {
	case hal.IRQAffinity:
		return fmt.Sprintf("proc/irq/%d/smp_affinity_list", t.Index)
	case hal.RPSCPUs:
		return fmt.Sprintf("%s%s/queues/rx-%d/rps_cpus", netDir, t.Name, t.Index)
	case hal.XPSCPUs:
		return fmt.Sprintf("%s%s/queues/tx-%d/xps_cpus", netDir, t.Name, t.Index)
	case hal.THP:
		return "sys/kernel/mm/transparent_hugepage/enabled"
	case hal.ReadAhead:
		return fmt.Sprintf("sys/block/%s/queue/read_ahead_kb", t.Name)
	}
	return ""
}

// checkName keeps a name from a journal or a command line inside its directory.
func checkName(t hal.Target) error {
	if strings.ContainsAny(t.Name, "/\x00") || t.Name == ".." || t.Name == "." || t.Index < 0 {
		return fmt.Errorf("linux: %s: %w: not a name", t, hal.ErrFormat)
	}
	return nil
}

// Read is hal.Port's.
func (p *Port) Read(_ context.Context, t hal.Target) (string, error) {
	if err := checkName(t); err != nil {
		return "", err
	}
	if _, ok := settings[t.Kind]; ok {
		var v string
		err := p.ethtool(func(e *ethtool) (err error) { v, err = e.read(t.Kind, t.Name); return err })
		return v, err
	}
	name := file(t)
	if name == "" {
		return "", fmt.Errorf("linux: %s: %w", t.Kind, errors.ErrUnsupported)
	}
	if t.Kind == hal.IRQAffinity {
		if err := p.owns(t); err != nil {
			return "", err
		}
	}
	s, err := p.root.text(name)
	if err != nil {
		return "", fmt.Errorf("linux: read %s: %w", t, err)
	}
	switch t.Kind {
	case hal.IRQAffinity:
		c, err := hal.ParseList(s)
		return c.List(), err
	case hal.RPSCPUs, hal.XPSCPUs:
		c, err := hal.ParseMask(s)
		return c.List(), err
	case hal.THP:
		return selected(s), nil
	}
	return s, nil
}

// owns is ErrGone when the interface has message-signalled interrupts and this is none of them: its driver was loaded
// again, or the device plugged in again, and the number may be another device's now.
func (p *Port) owns(t hal.Target) error {
	vectors := p.root.vectors(t.Name)
	if vectors == nil || slices.Contains(vectors, strconv.Itoa(t.Index)) {
		return nil
	}
	return fmt.Errorf("linux: %s: the interface has another interrupt now: %w", t, hal.ErrGone)
}

// Write is hal.Port's.
func (p *Port) Write(ctx context.Context, t hal.Target, v string) error {
	if err := checkName(t); err != nil {
		return err
	}
	if _, ok := settings[t.Kind]; ok {
		return p.ethtool(func(e *ethtool) error { return e.write(t.Kind, t.Name, v) })
	}
	name := file(t)
	if name == "" {
		return fmt.Errorf("linux: %s: %w", t.Kind, errors.ErrUnsupported)
	}
	if t.Kind == hal.RPSCPUs || t.Kind == hal.XPSCPUs {
		c, err := hal.ParseList(v)
		if err != nil {
			return err
		}
		v = c.Mask()
	}
	if err := p.root.write(name, v); err != nil {
		if t.Kind == hal.IRQAffinity && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EIO)) && !errors.Is(err, syscall.EACCES) {
			// irq_can_set_affinity_usr is false (kernel/irq/manage.c): managed, per-CPU, or a chip that cannot.
			return cannot{fmt.Errorf("linux: write %s: the kernel keeps this interrupt where it is: %w", t, err)}
		}
		return fmt.Errorf("linux: write %s: %w", t, err)
	}
	if t.Kind == hal.IRQAffinity {
		p.insist(ctx, t, name, v)
	}
	return nil
}

const (
	insistTimes = 20
	insistEvery = 3 * time.Millisecond
	insistCalm  = 4 // looks in a row that show what was written
)

// insist writes an interrupt's CPUs again when they are others a moment later: the kernel moves an interrupt when the
// next one comes (until then it shows what was asked for), and forgets the move, without an error, when its controller
// cannot make it just then (irq_move_masked_irq in kernel/irq/migration.c). Seen on a loaded x86 once in some fifty
// moves. Effect judges the end.
func (p *Port) insist(ctx context.Context, t hal.Target, name, v string) {
	want, err := hal.ParseList(v)
	if err != nil {
		return
	}
	calm := 0
	for range insistTimes {
		select {
		case <-time.After(insistEvery):
		case <-ctx.Done():
			return
		}
		got, err := p.root.cpus(name)
		switch {
		case err != nil:
			return
		case slices.Equal(got, want):
			if calm++; calm == insistCalm {
				return
			}
		default:
			calm = 0
			if p.root.write(name, v) != nil {
				return
			}
		}
	}
}

func (p *Port) ethtool(do func(*ethtool) error) error {
	if !p.root.Live() {
		return errLive
	}
	e, err := dialEthtool()
	if err != nil {
		return err
	}
	defer e.close()
	return do(e)
}

// Effect is hal.Port's.
func (p *Port) Effect(ctx context.Context, t hal.Target, v string) (hal.Result, string) {
	got, err := p.Read(ctx, t)
	if err != nil {
		return hal.FailedTo, err.Error()
	}
	if got != v {
		return hal.FailedTo, fmt.Sprintf("it was taken, and reads back as %q", got)
	}
	switch t.Kind {
	case hal.IRQAffinity:
		want, _ := hal.ParseList(v)
		return p.irqEffect(ctx, t.Index, want)
	case hal.RPSCPUs:
		want, _ := hal.ParseList(v)
		return p.rpsEffect(ctx, t, want)
	case hal.XPSCPUs:
		return hal.AcceptedUnverified, "no counter says which CPU sent on which queue"
	case hal.ChannelsOf:
		return p.channelsEffect(t.Name, v)
	}
	return hal.Applied, "the kernel shows it in force"
}

// Beside is hal.Port's: a driver that gets another number of queues makes new ones, and some (virtio_net) steer all
// of them anew, interrupts and sending too.
func (p *Port) Beside(t hal.Target) []hal.Target {
	if t.Kind != hal.ChannelsOf || checkName(t) != nil {
		return nil
	}
	n := p.root.nic(t.Name)
	var all []hal.Target
	if interrupts, err := Interrupts(p.root.word("proc/interrupts")); err == nil {
		irqs, _ := p.root.irqs(&n, interrupts)
		for _, irq := range irqs {
			all = append(all, hal.Target{Kind: hal.IRQAffinity, Name: t.Name, Index: irq.Number})
		}
	}
	for q := range n.RX {
		all = append(all, hal.Target{Kind: hal.RPSCPUs, Name: t.Name, Index: q})
	}
	for q := range n.TX {
		all = append(all, hal.Target{Kind: hal.XPSCPUs, Name: t.Name, Index: q})
	}
	return all
}

// irqEffect watches where an interrupt goes: what counts is the CPU whose counter moves.
// smp_affinity reads back at once while the interrupt still goes elsewhere, until the next comes.
func (p *Port) irqEffect(ctx context.Context, irq int, want hal.CPUs) (hal.Result, string) {
	before, err := p.counts(irq)
	if err != nil {
		return hal.FailedTo, err.Error()
	}
	// The interrupt that was on its way when the value was written may still be served on the old
	// CPU, and moves the rest (irq_move_pending): one look with strays proves nothing, two do.
	strays, elsewhere := 0, ""
	for range p.looks(ctx) {
		now, err := p.counts(irq)
		if err != nil {
			return hal.FailedTo, err.Error()
		}
		here, there := uint64(0), hal.CPUs(nil)
		for cpu, n := range now {
			if d := n - before[cpu]; d > 0 && want.Has(cpu) {
				here += d
			} else if d > 0 {
				there = append(there, cpu)
			}
		}
		if here > 0 && len(there) == 0 {
			return hal.Applied, fmt.Sprintf("%d interrupt(s) came, all on CPU %s", here, want)
		}
		if len(there) > 0 {
			strays++
			elsewhere = hal.NewCPUs(there...).String()
		}
		before = now
	}
	effective, err := p.root.cpus(fmt.Sprintf("proc/irq/%d/effective_affinity_list", irq))
	switch {
	case strays > 1:
		return hal.FailedTo, fmt.Sprintf("interrupts still come on CPU %s", elsewhere)
	case strays == 1 && err == nil && effective.Within(want) && len(effective) > 0:
		return hal.AcceptedUnverified, fmt.Sprintf("one more came on CPU %s and none since; the kernel says the next goes to CPU %s", elsewhere, effective)
	case err != nil:
		return hal.AcceptedUnverified, fmt.Sprintf("no interrupt came in %v, and the kernel does not say where it would go", p.Settle)
	case len(effective) == 0:
		return hal.FailedTo, "the kernel took it and its effective mask is empty"
	case effective.Within(want):
		return hal.AcceptedUnverified, fmt.Sprintf("no interrupt came in %v; the kernel says the next goes to CPU %s", p.Settle, effective)
	}
	return hal.AcceptedUnverified, fmt.Sprintf("no interrupt came in %v; it moves from CPU %s with the next one", p.Settle, effective)
}

func (p *Port) counts(irq int) (map[int]uint64, error) {
	s, err := p.root.text("proc/interrupts")
	if err != nil {
		return nil, err
	}
	all, err := Interrupts(s)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.Number == irq {
			m := map[int]uint64{}
			for _, c := range i.Count {
				m[c.CPU] = c.N
			}
			return m, nil
		}
	}
	return nil, fmt.Errorf("linux: interrupt %d: %w", irq, hal.ErrGone)
}

// looks yields until Settle is over or ctx ends, with a pause before each.
func (p *Port) looks(ctx context.Context) func(func() bool) {
	return func(yield func() bool) {
		end := time.NewTimer(p.Settle)
		defer end.Stop()
		tick := time.NewTicker(min(watchEvery, max(p.Settle/4, time.Millisecond)))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-end.C:
				return
			case <-tick.C:
				if !yield() {
					return
				}
			}
		}
	}
}

// rpsEffect asks the witness, or else looks whether packets are handed over between CPUs at all.
func (p *Port) rpsEffect(ctx context.Context, t hal.Target, want hal.CPUs) (hal.Result, string) {
	if len(want) == 0 {
		return hal.AcceptedUnverified, "off: packets stay on the CPU of the interrupt"
	}
	if p.Witness != nil {
		seen, err := p.Witness(ctx, t.Name)
		if err != nil {
			return hal.AcceptedUnverified, "the witness failed: " + err.Error()
		}
		total, wrong := 0, hal.CPUs(nil)
		for cpu, n := range seen {
			total += n
			if !want.Has(cpu) {
				wrong = append(wrong, cpu)
			}
		}
		switch {
		case total == 0:
			return hal.AcceptedUnverified, "no packet came to the witness"
		case p.steersElsewhere(t, want):
			return hal.AcceptedUnverified, fmt.Sprintf("%d packets came in on CPU %s, but nobody sees on which queue, and another queue goes elsewhere", total, hal.NewCPUs(slices.Collect(maps.Keys(seen))...))
		case len(wrong) > 0:
			return hal.FailedTo, fmt.Sprintf("of %d packets some came in on CPU %s", total, hal.NewCPUs(wrong...))
		}
		return hal.Applied, fmt.Sprintf("%d packets, all on CPU %s", total, want)
	}
	// The counter is the machine's: it proves something only on a CPU to which no other interface hands packets.
	others := p.steeredByOthers(t.Name)
	before, shared := p.steered(), hal.CPUs(nil)
	for range p.looks(ctx) {
		for cpu, n := range p.steered() {
			switch by := others[cpu]; {
			case n <= before[cpu] || !want.Has(cpu):
			case by == "":
				return hal.Applied, fmt.Sprintf("packets were handed over to CPU %d, and no other interface hands any there", cpu)
			default:
				shared = hal.NewCPUs(append(shared, cpu)...)
			}
		}
	}
	if len(shared) > 0 {
		return hal.AcceptedUnverified, fmt.Sprintf("packets were handed over to CPU %s, but %s hands some there too, and the kernel counts them together", shared, others[shared[0]])
	}
	return hal.AcceptedUnverified, fmt.Sprintf("no packet was handed over in %v", p.Settle)
}

// steeredByOthers names for each CPU another interface that may hand packets to it.
func (p *Port) steeredByOthers(nic string) map[int]string {
	by := map[int]string{}
	for _, name := range p.root.names(netDir[:len(netDir)-1]) {
		if name == nic {
			continue
		}
		for _, rx := range p.root.nic(name).RX {
			for _, cpu := range rx.RPS {
				by[cpu] = name
			}
		}
	}
	return by
}

// steersElsewhere says whether another receive queue of the interface may bring packets to other
// CPUs: then where packets come in says nothing about this queue.
func (p *Port) steersElsewhere(t hal.Target, want hal.CPUs) bool {
	for q, rx := range p.root.nic(t.Name).RX {
		if q != t.Index && (len(rx.RPS) == 0 || !rx.RPS.Within(want)) {
			return true
		}
	}
	return false
}

// steered is how many times each CPU was handed packets: received_rps, column 10 of
// /proc/net/softnet_stat; the CPU is column 13 (net/core/net-procfs.c, softnet_seq_show).
func (p *Port) steered() map[int]uint64 {
	m := map[int]uint64{}
	for line := range strings.Lines(p.root.word("proc/net/softnet_stat")) {
		w := strings.Fields(line)
		if len(w) < 13 {
			continue
		}
		n, err := strconv.ParseUint(w[9], 16, 64)
		cpu, err2 := strconv.ParseUint(w[12], 16, 16)
		if err == nil && err2 == nil {
			m[int(cpu)] = n
		}
	}
	return m
}

// channelsEffect counts the queues that the interface now has.
func (p *Port) channelsEffect(nic, v string) (hal.Result, string) {
	n := p.root.nic(nic)
	var c hal.Channels
	if _, err := fmt.Sscanf(v, "rx %d tx %d combined %d", &c.RX, &c.TX, &c.Combined); err != nil {
		return hal.FailedTo, err.Error()
	}
	has := fmt.Sprintf("the interface has %d receive and %d send queues", len(n.RX), len(n.TX))
	if len(n.RX) != c.RX+c.Combined || len(n.TX) != c.TX+c.Combined {
		return hal.AcceptedUnverified, has
	}
	return hal.Applied, has
}
