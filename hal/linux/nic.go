package linux

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
)

const netDir = "sys/class/net/"

// arphrdLoopback is the type of lo (linux/if_arp.h).
const arphrdLoopback = 772

func (r *Root) nics() hal.Answer[[]hal.NIC] {
	interrupts, err := Interrupts(r.word("proc/interrupts"))
	why := ""
	if err != nil {
		why = err.Error()
	}
	var ask *ethtool
	asked := hal.Fail(errLive)
	if !r.Live() {
		asked = hal.Skip("%v", errLive)
	} else if ask, err = dialEthtool(); err != nil {
		asked = hal.Fail(err)
	} else {
		defer ask.close()
	}
	var all []hal.NIC
	for _, name := range r.names(netDir[:len(netDir)-1]) {
		if !r.exists(netDir + name + "/ifindex") {
			continue // bonding_masters
		}
		n := r.nic(name)
		if n.Kind == "physical" {
			n.IRQs, n.IRQsWhy = r.irqs(&n, interrupts)
			if why != "" {
				n.IRQsWhy = why
			}
		} else {
			n.IRQsWhy = n.Kind + ": it has no interrupt"
		}
		if ask != nil {
			ask.fill(&n)
		} else {
			n.Channels.Status, n.Rings.Status, n.Coalesce.Status = asked, asked, asked
			n.RSS.Status, n.Features.Status, n.Timestamping.Status = asked, asked, asked
		}
		all = append(all, n)
	}
	return answer(all, "the kernel has no network interface")
}

func (r *Root) nic(name string) hal.NIC {
	at := netDir + name + "/"
	n := hal.NIC{
		Name:  name,
		Index: r.number(at+"ifindex", 0),
		Port:  r.number(at+"dev_port", 0),
		Up:    running(r.word(at+"operstate"), r.word(at+"flags")),
		Mbps:  max(0, r.number(at+"speed", 0)), // -1 or EINVAL while the link is down
		MTU:   r.number(at+"mtu", 0),
		Kind:  "virtual",
	}
	if r.number(at+"type", 0) == arphrdLoopback {
		n.Kind = "loopback"
	}
	if device := r.link(at + "device"); device != "" {
		n.Kind, n.Bus, n.Driver = "physical", device, r.link(at+"device/driver")
		if strings.HasPrefix(device, "virtio") { // its place on the bus is its parent's
			if parent := r.virtioParent(at); parent != "" {
				n.Bus = parent
			}
		}
	}
	for _, q := range r.names(at + "queues") {
		dir := at + "queues/" + q + "/"
		r.trace(dir) // it counts although nothing may be readable in it
		switch {
		case strings.HasPrefix(q, "rx-"):
			var rx hal.RX
			rx.RPS, _ = hal.ParseMask(r.word(dir + "rps_cpus"))
			rx.Flows = r.number(dir+"rps_flow_cnt", 0)
			n.RX = append(n.RX, rx)
		case strings.HasPrefix(q, "tx-"):
			var tx hal.TX
			s, err := r.text(dir + "xps_cpus")
			if err != nil {
				tx.XPSWhy = "the kernel has no XPS for it: " + errnoText(err)
			} else if tx.XPS, err = hal.ParseMask(s); err != nil {
				tx.XPSWhy = err.Error()
			}
			n.TX = append(n.TX, tx)
		}
	}
	return n
}

// virtioParent is the name of the device that carries a virtio device: the last but one element
// of the link, .../0000:00:03.0/virtio2 (or a deeper link, when the class entry is a link itself).
func (r *Root) virtioParent(at string) string {
	to, err := r.root.Readlink(at + "device")
	if err != nil {
		return ""
	}
	if parent := path.Base(path.Dir(to)); parent != ".." && parent != "." {
		return parent
	}
	// The link is relative to the real place of the class entry: sys/devices/.../virtio2/net/eth0.
	real, err := r.root.Readlink(strings.TrimSuffix(at, "/"))
	if err != nil {
		return ""
	}
	return path.Base(path.Dir(path.Join(path.Dir(strings.TrimSuffix(at, "/")), real, to)))
}

// vectors are the numbers of the message-signalled interrupts of an interface's device; nil if it has none.
func (r *Root) vectors(nic string) []string {
	device := netDir + nic + "/device/"
	at := device + "msi_irqs"
	vectors := r.names(at)
	if vectors == nil && strings.HasPrefix(r.link(netDir+nic+"/device"), "virtio") {
		at = device + "../msi_irqs"
		vectors = r.names(at)
	}
	for _, v := range vectors {
		r.trace(at + "/" + v)
	}
	return vectors
}

// irqs finds the interrupts of an interface: its device's MSI vectors, or, for a device on the
// board itself, the lines of /proc/interrupts with the interface's or the device's name. why is
// said when there are none.
func (r *Root) irqs(n *hal.NIC, all []Interrupt) (irqs []hal.IRQ, why string) {
	vectors := r.vectors(n.Name)
	own := func(i Interrupt) bool {
		if vectors != nil {
			return slices.Contains(vectors, strconv.Itoa(i.Number))
		}
		for name := range strings.SplitSeq(i.Name, ", ") {
			if name == n.Name || strings.HasPrefix(name, n.Name+"-") || strings.HasPrefix(name, n.Name+":") || n.Bus != "" && strings.Contains(name, n.Bus) {
				return true
			}
		}
		return false
	}
	for _, i := range all {
		if !own(i) {
			continue
		}
		at := fmt.Sprintf("proc/irq/%d/", i.Number)
		irq := hal.IRQ{Number: i.Number, Name: i.Name, Count: i.Count}
		irq.Affinity, _ = r.cpus(at + "smp_affinity_list")
		irq.Effective, _ = r.cpus(at + "effective_affinity_list")
		if info, err := r.root.Stat(at + "smp_affinity_list"); err == nil {
			irq.Pinned = info.Mode()&0o222 == 0
		}
		irqs = append(irqs, irq)
	}
	if len(irqs) == 0 {
		return nil, fmt.Sprintf("no interrupt in /proc/interrupts is %s's", n.Name)
	}
	return irqs, ""
}

// running says whether an interface passes packets. Drivers that do not track it say "unknown", as the loopback's does: then
// being up is all that is known (Documentation/networking/operstates.rst).
func running(operstate, flags string) bool {
	n, err := strconv.ParseUint(flags, 0, 32)
	return operstate == "up" || operstate == "unknown" && err == nil && n&unix.IFF_UP != 0
}
