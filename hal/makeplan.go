package hal

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/boards"
)

// fewCPUs is the number of CPUs up to which a role of its own for a CPU takes more from the
// others than it gives: with two, the loop's neighbour would serve interrupts and all else.
const fewCPUs = 2

// Options are the operator's wishes for a plan.
type Options struct {
	Loops    int      // hot loops that want a CPU each; 0 means 1
	Only     []string // interfaces to touch; empty means all
	Channels bool     // also set the number of hardware queues, which resets the link
}

// Class is the online CPUs of one kind of core.
type Class struct {
	Name     string // the profile's, else big, middle, little
	Capacity int    // of its weakest CPU, 0 where the kernel does not say
	CPUs     CPUs
}

// Classes sorts the online CPUs into kinds of core, the strongest first: by the profile's MIDR
// parts, else by MIDR, else, where there is none, by capacity at its widest gap. Capacity alone
// does not do: one machine shows five values for two kinds of core.
func (t *Topology) Classes(b *boards.Board) []Class {
	byKey := map[string]*Class{}
	split := t.capacitySplit()
	for _, c := range t.CPUs {
		if !c.Online {
			continue
		}
		key := b.Class(c.MIDR.Implementer(), c.MIDR.Part())
		if key == "" {
			// Implementer and part: two variants of a core are one class.
			key = fmt.Sprintf("%x.%x/%v", c.MIDR.Implementer(), c.MIDR.Part(), c.MIDR == 0 && c.Capacity < split)
		}
		k := byKey[key]
		if k == nil {
			k = &Class{Name: b.Class(c.MIDR.Implementer(), c.MIDR.Part()), Capacity: c.Capacity}
			byKey[key] = k
		}
		k.Capacity = min(k.Capacity, c.Capacity)
		k.CPUs = append(k.CPUs, c.ID)
	}
	var classes []Class
	for _, k := range byKey {
		classes = append(classes, *k)
	}
	slices.SortFunc(classes, func(a, b Class) int {
		return cmp.Or(cmp.Compare(b.Capacity, a.Capacity), cmp.Compare(a.CPUs[0], b.CPUs[0]))
	})
	for i := range classes {
		if classes[i].Name == "" {
			classes[i].Name = "big"
			if i > 0 {
				classes[i].Name = "middle"
			}
			if i > 0 && i == len(classes)-1 {
				classes[i].Name = "little"
			}
		}
	}
	return classes
}

// capacitySplit is the capacity from which a core without MIDR is a big one: the upper side of
// the widest gap, if that is a quarter of the strongest core or more.
func (t *Topology) capacitySplit() int {
	var caps []int
	for _, c := range t.CPUs {
		if c.Online && c.Capacity > 0 {
			caps = append(caps, c.Capacity)
		}
	}
	slices.Sort(caps)
	split, gap := 0, 0
	for i := 1; i < len(caps); i++ {
		if d := caps[i] - caps[i-1]; d > gap && 4*d >= caps[len(caps)-1] {
			split, gap = caps[i], d
		}
	}
	return split
}

// MakePlan decides what should change on a machine. It is pure: the same facts give the same plan.
// b is the machine's profile, why its choice (boards.Find).
func MakePlan(f *Facts, b *boards.Board, why string, o Options) Plan {
	p := Plan{Board: b.ID, BoardWhy: why}
	if f.Topology.State != Loaded {
		p.note("everything", "the CPUs are not known: %s", f.Topology.Why)
		return p
	}
	topo := &f.Topology.Value
	p.Assign = assign(topo, b, max(1, o.Loops))
	if given := len(p.Assign.Loop); given < o.Loops {
		p.note(fmt.Sprintf("%d loops", o.Loops), "there are CPUs for %d: half of the strong ones at most", given)
	}
	for _, cpu := range p.Assign.Loop {
		if others := topo.CPU(cpu).Threads.Without(p.Assign.Loop); len(others) > 0 && len(p.Assign.Loop) < len(topo.Online()) {
			p.note(fmt.Sprintf("loop on CPU %d", cpu), "it shares its core with CPU %s: whatever runs there slows it", others)
		}
	}
	if f.NICs.State != Loaded {
		p.note("network", "the interfaces are not known: %s", f.NICs.Why)
		return p
	}
	queues := 0 // planned so far: single-queue ports take turns, or all would land on one CPU
	for i := range f.NICs.Value {
		n := &f.NICs.Value[i]
		switch {
		case len(o.Only) > 0 && !slices.Contains(o.Only, n.Name):
			p.note(n.Name, "not among the interfaces asked for")
		case n.Kind != "physical" && !slices.Contains(o.Only, n.Name):
			p.note(n.Name, "%s: its packets were steered when they came in", n.Kind)
		default:
			p.nic(n, b, f.Irqbalance, queues, topo, o)
			queues += max(1, len(n.RX))
		}
	}
	return p
}

// assign gives every CPU its role.
func assign(t *Topology, b *boards.Board, loops int) Assignment {
	online := t.Online()
	if len(online) <= fewCPUs {
		return Assignment{online, online, online, fmt.Sprintf("%d CPUs are too few to give one away: nothing is pinned", len(online))}
	}
	classes := t.Classes(b)
	pick := func(names []string, fallback int) CPUs {
		for _, name := range names {
			for _, c := range classes {
				if c.Name == name {
					return c.CPUs
				}
			}
		}
		return classes[fallback].CPUs
	}
	loopFrom := pick(b.Roles.Loop, 0)
	receiveFrom := pick(b.Roles.Receive, 0)
	keepFrom := pick(b.Roles.Housekeeping, len(classes)-1)

	// Kernel threads and interrupts without an affinity sit on the first CPUs, so the loops take
	// the last ones; an isolated CPU comes before all others, it is idle by order.
	candidates := slices.Clone(loopFrom)
	slices.SortStableFunc(candidates, func(a, c int) int {
		ia, ic := t.CPU(a).Isolated, t.CPU(c).Isolated
		if ia != ic {
			if ia {
				return -1
			}
			return 1
		}
		return cmp.Compare(c, a)
	})
	loops = min(loops, max(1, len(candidates)/2))
	loop := NewCPUs(candidates[:loops]...)

	// What the operator isolated and no loop took stays idle, as ordered.
	var idle CPUs
	for _, c := range t.CPUs {
		if c.Isolated && !loop.Has(c.ID) {
			idle = append(idle, c.ID)
		}
	}
	if shared := online.Without(loop).Without(idle); len(shared) == 0 {
		idle = nil
	}
	keep := keepFrom.Without(loop).Without(idle)
	if slices.Equal(keepFrom, receiveFrom) { // alike cores: a quarter, at least one, keeps house
		keep = keep[:min(len(keep), max(1, len(keepFrom)/4))]
	}
	receive := receiveFrom.Without(loop).Without(idle).Without(keep)
	rest := online.Without(loop).Without(idle).Without(receive)
	if len(receive) == 0 {
		receive = rest
	}
	keep = rest
	if len(keep) == 0 {
		keep = receive
	}
	var says []string
	for _, c := range classes {
		what := fmt.Sprintf("%d %s", len(c.CPUs), c.Name)
		if m := t.CPU(c.CPUs[0]).MIDR; m != 0 {
			what += " (" + m.String() + ")"
		}
		says = append(says, what)
	}
	return Assignment{loop, receive, keep, strings.Join(says, ", ") + "; loops take the last strong cores, receive the strong ones beside them"}
}

// nic plans one interface.
func (p *Plan) nic(n *NIC, b *boards.Board, irqbalance, first int, t *Topology, o Options) {
	name := b.NICAt(n.Bus, n.Port)
	profile := b.NIC[name]
	receive := p.Assign.Receive
	n = p.channels(n, receive, o)
	stays := ""
	if profile.IRQsMove == "no" {
		source, note := b.Source("nic." + name + ".irqs_move")
		stays = fmt.Sprintf("the profile says that this board's do not move (%s: %s)", source, note)
	}
	moved := p.irqs(n, stays, irqbalance, first)
	if len(t.Online()) <= fewCPUs {
		p.note(n.Name+" rps", "with %d CPUs a second hop costs what it spreads: nothing to gain", len(t.Online()))
	} else {
		p.rps(n, profile, moved, receive)
	}
	p.xps(n, t.Online())
}

// channels plans the number of queues and returns the interface with those of its queues that stay.
func (p *Plan) channels(n *NIC, receive CPUs, o Options) *NIC {
	c := n.Channels.Value
	about := Target{Kind: ChannelsOf, Name: n.Name}
	switch want := len(receive); {
	case n.Channels.State != Loaded:
		p.note(about.String(), "%s", n.Channels.Why)
	case max(c.CombinedMax, c.RXMax) <= 1:
		p.note(about.String(), "the device has one receive queue")
	case !o.Channels:
		p.note(about.String(), "rx %d tx %d combined %d of at most %d/%d/%d: setting them resets the link, and nobody asked for it", c.RX, c.TX, c.Combined, c.RXMax, c.TXMax, c.CombinedMax)
	default:
		w := c
		if c.CombinedMax > 0 {
			w.Combined = min(want, c.CombinedMax)
		} else {
			w.RX, w.TX = min(want, c.RXMax), min(want, c.TXMax)
		}
		p.change(about, c.String(), w.String(), Risky, "one queue for each of the %d receive CPUs; plan again after it, the new queues bring interrupts", want)
		stays := *n
		stays.RX, stays.TX = n.RX[:min(len(n.RX), w.Combined+w.RX)], n.TX[:min(len(n.TX), w.Combined+w.TX)]
		return &stays
	}
	return n
}

// irqs plans the interrupts of receive queues and says whether they can be moved. stays is why
// they cannot, if that is known before; first is the number of queues planned before these.
func (p *Plan) irqs(n *NIC, stays string, irqbalance, first int) bool {
	receive := p.Assign.Receive
	about := n.Name + " irqs"
	switch {
	case len(n.IRQs) == 0:
		p.note(about, "%s", cmp.Or(n.IRQsWhy, "it has none of its own"))
		return false
	case stays != "":
		p.note(about, "%s", stays)
		return false
	case irqbalance != 0:
		p.note(about, "irqbalance (process %d) would move them back: stop it, or ban them there (IRQBALANCE_BANNED_CPULIST)", irqbalance)
		return true
	}
	moves := false
	for _, irq := range n.IRQs {
		target := Target{IRQAffinity, n.Name, irq.Number}
		queue, receives := irq.Queue(n.Name)
		switch {
		case !receives:
			p.note(target.String(), "%s brings no packets", irq.Name)
		case irq.Pinned:
			p.note(target.String(), "the kernel manages %s itself and takes no affinity", irq.Name)
		default:
			moves = true
			if len(n.RX) > 1 || !slices.Equal(receive, p.Assign.Loop) {
				cpu := receive[(first+queue)%len(receive)]
				p.change(target, irq.Affinity.List(), strconv.Itoa(cpu), Safe, "%s goes to CPU %d, one of those that receive, and off the loop's CPU %s", irq.Name, cpu, p.Assign.Loop)
			} else {
				p.note(target.String(), "one queue and %d CPUs: nothing to gain", len(receive))
			}
		}
	}
	return moves
}

// rps plans the software spreading of receive queues.
func (p *Plan) rps(n *NIC, profile boards.NIC, moved bool, receive CPUs) {
	about := n.Name + " rps"
	switch {
	case len(n.RX) == 0:
		p.note(about, "it has no receive queue")
	case moved && len(n.RX) >= len(receive):
		p.note(about, "its %d queues reach all %d receive CPUs: the hardware spreads", len(n.RX), len(receive))
	case profile.Fallback == "none":
		p.note(about, "the profile says that it does not pay on this board")
	default:
		why := fmt.Sprintf("%d receive queue(s) for %d receive CPUs: software spreads what the hardware does not", len(n.RX), len(receive))
		if !moved {
			why = "its interrupts do not move, so software moves the work after them to the CPUs that receive"
		}
		for q, rx := range n.RX {
			p.change(Target{RPSCPUs, n.Name, q}, rx.RPS.List(), receive.List(), Safe, "%s", why)
		}
	}
}

// xps gives every send queue its own CPUs, so that CPUs do not contend for its lock.
func (p *Plan) xps(n *NIC, online CPUs) {
	if len(n.TX) < 2 {
		p.note(n.Name+" xps", "it has %d send queue(s): nothing to choose from", len(n.TX))
		return
	}
	for q, tx := range n.TX {
		target := Target{XPSCPUs, n.Name, q}
		if tx.XPSWhy != "" {
			p.note(target.String(), "%s", tx.XPSWhy)
			continue
		}
		var mine CPUs
		for i, c := range online {
			if i%len(n.TX) == q%len(online) {
				mine = append(mine, c)
			}
		}
		p.change(target, tx.XPS.List(), mine.List(), Safe, "each CPU sends on a queue of its own: no lock is shared")
	}
}

// notQueues are the endings of interrupts that bring no packets.
var notQueues = []string{"config", "link", "control", "ctrl", "event", "mgmt", "async", "misc", "err", "ptp", "wol"}

// Queue says from the interrupt's name which receive queue of the interface it serves, and
// whether it serves one at all. Drivers agree on no form: eth0-rx-0, eth0-TxRx-3, virtio2-input.1,
// hif2 and plain eth0 are all found. The queue is 0 where the name has no number.
func (i IRQ) Queue(nic string) (queue int, receives bool) {
	name, _, _ := strings.Cut(strings.ToLower(i.Name), "@") // mlx5_comp3@pci:0000:01:00.0
	if rest, ok := strings.CutPrefix(name, strings.ToLower(nic)); ok {
		name = rest
	}
	head := strings.TrimRight(name, "0123456789")
	digits := name[len(head):]
	word := strings.Trim(head, "-.:_")
	for _, end := range notQueues {
		if strings.HasSuffix(word, end) {
			return 0, false
		}
	}
	if (strings.Contains(word, "tx") || strings.HasSuffix(word, "output")) && !strings.Contains(word, "rx") {
		return 0, false
	}
	queue, err := strconv.Atoi(digits)
	if err != nil || queue >= cpuMax {
		queue = 0
	}
	return queue, true
}

// String is the value of a ChannelsOf change.
func (c Channels) String() string {
	return fmt.Sprintf("rx %d tx %d combined %d", c.RX, c.TX, c.Combined)
}
