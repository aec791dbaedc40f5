package haltest

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/boards"
	"github.com/holdfast-edge/holdfast/hal"
	"github.com/rogpeppe/go-internal/txtar"
)

// Tree is the archive of a machine that looks as a board's profile says: its cores, its ports
// with an interrupt for each receive queue, its LEDs, watchdog, thermal zone and clock, all as a
// freshly started kernel has them. What a profile does not say is plain: two cores if it has no
// classes, one queue a port. queues is how many queues each port has.
func Tree(b *boards.Board, queues int) []byte {
	t := tree{files: map[string]string{}}
	cpus := t.cpus(b)
	if len(b.Match.Compatible) > 0 {
		name := strings.Replace(b.Match.Compatible[0], "*", "0005", 1)
		t.files["sys/firmware/devicetree/base/compatible (quoted)"] = quoted(name + "\x00acme,soc\x00")
		t.files["sys/firmware/devicetree/base/model (quoted)"] = quoted(b.Name + "\x00")
	}
	t.files["proc/sys/kernel/osrelease"] = "6.12.57"
	t.files["proc/meminfo"] = "MemTotal:        4028928 kB"
	t.files["sys/kernel/mm/transparent_hugepage/enabled"] = "always [madvise] never"
	t.files["sys/kernel/mm/transparent_hugepage/hpage_pmd_size"] = "2097152"
	t.ports(b, cpus, queues)
	for _, l := range b.LED {
		at := "sys/class/leds/" + l.Names[0]
		t.files[at+"/max_brightness"] = "1"
		t.files[at+"/brightness"] = "0"
		t.files[at+"/trigger"] = "none [heartbeat] timer"
	}
	if w := b.Watchdog; w != nil {
		at := "sys/class/watchdog/watchdog0"
		t.files[at+"/identity"] = w.Driver
		t.files[at+"/state"] = "inactive"
		t.files[at+"/timeout"] = fmt.Sprint(min(60, w.TimeoutMaxSec))
		t.files[at+"/max_timeout"] = fmt.Sprint(w.TimeoutMaxSec)
		t.files[at+"/nowayout"] = "0"
	}
	if h := b.Thermal; h != nil {
		at := "sys/class/thermal/thermal_zone0"
		t.files[at+"/type"] = h.Zone
		t.files[at+"/temp"] = "45000"
		t.files[at+"/trip_point_0_type"], t.files[at+"/trip_point_0_temp"] = "passive", fmt.Sprint(h.ThrottleC*1000)
		t.files[at+"/trip_point_1_type"], t.files[at+"/trip_point_1_temp"] = "critical", fmt.Sprint(h.CriticalC*1000)
	}
	if b.RTC != nil {
		t.files["sys/class/rtc/rtc0/name"] = b.RTC.Driver
		t.files["sys/class/rtc/rtc0/since_epoch"] = "1767225600"
	}
	var a txtar.Archive
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		f := txtar.File{Name: name, Data: []byte(t.files[name] + "\n")}
		if strings.Contains(name, " -> ") || strings.HasSuffix(name, "/") {
			f.Data = nil
		}
		a.Files = append(a.Files, f)
	}
	return txtar.Format(&a)
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

type tree struct{ files map[string]string } // by name as in a recorded machine

// cpus makes the cores, the weakest class first, as firmware numbers them.
func (t *tree) cpus(b *boards.Board) hal.CPUs {
	var classes []boards.CPUClass
	for _, name := range slices.Sorted(maps.Keys(b.CPU)) {
		classes = append(classes, b.CPU[name])
	}
	slices.SortStableFunc(classes, func(a, c boards.CPUClass) int { return cmp.Compare(a.Capacity, c.Capacity) })
	if len(classes) == 0 {
		classes = []boards.CPUClass{{Count: 2}}
	}
	var all hal.CPUs
	var info strings.Builder
	for cluster, c := range classes {
		for range c.Count {
			id := len(all)
			all = append(all, id)
			at := fmt.Sprintf("sys/devices/system/cpu/cpu%d/", id)
			t.files[at+"topology/physical_package_id"] = "0"
			t.files[at+"topology/cluster_id"] = fmt.Sprint(cluster)
			t.files[at+"topology/core_id"] = fmt.Sprint(id)
			t.files[at+"topology/thread_siblings_list"] = fmt.Sprint(id)
			t.files[at+"cpu_capacity"] = fmt.Sprint(cmp.Or(c.Capacity, 1024))
			t.files[at+"cache/index0/level"] = "1"
			t.files[at+"cache/index0/type"] = "Data"
			t.files[at+"cache/index0/coherency_line_size"] = fmt.Sprint(b.CacheLineBytes)
			t.files[at+"cache/index0/shared_cpu_list"] = fmt.Sprint(id)
			t.files[at+"cache/index0/size"] = "32K"
			if c.Part != 0 {
				t.files[at+"regs/identification/midr_el1"] = fmt.Sprintf("0x%016x", uint64(hal.NewMIDR(c.Implementer, c.Part)))
			}
			if b.Arch == "amd64" {
				fmt.Fprintf(&info, "processor\t: %d\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD test\n\n", id)
			} else {
				fmt.Fprintf(&info, "processor\t: %d\nCPU implementer\t: 0x%02x\nCPU part\t: 0x%03x\n\n", id, c.Implementer, c.Part)
			}
		}
	}
	t.files["sys/devices/system/cpu/online"] = all.List()
	t.files["sys/devices/system/cpu/isolated"] = ""
	t.files["proc/cpuinfo"] = info.String()
	return all
}

// ports makes the interfaces and /proc/interrupts.
func (t *tree) ports(b *boards.Board, cpus hal.CPUs, queues int) {
	var interrupts strings.Builder
	for _, c := range cpus {
		fmt.Fprintf(&interrupts, " CPU%d", c)
	}
	interrupts.WriteString("\n")
	irq := 40
	for i, name := range slices.Sorted(maps.Keys(b.NIC)) {
		n := b.NIC[name]
		bus := "platform/" + n.Bus
		if strings.Count(n.Bus, ":") == 2 {
			bus = "pci" + n.Bus[:7] + "/" + n.Bus
		}
		device := "sys/devices/" + bus
		parent := device
		if n.Driver == "virtio_net" {
			device += "/virtio0"
		}
		at := device + "/net/" + name
		t.files["sys/class/net/"+name+" -> ../../"+strings.TrimPrefix(at, "sys/")] = ""
		t.files[at+"/device -> ../../../"+path.Base(device)] = ""
		up := strings.Repeat("../", strings.Count(device, "/"))
		t.files[device+"/driver -> "+up+"bus/drivers/"+n.Driver] = ""
		t.files["sys/bus/drivers/"+n.Driver+"/"] = ""
		t.files[at+"/ifindex"] = fmt.Sprint(i + 2)
		t.files[at+"/dev_port"] = fmt.Sprint(n.Port)
		t.files[at+"/operstate"] = "up"
		t.files[at+"/speed"] = "1000"
		t.files[at+"/mtu"] = "1500"
		t.files[at+"/type"] = "1"
		t.files[at+"/address"] = "02:00:00:00:00:01"
		for q := range queues {
			t.files[fmt.Sprintf("%s/queues/rx-%d/rps_cpus", at, q)] = "0"
			t.files[fmt.Sprintf("%s/queues/rx-%d/rps_flow_cnt", at, q)] = "0"
			if queues > 1 {
				t.files[fmt.Sprintf("%s/queues/tx-%d/xps_cpus", at, q)] = "0"
			} else {
				t.files[fmt.Sprintf("%s/queues/tx-%d/tx_timeout", at, q)] = "0"
			}
			action := name
			if queues > 1 {
				action = fmt.Sprintf("%s-rx-%d", name, q)
			}
			if n.Driver == "virtio_net" {
				action = fmt.Sprintf("virtio0-input.%d", q)
				t.files[fmt.Sprintf("%s/msi_irqs/%d", parent, irq)] = "msix"
			}
			fmt.Fprintf(&interrupts, "%3d:", irq)
			for range cpus {
				interrupts.WriteString(" 0")
			}
			fmt.Fprintf(&interrupts, " GICv3 %d Level %s\n", irq+32, action)
			t.files[fmt.Sprintf("proc/irq/%d/smp_affinity_list", irq)] = cpus.List()
			t.files[fmt.Sprintf("proc/irq/%d/effective_affinity_list", irq)] = "0"
			irq++
		}
	}
	t.files["proc/interrupts"] = strings.TrimSuffix(interrupts.String(), "\n")
	t.files["sys/class/net/"] = ""
}
